"""Step 1: the loss before the first update, without and with regularisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mltricks.recipe.budget import Budget
from mltricks.recipe.charts import bars
from mltricks.recipe.gate import Gate
from mltricks.recipe.tuner import Tuner

if TYPE_CHECKING:
    from mltricks.data.splits import DataSplits

NUM_BATCHES = 2
SMALLEST = 200
"""The smallest budget in updates: with fewer, the steps' shares are too small."""


def check_budget(cfg: dict[str, Any], budget_epochs: float) -> DataSplits:
    """Refuse a budget that is too small for any step, before the first job; return the loaded data.

    Args:
        cfg: the configuration, as nested dicts.
        budget_epochs: the setting of that name.

    Raises:
        ValueError: the budget is too small; the message names the least.
    """
    from mltricks.config.create import create
    from mltricks.construct import load_data
    from mltricks.data.source import Source

    allow, drop_last = cfg["allow_modules"], cfg["data"].get("drop_last", True)
    sampler = create(cfg["sampler"], "sampler", allow)
    data = load_data(cfg, allow)
    source = Source(data.train, sampler, cfg["batch_size"], 0, drop_last)
    budget = Budget(float(budget_epochs), source.steps_per_epoch, cfg["batch_size"])
    if budget.left < SMALLEST:
        least = -(-SMALLEST // budget.steps_per_epoch)
        raise ValueError(
            f"budget_epochs={budget_epochs} is {budget.left} updates, but the recipe needs at least "
            f"{SMALLEST}. Type budget_epochs={least} or more."
        )
    return data


def check_initial_loss(tuner: Tuner) -> dict[str, Any]:
    """Run ``job=check_init`` and return its result; the batches that it counts define the budget.

    Raises:
        GateFailed: the loss is not in the expected range.
    """
    outcome, found = tuner.probe("check_init", {"job.num_batches": str(NUM_BATCHES)})
    tuner.budget = Budget(float(tuner.settings["budget_epochs"]), found["steps_per_epoch"], found["batch_size"])
    tuner.money.spend(NUM_BATCHES + found["gradient_steps"])
    evidence = {name: found[name] for name in ("loss", "expected", "gap", "output_std", "penalty", "weight_decay")}
    losses = {
        "constant prediction": found["expected"],
        "first batches": found["loss"],
        "with regularisation": found["loss_regularised"],
        "validation split": found["val_loss"],
    }
    chart = bars("loss before training", losses)
    advice = " ".join(found["advice"])
    gate = Gate(1, "initial loss", found["verdict"], found["reason"], evidence, advice, chart=chart)
    tuner.close(gate, [outcome], 0)
    return found
