"""What every objective is: the meaning of a model's outputs against the targets.

A new objective is one file with a frozen dataclass derived from ``Objective``; the core asks it and compares nothing.
Legend: B batch, N samples. Outputs are what the model returns: a tensor (B, ...), or a dict or tuple of such tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.data.info import Info
from mltricks.state import map_state
from mltricks.technique import Aux, Ctx, Params

Outputs = Any
Outcome = dict[str, Tensor]
"""What is kept of the outputs on the test split, a few numbers a sample, so that errors can be shown afterwards."""


class Sheet(Protocol):
    """What an objective draws its part of the report on.

    Attributes:
        info: what the data are.
    """

    info: Info

    def draw(self, draw_figure: Callable[..., Any], *arguments: Any) -> str:
        """A figure of ``mltricks.figures.plots``, saved under its name and shown in the page."""

    def pictures(self, order: Tensor) -> Tensor | None:
        """Test samples as pictures (N, H, W, 3) uint8; ``None`` where the input kind has none."""


@dataclass(frozen=True)
class Objective:
    """The base of every objective."""

    targets: ClassVar[tuple[str, ...]] = ()
    """The targets that it takes, as ``Info.target`` names them."""
    score: ClassVar[str] = "loss"
    """The metric that chooses the best weights unless ``objective_metric`` names another."""
    higher_is_better: ClassVar[bool] = False
    one_target: ClassVar[bool] = True
    """Whether a sample has one target as a whole, not one for each of its pixels or positions."""
    exact: ClassVar[bool] = False
    """Whether samples that a model knows by heart have an accuracy of 1."""

    def __call__(self, params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        return self.judge(ctx.apply(params, batch["x"]), batch["y"])

    def judge(self, outputs: Outputs, y: Tensor) -> tuple[Tensor, Aux]:
        """The loss of given outputs, with its metrics."""
        loss = self.mean(outputs, y)
        return loss, {"metrics": {"loss": loss, **self.metrics(outputs, y)}}

    def mean(self, outputs: Outputs, y: Tensor) -> Tensor:
        """The mean loss of a batch, 0-d."""
        return self.per_sample(outputs, y).mean()

    def per_sample(self, outputs: Outputs, y: Tensor) -> Tensor:
        """The loss of every sample, (B,)."""
        raise NotImplementedError

    def metrics(self, outputs: Outputs, y: Tensor) -> dict[str, Tensor]:
        """Means over the batch besides the loss, each 0-d."""
        return {}

    def counts(self, outputs: Outputs, y: Tensor) -> dict[str, Tensor]:
        """What is added up over the batches of a split for metrics that are no means over samples."""
        return {}

    def from_counts(self, counts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The metrics that follow from the sums of ``counts``; a leading axis of trials may stand in front."""
        return {}

    def output_shape(self, info: Info) -> tuple[int, ...] | None:
        """The shape of the output for one sample; ``None``: anything goes, and ``check_outputs`` looks."""
        return (info.num_outputs,)

    def check_outputs(self, outputs: Outputs, size: int, info: Info) -> None:
        """Refuse outputs of another shape than the objective needs.

        Args:
            outputs: of a model for a batch of ``size`` samples.
            size: B.
            info: what the data are.

        Raises:
            ValueError: says what there is and what is wanted.
        """
        shape = self.output_shape(info)
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
        if shape is not None and got != (size, *shape):
            raise ValueError(f"gives {got} for a batch of {size} samples, and {(size, *shape)} is wanted")

    def noise(self, info: Info, size: int, device: torch.device) -> Tensor:
        """Random targets of the right form."""
        return torch.randint(info.num_outputs, (size,), device=device)

    def ignorant(self, outputs: Outputs, y: Tensor) -> tuple[Outputs, str]:
        """The outputs of a model that knows nothing, and what their loss is called."""
        return map_state(torch.zeros_like, outputs), "the loss of outputs that are all zero"

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The outputs for one sample that fit all targets best whatever the input."""
        raise NotImplementedError

    def linear(self, x: Tensor, y: Tensor, num_outputs: int) -> Callable[[Tensor], Tensor] | None:
        """A linear model of features (N, D), fitted: a function to outputs, or ``None`` where there is none."""
        return None

    def spread(self, y: Tensor) -> dict[str, float]:
        """How the targets are spread, where they are numbers."""
        return {}

    def predict(self, outputs: Outputs) -> Tensor:
        """Outputs as a user reads them: probabilities or values, (B, ...)."""
        return outputs

    def rows(self, predictions: Tensor, info: Info) -> Iterator[dict[str, Any]]:
        """Predictions as rows of ``predictions.csv``, one a sample.

        Raises:
            ValueError: they are no rows.
        """
        for output in predictions:
            values = output.flatten().tolist()
            yield {"value" if len(values) == 1 else f"value_{i}": v for i, v in enumerate(values)}

    def truth(self, y: Tensor, info: Info) -> Any:
        """The target of one sample as a person reads it."""
        return y.tolist()

    def digest(self, outputs: Outputs, y: Tensor) -> Outcome:
        """What the report needs of a batch of test outputs; each tensor (B, ...), or one row for the batch."""
        return {}

    def sections(self, outcome: Outcome, sheet: Sheet) -> Sequence[Callable[[], str]]:
        """The parts of the report about the test split, each made when it is called.

        Args:
            outcome: the digests of all batches, on the CPU.
            sheet: draws figures and knows the samples.
        """
        return []
