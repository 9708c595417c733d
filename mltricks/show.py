"""``show=true``: print the composed step in order of execution, with its settings and schedules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mltricks.build import Run, build
from mltricks.config.names import without_brackets
from mltricks.config.options import option_of
from mltricks.resume import finished
from mltricks.stages.plan import plan
from mltricks.step import acting_on_host, in_order_of_change, split_at_normalize
from mltricks.technique import defines, floats_of

NUM_POINTS = 5


def describe(run: Run) -> Iterator[str]:
    """The lines of the description of a run."""
    cfg = run.cfg
    yield from section("step", verbs(run))
    yield from section("settings", settings(run))
    yield from section("schedules", schedules(run))
    engine = type(run.engine).__name__.lower()
    yield from section(
        "run",
        {"engine": engine, "precision": cfg["precision"]["dtype"], "device": str(run.device), "seed": cfg["seed"]},
    )
    yield from section("model", model(run))
    yield from section("data", data(run))
    yield from run.messages


def describe_stages(cfg: dict[str, Any], folder: Path) -> Iterator[str]:
    """The lines of the description of a run of stages: of every stage that needs no earlier one, its step."""
    stages = plan(cfg["stages"], cfg["stages"]["command"], folder, None)
    done = {stage.name for stage in stages if finished(stage.folder)}
    for i, stage in enumerate(stages):
        yield from [""] if i else []
        yield f"stage {stage.name}: {' '.join(map(without_brackets, stage.overrides))}"
        if missing := [name for name in stage.needs if name not in done]:
            yield f"its step can be built when {' and '.join(missing)} has run"
        else:
            yield from describe(build(stage.cfg))


def section(title: str, rows: dict[str, Any]) -> Iterator[str]:
    """A title, then one line per row."""
    if rows:
        yield title
        wide = max(map(len, rows))
        yield from (f"  {name:<{wide}}  {text}" for name, text in rows.items())


def verbs(run: Run) -> dict[str, str]:
    """The techniques at every verb: pipes from left to right, nested calls from outside to inside."""
    techniques = run.techniques
    raw, ready = split_at_normalize(techniques)
    acting = {
        verb: [name for name, t in techniques.items() if defines(t, verb)]
        for verb in ("setup", "loss", "grads", "evaluate")
    }
    return {
        "techniques": " -> ".join(techniques) or "no techniques",
        "setup": ", ".join(acting["setup"]) or "-",
        "batch": " -> ".join([*acting_on_host(techniques), *raw, "normalize", *ready]),
        "loss": onion(acting["loss"], option_of("objective", run.objective)),
        "grads": onion(acting["grads"], "gradient"),
        "update": option_of("optim", run.optim),
        "after": " -> ".join(in_order_of_change(techniques)) or "-",
        "evaluate": onion(acting["evaluate"], "model"),
    }


def onion(names: list[str], core: str) -> str:
    """Nested calls, the first name outermost.

    >>> onion(["accumulate", "sam"], "gradient")
    'accumulate(sam(gradient))'
    """
    return "(".join([*names, core]) + ")" * len(names)


def settings(run: Run) -> dict[str, str]:
    """The settings of the optimiser and of every technique."""
    nodes = {"optim": run.cfg["optim"], **{f"technique.{name}": node for name, node in run.cfg["technique"].items()}}
    texts = {
        key: "  ".join(f"{k}={shown(v)}" for k, v in node.items() if k != "_target_") for key, node in nodes.items()
    }
    return {key: text for key, text in texts.items() if text}


def shown(value: Any) -> str:
    """A value as typed on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown(v)}" for name, v in value.items()) + "}"
    if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return "+".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def schedules(run: Run) -> dict[str, str]:
    """Every scheduled hyperparameter at a few points of the run."""
    hypers, rows = run.hypers, {}
    steps = sorted({round(i * (hypers.total_steps - 1) / (NUM_POINTS - 1)) for i in range(NUM_POINTS)})
    for owner, name in hypers.drives:
        key = f"{owner}.{name}" if owner == "optim" else f"technique.{owner}.{name}"
        rows[key] = "  ".join(f"{hypers.values(step)[owner, name]:.4g} (step {step})" for step in steps)
        if (owner, name) in hypers.following:
            rows[key] += "  without drops, which follow the validation score"
    return rows or {"optim.lr": f"{floats_of(run.optim).get('lr', 0.0):.4g} throughout"}


def model(run: Run) -> dict[str, str]:
    """The model's class and sizes."""
    own = sum(run.state["params"][name].numel() for name, _ in run.model.params)
    rows = {"class": type(run.model.module).__name__, "parameters": f"{own:,}"}
    total = sum(p.numel() for p in run.state["params"].values())
    if total != own:
        rows["added by techniques"] = f"{total - own:,}"
    if total != run.num_params:
        rows["frozen"] = f"{total - run.num_params:,}"
    return rows


def growing(run: Run) -> str:
    """The shapes of training samples and when each starts, if a technique changes them."""
    if run.shapes is None:
        return ""
    parts = [f"{'x'.join(map(str, shape))} from {start:.0%} of the run" for start, shape in run.shapes.table]
    return f", in training {', '.join(parts)}"


def data(run: Run) -> dict[str, str]:
    """Inputs, outputs and sizes of the data, and the length of the run."""
    info, splits = run.data.info, run.data
    sizes = {"train": splits.train, "val": splits.val, "test": splits.test, "unlabeled": splits.unlabeled}
    return {
        "samples": ", ".join(f"{name} {len(split):,}" for name, split in sizes.items() if split is not None),
        "inputs": f"{info.input}{growing(run)}",
        "outputs": f"{info.num_outputs} {info.target}",
        "batch_size": f"{run.cfg['batch_size']} samples",
        "updates": f"{run.total_steps:,}, {run.source.steps_per_epoch} an epoch",
    }
