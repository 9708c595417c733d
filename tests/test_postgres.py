"""Several machines work on one study, through a real PostgreSQL server that the tests start.

Every command has its own working directory, as on separate machines: the commands share only the server.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from conftest import TINY, command_environment

UNPRIVILEGED = ("postgres", "nobody")
"""Users to run the server as if the tests run as root, because PostgreSQL refuses to run as root."""


def binary(name: str) -> str:
    """The path of a PostgreSQL program."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    return found or pytest.skip(f"PostgreSQL is not installed: there is no {name} (Debian: apt install postgresql)")


def start_server(folder: Path) -> None:
    """Start a server that listens only on a socket in ``folder``."""
    user: dict[str, str] = {}
    if os.geteuid() == 0:
        import pwd

        known = {entry.pw_name for entry in pwd.getpwall()}
        name = next((name for name in UNPRIVILEGED if name in known), None)
        if name is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
        user = {"user": name}
        shutil.chown(folder, name)
    options = f"-k {folder} -c listen_addresses='' -c fsync=off"
    commands = (
        [binary("initdb"), "-D", f"{folder}/data", "-U", "mltricks", "-A", "trust", "-E", "UTF8", "--locale=C"],
        [binary("pg_ctl"), "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "-t", "30", "start"],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=60, **user)
        if done.returncode != 0:
            log = folder / "log"
            pytest.skip(f"the server does not start: {done.stderr} {log.read_text() if log.exists() else ''}")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The URL of an empty database."""
    pytest.importorskip("psycopg", reason="pip install 'mltricks[postgres]'")
    binary("initdb")
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))  # the path of a socket has at most 107 characters
    try:
        start_server(folder)
        yield f"postgresql+psycopg://mltricks@/postgres?host={folder}"
    finally:
        if (folder / "data" / "postmaster.pid").exists():
            pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 3)  # SIGQUIT: stop at once
        shutil.rmtree(folder, ignore_errors=True)


def machine(folder: Path, url: str, name: str, *others: str) -> subprocess.Popen[str]:
    """Start a command on a study in its own working directory."""
    folder.mkdir()
    arguments = ["-m", "hydra/sweeper=study", f"storage='{url}'", f"study_name={name}", *TINY, "epochs=1", *others]
    return subprocess.Popen(
        [sys.executable, "-m", "mltricks", *arguments],
        cwd=folder,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def runs_of(folders: list[Path]) -> list[tuple[int, dict]]:
    """The number and summary of every run, over all machines."""
    paths = [path for folder in folders for path in folder.glob("multirun/*/[0-9]*/summary.json")]
    return [(int(path.parent.name.split("_")[0]), json.loads(path.read_text())) for path in paths]


def trials_of(url: str, name: str) -> list[optuna.trial.FrozenTrial]:
    """The trials of a study, read over a separate connection."""
    storage = optuna.storages.RDBStorage(url)
    try:
        return optuna.load_study(study_name=name, storage=storage).trials
    finally:
        storage.remove_session()
        storage.engine.dispose()


def test_three_machines_share_the_budget_of_a_study(server: str, tmp_path: Path) -> None:
    folders = [tmp_path / f"machine{i}" for i in range(3)]
    swept = ("optim.lr=tag(log,interval(1e-4,1e-2))", "technique=[],[mixup]", "n_trials=8", "max_steps=5")
    started = [machine(folder, server, "shared", *swept) for folder in folders]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended

    trials = trials_of(server, "shared")
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 8
    runs = runs_of(folders)
    assert sorted(number for number, _ in runs) == list(range(8)), "every trial was run once, by one machine"
    for number, summary in runs:
        assert f"optim.lr={trials[number].params['optim.lr']!r}" in summary["overrides"]
        assert trials[number].value == summary["objective"]["value"]


def test_a_machine_that_starts_late_runs_no_trial(server: str, tmp_path: Path) -> None:
    for i, more in enumerate((0, 0, 1)):
        folder = tmp_path / f"machine{i}"
        process = machine(folder, server, "late", "seed=0", "optim.lr=interval(0.001,0.01)", f"n_trials={2 + more}")
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert len(runs_of([folder])) == (2, 0, 1)[i]
    assert len(trials_of(server, "late")) == 3
