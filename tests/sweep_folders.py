"""Folders of short sweeps for the tests of the page: real runs, and the files that other sweepers write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from conftest import command_environment

from mltricks.recipe.charts import chart, series
from mltricks.recipe.gate import Gate
from mltricks.report.write import write

SHORT = ("model=mlp", "data.limit=320", "plots=false", "progress=none", "epochs=2", "hydra/launcher=basic")
EVIL = "</script><img src=x onerror=alert(1)>"

GATES: list[dict[str, Any]] = [
    {
        "step": 1,
        "name": "initial loss",
        "verdict": "pass",
        "reason": "the loss begins at ln C.",
        "jobs": [0],
        "chart": {"bars": {"constant prediction": 2.303, "first batches": 2.31}, "y_label": "loss before training"},
    },
    {
        "step": 3,
        "name": "learning rates",
        "verdict": "fail",
        "reason": f"no rate moves the loss {EVIL}.",
        "advice": "Type recipe.force=true to go on.",
        "jobs": [1, 2],
        "chart": chart("learning rate", "loss", series("range test", [1e-4, 1e-3, 1e-2], [2.3, 2.0, 1.0]), log_x=True),
    },
]
RECIPE = {
    "status": "running",
    "gates": [Gate(**gate).record() for gate in GATES],
    "best": {"command": "python -m mltricks optim.lr=0.02", "objective": {"name": "val/accuracy", "value": 0.875}},
}


def _arm(name: str, difference: float | None, interval: list[float] | None, verdict: str) -> dict[str, Any]:
    return {
        "name": f"{name} alone",
        "part": name,
        "rival": "",
        "treated": name,
        "control": "none",
        "overrides": [f"technique=[{name}]"],
        "n": 5,
        "lost": 0,
        "mean": 0.9,
        "interval": [0.88, 0.92],
        "difference": difference,
        "difference_interval": interval,
        "cost_ratio": 1.2,
        "verdict": verdict,
        "verdict_of_all": verdict,
        "p_value": None if interval is None else 0.01,
        "p_holm": None if interval is None else 0.03,
        "seeds_to_settle": None if verdict in ("helps", "hurts") else 31,
    }


ABLATION: dict[str, Any] = {
    "metric": "test/accuracy",
    "chosen_by": "val/accuracy",
    "direction": "maximize",
    "mode": "add",
    "level": 0.95,
    "seeds": 5,
    "baseline": "none",
    "retuned": {},
    "rounds": [],
    "arms": [
        _arm("mixup", 0.02, [0.01, 0.03], "helps"),
        _arm("sam", -0.03, [-0.05, -0.01], "hurts"),
        _arm("ema", 0.001, [-0.01, 0.012], "no evidence at n=5"),
        _arm("cutmix", None, None, "too few pairs"),
    ],
}


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a sweep as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "mltricks", "-m", *SHORT, *arguments],
        cwd=cwd,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def make_folders(root: Path) -> dict[str, Path]:
    """Make one sweep of each kind, each with its page."""
    folders = {name: root / name for name in ("grid", "study", "unfinished", "recipe", "ablation")}
    done = command("optim.lr=1e-4,1e-3,1e-2", "seed=0,1", f"hydra.sweep.dir={folders['grid']}", cwd=root)
    assert done.returncode == 0, done.stderr
    for name in ("study", "unfinished", "recipe", "ablation"):
        shutil.copytree(folders["grid"], folders[name])
    like_a_study(folders["study"])
    (folders["unfinished"] / "5" / "summary.json").unlink()
    said = json.loads((folders["unfinished"] / "sweep.json").read_text())
    (folders["unfinished"] / "sweep.json").write_text(json.dumps({**said, "status": "running"}))
    shutil.rmtree(folders["unfinished"] / "4")
    (folders["recipe"] / "recipe.json").write_text(json.dumps(RECIPE))
    (folders["ablation"] / "ablation.json").write_text(json.dumps(ABLATION))
    for folder in folders.values():
        write(folder)
    return folders


def like_a_study(folder: Path) -> None:
    """Make a study whose trials ended in every possible way; one error message contains HTML, which must be escaped."""
    change(folder, 0, status="pruned", epochs=1)
    change(folder, 1, status="diverged", error="diverged at step 7: the loss became nan.", objective={})
    change(folder, 2, status="failed", error=f'CUDA out of memory, "2 GiB", {EVIL}\nsecond line', objective={})
    lines = (folder / "0" / "metrics.jsonl").read_text().splitlines()
    (folder / "0" / "metrics.jsonl").write_text("\n".join(line for line in lines if '"epoch": 1' in line) + "\n")
    (folder / "3" / ".hydra" / "overrides.yaml").write_text(
        json.dumps(["optim.lr=1e-3", "seed=1", f"data.path={EVIL}"])
    )
    shutil.copytree(folder / "4", folder / "4.interrupted-1")


def change(folder: Path, job: int, **values: Any) -> None:
    """Change values in the summary of a job."""
    path = folder / str(job) / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def report(folder: Path) -> subprocess.CompletedProcess[str]:
    """``python -m mltricks.report FOLDER``."""
    return subprocess.run(
        [sys.executable, "-m", "mltricks.report", str(folder)],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
