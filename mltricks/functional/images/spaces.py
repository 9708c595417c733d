"""The search spaces of augmentation policies: operations and their ranges."""

from __future__ import annotations

from mltricks.functional.images.operations import Space, Span


def randaugment_space(height: int, width: int) -> Space:
    """The 14 operations of ``torchvision.transforms.v2.RandAugment``, whose bins 0 to 30 are the levels 0 to 1."""
    return paper_space(0.3, 150 / 331 * width, 150 / 331 * height, 30.0, 0.9, 4.0)


def fixmatch_space(height: int, width: int) -> Space:
    """The 14 operations of FixMatch's RandAugment (arXiv:2001.07685, table 12), with factors from 0.05 to 0.95."""
    space = paper_space(0.3, 0.3 * width, 0.3 * height, 30.0, 0.95, 4.0)
    return {**space, **dict.fromkeys(("brightness", "saturation", "contrast", "sharpness"), Span(0.05, 0.95))}


def timm_space(height: int, width: int) -> Space:
    """The 15 operations of timm's ``rand_augment_ops`` that grow stronger with the level (``inc1``), 10 of 10 at 1."""
    space = {name: span for name, span in randaugment_space(height, width).items() if name != "identity"}
    return {
        **space,
        "translate_x": Span(0.0, 0.45 * width, signed=True),
        "translate_y": Span(0.0, 0.45 * height, signed=True),
        "posterize": Span(4.0, 0.0, whole="cut"),
        "solarize": Span(256.0, 0.0, whole="cut"),
        "solarize_add": Span(0.0, 110.0, whole="cut"),
        "invert": None,
    }


def autoaugment_space(height: int, width: int) -> Space:
    """The operations of ``torchvision.transforms.v2.AutoAugment``, whose bins 0 to 9 are the levels 0 to 1."""
    return {**randaugment_space(height, width), "invert": None}


def trivialaugment_space(wide: bool) -> Space:
    """The wide space of TrivialAugment, as in torchvision, or its standard one. Translations are in pixels."""
    return paper_space(0.99, 32.0, 32.0, 135.0, 0.99, 2.0) if wide else paper_space(0.3, 10.0, 10.0, 30.0, 0.9, 4.0)


def paper_space(slope: float, right: float, down: float, degrees: float, change: float, bits: float) -> Space:
    """The 14 operations of RandAugment's paper at their largest strengths.

    Args:
        slope: of shears.
        right, down: translations in pixels.
        degrees: of rotations.
        change: of the factor 1 of brightness, contrast, saturation and sharpness.
        bits: that posterize keeps.
    """
    sheared, changed = Span(0.0, slope, signed=True), Span(1.0, 1.0 + change, signed=True)
    return {
        "identity": None,
        "shear_x": sheared,
        "shear_y": sheared,
        "translate_x": Span(0.0, right, signed=True, whole="cut"),
        "translate_y": Span(0.0, down, signed=True, whole="cut"),
        "rotate": Span(0.0, degrees, signed=True),
        "brightness": changed,
        "saturation": changed,
        "contrast": changed,
        "sharpness": changed,
        "posterize": Span(8.0, bits, whole="round"),
        "solarize": Span(255.0, 0.0),
        "autocontrast": None,
        "equalize": None,
    }


def augmix_space(height: int, width: int, all_ops: bool) -> Space:
    """The operations of AugMix's authors, at levels that they draw up to a severity of 10.

    Args:
        height, width: of the images.
        all_ops: also those that the corruption benchmarks contain: brightness, contrast, saturation, sharpness.
    """
    sheared = Span(0.0, 0.3, signed=True)
    space: dict[str, Span | None] = {
        "autocontrast": None,
        "equalize": None,
        "posterize": Span(4.0, 0.0, whole="cut"),
        "rotate": Span(0.0, 30.0, signed=True, whole="cut"),
        "solarize": Span(256.0, 0.0, whole="cut"),
        "shear_x": sheared,
        "shear_y": sheared,
        "translate_x": Span(0.0, width / 3, signed=True, whole="cut"),
        "translate_y": Span(0.0, height / 3, signed=True, whole="cut"),
    }
    factors = ("brightness", "contrast", "saturation", "sharpness")
    return {**space, **(dict.fromkeys(factors, Span(0.1, 1.9)) if all_ops else {})}
