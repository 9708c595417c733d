"""Regression by mean squared error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mltricks.batch import Batch
from mltricks.technique import Aux, Ctx, Params


@dataclass(frozen=True)
class Regress:
    """Mean squared error between the model's output and ``y``.

    Shapes: output (B, D) float; ``y`` (B, D) or, for D = 1, (B,) float.
    """

    score: ClassVar[str] = "loss"
    higher_is_better: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ("values",)

    def __call__(self, params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        return self.judge(ctx.apply(params, batch["x"]), batch["y"])

    def judge(self, output: Tensor, y: Tensor) -> tuple[Tensor, Aux]:
        """The loss of given outputs, with its metrics."""
        loss = (output - y.reshape(output.shape)).square().mean()
        return loss, {"metrics": {"loss": loss, **self.metrics(output, y)}}

    def per_sample(self, output: Tensor, y: Tensor) -> Tensor:
        """The loss of every sample, (B,)."""
        return (output - y.reshape(output.shape)).square().flatten(1).mean(1)

    def metrics(self, output: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Mean absolute error."""
        return {"mae": (output - y.reshape(output.shape)).abs().mean()}

    def constant(self, y: Tensor, num_outputs: int) -> Tensor:
        """The outputs (D,) that fit all targets best whatever the input: their means."""
        return y.reshape(len(y), num_outputs).mean(0)

    def predict(self, output: Tensor) -> Tensor:
        """The output as it is."""
        return output
