"""Step 2: overfit a small sample."""

from __future__ import annotations

from mltricks.recipe.charts import chart, over_epochs
from mltricks.recipe.gate import Gate
from mltricks.recipe.tuner import Tuner

NUM_SAMPLES, NUM_UPDATES, FACTORS = 32, 300, ("1.0", "0.1", "10.0")
FEWEST = 20
"""With fewer updates than this, the step is skipped."""


def overfit_small_sample(tuner: Tuner) -> None:
    """Run ``job=overfit`` with as many updates as the budget affords.

    Raises:
        GateFailed: the sample was not fitted, although there were enough updates.
    """
    before = tuner.money.spent
    affordable = tuner.money.share("overfit") * tuner.money.batch_size // NUM_SAMPLES
    updates, num_rates = min(NUM_UPDATES, affordable), min(len(FACTORS), max(1, affordable // NUM_UPDATES))
    if updates < FEWEST:
        reason = f"its share of the budget is {affordable} updates on {NUM_SAMPLES} samples, too few for a verdict."
        tuner.close(Gate(2, "overfit a sample", "skipped", reason, advice="Type job=overfit."), [], before)
        return
    settings = {
        "job.num_samples": str(NUM_SAMPLES),
        "job.num_steps": str(updates),
        "job.factors": f"[{','.join(FACTORS[:num_rates])}]",
    }
    outcome, found = tuner.probe("overfit", settings)
    tuner.money.spend(found["samples"], 1)
    verdict, reason, advice = found["verdict"], found["reason"], " ".join(found["advice"])
    if verdict == "fail" and (updates < NUM_UPDATES or num_rates < len(FACTORS)):
        verdict = "skipped"
        reason = f"undecided within the {found['steps']} updates that the budget affords: {reason}"
    evidence = {name: found[name] for name in ("loss", "accuracy", "ignorant_loss", "learning_rate", "num_updates")}
    tries = [over_epochs(f"lr {t['learning_rate']:.3g}", t["losses"]) for t in found["tries"]]
    picture = chart("update", "loss of the sample", *tries, levels={"constant prediction": found["ignorant_loss"]})
    tuner.close(Gate(2, "overfit a sample", verdict, reason, evidence, advice, chart=picture), [outcome], before)
