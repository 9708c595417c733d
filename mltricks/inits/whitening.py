"""Whitening of the first layer: patches of images become uncorrelated, with variance 1.

Source: Page, "How to Train Your ResNet 8: Bag of Tricks", 2019 (3x3 patches); Jordan, "94% on CIFAR-10 in 3.29
Seconds", 2024, arXiv:2404.00498, section 3.2 (2x2 patches, the filters and their negatives). The weight is frozen and
has no decay; a bias starts at zero and is trained.
Deviation: the patches are those of the first training batch (Jordan: of 5,000 images; Page: of all), and the bias is
trained throughout (Jordan: for 3 epochs).
Legend: N patches, C channels, k side of the kernel, D = k^2 C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import Positive, check_fields
from mltricks.inits.dirac import Dirac


@dataclass(frozen=True)
class Whitening:
    """w_i = v_i / sqrt(lambda_i + eps), with v and lambda of the covariance of patches, the largest first.

    A layer of 2 D channels also gets the negatives.

    Args:
        eps: added to the eigenvalues, > 0.
        rest: what happens to the other weights, ``default`` or ``dirac``.
    """

    eps: Positive
    rest: Literal["default", "dirac"]

    def __post_init__(self) -> None:
        check_fields(self, "init.")

    def __call__(self, model: nn.Module, batch: Batch) -> str:
        """Change the module in place; return a message.

        Raises:
            ValueError: the model has no first convolution of D or 2 D channels.
        """
        if self.rest == "dirac":
            Dirac()(model)
        name, layer = first_convolution(model)
        filters = whitening_filters(first_input(model, layer, batch["x"]), layer.kernel_size, self.eps)
        copies = check_size(name, layer, len(filters))
        with torch.no_grad():
            layer.weight.copy_(torch.cat([filters, -filters][:copies]).view_as(layer.weight))
            if layer.bias is not None:
                layer.bias.zero_()
        layer.weight.requires_grad_(False)
        return f"init: whitening set and froze {name}.weight"


def whitening_filters(x: Tensor, kernel: tuple[int, ...], eps: float) -> Tensor:
    """The filters that whiten the patches of images.

    Args:
        x: (B, C, H, W).
        kernel: height and width of a patch.
        eps: added to the eigenvalues.

    Returns:
        (D, D), the largest eigenvalue first. The covariance is not centred, since inputs are normalised.
    """
    patches_ND = F.unfold(x, kernel).transpose(1, 2).flatten(0, 1).double()
    covariance = patches_ND.T @ patches_ND / len(patches_ND)
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors / (values + eps).sqrt()).T.flip(0).to(x.dtype)


def first_convolution(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """The name and the module of a model's first convolution."""
    found = next(((name, m) for name, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None:
        raise ValueError(
            f"init=whitening sets the first convolution, and {type(model).__name__} has none. Type model=airbench."
        )
    return found


def first_input(model: nn.Module, layer: nn.Module, x: Any) -> Tensor:
    """What the layer receives when the model gets ``x``."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    training = model.training
    with torch.no_grad():
        model.eval()(x)
    model.train(training)
    hook.remove()
    return seen[0]


def check_size(name: str, layer: nn.Conv2d, filters: int) -> int:
    """Whether the layer has room for the filters alone (1), or for their negatives too (2)."""
    fits = layer.weight[0].numel() == filters and layer.out_channels in (filters, 2 * filters)
    if not fits:
        raise ValueError(
            f"init=whitening needs a first convolution of {filters} or {2 * filters} channels, as many as a patch has "
            f"numbers or twice as many, and {name} has {layer.out_channels}. Type model=airbench, or model=resnet9 "
            "model.whiten=3."
        )
    return layer.out_channels // filters
