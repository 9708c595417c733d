"""Hydra's other launchers: the commands of docs/launchers.md run, with the same results as the launcher ``local``."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, TINY

from mltricks.summary import Summary, read_summary

PACKAGES = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "submitit": "hydra_plugins.hydra_submitit_launcher",
    "ray": "hydra_plugins.hydra_ray_launcher",
}
FILES = {
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
    "config.yaml",
    "metrics.jsonl",
    "summary.json",
    "checkpoints/last.pt",
    "checkpoints/best.safetensors",
}


def commands(word: str) -> list[list[str]]:
    """The arguments of all documented commands that contain this word."""
    text = (REPOSITORY / "docs/launchers.md").read_text()
    blocks = re.findall(r"^```(?:bash|text)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line)[3:] for block in blocks for line in block.splitlines() if line.startswith("python")]
    return [line for line in lines if any(word in argument for argument in line)]


def needs(launcher: str) -> None:
    """Skip the test if the package of a launcher is not installed."""
    package = next((p for name, p in PACKAGES.items() if launcher.startswith(name)), None)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[launchers]'")


def measured(summary: Summary) -> tuple[Any, ...]:
    return summary.status, summary.steps, summary.train["loss"], summary.val, summary.test


@pytest.fixture
def sweep(run_cli: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """``sweep(arguments)`` runs a documented command on little data and returns the sweep's folder."""

    def run(arguments: list[str], **environment: str) -> Path:
        done = run_cli(*arguments, *TINY, f"hydra.sweep.dir={tmp_path / 'sweep'}", env=environment)
        assert done.status == 0, done.err
        assert "Traceback" not in done.err
        return tmp_path / "sweep"

    return run


@pytest.mark.parametrize(
    ("launcher", "which"),
    [
        ("workers=2", 0),
        ("=basic", 0),
        ("=joblib", 0),
        ("=submitit_local", 0),
        pytest.param("=ray", 0, marks=pytest.mark.slow),
    ],
)
def test_every_launcher_writes_whole_folders_with_the_results_of_a_run_alone(
    launcher: str, which: int, sweep: Any, train_digits: Any, tmp_path: Path
) -> None:
    needs(launcher.removeprefix("="))
    home = tmp_path / "home"  # Ray writes there
    home.mkdir()
    folder = sweep(commands(launcher)[which], HOME=str(home))
    for seed in (0, 1):
        run = folder / str(seed)
        assert {name for name in FILES if (run / name).exists()} == FILES
        summary = read_summary(run / "summary.json")
        assert summary is not None
        assert measured(summary) == measured(train_digits(f"seed={seed}", folder=tmp_path / f"alone{seed}"))


def test_optuna_with_joblib_runs_all_its_trials_and_maximises(sweep: Any) -> None:
    needs("joblib")
    arguments = next(command for command in commands("=joblib") if "hydra/sweeper=optuna" in command)
    folder = sweep(arguments)
    values = [json.loads((folder / f"{i}/summary.json").read_text())["objective"]["value"] for i in range(4)]
    best = (folder / "optimization_results.yaml").read_text().split("best_value: ")[1]
    assert float(best) == max(values)


@pytest.mark.parametrize("gpus", [None, 2])
def test_submitit_local_hides_the_gpus_unless_told_how_many(gpus: int | None, run_cli: Any, tmp_path: Path) -> None:
    needs("submitit")
    asked = [f"hydra.launcher.gpus_per_node={gpus}"] if gpus else []
    done = run_cli(
        "-m",
        "seed=0",
        "hydra/launcher=submitit_local",
        "job._target_=slot_work.note_gpus",
        "allow_modules=[slot_work]",
        f"hydra.sweep.dir={tmp_path}",
        *asked,
        env={"CUDA_VISIBLE_DEVICES": "3", "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.status == 0, done.err
    assert (tmp_path / "0/gpus.txt").read_text() == ("0,1" if gpus else "")


CLUSTER = [*commands("=submitit_slurm"), *commands("=submitit_local"), *commands("=ray")]


@pytest.mark.parametrize("arguments", CLUSTER, ids=lambda arguments: arguments[-1])
def test_documented_commands_for_clusters_compose(arguments: list[str], run_cli: Any) -> None:
    import yaml

    launcher = next(a for a in arguments if a.startswith("hydra/launcher=")).partition("=")[2]
    needs(launcher)
    single = [a for a in arguments if a != "-m" and "," not in a]
    done = run_cli(*single, "--cfg", "hydra", "-p", "hydra.launcher")
    assert done.status == 0, done.err
    shown = yaml.safe_load(done.out)
    assert launcher.split("_")[0] in shown["_target_"]
    for argument in single:
        key, _, value = argument.lstrip("+").partition("=")
        if key.startswith("hydra.launcher."):
            node = shown
            for part in key.removeprefix("hydra.launcher.").split("."):
                node = node[part]
            assert str(node) == value


def test_the_docs_name_every_launcher_that_is_installed() -> None:
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()
    text = (REPOSITORY / "docs/launchers.md").read_text()
    known = {path.stem for path in (REPOSITORY / "conf/hydra/launcher").glob("*.yaml")}
    known |= {name.removesuffix(".yaml") for name in ConfigStore.instance().list("hydra/launcher")}
    for name in known - {"ray_aws"}:
        assert f"\n## {name}\n" in text


@pytest.mark.slow
def test_a_lost_joblib_batch_ends_the_sweep_and_the_same_command_continues_it(run_cli: Any, tmp_path: Path) -> None:
    needs("joblib")
    command = ["-m", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={tmp_path}"]
    job = ["job._target_=slot_work.die_once", "allow_modules=[slot_work]"]
    env = {"PYTHONPATH": str(Path(__file__).parent), "SLOT_MARK": str(tmp_path / "died")}
    first = run_cli(*command, *job, env=env)
    assert first.status == 1
    assert "TerminatedWorkerError" in first.err
    assert run_cli(*command, *job, env=env).status == 0
