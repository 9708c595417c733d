"""Vision transformers as models of patch tokens: find the parts of one, and run it with its tokens changed.

A technique that masks patches needs three places in a model: the patches before their positions, the tokens with their
positions, and the tokens after the last block. They are outputs of submodules here, so that a run with changed tokens
is the model's own ``forward``: whatever else watches the model sees an ordinary call.
Legend: B batch, N patches, E tokens in front of them (of the class), D width of a token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mltricks.functional_model import FunctionalModel
from mltricks.technique import Params

PARTS = "token_parts"
"""The attribute by which a module names its three places."""
LAYOUTS = (("patch_embed", "pos_drop", "norm"), ("conv_proj", "encoder.dropout", "encoder.ln"))
"""The places in the vision transformers of timm and of torchvision."""


@dataclass(frozen=True)
class PatchTokens:
    """The tokens of a vision transformer.

    Attributes:
        patches: the module that makes patches, (B, D, rows, columns) or (B, N, D).
        placed: the module that returns the tokens with their positions, (B, E + N, D).
        encoded: the module that returns the tokens after the last block, (B, E + N, D).
        side: of a patch in pixels.
        rows, columns: of patches; N is their product.
        extra: E.
        width: D.
        values: numbers of a patch, side side C.
    """

    patches: str
    placed: str
    encoded: str
    side: int
    rows: int
    columns: int
    extra: int
    width: int
    values: int

    @property
    def num(self) -> int:
        """N."""
        return self.rows * self.columns


def find_tokens(technique: str, model: nn.Module, params: Params, x: Tensor) -> PatchTokens:
    """The tokens of a model.

    Args:
        technique: its name, for the message.
        model, params: as ``setup`` receives them.
        x: a few images, (B, C, H, W).

    Raises:
        ValueError: the model is no vision transformer of patches, or cannot do with a part of its tokens.
    """
    tokens = read_tokens(model, params, x)
    if tokens is None or not takes_part(model, params, x, tokens):
        raise ValueError(
            f"technique={technique} hides patches from a vision transformer, and {type(model).__name__} is none that "
            "it can read. Type model=vit. model=timm and model=torchvision work with plain vision transformers, "
            f"such as vit_tiny_patch16_224 and vit_b_16; so does your own module with an attribute {PARTS}, as "
            "mltricks.models.vit has it."
        )
    return tokens


def read_tokens(model: nn.Module, params: Params, x: Tensor) -> PatchTokens | None:
    """The tokens of a model that names its places, or has those of a known layout; ``None`` for others."""
    modules = dict(model.named_modules())
    named: Sequence[Sequence[str]] = [getattr(model, PARTS)] if hasattr(model, PARTS) else LAYOUTS
    names = next((layout for layout in named if all(name in modules for name in layout)), None)
    convolutions = [m for m in modules[names[0]].modules() if isinstance(m, nn.Conv2d)] if names else []
    if names is None or len(convolutions) != 1 or x.ndim != 4:
        return None
    patches, placed, encoded = outputs_of(model, params, x, names)
    conv, (channels, height, width) = convolutions[0], x.shape[1:]
    side = conv.stride[0]
    tiles = {conv.stride, conv.kernel_size} == {(side, side)} and height % side == width % side == 0
    rows, columns = height // side, width // side
    if not (tiles and conv.in_channels == channels and numel_of(patches) == rows * columns):
        return None
    extra = placed.shape[1] - rows * columns if placed.ndim == 3 else -1
    if extra < 0 or encoded.shape != placed.shape:
        return None
    return PatchTokens(
        names[0], names[1], names[2], side, rows, columns, extra, placed.shape[2], side * side * channels
    )


def numel_of(patches: Tensor) -> int:
    """The number of patches in (B, D, rows, columns) or (B, N, D); 0 in another shape."""
    return {4: patches[0, :1].numel(), 3: patches.shape[1]}.get(patches.ndim, 0)


def takes_part(model: nn.Module, params: Params, x: Tensor, tokens: PatchTokens) -> bool:
    """Whether the model runs without its last patch, as one does that keeps no positions for later."""
    try:
        with changed(model, tokens.placed, lambda t: t[:, :-1]):
            encoded = outputs_of(model, params, x, (tokens.encoded,))[0]
    except RuntimeError:  # shapes that do not fit
        return False
    return encoded.shape[1] == tokens.extra + tokens.num - 1


@torch.no_grad()
def outputs_of(model: nn.Module, params: Params, x: Tensor, names: Sequence[str]) -> list[Tensor]:
    """What submodules return for inputs in evaluation mode."""
    function = FunctionalModel(model)
    buffers = {name: places[0][0][places[0][1]] for name, places in function.buffers}
    _, _, captured = function(params, buffers, x, False, names)
    return [captured[name][1] for name in names]


@contextmanager
def changed(module: nn.Module, name: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside this block, a submodule returns what ``change`` makes of its output."""
    hook = module.get_submodule(name).register_forward_hook(lambda _, __, output: change(output))
    try:
        yield
    finally:
        hook.remove()


def only(kept_BK: Tensor, extra: int) -> Callable[[Tensor], Tensor]:
    """A change of tokens (B, E + N, D) to the first E and the patches at ``kept_BK``: (B, E + K, D).

    Rows beyond B, which another technique adds to the pass, keep the patches of the first rows.
    """

    def change(tokens: Tensor) -> Tensor:
        at = for_rows(kept_BK, len(tokens)).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        return torch.cat([tokens[:, :extra], tokens[:, extra:].gather(1, at)], 1)

    return change


def replaced(mask_BN: Tensor, token_D: Tensor) -> Callable[[Tensor], Tensor]:
    """A change of patches, (B, D, rows, columns) or (B, N, D), to a token where the mask is 1.

    Rows beyond B, which another technique adds to the pass, have the masks of the first rows.
    """

    def change(patches: Tensor) -> Tensor:
        token, mask = token_D.to(patches.dtype), for_rows(mask_BN, len(patches)) > 0
        if patches.ndim == 3:
            return torch.where(mask.unsqueeze(2), token, patches)
        return torch.where(mask.unflatten(1, patches.shape[2:]).unsqueeze(1), token[:, None, None], patches)

    return change


def for_rows(of_samples: Tensor, rows: int) -> Tensor:
    """The rows of a tensor, from the first on again where a pass has more of them."""
    size = len(of_samples)
    return of_samples if rows == size else of_samples.repeat(-(-rows // size), 1)[:rows]
