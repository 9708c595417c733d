"""The benchmarks run, and every command in docs/benchmarks.md names a script and options. Nothing is timed here."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import mltricks
from mltricks.config.compose import plain
from mltricks.stages.plan import plan

ROOT = Path(__file__).parents[1]
SHORT = {
    "step_overhead": ["--rounds", "1", "--steps", "3", "--no-lightning"],
    "augment": ["--rounds", "1", "--images", "256"],
    "policies": ["--rounds", "1", "--images", "32", "--batch_sizes", "16"],
    "stack": ["--rounds", "1", "--cases", "1"],
    "two_workers": ["--rounds", "1", "--trials", "2", "data.limit=64", "max_steps=2"],
    "small_trials": ["--rounds", "1", "--trials", "2", "--epochs", "1"],
    "fused_cells": ["--rounds", "1", "--steps", "2", "--cells", "1"],
    "noop_trials": ["--rounds", "1", "--trials", "2", "4"],
    "tuners": ["--rounds", "1", "--trials", "2", "--epochs", "1", "--without", "Ray Tune", "mltricks, fuse=false"],
    "kill_resume": ["--trials", "1", "epochs=8"],
    "freeze": ["--rounds", "1", "--steps", "1"],
    "costs": ["--rounds", "1", "--steps", "1", "--groups", "sampler"],
    "evidence": [
        *("--tasks", "digits_mlp", "--seeds", "2", "--only", "technique=l2", "optim=sgd", "technique=simclr"),
        *("--tables", "tables", "epochs=1", "data.limit=64"),
    ],
    "tracker": ["--rounds", "1", "--epochs", "1"],
    "few_labels": ["--only", "frozen features", "--out", "out", "--", "max_steps=2", "plots=false"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SHORT[name]]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(median|bit for bit|1 rows|frozen features .* to )", done.stdout)


WITH_MNIST = {
    "before_training": ["--rounds", "1"],
    "gpu_stack": ["--rounds", "1", "--steps", "2", "--trials", "2", "--engines", "traced", "--device", "cpu"],
    "halving": ["--repeats", "1", "--trials", "3", "--epochs", "3"],
}


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", WITH_MNIST)
def test_benchmark_runs_on_mnist(name: str, real_data: Callable[[str], Path], tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *WITH_MNIST[name], "--data"]
    done = subprocess.run([*script, str(real_data("MNIST"))], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "median" in done.stdout


def test_every_command_of_the_docs_names_a_script_and_options_it_has() -> None:
    commands = re.findall(r"^python benchmarks/(\w+)\.py(.*)$", (ROOT / "docs" / "benchmarks.md").read_text(), re.M)
    assert len(commands) == 15
    for name, options in commands:
        source = (ROOT / "benchmarks" / f"{name}.py").read_text()
        for option in re.findall(r"--[\w-]+", options):
            assert f'"{option}"' in source, f"{name}.py has no {option}"


def test_a_row_of_every_table_of_few_labels_can_be_composed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    rows = importlib.import_module("few_labels_rows").ROWS
    assert len({row.folder for row in rows}) == len({row.overrides for row in rows}), "each command has its folder"
    for row in {row.table: row for row in rows}.values():
        cfg = plain(mltricks.compose([text.split(",")[0] for text in row.overrides]))
        for name in [stage for stage in row.stages if stage]:
            assert name in [stage.name for stage in plan(cfg["stages"], cfg["stages"]["command"], Path(), None)]
