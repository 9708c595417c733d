"""Linear models on fixed features: multinomial logistic regression and ridge regression, with an L2 penalty.

Both minimise the mean loss over the samples plus l2 / 2 times the squared norm of the weights; the bias is free. In
scikit-learn's terms ``LogisticRegression(C=1 / (l2 * N))`` and ``Ridge(alpha=l2 * N)``.
Legend: N samples, D features, C classes, K values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL = 1e-5
"""Largest entry of the gradient at which L-BFGS stops; scikit-learn's default is 1e-4."""


@dataclass(frozen=True)
class Linear:
    """x W + b.

    Attributes:
        weight: (D, C) or (D, K).
        bias: (C,) or (K,).
        converged: whether the solver reached the minimum within its iterations.
    """

    weight: Tensor
    bias: Tensor
    converged: bool = True

    def __call__(self, x_ND: Tensor) -> Tensor:
        return x_ND @ self.weight + self.bias


@dataclass(frozen=True)
class Standardize:
    """Features with mean 0 and standard deviation 1 over the samples that it was made from.

    Attributes:
        mean, scale: (D,); the scale of a constant feature is 1.
    """

    mean: Tensor
    scale: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        return (x_ND - self.mean) * self.scale


def standardize(x_ND: Tensor) -> Standardize:
    """The standardisation of these samples; as scikit-learn's, with the biased deviation.

    >>> standardize(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))(torch.tensor([[3.0, 6.0]]))
    tensor([[1., 1.]])
    """
    std, mean = torch.std_mean(x_ND, 0, correction=0)
    constant = std <= 1e-6 * mean.abs().clamp_min(1e-6)
    return Standardize(mean, 1 / torch.where(constant, 1.0, std))


def logistic(
    x_ND: Tensor, y_N: Tensor, num_classes: int, l2: float, max_iterations: int, start: Linear | None = None
) -> Linear:
    """Fit multinomial logistic regression by L-BFGS.

    Args:
        x_ND: features, float32, on any device: losses and gradients are computed there, the direction on the CPU.
        y_N: classes, int64.
        num_classes: C.
        l2: weight of the penalty, >= 0.
        max_iterations: of L-BFGS, >= 1.
        start: where to begin; ``None`` for zeros.
    """
    from scipy.optimize import minimize

    truth = F.one_hot(y_N, num_classes).to(x_ND.dtype)
    shape = (x_ND.shape[1] + 1, num_classes)
    begin = torch.zeros(shape) if start is None else torch.cat([start.weight, start.bias[None]])

    def value_and_slope(flat: Any) -> tuple[float, Any]:
        both = torch.as_tensor(flat, dtype=x_ND.dtype).view(shape).to(x_ND.device)
        weight, bias = both[:-1], both[-1]
        log_p = torch.addmm(bias, x_ND, weight).log_softmax(1)
        loss = -(log_p * truth).sum(1).mean() + 0.5 * l2 * weight.square().sum()
        error = (log_p.exp() - truth) / len(x_ND)
        slope = torch.cat([x_ND.T @ error + l2 * weight, error.sum(0, keepdim=True)])
        return loss.item(), slope.flatten().double().cpu().numpy()

    options = {"maxiter": max_iterations, "maxfun": 2 * max_iterations, "gtol": SMALL, "ftol": 1e-9}
    done = minimize(
        value_and_slope, begin.flatten().double().cpu().numpy(), jac=True, method="L-BFGS-B", options=options
    )
    found = torch.as_tensor(done.x, dtype=x_ND.dtype).view(shape).to(x_ND.device)
    return Linear(found[:-1], found[-1], bool(done.success))


def ridge(x_ND: Tensor, y_NK: Tensor, l2: float) -> Linear:
    """Fit ridge regression in closed form, in float64 on the CPU.

    Args:
        x_ND: features.
        y_NK: values.
        l2: weight of the penalty beside half the mean squared error, >= 0.
    """
    x, y = x_ND.cpu().double(), y_NK.cpu().double()
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = x - x_mean
    gram = centred.T @ centred / len(x) + l2 * torch.eye(x.shape[1], dtype=x.dtype)
    weight = torch.linalg.lstsq(gram, centred.T @ (y - y_mean) / len(x), driver="gelsd").solution
    found = Linear(weight, y_mean - x_mean @ weight)
    return Linear(found.weight.to(x_ND), found.bias.to(x_ND))
