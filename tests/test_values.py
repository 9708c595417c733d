"""Every hyperparameter is checked against its annotation; the message says which values can be typed."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import pytest

from mltricks.config.values import (
    Count,
    Decay,
    Fraction,
    NonNegative,
    Positive,
    Probability,
    Range,
    check_value,
    suggest,
)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, Positive),
        (1.0, Probability),
        (0, Probability),
        (0.999, Decay),
        (None, Count | None),
        (3, Count | None),
        ("b", Literal["a", "b"]),
        (None, Literal["a", "b"] | None),
        ("auto", NonNegative | Literal["auto"]),
        (2.5, NonNegative | Literal["auto"]),
        ([1, 2.5], list[Positive]),
        ([], list[str]),
        ([3, 4], tuple[int, int]),
        (True, bool),
        ({"a": 1}, dict[str, int]),
    ],
)
def test_right_values_pass(value: Any, hint: Any) -> None:
    check_value("key", value, hint)


@pytest.mark.parametrize(
    ("value", "hint", "words"),
    [
        (-1.0, Positive, ["key=-1.0", "Allowed: 0 < value."]),
        (0.0, Positive, ["0 < value"]),
        (1.0, Decay, ["0 <= value < 1", "key=0.5"]),
        (1.5, Fraction, ["0 < value <= 1", "key=1"]),
        (0, Count, ["1 <= value", "key=1"]),
        (1.5, Count, ["an integer"]),
        (True, Count, ["key=True", "an integer"]),
        (True, Positive, ["a number"]),
        (1, bool, ["true or false"]),
        ("abc", Count, ["key='abc'", "an integer", "1 <= value"]),
        ("3e-3x", float, ["a number"]),
        (math.nan, float, ["finite"]),
        (math.inf, Positive, ["finite"]),
        (-math.inf, Annotated[float, Range(high=0.0)], ["finite"]),
        (None, Count, ["key=null", "an integer"]),
        ("c", Literal["max", "mean"], ["max | mean"]),
        ("men", Literal["max", "mean"], ["Did you mean mean"]),
        ("x", NonNegative | Literal["auto"], ["auto | a number"]),
        ([1.0, -1.0], list[Positive], ["key[1]=-1.0"]),
        ("ab", list[str], ["a list", "Type key=a+b, or key=none."]),
        ([1], tuple[int, int], ["2 members"]),
        (5, Annotated[int, Range(0, 3, above=True, below=True)], ["0 < value < 3", "for instance key=2."]),
    ],
)
def test_wrong_values_are_refused_with_what_is_allowed(value: Any, hint: Any, words: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:
        check_value("key", value, hint)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize("value", [-7, -0.5, 0, 0.5, 1, 3, 99])
@pytest.mark.parametrize("bounds", [Range(0, 1), Range(0, 1, True, True), Range(2), Range(high=-1), Range(1, 4, True)])
def test_the_example_in_a_message_is_itself_allowed(value: float, bounds: Range) -> None:
    if value in bounds:
        return
    with pytest.raises(ValueError) as refusal:
        check_value("key", value, Annotated[float, bounds])
    example = str(refusal.value).rsplit("key=", 1)[1].rstrip(".")
    check_value("key", float(example), Annotated[float, bounds])


def test_suggest_names_the_nearest() -> None:
    assert suggest("mixpu", ["mixup", "ema", "sam"]) == "Did you mean mixup?"
    assert suggest("zzz", ["mixup", "ema"]) == "Known: ema, mixup."
