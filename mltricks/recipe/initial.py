"""Step 1: the loss before the first step, with regularisation off and on."""

from __future__ import annotations

from typing import Any

from mltricks.recipe.budget import Budget
from mltricks.recipe.gate import Gate, GateFailed
from mltricks.recipe.tuner import Tuner

NUM_BATCHES = 2
SMALLEST = 200
"""Updates without which the steps have nothing to divide."""


def check_initial_loss(tuner: Tuner) -> dict[str, Any]:
    """Run ``job=check_init``; what it found. The batches that it counts make the budget.

    Raises:
        GateFailed: the loss is not what it should be, or the budget is too small for any step.
    """
    outcome, found = tuner.probe("check_init", {"job.num_batches": str(NUM_BATCHES)})
    tuner.budget = Budget(float(tuner.settings["budget_epochs"]), found["steps_per_epoch"], found["batch_size"])
    if tuner.money.left < SMALLEST:
        least = -(-SMALLEST // tuner.money.steps_per_epoch)
        raise GateFailed(
            f"hydra.sweeper.budget_epochs={tuner.settings['budget_epochs']} is {tuner.money.left} updates, and the "
            f"steps need {SMALLEST} at least. Type recipe.budget_epochs={least} or more."
        )
    tuner.money.spend(NUM_BATCHES + found["gradient_steps"])
    evidence = {name: found[name] for name in ("loss", "expected", "gap", "output_std", "penalty", "weight_decay")}
    gate = Gate(1, "initial loss", found["verdict"], found["reason"], evidence, " ".join(found["advice"]))
    tuner.settle(gate, [outcome], 0)
    return found
