"""What an ablation found, in words: a sentence for each comparison, from the entries of ``ablation.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]
"""The content of ``ablation.json``."""
Compared = dict[str, Any]
"""One of its ``arms``: an ``Effect`` as a dict."""
VERBS = {"helps": "improves", "hurts": "worsens"}
THAN = {"helps": "better", "hurts": "worse"}


def sentence(arm: Compared, found: Found) -> str:
    """The verdict on one comparison, with the difference and what qualifies it.

    Args:
        arm: the comparison.
        found: the ablation that it belongs to.
    """
    if arm["difference"] is None:
        return f"{verdict_sentence(arm, found)}: no seed was finished by both arms."
    said = "; ".join([signed(arm["difference"], decimals(found["arms"])), *remarks(arm, found)])
    return f"{verdict_sentence(arm, found)}: {said}."


def verdict_sentence(arm: Compared, found: Found) -> str:
    """The verdict, without numbers."""
    verdict, metric = short_verdict(arm), metric_words(found["metric"])
    if verdict == "too few pairs":
        return f"Too few pairs to judge {arm['name']} (n = {arm['n']} of {found['seeds']})"
    if rival := arm["rival"]:
        rest = context(arm)
        if verdict == "no evidence":
            return f"No evidence that {arm['part']} differs from {rival} in {metric}{rest}"
        return f"{arm['part']} is {THAN[verdict]} than {rival} in {metric}{rest}"
    if verdict == "no evidence":
        return f"No evidence that {subject(arm)} changes {metric}"
    said = f"{subject(arm)} {VERBS[verdict]} {metric}"
    return said if arm["part"] else said.capitalize()


def short_verdict(arm: Compared) -> str:
    """``helps``, ``hurts``, ``no evidence`` or ``too few pairs``: of all comparisons together."""
    verdict = str(arm["verdict_of_all"])
    return "no evidence" if verdict.startswith("no evidence") else verdict


def subject(arm: Compared) -> str:
    """What is judged, as ``mixup alone``; arms may also differ in all parts."""
    return str(arm["name"]) if arm["part"] else "the combination"


def context(arm: Compared) -> str:
    """What a value is judged beside, with a comma in front.

    >>> context({"name": "optim=adamw instead of sgd alone", "part": "optim=adamw", "rival": "sgd"})
    ', alone'
    """
    rest = str(arm["name"]).removeprefix(f"{arm['part']} instead of {arm['rival']}").strip()
    return f", {rest}" if rest else ""


def remarks(arm: Compared, found: Found) -> list[str]:
    """What qualifies the verdict."""
    low, high = arm["difference_interval"] or (-math.inf, math.inf)
    said = ["all differences are equal, so their spread is unknown"] if low == high else []
    if arm["verdict"] != arm["verdict_of_all"]:
        said.append(f"{arm['verdict']} without the correction for {corrected(found)} comparisons")
    if arm["seeds_to_settle"]:
        said.append(f"about {arm['seeds_to_settle']} seeds would settle it")
    return said + ([lost(arm["lost"])] if arm["lost"] else [])


def corrected(found: Found) -> int:
    """The number of comparisons that the verdicts are corrected for."""
    return sum(arm["p_holm"] is not None for arm in found["arms"])


def lost(count: int) -> str:
    """How many pairs were left out.

    >>> lost(1), lost(2)
    ('1 pair was lost', '2 pairs were lost')
    """
    return f"{count} pair{' was' if count == 1 else 's were'} lost"


def metric_words(metric: str) -> str:
    """A metric with its split as words.

    >>> metric_words("val/accuracy")
    'validation accuracy'
    """
    split, _, name = str(metric).rpartition("/")
    return f"{ {'val': 'validation'}.get(split, split) } {name}".strip()


def percent(level: float) -> str:
    """A level of confidence.

    >>> percent(0.95), percent(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * level:.10g} %"


def signed(value: float, places: int) -> str:
    """A difference with its sign.

    >>> signed(0.01234, 4), signed(-1e-9, 4)
    ('+0.0123', '0.0000')
    """
    text = f"{value:+.{places}f}"
    return text[1:] if float(text) == 0 else text


def between(interval: Sequence[float], places: int) -> str:
    """An interval of differences."""
    return f"{signed(interval[0], places)} to {signed(interval[1], places)}"


def decimals(arms: Sequence[Compared]) -> int:
    """Decimal places that show two digits of the narrowest interval, between 2 and 6; 4 if none has a width.

    >>> decimals([{"difference_interval": [-0.002, 0.012]}]), decimals([{"difference_interval": None}])
    (4, 4)
    """
    widths = [high - low for low, high in (a["difference_interval"] for a in arms if a["difference_interval"])]
    halves = [width / 2 for width in widths if width > 0 and math.isfinite(width)]
    return min(6, max(2, 1 - math.floor(math.log10(min(halves))))) if halves else 4
