"""Fixtures of all tests: the device, the real command, a short training run, the folder of downloaded data."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from command_server import CommandServer

import mltricks
from mltricks.process.device import set_arithmetic
from mltricks.summary import Summary

REPOSITORY = Path(__file__).resolve().parent.parent
EXACT: list[str] = []
"""Overrides that make results bit-exact: none on the CPU, ``deterministic=true`` with ``--device cuda``."""
TINY = ["data.limit=320", "batch_size=32", "model.width=4", "plots=false", "progress=none"]
"""Overrides of a run with ten steps per epoch that takes about a second; they include ``EXACT``."""
CPU_ONLY = """ablation benchmarks cards cli command_server compose_patch config data docs fused_node golden grid hyper
launcher leave libraries observers other_launchers packaging postgres pruners readme recipe replicates rooms samplers
shorthand slips slots space statistics stock_sweepers study study_kill study_searchers sweep_browser sweep_page threads
trust values tensorboard wandb wandb_artifacts wandb_content wandb_sweep"""
"""Test modules whose result cannot depend on CUDA: configuration, sweeps as folders and processes, pages, the data,
the losses that were recorded on a CPU, and the kernels of the CPU. On other devices they are deselected, as are tests
marked ``cpu``."""
IN_PROCESSES = "kill"
"""Test modules that compare this process with another one; the other one has no simulated device."""


def fitting(shared: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """Remove shared overrides that do not exist: models by name have no width, custom data in splits have no limit."""
    lacking = {
        "model=custom": "model.width=",
        "model=torchvision": "model.width=",
        "model=timm": "model.width=",
        "data=custom": "data.limit=",
    }
    absent = tuple(key for choice, key in lacking.items() if choice in overrides)
    return [override for override in shared if not override.startswith(absent)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", choices=["cpu", "cuda", "simulated"], default="cpu", help="what device=auto finds in every test"
    )
    parser.addoption(
        "--failures", type=Path, help="file to which each failing test is written, with its error, as soon as it ends"
    )
    parser.addoption("--pairs-shard", type=int, default=0, help="which shard of all pairs of options to test")


def pytest_configure(config: pytest.Config) -> None:
    """Make this process, and those that tests start, use the chosen device and import mltricks from this clone."""
    paths = [str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    device = config.getoption("device")
    if device == "cuda" and not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: there is no CUDA device here")
    if device == "cuda":
        EXACT.append("deterministic=true")
        TINY.extend(EXACT)
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if device == "simulated":
        import simulated_device

        simulated_device.install()
    failures = config.getoption("failures")
    if failures is not None and not hasattr(config, "workerinput"):  # the workers of xdist report to their parent
        failures.write_text("")
        config.pluginmanager.register(Failures(failures.absolute()))


@dataclass(frozen=True)
class Failures:
    """Write the name of each failing test or module as soon as it ends, before a time limit may stop pytest."""

    path: Path

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self.pytest_runtest_logreport(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            message = str(crash.message if crash else report.longrepr).strip().partition("\n")[0]
            with self.path.open("a") as file:
                file.write(f"{report.nodeid}  {message}\n")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests whose result cannot depend on the chosen device, and tests that cannot run on it."""
    device = config.getoption("device")
    marks = {"cpu": ["gpu"], "cuda": ["cpu"], "simulated": ["cpu", "gpu", "inductor"]}[device]
    names = {"cpu": "", "cuda": CPU_ONLY, "simulated": f"{CPU_ONLY} {IN_PROCESSES}"}[device].split()
    left_out = {item for item in items if item.path.stem.removeprefix("test_") in names}
    left_out |= {item for item in items if any(item.get_closest_marker(mark) for mark in marks)}
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=list(left_out))
    for item in items:
        if item.get_closest_marker("inductor"):
            item.add_marker(pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated"))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """After a run of all pairs, list the pairs that are refused, with the reason, and the pairs that fail."""
    if "allpairs" not in config.getoption("-m"):
        return
    terminalreporter.section("refused and failing pairs")
    for report in (r for kind in ("passed", "failed", "error") for r in terminalreporter.getreports(kind)):
        reasons = [str(text) for name, text in report.user_properties if name == "refused"]
        if report.failed or (reasons and report.when == "call"):
            why = reasons[0] if not report.failed else getattr(report.longrepr, "reprcrash", report.longrepr)
            terminalreporter.write_line(f"{'FAILS' if report.failed else 'refused'}  {report.nodeid}  {why}")


@dataclass(frozen=True)
class Outcome:
    """Exit status and output of a command."""

    status: int
    out: str
    err: str


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Use one thread: sums are then split the same way on every machine, and tests may run in parallel."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_arithmetic() -> None:
    """Reset the settings that choose kernels before every test, because a test may change them."""
    set_arithmetic(deterministic=bool(EXACT), tf32="auto")


def command_environment(**changes: str) -> dict[str, str]:
    """The environment of a command: one thread, no tracebacks, no data except those that the test names."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HYDRA_", "MLTRICKS_SHORT", "WANDB_"))}
    return {**kept, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "", **changes}


@pytest.fixture(scope="session")
def command_server() -> Iterator[Callable[[], CommandServer]]:
    """``command_server()`` is the process in whose forks ``run_cli`` runs commands, started at the first call."""
    started: list[CommandServer] = []

    def server() -> CommandServer:
        if not started:
            started.append(CommandServer(command_environment()))
        return started[0]

    yield server
    for process in started:
        process.close()


@pytest.fixture
def run_cli(tmp_path: Path, command_server: Callable[[], CommandServer]) -> Callable[..., Outcome]:
    """``run_cli(*arguments, cwd=..., env=...)`` runs ``python -m mltricks`` and returns status and output."""

    def run(
        *arguments: str, cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 120
    ) -> Outcome:
        environment, folder, server = command_environment(**(env or {})), cwd or tmp_path, command_server()
        if not server.serves(environment):
            command = [sys.executable, "-m", "mltricks", *arguments]
            done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout)
            return Outcome(done.returncode, done.stdout, done.stderr)
        with tempfile.TemporaryDirectory() as place:
            output = (Path(place) / "out", Path(place) / "err")
            request = {"module": "mltricks", "arguments": arguments}
            status = server.run(request, folder, output, environment, timeout)
            out, err = (path.read_text() for path in output)
        if status is None:
            raise subprocess.TimeoutExpired(arguments, timeout, out, err)
        return Outcome(status, out, err)

    return run


@pytest.fixture
def train_digits(tmp_path: Path) -> Callable[..., Summary]:
    """``train_digits(*overrides)`` trains for a second in this process; the output goes to ``tmp_path / "run"``."""

    def train(*overrides: str, folder: Path | None = None, resume: bool = False) -> Summary:
        cfg = mltricks.compose([*TINY, "epochs=2", *overrides])
        return mltricks.train(cfg, folder or tmp_path / "run", resume)

    return train


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``teacher(*overrides)`` is the output folder of a short run on these data, for distillation."""

    @functools.cache
    def train(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("teacher")
        shared = fitting([*TINY, "batch_size=16", "epochs=1"], overrides)
        mltricks.train(mltricks.compose([*shared, *overrides]), folder)
        return folder

    return train


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("MNIST")`` is the root of the downloaded data; it skips the test if that data set is missing."""

    def root(name: str) -> Path:
        folder = Path(os.environ.get("MLTRICKS_DATA", REPOSITORY / "data")).resolve()
        if not (folder / name).exists():
            pytest.skip(f"{name} is not in {folder}; set MLTRICKS_DATA to the folder of downloaded data")
        return folder

    return root
