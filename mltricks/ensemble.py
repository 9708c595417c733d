"""Several runs that predict together: the mean of their probabilities, or of their values.

Source: Dietterich, "Ensemble Methods in Machine Learning", 2000; Lakshminarayanan, Pritzel, Blundell, "Simple and
Scalable Predictive Uncertainty Estimation using Deep Ensembles", 2017, arXiv:1612.01474, section 2.4.
Cost: one forward pass of every member.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.config.options import option_of
from mltricks.data.info import Info
from mltricks.predicting_module import PredictingModule
from mltricks.predictor import Predictor, load_run

Path_ = str | Path


def load(
    path: Path_ | Sequence[Path_],
    allow_modules: Sequence[str] = (),
    device: str = "auto",
    model: nn.Module | None = None,
) -> Predictor:
    """Load the model of a finished run, or those of several runs as one ensemble.

    Args:
        path: output folder of the run, or its ``best.safetensors``; a list of these, or all joined by ``+``.
        allow_modules: packages, besides mltricks and torch, whose classes the file may name.
        device: where to predict, as ``device=`` on the command line.
        model: a module of the run's class and sizes, where a program gave the run its model; the weights go into a
            copy of it.

    Raises:
        ValueError: the weights are missing or damaged, or name classes of a package that is not allowed; or the runs
            of an ensemble have different inputs, targets or classes.
    """
    members = {name: load_run(name, allow_modules, device, model) for name in runs_in(path)}
    return next(iter(members.values())) if len(members) == 1 else ensemble(members)


def runs_in(path: Path_ | Sequence[Path_]) -> list[str]:
    """The folders or files that a setting names. A folder that exists is one, even with a + in its name.

    Raises:
        ValueError: a name is empty, or given twice.
    """
    if isinstance(path, str | Path):
        names = [str(path)] if Path(path).exists() else str(path).split("+")
    else:
        names = [str(one) for one in path]
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            what = f"names {name} twice" if name else "has an empty name"
            raise ValueError(f"{'+'.join(names)} {what}. Type the folders of runs as RUN+RUN, each once.")
    return names


@dataclass(frozen=True, eq=False, repr=False)
class Ensemble(Predictor):
    """Several predictors as one; ``info``, preprocessing of files and settings are those of the first.

    Attributes:
        members: the predictors by the names of their runs.
    """

    members: dict[str, Predictor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self.members)})"

    def module(self) -> PredictingModule:
        raise ValueError(
            f"an ensemble of {len(self.members)} runs has no single module. Take those of its members: "
            "[member.module() for member in model.members.values()]."
        )


def ensemble(members: dict[str, Predictor]) -> Ensemble:
    """Join predictors.

    Raises:
        ValueError: they differ in inputs, targets or classes, or the objective's predictions have no mean.
    """
    (name, first), *others = members.items()
    for other, predictor in others:
        check_same_task(other, predictor.info, name, first.info)
    inverse: list[Inverse] = []

    def forward(x: Any) -> Tensor:
        outputs = [member.forward(x) for member in members.values()]
        if not inverse:
            inverse.append(inverse_of(first.objective, outputs[0]))
        predictions = [member.objective.predict(one) for member, one in zip(members.values(), outputs, strict=True)]
        return inverse[0](torch.stack(predictions).mean(0))

    return Ensemble(**{**vars(first), "forward": forward, "members": members})


def check_same_task(name: str, theirs: Info, first: str, mine: Info) -> None:
    """Refuse runs that cannot predict for the same samples.

    Raises:
        ValueError: names the first difference.
    """
    for what in ("input", "target", "num_outputs", "classes"):
        a, b = (str(getattr(info, what)) for info in (mine, theirs))
        if a != b:
            raise ValueError(
                f"{name} and {first} cannot be joined: the {what} of the one is {b}, of the other {a}. "
                "Give runs on the same data."
            )


def log(p: Tensor) -> Tensor:
    return p.clamp_min(torch.finfo(p.dtype).tiny).log()


def log_odds(p: Tensor) -> Tensor:
    """Finite also where p was rounded to 0 or 1: a loss of infinite logits would not be a number."""
    limits = torch.finfo(p.dtype)
    return p.clamp(limits.tiny, 1 - limits.eps).logit()


Inverse = Callable[[Tensor], Tensor]
INVERSES: tuple[Inverse, ...] = (lambda values: values, log, log_odds)
"""From predictions back to outputs, for objectives that predict values, by a softmax, and by a sigmoid."""


def inverse_of(objective: Any, outputs: Any) -> Inverse:
    """The function from a mean of predictions to outputs that predict it, found by trying random outputs.

    Args:
        objective: of the members.
        outputs: of one member, for their shape.

    Raises:
        ValueError: no function does that for this objective.
    """
    if isinstance(outputs, Tensor):
        generator = torch.Generator().manual_seed(0)
        tried = [torch.randn(outputs.shape, generator=generator).to(outputs) for _ in range(2)]
        mean = torch.stack([objective.predict(one) for one in tried]).mean(0)
        for inverse in INVERSES:
            if torch.allclose(objective.predict(inverse(mean)), mean, rtol=1e-3, atol=1e-5):
                return inverse
    raise ValueError(
        f"objective={option_of('objective', objective)} predicts neither values nor probabilities of one tensor, so "
        "its runs cannot be joined. Give one run."
    )
