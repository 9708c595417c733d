"""Muon: momentum, orthogonalised by Newton-Schulz iterations, for the hidden matrices; AdamW for everything else.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
https://kellerjordan.github.io/posts/muon/, in the form of ``torch.optim.Muon``, extended to convolutions, whose weights
count as matrices of shape (out, in x height x width).
Deviation: the iterations run in float32 unless bf16 is asked for, and matrices of one shape are iterated together.
The rule is torch's, with and without Nesterov: on the same gradients both agree to rounding over 200 updates. Two full
training runs diverge (by 2e-4 and more) once one bf16 value of torch's iterations rounds the other way.
Shapes: R rows, C columns of a matrix after transposing it so that R <= C; N matrices of one shape.
Cost: one tensor per hidden matrix and two per other parameter; 3 R^2 C multiply-adds per iteration and matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mltricks.config.values import Count, Decay, Positive
from mltricks.functional import foreach
from mltricks.optim.adamw import AdamW
from mltricks.optim.base import Opt, Optimizer, Slots
from mltricks.optim.kernels import WithKernel, numbers
from mltricks.optim.matching import check_patterns, matching
from mltricks.technique import Params

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of X, X X^T X and (X X^T)^2 X, which the author chose to raise small singular values fast."""
SMALLEST_NORM = 1e-7


@dataclass(frozen=True)
class Muon(WithKernel):
    """m = momentum m + (1 - momentum) g;  p = (1 - lr weight_decay) p - lr sqrt(max(1, rows / columns)) orthogonal(m).

    With Nesterov the direction is (1 - momentum) g + momentum m. The scale of m has no effect.

    Args:
        momentum: decay rate of the average gradient, in [0, 1).
        nesterov: whether to use Nesterov momentum.
        iterations: Newton-Schulz iterations, >= 1.
        dtype: of the iterations: ``fp32``, or ``bf16``, which is faster on a GPU.
        adam_params: patterns of matrices that AdamW trains instead; it always trains parameters of fewer than two
            dimensions.
        adam_lr: learning rate of AdamW, > 0; a learning-rate schedule applies to it too.
        beta1, beta2, eps: AdamW's.
    """

    momentum: Decay
    nesterov: bool
    iterations: Count
    dtype: Literal["fp32", "bf16"]
    adam_params: Sequence[str]
    adam_lr: Positive
    beta1: Decay
    beta2: Decay
    eps: Positive

    slots = ("momentum",)
    learning_rates = ("lr", "adam_lr")
    reads = (("lr", "weight_decay", "momentum"), ("adam_lr", "weight_decay", "beta1", "beta2", "eps"))
    shrinks = True

    def init(self, params: Params) -> Opt:
        """The initial tensors.

        Raises:
            ValueError: a pattern matches no parameter, or no matrix is left for Muon.
        """
        check_patterns("optim.adam_params", self.adam_params, params)
        if not self.choose(params)[0]:
            raise ValueError(
                f"optim=muon finds no hidden matrix: optim.adam_params={'+'.join(self.adam_params)} takes all there "
                "are. Type optim.adam_params=none or optim=adamw."
            )
        return super().init(params)

    def choose(self, params: Params) -> list[list[str]]:
        adams = matching([*self.adam_params, "norm_and_bias"], params)
        return [[name for name in params if name not in adams], [name for name in params if name in adams]]

    def rules(self) -> Sequence[Optimizer]:
        adamw = object.__new__(AdamW)  # skip its constructor: that checks numbers, and these may be tensors
        adamw.__dict__.update(self.__dict__, lr=self.adam_lr)
        return self, adamw

    def rule(
        self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor
    ) -> tuple[list[Tensor], Slots]:
        momentum = foreach.lerp(slots["momentum"], grads, 1 - self.momentum)
        updates = self._updates(grads, momentum)
        return foreach.axpy(-self.lr, updates, foreach.mul(params, 1 - self.lr * self.weight_decay)), {
            "momentum": momentum
        }

    def can_fuse(self) -> bool:
        floats = self.lr, self.weight_decay, self.momentum, self.adam_lr, self.beta1, self.beta2, self.eps
        return numbers(*floats)

    def fused(self, grads: list[Tensor], slots: Slots, params: list[Tensor], count: Tensor) -> None:
        torch._foreach_lerp_(slots["momentum"], grads, 1 - self.momentum)
        updates = self._updates(grads, slots["momentum"])
        torch._foreach_mul_(params, 1 - self.lr * self.weight_decay)
        torch._foreach_add_(params, updates, alpha=-self.lr)

    def _updates(self, grads: list[Tensor], momentum: list[Tensor]) -> list[Tensor]:
        """The update directions, before the learning rate."""
        directions = foreach.lerp(grads, momentum, self.momentum) if self.nesterov else momentum
        return orthogonalized(directions, self.iterations, torch.bfloat16 if self.dtype == "bf16" else None)


def orthogonalized(tensors: list[Tensor], iterations: int, dtype: torch.dtype | None = None) -> list[Tensor]:
    """Approximately the nearest (semi-)orthogonal matrix of every tensor, times sqrt(max(1, rows / columns)).

    Args:
        tensors: of two dimensions or more; the first counts as rows, the others together as columns.
        iterations: of Newton-Schulz.
        dtype: to iterate in; ``None`` for the tensors' own.

    Returns:
        Tensors of the given shapes and dtypes.
    """
    matrices = [t.flatten(1) for t in tensors]
    turned = [m.mT if m.shape[0] > m.shape[1] else m for m in matrices]
    shapes: dict[torch.Size, list[int]] = {}
    for i, matrix in enumerate(turned):
        shapes.setdefault(matrix.shape, []).append(i)
    found: dict[int, Tensor] = {}
    for members in shapes.values():
        batch = torch.stack([turned[i] for i in members])
        found.update(zip(members, newton_schulz(batch.to(dtype or batch.dtype), iterations).unbind(), strict=True))
    return [_like(found[i], matrices[i], tensor) for i, tensor in enumerate(tensors)]


def _like(turned: Tensor, matrix: Tensor, tensor: Tensor) -> Tensor:
    rows, columns = matrix.shape
    back = turned.mT if rows > columns else turned
    return back.to(tensor.dtype).reshape(tensor.shape) * math.sqrt(max(1.0, rows / columns))


def newton_schulz(x_NRC: Tensor, iterations: int) -> Tensor:
    """Move every singular value towards 1 and keep the singular vectors.

    Five iterations bring singular values that were not tiny to between about 0.7 and 1.2. The coefficients favour speed
    over a closer result, because the exact values do not matter.

    Args:
        x_NRC: matrices with R <= C.
        iterations: number of quintic iterations.

    Returns:
        (N, R, C), of the given dtype.
    """
    a, b, c = QUINTIC
    x = x_NRC / torch.linalg.vector_norm(x_NRC, dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
