"""Worker processes: the GPUs and cores they get, how they end, and that a crash affects only their own job."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY, command_environment
from slot_work import act

from mltricks.launch.job import Job
from mltricks.launch.leases import Slot, automatic, cgroup_quota, choose_workers, deal, num_cores
from mltricks.launch.slots import run_in_slots
from mltricks.memory import is_out_of_memory
from mltricks.summary import read_summary

TWO = [Slot(0, 1), Slot(1, 1)]
linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def jobs(tmp_path: Path) -> Callable[..., list[list[Job]]]:
    """``jobs("look", "sleep 1")`` makes units of one job each, with these actions."""

    def make(*texts: str) -> list[list[Job]]:
        return [[Job(i, text.split(), {}, tmp_path / str(i), None)] for i, text in enumerate(texts)]

    return make


def values(units: list[list[Job]], slots: list[Slot]) -> list[Any]:
    """Run the units and return the value of each unit's only job."""
    return [returns[0]._return_value for returns in run_in_slots(units, slots, act, lambda unit, returns: None)]


@linux
def test_the_server_has_one_thread_and_no_gpu_and_a_slot_of_cores_keeps_its_worker(jobs: Any) -> None:
    first, second = values(jobs("look", "look"), [Slot(0, 2)])
    assert first == second, "the same process, the same settings"
    assert first["server_threads"] == 1, "a process with more threads cannot be forked safely"
    assert (first["threads"], first["OMP_NUM_THREADS"], first["cuda"]) == (2, "2", False)


def test_a_worker_sees_the_environment_and_the_folder_of_the_sweep_as_they_are_now(
    jobs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOT_MARK", "now")
    monkeypatch.chdir(tmp_path)
    (seen,) = values(jobs("look"), [Slot(0, 1)])
    assert (seen["mark"], seen["cwd"]) == ("now", str(tmp_path))


def test_a_gpu_is_leased_by_its_name_and_every_unit_on_it_gets_a_new_process(jobs: Any) -> None:
    slots = deal(2, ["GPU-5ebe9f43", "MIG-51ca"])
    seen = values(jobs(*["look"] * 6), slots)
    assert {s["gpu"] for s in seen} == {"GPU-5ebe9f43", "MIG-51ca"}
    assert len({s["pid"] for s in seen}) == 6


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to cores")
def test_a_slot_can_be_bound_to_its_cores(jobs: Any) -> None:
    core = max(os.sched_getaffinity(0))
    (seen,) = values(jobs("look"), [Slot(0, 1, cores=(core,))])
    assert seen["cores"] == [core]


def test_a_free_slot_takes_the_next_unit_and_units_are_created_only_then(jobs: Any) -> None:
    units, asked, told = jobs("sleep 1.2", "sleep 0.1", "sleep 0.1", "sleep 0.1"), [], []

    def lazily() -> Iterator[list[Job]]:
        for unit in units:
            asked.append((unit[0].num, list(told)))
            yield unit

    pids = run_in_slots(lazily(), TWO, act, lambda unit, returns: told.append(unit[0].num))
    long, *short = [returns[0]._return_value for returns in pids]
    assert set(short) == {short[0]} != {long}, "three short units ran beside the long one"
    assert told == [1, 2, 3, 0]
    assert asked == [(0, []), (1, []), (2, [1]), (3, [1, 2])]


@pytest.mark.parametrize(
    ("how", "message", "status"),
    [
        ("die 9", "killed by SIGKILL, which the system sends when memory runs out", "interrupted"),
        ("crash", "crashed with SIGSEGV", "failed"),
        ("die 6", "crashed with SIGABRT", "failed"),
        ("exit 3", "exit status 3", "failed"),
        ("exit 0", "exit status 0", "failed"),
        ("die 15", "stopped by SIGTERM", "interrupted"),
    ],
)
def test_a_worker_that_dies_loses_only_its_own_unit(jobs: Any, how: str, message: str, status: str) -> None:
    units = jobs("sleep 0", how, "sleep 0", "sleep 0")
    returned = run_in_slots(units, TWO, act, lambda unit, returns: None)
    assert [r[0].status.name for r in returned] == ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]
    assert message in str(returned[1][0]._return_value)
    summary = read_summary(units[1][0].folder / "summary.json")
    assert summary is not None
    assert summary.status == status
    assert message in str(summary.error)


def test_errors_come_back_with_type_and_message_even_if_they_cannot_be_pickled(jobs: Any) -> None:
    plain, stubborn, closed, function = values(
        jobs("fail plain", "fail stubborn", "fail closed", "lambda"), [Slot(0, 1)]
    )
    assert isinstance(plain, ValueError)
    assert str(plain) == "optim.lr=-1: type more"
    assert str(stubborn) == "Stubborn: depth is 3"
    assert str(closed) == "Closed: holds a lambda"
    assert function is None


def test_running_out_of_memory_in_a_worker_is_recognised(jobs: Any) -> None:
    error, after = values(jobs("exhaust", "sleep 0"), [Slot(0, 1)])
    assert is_out_of_memory(error)
    assert isinstance(after, int)


