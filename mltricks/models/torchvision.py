"""Any classification model of torchvision by its name.

Source: https://docs.pytorch.org/vision/stable/models.html
Deviation: auxiliary classifiers (googlenet, inception_v3) are left out, since a model here has one output.
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn

from mltricks.config.values import check_value, suggest
from mltricks.models.first_weights import load_below, read_state

STEMS = ("imagenet", "small")


def create_torchvision(
    in_shape: tuple[int, ...], num_outputs: int, name: str, arguments: dict[str, Any], pretrained: bool | str, stem: str
) -> nn.Module:
    """Make a model of torchvision that takes the data's channels and gives the outputs wanted.

    Args:
        in_shape: (C, H, W).
        num_outputs: K, width of the output.
        name: as in ``torchvision.models``.
        arguments: further arguments of the model's constructor.
        pretrained: start from torchvision's best ImageNet weights, or from those in a file at this path; the last
            layer is new then.
        stem: ``imagenet`` leaves the model as it is; ``small`` lets a ResNet's first layer keep the image's size.

    Raises:
        ValueError: an unknown name, argument or stem, or data that are no images.
    """
    check_image(in_shape, name)
    check_value("model.pretrained", pretrained, bool | str)
    if stem not in STEMS:
        raise ValueError(
            f"model.stem={stem} is not an option. Allowed: {' | '.join(STEMS)}. {suggest(str(stem), STEMS)}"
        )
    shown = str(pretrained).lower() if isinstance(pretrained, bool) else pretrained
    if pretrained and stem == "small":
        raise ValueError(
            f"model.stem=small replaces the first layer that model.pretrained={shown} loads. Type model.stem=imagenet."
        )
    model = make(name, arguments, pretrained is True, num_outputs)
    if isinstance(pretrained, str):
        load_below(pretrained, read_state(pretrained), model, last_layer(model)[0])
    drop_auxiliary(model)
    if pretrained is True:
        replace_head(model, num_outputs)
    if stem == "small":
        small_stem(model, name, in_shape[0])
    elif in_shape[0] != 3:
        adapt_channels(model, name, in_shape[0])
    return model


def check_image(in_shape: tuple[int, ...], name: str) -> None:
    """Refuse data that are no images."""
    if len(in_shape) != 3:
        raise ValueError(
            f"model.name={name} reads images; the data have shape {tuple(in_shape)}. "
            "Type model=mlp or model=transformer."
        )


def names() -> list[str]:
    """The values of ``model.name``: torchvision's classification models."""
    import torchvision

    return torchvision.models.list_models(module=torchvision.models)


def make(name: str, arguments: dict[str, Any], pretrained: bool, num_outputs: int) -> nn.Module:
    """The model as torchvision makes it."""
    import torchvision

    if name not in names():
        raise ValueError(f"model.name={name} is no classification model of torchvision. {suggest(str(name), names())}")
    if pretrained:
        known: dict[str, Any] = {"weights": "DEFAULT"}
    else:
        known = {"weights": None, "num_classes": num_outputs}
    if name in ("googlenet", "inception_v3") and not pretrained:
        known["init_weights"] = True  # their default, set here since they warn where it is missing
    try:
        return torchvision.models.get_model(name, **{**known, **arguments})
    except TypeError as error:
        raise ValueError(f"model.arguments={arguments} do not fit {name}: {error}") from error
    except OSError as error:
        if not pretrained:
            raise ValueError(f"model.name={name} cannot be made with arguments={arguments}: {error!r}") from error
        raise unreachable(name, error, f"{torch.hub.get_dir()}/checkpoints") from error


def unreachable(name: str, error: OSError, cache: str) -> ValueError:
    """The error for pretrained weights that are neither in the cache nor downloadable."""
    return ValueError(
        f"model.pretrained=true: the weights of {name} cannot be downloaded ({error}). Copy them into {cache} from a "
        "machine that has them, or type model.pretrained=false."
    )


def drop_auxiliary(model: Any) -> None:
    """Remove auxiliary classifiers: with them the output is a tuple in training."""
    if getattr(model, "aux_logits", False):
        model.aux_logits = False
        for branch in ("aux1", "aux2", "AuxLogits"):
            if hasattr(model, branch):
                setattr(model, branch, None)


def last_layer(model: nn.Module) -> tuple[str, nn.Linear | nn.Conv2d]:
    """The last layer with weights, and its name."""
    return [(name, m) for name, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]


def replace_head(model: nn.Module, num_outputs: int) -> None:
    """Replace the pretrained last layer by a new one."""
    name, layer = last_layer(model)
    if isinstance(layer, nn.Linear):
        new: nn.Module = nn.Linear(layer.in_features, num_outputs, layer.bias is not None)
    else:
        new = nn.Conv2d(layer.in_channels, num_outputs, cast(Any, layer.kernel_size), bias=layer.bias is not None)
    model.set_submodule(name, new)


def small_stem(model: nn.Module, name: str, channels: int) -> None:
    """A 3x3 convolution of stride 1 and no pooling at the entry, as He et al. use for CIFAR-10."""
    first, pool = getattr(model, "conv1", None), getattr(model, "maxpool", None)
    if not isinstance(first, nn.Conv2d) or not isinstance(pool, nn.MaxPool2d) or not hasattr(model, "layer4"):
        raise ValueError(f"model.stem=small is for ResNets; {name} is none. Type model.stem=imagenet.")
    model.conv1 = nn.Conv2d(channels, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()


def adapt_channels(model: nn.Module, name: str, channels: int) -> None:
    """Let the first convolution take ``channels`` in place of 3: the mean weights, scaled so that their sum stays."""
    first_name, first = next(((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), ("", None))
    if first is None or first.in_channels != 3 or first.groups != 1:
        raise ValueError(
            f"model.name={name} has no first convolution that could take {channels} channels. "
            "Choose another model.name."
        )
    same = {name: getattr(first, name) for name in ("out_channels", "kernel_size", "stride", "padding", "dilation")}
    new = nn.Conv2d(channels, **same, bias=first.bias is not None)
    with torch.no_grad():
        new.weight.copy_(first.weight.mean(1, keepdim=True).expand_as(new.weight) * (3 / channels))
        if new.bias is not None and first.bias is not None:
            new.bias.copy_(first.bias)
    model.set_submodule(first_name, new)
