"""The command: refusals and their messages, sweeps, signals, and the imports at start-up."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, Outcome, command_environment

SHORT = (*TINY, "epochs=1")


def summaries(sweep: Path) -> dict[str, Any]:
    """The result of every job of a sweep, by its number."""
    return {path.parent.name: json.loads(path.read_text()) for path in sorted(sweep.glob("*/summary.json"))}


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["techniq=mixup"], ["techniq", "technique"]),
        (["technique=[mixup,emaa]"], ["emaa", "ema"]),
        (["optim.lrr=1"], ["optim.lrr", "Did you mean optim.lr"]),
        (["+optim.foo=1"], ["optim.foo"]),
        (["-m", "technique=mixup,cutmx"], ["cutmx", "cutmix"]),
        (["--config-dir", "nowhere"], ["nowhere is no folder"]),
    ],
)
def test_a_typing_error_gets_the_nearest_name_and_leaves_no_files(
    typed: list[str], words: list[str], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = run_cli(*typed)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: ")
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_value_out_of_range_is_refused_and_leaves_no_folder(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("technique=mixup", "technique.mixup.alpha=-1", "hydra.run.dir=run")
    message = "technique.mixup.alpha=-1 is out of range. Allowed: 0 < value."
    assert (done.status, done.err) == (1, f"error: {message}\n")
    assert not (tmp_path / "run").exists()


def test_hydra_full_error_shows_the_traceback(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("optim.lr=-1", env={"HYDRA_FULL_ERROR": "1"})
    assert done.status == 1
    assert "Traceback" in done.err
    assert "check_value" in done.err


def test_an_error_in_a_users_module_is_reported_as_it_is(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n\nclass Net(torch.nn.Module):\n    def __init__(self, hidden):\n        1 / 0\n"
    )
    own = ["model=custom", "model._target_=mine.Net", "+model.hidden=64"]
    done = run_cli(*own)
    assert done.status == 1
    assert "type allow_modules=mine" in done.err
    done = run_cli(*own, "allow_modules=[mine]")
    assert done.status == 1
    assert "division by zero" in done.err
    assert "Traceback" not in done.err


def test_a_users_model_trains(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import math\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, in_shape, num_outputs, hidden):\n"
        "        size = math.prod(in_shape)\n"
        "        super().__init__(nn.Flatten(), nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, num_outputs))\n"
    )
    tiny = [o for o in SHORT if not o.startswith("model")]
    own = ["model=custom", "model._target_=mine.Net", "+model.hidden=64", "allow_modules=[mine]", "hydra.run.dir=run"]
    done = run_cli(*tiny, *own)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "completed"


def test_a_sweep_runs_every_job_although_some_fail(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("-m", *SHORT, "technique=mixup,cutmix", "objective_metric=null,val/nope", "hydra.sweep.dir=sweep")
    assert done.status == 1
    found = summaries(tmp_path / "sweep")
    assert [found[str(i)]["status"] for i in range(4)] == ["completed", "failed", "completed", "failed"]
    assert "technique=mixup" in found["0"]["overrides"]
    assert "technique=cutmix" in found["2"]["overrides"]
    failed = r"job 1 \(.*technique=mixup objective_metric=val/nope\) failed: objective_metric=val/nope is unknown"
    assert re.search(failed, done.err)
    assert "(same error: job 3)" in done.err, "the same error is printed once"
    assert "Traceback" not in done.err


def test_a_sweep_without_failures_ends_with_status_0(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("-m", *SHORT, "technique=[mixup,ema],[cutmix]", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    assert {s["status"] for s in summaries(tmp_path / "sweep").values()} == {"completed"}


def test_optuna_receives_the_objective(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    sweeper = [
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=2",
        "hydra.sweeper.n_jobs=1",
        "hydra.sweeper.direction=maximize",
    ]
    done = run_cli("-m", *SHORT, *sweeper, "optim.lr=tag(log,interval(1e-4,1e-2))", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    best = yaml.safe_load((tmp_path / "sweep" / "optimization_results.yaml").read_text())
    values = [s["objective"]["value"] for s in summaries(tmp_path / "sweep").values()]
    assert len(values) == 2
    assert best["best_value"] == max(values)


ONE_BY_ONE = ["hydra.launcher.fuse=false", "hydra.launcher.workers=1"]
"""Jobs run one after another in this process, without a measurement before."""


def test_sigterm_ends_a_sweep_after_saving(tmp_path: Path) -> None:
    long = ["-m", *TINY, "epochs=10000", "seed=0,1", "hydra.sweep.dir=sweep", *ONE_BY_ONE]
    process = subprocess.Popen([sys.executable, "-m", "mltricks", *long], env=command_environment(), cwd=tmp_path)
    while not (tmp_path / "sweep" / "0" / "checkpoints" / "last.pt").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    found = summaries(tmp_path / "sweep")
    assert {number: s["status"] for number, s in found.items()} == {"0": "interrupted"}


@pytest.mark.parametrize(
    ("how", "number", "status"), [("turned into another error", signal.SIGTERM, 75), ("swallowed", signal.SIGINT, 130)]
)
def test_a_signal_counts_even_if_a_library_swallows_it(how: str, number: int, status: int, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nimport torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        f"        try:\n            os.kill(os.getpid(), {int(number)})\n        except BaseException as error:\n"
        + ("            raise ValueError('odd') from error\n" if how != "swallowed" else "            pass\n")
    )
    own = ["model=custom", "model._target_=mine.Net", "allow_modules=[mine]", "hydra.sweep.dir=sweep", "-m", "seed=0,1"]
    command = [sys.executable, "-m", "mltricks", "epochs=1", *own, *ONE_BY_ONE]
    done = subprocess.run(command, env=command_environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    found = summaries(tmp_path / "sweep")
    assert {n: (s["status"], s["signal"]) for n, s in found.items()} == {"0": ("interrupted", number)}


def run_python(script: str, tmp_path: Path) -> str:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=command_environment(), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    out = run_python("import sys, mltricks; print(*sorted(m.partition('.')[0] for m in sys.modules))", tmp_path)
    assert not {"torch", "numpy", "hydra", "omegaconf", "yaml", "ruamel"} & set(out.split())


def test_the_default_run_imports_little_before_its_first_step(tmp_path: Path) -> None:
    script = (
        "import sys, mltricks\nfrom mltricks.build import build\nfrom mltricks.config.compose import plain\n"
        "from mltricks.observers.create import create_observers\nfrom pathlib import Path\n"
        "import mltricks.__main__, mltricks.jobs, mltricks.train\n"
        "cfg = plain(mltricks.compose())\nrun = build(cfg)\n"
        "for observer in create_observers(cfg, Path('run')):\n    observer.start(run, Path('run'), 0)\n"
        "run.step(run.state, next(run.source.stream(0)), run.hypers.at(0))\nprint(*sys.modules)\n"
    )
    loaded = set(run_python(script, tmp_path).split())
    heavy = {"wandb", "optuna", "matplotlib", "sklearn", "scipy", "pandas", "torchvision", "timm", "PIL", "rich"}
    heavy |= {"ruamel.yaml"}
    heavy |= {"torch._dynamo", "torch._inductor", "torch.distributed.tensor", "torch.utils.tensorboard", "safetensors"}
    assert not heavy & loaded, sorted(heavy & loaded)


def test_errors_are_short_in_processes_that_a_run_starts(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import subprocess, sys\nfrom mltricks.observers.base import Observer\n\n\nclass Starts(Observer):\n"
        "    def finish(self, summary):\n"
        "        subprocess.run([sys.executable, '-m', 'mltricks', 'epochs=0'])\n"
    )
    tracker = ["tracker=custom", "tracker._target_=mine.Starts", "allow_modules=[mine]"]
    done = run_cli(*SHORT, *tracker, env={"PYTHONPATH": str(tmp_path)})
    assert done.status == 0, done.err
    assert "epochs=0 is out of range" in done.err
    assert "Traceback" not in done.err
