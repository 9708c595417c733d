"""The base class of objectives. An objective compares outputs with targets: loss, metrics, and its part of the report.

A new objective is one file with a frozen dataclass derived from ``Objective``; the core calls its methods and never
compares classes. Legend: B batch, N samples. Outputs of a model are a tensor (B, ...), or a dict or tuple of these.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits, Split
from mltricks.figures.parts import Section
from mltricks.state import map_state
from mltricks.technique import Aux, Ctx, Params

Outputs = Any
Outcome = dict[str, Tensor]
"""A few numbers per test sample, kept from the outputs for the error analysis in the report."""


class Sheet(Protocol):
    """The test split, as an objective's part of the report shows it.

    Attributes:
        info: describes the data.
    """

    info: Info

    def pictures(self, order: Tensor) -> Tensor | None:
        """Test samples as pictures (N, H, W, 3) uint8; ``None`` if the input kind has none."""


@dataclass(frozen=True)
class Objective:
    """The base class of objectives."""

    targets: ClassVar[tuple[str, ...]] = ()
    """Supported kinds of target, as in ``Info.target``."""
    score: ClassVar[str] = "loss"
    """The metric that selects the best weights, unless ``objective_metric`` names another."""
    higher_is_better: ClassVar[bool] = False
    further: ClassVar[str] = ""
    """Which metrics of torchmetrics fit its predictions: ``multiclass``, ``multilabel`` or ``regression``; empty for
    none."""
    outputs: ClassVar[str] = ""
    """What the model's outputs are, with a place for their number; empty if nobody needs to know."""
    one_target: ClassVar[bool] = True
    """Whether a sample has a single target, rather than one per pixel or position."""
    exact: ClassVar[bool] = False
    """Whether a model that has memorised its samples reaches an accuracy of 1 on them."""
    needs_whole_batch: ClassVar[bool] = False
    """Whether the loss of a batch is no mean over its samples, so that micro-batches would change it."""

    def fitted(self, data: DataSplits) -> Objective:
        """The objective with what it takes from the data, such as the frequencies of classes. Run once, when built.

        Args:
            data: of the run, on the run's device.

        Raises:
            ValueError: the data do not fit the settings.
        """
        return self

    def advice(self, info: Info) -> str:
        """What may be meant by data whose targets do not fit; empty if nothing is known."""
        is_one_hot = info.target == "labels" and "classes" in self.targets
        return " If they are one-hot classes, give y.argmax(-1)." if is_one_hot else ""

    def told(self, **facts: Any) -> Any:
        """A copy with some attributes set that are no settings."""
        other = copy.copy(self)
        for name, value in facts.items():
            object.__setattr__(other, name, value)
        return other

    def family(self, info: Info) -> str:
        """Which metrics of torchmetrics fit its predictions on these data: ``further``, or by target."""
        return self.further

    def __call__(self, params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        return self.judge(ctx.apply(params, batch["x"]), batch["y"])

    def judge(self, outputs: Outputs, y: Tensor) -> tuple[Tensor, Aux]:
        """The loss of the outputs, and its metrics."""
        loss = self.mean(outputs, y)
        return loss, {"metrics": {"loss": loss, **self.metrics(outputs, y)}}

    def mean(self, outputs: Outputs, y: Tensor) -> Tensor:
        """The mean loss of a batch, 0-d."""
        return self.per_sample(outputs, y).mean()

    def per_sample(self, outputs: Outputs, y: Tensor) -> Tensor:
        """The loss of every sample, (B,)."""
        raise NotImplementedError

    def metrics(self, outputs: Outputs, y: Tensor) -> dict[str, Tensor]:
        """Batch means other than the loss, each 0-d."""
        return {}

    def counts(self, outputs: Outputs, y: Tensor) -> dict[str, Tensor]:
        """Counts to sum over the batches of a split, for metrics that are not means over samples."""
        return {}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The metrics computed from the sums of ``counts``, which may have a leading axis of trials."""
        return {}

    def output_shape(self, info: Info) -> tuple[int, ...] | None:
        """The required output shape for one sample; ``None`` if only ``check_outputs`` decides."""
        return (info.num_outputs,)

    def check_outputs(self, outputs: Outputs, size: int, info: Info) -> None:
        """Refuse outputs whose shape does not fit the objective.

        Args:
            outputs: of a model for a batch of ``size`` samples.
            size: B.
            info: describes the data.

        Raises:
            ValueError: names the given and the required shape.
        """
        shape = self.output_shape(info)
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        if shape is not None and got != (size, *shape):
            raise ValueError(f"gives {got} for a batch of {size} samples, and {(size, *shape)} is wanted")

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        """Random targets of the objective's shape and type."""
        return torch.randint(info.num_outputs, (size,), device=device)

    def ignorant(self, outputs: Outputs, y: Tensor) -> tuple[Outputs, str]:
        """Outputs of an uninformed model, the baseline for a first loss; and a description of their loss."""
        return map_state(torch.zeros_like, outputs), "the loss of outputs that are all zero"

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The constant outputs (of one sample) that fit all targets best."""
        raise NotImplementedError

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor] | None:
        """Fit a linear model to features (N, D); return it as a function to outputs, or ``None`` if unsupported."""
        return None

    def spread(self, y: Tensor) -> dict[str, float]:
        """Statistics of the spread of numeric targets."""
        return {}

    def predict(self, outputs: Outputs) -> Tensor:
        """Convert outputs to probabilities or values (B, ...) for the user."""
        return outputs

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """Predictions as rows of ``predictions.csv``, one per sample.

        Raises:
            ValueError: the objective's predictions do not fit into rows.
        """
        for output in predictions:
            values = output.flatten().tolist()
            yield {"value" if len(values) == 1 else f"value_{i}": v for i, v in enumerate(values)}

    def truth(self, y: Tensor, info: Info) -> Any:
        """The target of one sample in readable form, such as a class name."""
        return y.tolist()

    def digest(self, outputs: Outputs, y: Tensor) -> Outcome:
        """Reduce a batch of test outputs to the numbers for the report; each tensor (B, ...), or one row per batch."""
        return {}

    def target_words(self, info: Info) -> str:
        """What one target is, in a few words."""
        return "one number" if info.num_outputs == 1 else f"{info.num_outputs} numbers"

    def caption(self, y: Tensor, info: Info) -> str:
        """The target of one training sample, possibly mixed by techniques, in a few words; empty if that needs more."""
        return ", ".join(f"{value:.3g}" for value in y.flatten().tolist()) if y.numel() <= 3 else ""

    def target_pictures(self, y: Tensor) -> Tensor | None:
        """Targets (N, ...) as pictures (N, H, W, 3) uint8 as large as the samples; ``None`` if they are none."""
        return None

    def shares(self, split: Split) -> Tensor | None:
        """The share of each class in a split, (K,); ``None`` if targets are no classes or only reading tells them."""
        return None

    def mistakes(self, outcome: Outcome, info: Info, most: int) -> tuple[Tensor, dict[str, list[Any]]]:
        """The worst predictions of the test split, for the tables of trackers.

        Args:
            outcome: the digests of all batches, on the CPU.
            info: describes the data.
            most: number of samples, >= 1.

        Returns:
            Positions of at most ``most`` samples, the worst first; and what to show of them, by heading.
        """
        return torch.zeros(0, dtype=torch.int64), {}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], Section]]:
        """The report sections about the test split, as functions that make them when called.

        Args:
            outcome: the digests of all batches, on the CPU.
            sheet: describes the data and has the samples.
        """
        return []
