"""The search spaces of augmentation policies: operations and their ranges."""

from __future__ import annotations

from mltricks.functional.images.operations import Space, Span


def randaugment_space(height: int, width: int) -> Space:
    """The operations of ``torchvision.transforms.v2.RandAugment``, whose bins 0 to 30 are the levels 0 to 1."""
    slope, factor = Span(0.0, 0.3, signed=True), Span(1.0, 1.9, signed=True)
    return {
        "identity": None,
        "shear_x": slope,
        "shear_y": slope,
        "translate_x": Span(0.0, 150 / 331 * width, signed=True, whole="cut"),
        "translate_y": Span(0.0, 150 / 331 * height, signed=True, whole="cut"),
        "rotate": Span(0.0, 30.0, signed=True),
        "brightness": factor,
        "saturation": factor,
        "contrast": factor,
        "sharpness": factor,
        "posterize": Span(8.0, 4.0, whole="round"),
        "solarize": Span(255.0, 0.0),
        "autocontrast": None,
        "equalize": None,
    }
