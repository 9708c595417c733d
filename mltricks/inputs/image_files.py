"""Find and decode image files, and convert them and PIL images to tensors of a given shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


class UndecodableImage(ValueError):
    """An image file is damaged or of an unknown format."""


def is_images(x: Any) -> bool:
    """Whether ``x`` is a PIL image or a list of PIL images."""
    first = x[0] if isinstance(x, list | tuple) and x else x
    return type(first).__module__.startswith("PIL.")


def from_images(x: Any, shape: tuple[int, ...]) -> Tensor:
    """Convert PIL images to (N, H, W, C) uint8: scale the shorter side to fit (bilinear), crop the longer one.

    Raises:
        ValueError: the model does not take images of one or three channels.
    """
    import numpy as np
    from PIL import Image, ImageOps

    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(f"inputs are images; this model takes (N, {', '.join(map(str, shape))}).")
    channels, height, width = shape
    arrays = []
    for image in x if isinstance(x, list | tuple) else [x]:
        image = ImageOps.exif_transpose(image).convert("L" if channels == 1 else "RGB")
        scale = max(width / image.width, height / image.height)
        size = max(width, int(image.width * scale)), max(height, int(image.height * scale))
        image = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        arrays.append(np.array(image.crop((left, top, left + width, top + height))).reshape(height, width, channels))
    return torch.from_numpy(np.stack(arrays))


def find_images(path: Path) -> list[Path]:
    """The path of one image, or the sorted paths of all images below a folder.

    Raises:
        ValueError: there is no image.
    """
    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()) if path.is_dir() else []
    if not files:
        what = "holds no image" if path.is_dir() else "does not exist"
        raise ValueError(f"input={path} {what}. Give an image ({' '.join(SUFFIXES)}), a folder, or an array (.npy).")
    return files


def read_image(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Read an image as (1, H, W, C) uint8, decoded in the same way as the run's own data.

    Raises:
        ValueError: the file cannot be decoded, or the model takes no images.
    """
    from PIL import Image, ImageOps

    try:
        if len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]:
            return decode_image(str(path), shape[1])[None]
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
    except Exception as error:  # decoders may raise anything: OSError, SyntaxError, EOFError, struct.error
        raise ValueError(
            f"input: {path} is no image that can be decoded ({error.__cause__ or error}). "
            "This model reads an image, a folder of images, or an array (.npy)."
        ) from error
    return from_images(image, shape)


def decode_image(path: str, size: int) -> Tensor:
    """Read an image as (size, size, 3) uint8: RGB, upright, shorter side scaled to ``size`` (bilinear), centre-cropped.

    JPEG files are decoded at a half, a quarter or an eighth of their resolution if that is still above ``size``, which
    is faster.

    Raises:
        UndecodableImage: the file cannot be decoded.
    """
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as file:
            file.draft("RGB", (size, size))
            image = _to_rgb(ImageOps.exif_transpose(file))
    except Exception as error:  # decoders may raise anything: OSError, SyntaxError, EOFError, struct.error
        raise UndecodableImage(f"{path} cannot be decoded: {error}. Delete or replace it.") from error
    width, height = image.size
    short, long = min(width, height), max(width, height)
    long = int(size * long / short)
    image = image.resize((size, long) if width <= height else (long, size), Image.Resampling.BILINEAR)
    left, top = round((image.width - size) / 2), round((image.height - size) / 2)
    return torch.from_numpy(np.array(image.crop((left, top, left + size, top + size))))


def _to_rgb(image):  # type: ignore[no-untyped-def]
    """Convert any mode to RGB: 16-bit values are scaled to 8 bits, and transparent pixels become black."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