def test_output_of_workers_arrives_in_whole_lines(jobs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    values(jobs("write a", "write b"), TWO)
    shown = capsys.readouterr()
    wanted = sorted(20 * ["a" * 100] + 20 * ["b" * 100])
    assert sorted(shown.out.splitlines()) == sorted([*wanted, "no newline a", "no newline b"])
    assert sorted(shown.err.splitlines()) == wanted


def test_an_error_in_the_sweep_itself_leaves_no_worker(jobs: Any) -> None:
    told: list[int] = []

    def tell(unit: list[Job], returns: list[Any]) -> None:
        told.append(returns[0]._return_value)
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        run_in_slots(jobs("sleep 0", "sleep 60", "sleep 60"), TWO, act, tell)
    assert_gone(told)


class Started:
    """Start a sweep with two slots in a separate process and wait for its first checkpoints."""

    def __init__(self, folder: Path):
        many = ["-m", "seed=0,1,2", "epochs=100000", "hydra.launcher.fuse=false", "hydra.launcher.workers=2"]
        command = [sys.executable, "-m", "mltricks", *many, *TINY, f"hydra.sweep.dir={folder}"]
        self.folder = folder
        self.process = subprocess.Popen(
            command, env=command_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 60
        while not all((folder / f"{i}/checkpoints/last.pt").exists() for i in range(2)):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "no checkpoint in a minute"
            time.sleep(0.05)
        self.workers = descendants(self.process.pid)

    def end(self, *signals: int) -> tuple[int, str]:
        """Send signals; return exit status and standard error."""
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.02)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


def descendants(pid: int) -> list[int]:
    """All descendants of a process."""
    below = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            below += [child, *descendants(child)]
    return below


def assert_gone(pids: list[int]) -> None:
    """Check that the processes have ended, after a short wait."""
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process outlived the sweep"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_lets_every_worker_save_and_no_further_unit_begins(tmp_path: Path, number: int, status: int) -> None:
    sweep = Started(tmp_path)
    assert sweep.end(number)[0] == status
    for job in range(2):
        summary = read_summary(tmp_path / f"{job}/summary.json")
        assert summary is not None
        assert summary.status == "interrupted"
        assert summary.error is None
    assert not (tmp_path / "2").exists()
    assert_gone(sweep.workers)


@linux
@pytest.mark.parametrize("signals", [(signal.SIGKILL,), (signal.SIGINT, signal.SIGINT)])
def test_no_process_outlives_a_sweep_that_is_killed_or_stopped_twice(tmp_path: Path, signals: tuple[int, ...]) -> None:
    sweep = Started(tmp_path)
    assert len(sweep.workers) >= 3, "the server and two workers"
    sweep.end(*signals)
    assert_gone(sweep.workers)


@linux
def test_a_worker_killed_from_outside_is_replaced(tmp_path: Path) -> None:
    sweep = Started(tmp_path)
    victims = [pid for pid in sweep.workers if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    os.kill(max(victims), signal.SIGKILL)
    deadline = time.monotonic() + 30
    while not (tmp_path / "2/checkpoints/last.pt").exists():
        assert time.monotonic() < deadline, "the third job was not started"
        time.sleep(0.05)
    summaries = [read_summary(tmp_path / f"{i}/summary.json") for i in range(2)]
    assert [s.signal for s in summaries if s is not None] == [signal.SIGKILL]
    assert sweep.end(signal.SIGTERM)[0] == 75


def test_a_sweep_continues_after_a_killed_worker_and_the_same_command_reruns_its_job(
    run_cli: Callable[..., Any], tmp_path: Path
) -> None:
    job = ["job._target_=slot_work.die_once", "allow_modules=[slot_work]", "hydra.launcher.workers=2"]
    command = ["-m", "seed=0,1,2", *job, f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    environment = {"PYTHONPATH": str(Path(__file__).parent), "SLOT_MARK": str(tmp_path / "died")}
    first = run_cli(*command, env=environment)
    assert first.status == 1
    assert "killed by SIGKILL" in first.err
    assert len(re.findall(r"^#\d .*done", first.out, re.MULTILINE)) == 2, "besides the lines of progress"
    assert run_cli(*command, env=environment).status == 0


def test_the_quota_of_a_container_limits_the_cores(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert cgroup_quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert cgroup_quota(tmp_path) == 1.5
    old = tmp_path / "version1"
    (old / "cpu").mkdir(parents=True)
    (old / "cpu/cpu.cfs_quota_us").write_text("200000\n")
    (old / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cgroup_quota(old) == 2.0


def test_workers_share_the_cores_and_never_exceed_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for num in (1, 2, 5):
        slots = deal(num, [])
        assert len(slots) == num
        assert {slot.threads for slot in slots} == {max(1, num_cores() // num)}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert deal(1, [])[0].threads == 1
    assert [slot.gpu for slot in deal(4, ["0", "2"])] == ["0", "2", "0", "2"]


def test_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_workers(1, 8, "cpu") == []
    assert len(choose_workers(3, 8, "cpu")) == 3
    assert len(choose_workers(3, 2, "cpu")) == 2, "no worker without a unit"
    assert automatic(100, "cuda", 4) == 4
    assert automatic(100, "cuda:1", 0) == 1
    assert automatic(100, "cpu", 0, seconds=0.001) == 1, "starting workers would take longer than it saves"
    assert automatic(100, "cpu", 0, seconds=60.0) == num_cores()
    for wrong in ("many", 0, -1, True, 1.5):
        with pytest.raises(ValueError, match="type auto or a number"):
            choose_workers(wrong, 8, "cpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="device=cuda:1 puts all 2 workers on one GPU"):
        choose_workers(2, 8, "cuda:1")
