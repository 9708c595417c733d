"""What an ablation found, in words: a sentence for each comparison, from the entries of ``ablation.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Found = dict[str, Any]
"""The content of ``ablation.json``."""
Compared = dict[str, Any]
"""One of its ``arms``: an ``Effect`` as a dict."""
SHORT = {"helps": "helps", "hurts": "hurts", "too few pairs": "too few pairs"}


def sentence(arm: Compared, found: Found) -> str:
    """The verdict on one comparison with the difference and its interval.

    Args:
        arm: the comparison.
        found: the ablation that it belongs to.
    """
    places = decimals(found["arms"])
    judged = verdict_sentence(arm, metric_words(found["metric"]))
    judged = judged.replace("the combination", "The combination") if judged.startswith("the") else judged
    if arm["difference"] is None:
        return f"{judged}: no seed was finished by both arms."
    measured = signed(arm["difference"], places)
    if interval := arm["difference_interval"]:
        measured += f", {percent(found['level'])} interval {between(interval, places)}"
    return f"{judged}: {measured}{'; '.join(['', *remarks(arm, found)])}."


def verdict_sentence(arm: Compared, metric: str) -> str:
    """The verdict, without numbers."""
    name, rival, where = subject(arm), arm["rival"], context(arm)
    verdict = short_verdict(arm)
    if verdict == "too few pairs":
        return f"Too few pairs to judge {arm['name']} (n={arm['n']})"
    if verdict == "no evidence":
        differs = f"differs from {rival}" if rival else "changes"
        return f"No evidence that {name} {differs}{' in' if rival else ''} {metric}{where}"
    word = {"helps": "is better than", "hurts": "is worse than"}[verdict]
    return f"{name} {word} {rival} in {metric}{where}" if rival else f"{name} {verdict} {metric}{where}"


def short_verdict(arm: Compared) -> str:
    """``helps``, ``hurts``, ``no evidence`` or ``too few pairs``: of all comparisons together."""
    verdict = arm["verdict_of_all"] or arm["verdict"]
    return SHORT.get(verdict, "no evidence")


def subject(arm: Compared) -> str:
    """The part that is judged; all of them where the arms differ in several."""
    return str(arm["part"] or "the combination")


def context(arm: Compared) -> str:
    """What the part is judged beside, with a comma in front: ``, with all others``.

    >>> context({"name": "mixup alone", "part": "mixup", "rival": ""})
    ', alone'
    """
    whole = f"{arm['part']} instead of {arm['rival']}" if arm["rival"] else arm["part"]
    rest = str(arm["name"]).removeprefix(whole).strip() if whole else ""
    return f", {rest}" if rest else ""


def remarks(arm: Compared, found: Found) -> list[str]:
    """What qualifies the verdict."""
    low, high = arm["difference_interval"] or (-math.inf, math.inf)
    corrected = arm["verdict"] != arm["verdict_of_all"]
    said = (
        [f"not after the correction for {len(found['arms'])} comparisons (p {arm['p_holm']:.2g})"] if corrected else []
    )
    said += ["all differences are equal, so their spread is unknown"] if low == high else []
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
    """A metric with its split as words: ``test/accuracy`` is "test accuracy"."""
    return str(metric).replace("/", " ")


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
