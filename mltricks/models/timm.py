"""Any model of timm by its name.

Source: Wightman, "PyTorch Image Models", https://github.com/huggingface/pytorch-image-models
Shapes: (B, C, H, W) -> (B, K).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from mltricks.config.values import Count, check_value, suggest
from mltricks.models.first_weights import check_names, read_state
from mltricks.models.torchvision import check_image, unreachable


def names() -> list[str]:
    """The values of ``model.name``."""
    import timm

    found: list[str] = timm.list_models()
    return found


def create_timm(
    in_shape: tuple[int, ...],
    num_outputs: int,
    name: str,
    pretrained: bool | str,
    img_size: int | None,
    arguments: dict[str, Any],
) -> nn.Module:
    """Make a model of timm that takes the data's channels and gives the outputs wanted.

    Args:
        in_shape: (C, H, W).
        num_outputs: K, width of the output.
        name: as in ``timm.list_models()``.
        pretrained: load timm's weights, or those in a file; the last layer is new then.
        img_size: side of the images, for models that fix it (vision transformers); ``None`` leaves it to the model.
        arguments: further arguments of the model's constructor.

    Raises:
        ValueError: timm is not installed, an unknown name or argument, or data that are no images.
    """
    check_image(in_shape, name)
    check_value("model.pretrained", pretrained, bool | str)
    check_value("model.img_size", img_size, Count | None)
    try:
        import timm
    except ImportError as error:
        raise ValueError("model=timm needs the package timm. Type: pip install timm") from error
    if not timm.is_model(name):
        raise ValueError(f"model.name={name} is no model of timm. {suggest(str(name), timm.list_models())}")
    more: dict[str, Any] = {} if img_size is None else {"img_size": img_size}
    more |= {"in_chans": in_shape[0], "num_classes": num_outputs, **arguments}
    state = read_state(pretrained) if isinstance(pretrained, str) else None
    if state is not None:  # timm leaves out the last layer where the number of classes differs
        more["pretrained_cfg_overlay"] = {"state_dict": dict(state), "num_classes": -1}
    try:
        model: nn.Module = timm.create_model(name, pretrained=bool(pretrained), **more)
    except OSError as error:
        if not pretrained:
            raise ValueError(f"model.name={name} cannot be made with arguments={arguments}: {error!r}") from error
        from huggingface_hub.constants import HF_HUB_CACHE

        raise unreachable(name, error, HF_HUB_CACHE) from error
    except (TypeError, RuntimeError) as error:
        raise ValueError(
            f"model.name={name} cannot be made with img_size={img_size} and arguments={arguments}: {error}"
        ) from error
    if state is not None:
        check_names(str(pretrained), state, model)
    return model
