"""What every option is worth on four small tasks: python benchmarks/evidence.py, or make evidence

Every supervised technique, sampler, schedule, optimiser, initialisation, objective and layer is added to one plain
baseline and compared with it by ``hydra/sweeper=ablation``: five paired seeds, the learning rate tuned for both sides
with other seeds, differences on the test split. A verdict stands if it survives Benjamini and Hochberg's control of
false discoveries over all rows of the task. The result is ``mltricks/evidence/tasks/TASK.json``, which ``job=explain``,
the pages of the options and the page effects.md of the documentation show. It takes hours on two cores. A stopped call
goes on where it was; what is in the folder of the results is not trained again.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from costs import Steps, names_of, needs_of, ratios
from evidence_tasks import TASKS, Task
from harness import origin
from scipy.stats import false_discovery_control

from mltricks.config.options import TECHNIQUE_GROUPS
from mltricks.evidence.table import FOLDER, Row

ROOT = Path(__file__).resolve().parents[1]
PLAIN = ("optim=adamw", "scheduler=cosine", "augment=none", "regularizer=none")
SEEDS = 5
FALSE = 0.05
"""Expected share of chance among the differences that are called real."""


FACTORS = ("optim", "scheduler", "sampler", "init", "objective")
"""Groups of which a run has one option: every other is compared with the baseline's."""
CONTROLS = {"optim": "adamw", "scheduler": "cosine", "sampler": "shuffle", "init": "default", "objective": "classify"}
ADVISED = {"technique=swa": ("scheduler=swa",), "technique=weight_decay": ("optim.weight_decay=0",)}
"""What the card of an option advises to have beside it; both sides of the comparison have it."""
BY_NAME = "it takes the name of a class or a function; what it does is that one's"
SELF_SUPERVISED = (
    *("simclr", "moco", "barlow_twins", "simsiam", "siamese"),
    *("denoising_autoencoder", "mae", "masked_image_modeling"),
)
TEACHER = "it needs another run as its teacher"
TRANSFER = "it is for weights of another run"
LEFT_OUT = {
    **{f"{group}=custom": "it is a class of the user's" for group in FACTORS},
    **{f"{group}=torch": BY_NAME for group in ("optim", "scheduler")},
    **{f"objective={name}": BY_NAME for name in ("torch_classify", "torch_regress")},
    **{option: BY_NAME for option in ("optim=timm", "technique=torchvision")},
    "regularizer=early_stopping": "it ends a run early, and the best weights are kept either way",
    "technique=loss_scale": "it only matters in half precision",
    **{f"technique={name}": "it learns without labels" for name in SELF_SUPERVISED},
    **{
        f"technique={name}": "it learns from unlabelled samples"
        for name in ("fixmatch", "mean_teacher", "pseudo_label")
    },
    **{f"technique={name}": TEACHER for name in ("distill", "distill_attention", "distill_features")},
    "technique=distill_ema": "it is measured beside other teachers, on the page of methods with few labels",
    "init=checkpoint": "it needs another run",
    **{f"technique={name}": TRANSFER for name in ("freeze", "freeze_then_unfreeze", "gradual_unfreezing")},
}
"""Options without rows, with the reasons."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--out", type=Path, default=Path("multirun/evidence"), help="folder of the runs")
    parser.add_argument("--tables", type=Path, default=FOLDER / "tasks", help="folder of the tables")
    parser.add_argument("--only", nargs="+", default=[], help="options to measure, as technique=mixup; default: all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("more", nargs="*", default=[], help="overrides of every run, as workers=2")
    options = parser.parse_args()
    if options.only and options.tables == FOLDER / "tasks":
        parser.error("--only writes tables without the other rows. Name a folder for them: --tables multirun/tables.")
    torch.set_num_threads(1)
    for name in options.tasks:
        measure(name, TASKS[name], options)


def measure(name: str, task: Task, options: argparse.Namespace) -> None:
    """Run every comparison of a task, and write its table."""
    base = [*task.overrides, *PLAIN, *options.more]
    families, unmeasured = sorted_out(task, base, options.only or task.options)
    rows: list[Row] = []
    plain = []
    for (family, needs), members in families.items():
        folder = options.out / name / re.sub(r"[^\w.]+", "_", " ".join([family, *needs]))
        found = ablation(folder, base, needs, comparison(members, needs, task), task, options.seeds)
        arms = {arm["part"]: arm for arm in found["arms"]}
        new = [row_of(m, task, arms[part_of(m, needs)], found, base, list(needs)) for m in members]
        whole = [row for row in new if not needs and row.mean is not None and row.difference is not None]
        plain += [(row.mean or 0.0) - (row.difference or 0.0) for row in whole]
        rows += new
        print(f"{name}: {family} {' '.join(needs)}: {len(members)} rows", flush=True)
    content = {
        "title": task.title,
        "baseline": base,
        "metric": "test/accuracy",
        "baseline_mean": median(plain) if plain else None,
        "rows": [asdict(row) for row in judged(rows)],
        "unmeasured": unmeasured,
        "command": command_of(name, options),
        "about": origin() | {"seeds": options.seeds, "retuned": "optim.lr", "level": 0.95},
    }
    options.tables.mkdir(parents=True, exist_ok=True)
    (options.tables / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def command_of(name: str, options: argparse.Namespace) -> str:
    """The command that measures a task again, with every option that changes the numbers."""
    words = ["--tasks", name, *(["--only", *options.only] if options.only else [])]
    words += ["--seeds", str(options.seeds)] if options.seeds != SEEDS else []
    return f"python benchmarks/evidence.py {shlex.join([*words, *(['--', *options.more] if options.more else [])])}"


Families = dict[tuple[str, tuple[str, ...]], list[str]]
"""The options that one ablation compares, by family and by what they need beside them."""


def sorted_out(task: Task, base: Sequence[str], only: Sequence[str]) -> tuple[Families, dict[str, str]]:
    """The options to measure, and for the others the reasons why not."""
    families: Families = {}
    unmeasured = {}
    for family, option in options_of(task):
        if only and option not in only:
            continue
        if reason := LEFT_OUT.get(option) or refusal(base, option):
            unmeasured[option] = reason
        else:
            needs = tuple(need for need in needs_of_any(option) if need not in base)
            families.setdefault((family, needs), []).append(option)
    return families, unmeasured


def options_of(task: Task) -> Iterator[tuple[str, str]]:
    """Every option with its family: the options that one ablation compares."""
    augmenting, regularizing = set(names_of("augment")), set(names_of("regularizer"))
    for name in names_of("technique"):
        family = "augment" if name in augmenting else "regularizer" if name in regularizing else "technique"
        yield family, f"technique={name}"
    yield from (("regularizer", f"regularizer={name}") for name in regularizing - {"none", *names_of("technique")})
    for group in FACTORS:
        yield from ((group, f"{group}={name}") for name in names_of(group) if name != CONTROLS[group])
    for layer in task.layers:
        key, _, values = layer.partition("=")
        yield from ((key, f"{key}={value}") for value in values.split(",")[1:])


def control_of(option: str, task: Task) -> str:
    """The value that the baseline has instead of an option; empty for a technique."""
    key = option.partition("=")[0]
    values = next((layer.partition("=")[2] for layer in task.layers if layer.startswith(f"{key}=")), "")
    return CONTROLS.get(key) or values.partition(",")[0]


def needs_of_any(option: str) -> list[str]:
    """What an option needs or is advised to have beside it; a setting has no card of its own."""
    return [] if "." in option.partition("=")[0] else [*needs_of(option), *ADVISED.get(option, ())]


def refusal(base: Sequence[str], option: str) -> str:
    """Why the task cannot measure the option; empty if a run with it makes its first steps."""
    needs = needs_of_any(option)
    other = [need for need in needs if need.partition("=")[0] in ("model", "data") and need not in base]
    if other:
        return f"it needs {' '.join(other)}"
    try:
        Steps([*base, *needs, option, "objective_metric=val/accuracy"])(2)
    except ValueError as error:
        return str(error).partition(". ")[0]
    return ""


def ablation(
    folder: Path, base: Sequence[str], needs: Sequence[str], compared: str, task: Task, seeds: int
) -> dict[str, Any]:
    """The content of ``ablation.json``, measured unless the same command has already written it."""
    command = ["-m", "hydra/sweeper=ablation", "mode=add", f"seeds={seeds}"]
    command += ["retune=optim.lr", f"retune_trials={task.rates}", f"retune_seeds={task.tuning_seeds}"]
    replaced = compared.partition("=")[0]
    command += [text for text in (*base, *needs) if text.partition("=")[0] != replaced and not is_technique(text)]
    command += [compared, "objective_metric=val/accuracy", f"hydra.sweep.dir={folder}"]
    wanted = folder / "command.json"
    if not (wanted.exists() and json.loads(wanted.read_text()) == command and (folder / "ablation.json").exists()):
        folder.mkdir(parents=True, exist_ok=True)
        environ = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "mltricks", *command], check=True, env=environ)
        wanted.write_text(json.dumps(command))
    found: dict[str, Any] = json.loads((folder / "ablation.json").read_text())
    return found


def is_technique(text: str) -> bool:
    """Whether an override brings a technique, which ``compared`` has on both sides."""
    group, _, name = text.partition("=")
    return group in TECHNIQUE_GROUPS and name != "none"


def comparison(members: Sequence[str], needs: Sequence[str], task: Task) -> str:
    """The override that compares these options: techniques that are added, or a key with its control in front."""
    key = members[0].partition("=")[0]
    names = [option.partition("=")[2] for option in members]
    if key != "technique":
        return f"{key}={','.join([control_of(members[0], task), *names])}"
    beside = "+".join(text.partition("=")[2] for text in needs if is_technique(text))
    return (
        f"technique={','.join([beside, *(f'{name}+{beside}' for name in names)])}"
        if beside
        else f"technique={'+'.join(names)}"
    )


def part_of(option: str, needs: Sequence[str]) -> str:
    """The name by which ``ablation.json`` knows an option."""
    beside = [text.partition("=")[2] for text in needs if is_technique(text)]
    name = option.removeprefix("technique=")
    return f"technique={'+'.join([name, *beside])}" if beside else name


def row_of(
    option: str, task: Task, arm: dict[str, Any], found: dict[str, Any], base: Sequence[str], needs: list[str]
) -> Row:
    """The row of a comparison, with the cost of its step; its verdict is still to come."""
    cost = round(median(ratios([*base, *needs], [option])), 2)
    tuned = found["retuned"].get(arm["treated"], [])
    numbers = (arm["n"], arm["lost"], arm["mean"], arm["difference"], arm["difference_interval"], arm["p_value"])
    return Row(option, control_of(option, task), needs, *numbers, "too few pairs", cost, tuned)


def judged(rows: Sequence[Row]) -> list[Row]:
    """The rows of a task with their verdicts: Benjamini and Hochberg 1995, J. R. Statist. Soc. B 57(1), by scipy."""
    corrected = iter(false_discovery_control([row.p_value for row in rows if row.p_value is not None]))
    return [row if row.p_value is None else replace(row, verdict=verdict(row, next(corrected))) for row in rows]


def verdict(row: Row, p: float) -> str:
    """``helps``, ``hurts`` or ``no evidence``, of a difference in an accuracy."""
    if p >= FALSE or row.difference is None:
        return "no evidence"
    return "helps" if row.difference > 0 else "hurts"


if __name__ == "__main__":
    main()
