"""Step 6: read the curves of the best trial so far, and measure the size of its updates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mltricks.checkpoint import LAST
from mltricks.config.overrides import quoted
from mltricks.observers.files import read_records
from mltricks.recipe.charts import Chart, chart, over_epochs
from mltricks.recipe.coarse import changes_of
from mltricks.recipe.curves import Curves, Finding, read_curves
from mltricks.recipe.gate import Gate, GateFailed
from mltricks.recipe.refine import Tried
from mltricks.recipe.tuner import Tuner, constant
from mltricks.sweep.outcome import Outcome

NUM_UPDATES = 5


def read_trial(
    tuner: Tuner, trial: Tried, ignorant_loss: float, updates: int
) -> tuple[list[Finding], Gate, list[Outcome]]:
    """Measure the updates of a trial and read its curves; return the findings, an unrecorded gate, and its jobs."""
    ratio, jobs = measure_ratio(tuner, trial, updates)
    curves = curves_of(trial.outcome.folder / "metrics.jsonl", ignorant_loss, ratio)
    findings = read_curves(curves)
    severe = [finding for finding in findings if finding.severe]
    reason = "; ".join(f"{f.name}: {f.evidence[:1].lower()}{f.evidence[1:].rstrip('.')}" for f in findings)
    reason = f"{reason}." if findings else "no findings."
    more = [] if ratio is None else [f"Update-to-weight ratio {ratio:.2g}."]
    more += [f.advice for f in findings if f.expected]
    evidence = {
        "trial": trial.outcome.num,
        "update_to_weight": ratio,
        "train_loss": last(curves.train),
        "val_loss": last(curves.val),
        "findings": [{"name": f.name, "evidence": f.evidence, "advice": f.advice, "next": f.factors} for f in findings],
    }
    advice, verdict = " ".join(f.advice for f in findings if not f.expected), "fail" if severe else "pass"
    picture = losses_over_epochs(curves)
    gate = Gate(6, "reading the curves", verdict, reason, evidence, advice, " ".join(more), chart=picture)
    return findings, gate, jobs


def losses_over_epochs(curves: Curves) -> Chart | None:
    """Training and validation loss after every epoch."""
    both = over_epochs("training", curves.train), over_epochs("validation", curves.val)
    return chart("epoch", "loss", *both)


def read_best(tuner: Tuner, trial: Tried, ignorant_loss: float, updates: int) -> list[Finding]:
    """Read the curves of the best trial.

    Raises:
        GateFailed: the trial learnt nothing.
    """
    before = tuner.money.spent
    findings, gate, jobs = read_trial(tuner, trial, ignorant_loss, updates)
    tuner.close(gate, jobs, before)
    return findings


def measure_ratio(tuner: Tuner, trial: Tried, updates: int) -> tuple[float | None, list[Outcome]]:
    """Run ``job=update_ratio`` on a trial; ``None`` without a checkpoint or without budget."""
    folder = trial.outcome.folder
    if not (folder / LAST).is_file() or tuner.money.left < NUM_UPDATES:
        return None, []
    settings = {
        **constant(),
        **tuner.length(updates),
        **changes_of(tuner, trial.point),
        "job.num_steps": str(NUM_UPDATES),
    }
    try:
        outcome, found = tuner.probe("update_ratio", {"checkpoint": quoted(str(folder.resolve())), **settings})
    except GateFailed as error:
        print(f"the update-to-weight ratio was not measured: {error}")
        return None, []
    tuner.money.spend(found["steps"])
    return found["ratio"], [outcome]


def curves_of(path: Path, ignorant_loss: float, ratio: float | None = None) -> Curves:
    """The curves of a run: the mean training loss of every epoch, and the validation loss after it.

    Args:
        path: the run's ``metrics.jsonl``.
        ignorant_loss: loss of a constant prediction.
        ratio: update-to-weight ratio; ``None`` if not measured.
    """
    records = [r for r in read_records(path) if r.get("loss") is not None]
    sums: dict[int, list[float]] = {}
    before = 0
    for r in records:
        if r["split"] == "train":
            total = sums.setdefault(r["epoch"], [0.0, 0.0])
            total[0] += r["loss"] * (r["step"] - before)
            total[1] += r["step"] - before
            before = r["step"]
    train = [total / count for total, count in sums.values() if count]
    return Curves(train, [r["loss"] for r in records if r["split"] == "val"], ignorant_loss, ratio)


def last(values: Sequence[float]) -> Any:
    """The last value, or ``None``."""
    return values[-1] if values else None
