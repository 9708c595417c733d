"""Images that operations on pixels can work on."""

from __future__ import annotations

from mltricks.data.info import Info


def check_pixels(name: str, info: Info) -> None:
    """Refuse images that are not grey or RGB bytes.

    Args:
        name: of the technique.
        info: describes the data.

    Raises:
        ValueError: the images are floats, or have another number of channels.
    """
    if getattr(info.input, "mean", None) is None:  # such images are not normalised, so they are no bytes
        raise ValueError(
            f"technique={name} works on pixels of 8 bits, and these images are floats. Give them as uint8, or leave "
            f"{name} out."
        )
    channels = info.in_shape[0]
    if channels not in (1, 3):
        raise ValueError(
            f"technique={name} works on grey images (1 channel) and RGB images (3), and these have {channels}. Leave "
            f"{name} out."
        )
