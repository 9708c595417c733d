"""Images that operations on pixels can work on."""

from __future__ import annotations

from mltricks.data.info import Info


def check_bytes(name: str, info: Info) -> None:
    """Refuse images that are not bytes.

    Args:
        name: of the technique.
        info: describes the data.

    Raises:
        ValueError: the images are floats.
    """
    if getattr(info.input, "mean", None) is None:  # such images are not normalised, so they are no bytes
        raise ValueError(
            f"technique={name} works on pixels of 8 bits, and these images are floats. Give them as uint8, or leave "
            f"{name} out."
        )


def check_colors(name: str, info: Info) -> None:
    """Refuse images that are not bytes, or neither grey nor RGB; arguments as for ``check_bytes``.

    Raises:
        ValueError: the images are floats, or have another number of channels.
    """
    check_bytes(name, info)
    channels = info.in_shape[0]
    if channels not in (1, 3):
        raise ValueError(
            f"technique={name} works on grey images (1 channel) and RGB images (3), and these have {channels}. Leave "
            f"{name} out."
        )
