"""The grid: its jobs, and how it continues after a kill, shares a folder with another process, or is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from conftest import TINY, Outcome, command_environment

from mltricks.report.callback import SweepPage
from mltricks.summary import Summary
from mltricks.sweep.claims import Claims, Owner, myself
from mltricks.sweep.grid import combinations
from mltricks.sweep.outcome import Outcome as Ended
from mltricks.sweep.outcome import said_once
from mltricks.sweep.record import NAME, Record, unfinished
from mltricks.sweep.runner import check_same, consecutive, set_aside

COMMAND = ["-m", *TINY, "epochs=1", "optim.lr=1e-3,1e-2", "seed=0,1"]
ONE_BY_ONE = ["hydra.launcher.fuse=false", "hydra.launcher.workers=1"]
"""Jobs run one by one without a measurement before, so that exactly one model is created per run."""
COUNTED = """
import os
from torch import nn

class Net(nn.Sequential):
    def __init__(self, in_shape, num_outputs):
        with open(os.environ["RUNS"], "a") as file:
            file.write(f"{os.getpid()}\\n")
        super().__init__(nn.Flatten(), nn.Linear(64, num_outputs))
"""


def start(command: list[str], cwd: Path, **environment: str) -> subprocess.Popen[str]:
    """Start a command without waiting for it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environ = command_environment(**environment)
    return subprocess.Popen([sys.executable, "-m", "mltricks", *command], cwd=cwd, env=environ, text=True, **pipes)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a file exists; fail if the process ends before."""
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_the_grid_has_every_combination_and_the_last_key_changes_fastest() -> None:
    typed = ["a=1,2", "b=[x,y],[z]", "c=range(0,4,2)", "d='u,v'", "+e=null,true"]
    jobs = combinations(typed, None)
    assert len(jobs) == 16
    assert jobs[0] == ["a=1", "b=[x,y]", "c=0", "d='u,v'", "+e=null"]
    assert jobs[1] == ["a=1", "b=[x,y]", "c=0", "d='u,v'", "+e=True"]
    assert jobs[-1] == ["a=2", "b=[z]", "c=2", "d='u,v'", "+e=True"]
    assert combinations(["~a"], None) == [["~a"]]
    assert combinations([], None) == [[]]


def test_an_interval_is_refused_in_a_grid() -> None:
    with pytest.raises(ValueError, match=r"a=interval\(0,1\): a grid needs values.*hydra/sweeper=study"):
        combinations(["a=interval(0,1)"], None)


def test_a_sweep_has_a_folder_per_job_and_a_record(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli(*COMMAND, "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    sweep = tmp_path / "sweep"
    summaries = {int(p.parent.name): json.loads(p.read_text()) for p in sweep.glob("*/summary.json")}
    assert sorted(summaries) == [0, 1, 2, 3]
    assert [[o for o in summaries[n]["overrides"][-2:]] for n in range(4)] == [
        [f"optim.lr={lr}", f"seed={seed}"] for lr in (0.001, 0.01) for seed in (0, 1)
    ]
    said = json.loads((sweep / "sweep.json").read_text())
    assert said["status"] == "finished"
    assert said["sweeper"] == "grid"
    assert said["swept"] == ["optim.lr", "seed"]
    assert said["objective"] == {"name": "val/accuracy", "direction": "maximize"}
    assert said["command"] == [*COMMAND, "hydra.sweep.dir=sweep"]
    jobs = [line for line in done.out.splitlines() if line.startswith("#")]
    assert [line.split()[0] for line in jobs] == ["#0", "#1", "#2", "#3"]
    assert not any("data.limit" in line for line in jobs)  # settings that all jobs share are not repeated
    assert not (sweep / ".claims").exists()
    again = run_cli(*COMMAND, "hydra.sweep.dir=sweep")
    assert again.out.startswith("sweep: all 4 jobs were done before\nbest val/accuracy")


def test_a_refused_sweep_writes_no_page_into_a_folder_of_runs(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "runs/0").mkdir(parents=True)
    (tmp_path / "runs/0/summary.json").write_text(json.dumps({"status": "completed"}))
    refused = run_cli("-m", "seed=0,1", "hydra.sweep.dir=runs", "hydra.sweep.subdir=a")
    assert refused.status == 1
    assert "sweep.html" not in refused.out
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["0"]


def test_a_killed_sweep_runs_the_remaining_jobs_when_typed_again(tmp_path: Path) -> None:
    """No folder is named, no finished job runs again, and the output of the interrupted job is moved aside."""
    (tmp_path / "mine.py").write_text(COUNTED)
    own = ["model=custom", "model._target_=mine.Net", "allow_modules=[mine]", *ONE_BY_ONE]
    command = ["-m", *(o for o in TINY if not o.startswith("model")), *own, "epochs=60", "seed=0,1,2"]
    runs = tmp_path / "runs"
    process = start(command, tmp_path, RUNS=str(runs))
    while not (found := list(tmp_path.glob("multirun/*/*/1/checkpoints/last.pt"))):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    sweep = found[0].parents[2]
    kept = (sweep / "0" / "summary.json").read_bytes()
    assert json.loads((sweep / "sweep.json").read_text())["status"] == "running"
    before = len(runs.read_text().splitlines())

    again = start(command, tmp_path, RUNS=str(runs))
    out, err = again.communicate(timeout=120)
    assert again.returncode == 0, err
    assert f"resuming the stopped sweep in {sweep.relative_to(tmp_path)}" in out
    assert (sweep / "0" / "summary.json").read_bytes() == kept
    assert all(json.loads((sweep / str(n) / "summary.json").read_text())["status"] == "completed" for n in range(3))
    assert (sweep / "1.interrupted-1" / "checkpoints" / "last.pt").exists()
    assert not (sweep / "0.interrupted-1").exists()
    assert len(runs.read_text().splitlines()) == before + 2
    assert json.loads((sweep / "sweep.json").read_text())["status"] == "finished"
    assert len(list(tmp_path.glob("multirun/*/*"))) == 1

    third = start(command, tmp_path, RUNS=str(runs))  # a finished sweep is not continued
    wait_for(runs, third)
    while len(list(tmp_path.glob("multirun/*/*/0"))) < 2:
        assert third.poll() is None, third.communicate()
        time.sleep(0.01)
    third.terminate()
    third.communicate()


def test_a_folder_of_another_command_is_refused(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    assert run_cli("-m", *TINY, "epochs=1", "seed=0,1", "hydra.sweep.dir=sweep").status == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "sweep").iterdir() if path.is_file()}
    done = run_cli("-m", *TINY, "epochs=1", "seed=0,2", "hydra.sweep.dir=sweep")
    assert done.status == 1
    assert "its job 1 has the overrides" in done.err
    assert "seed=1" in done.err
    assert "seed=2" in done.err
    assert "hydra.sweep.dir=ANOTHER" in done.err
    assert not (tmp_path / "sweep" / "1.interrupted-1").exists()
    assert json.loads((tmp_path / "sweep" / "1" / "summary.json").read_text())["overrides"][-1] == "seed=1"
    late = run_cli(
        "-m", *TINY, "epochs=1", "seed=0,1,-1", "hydra.sweep.dir=sweep"
    )  # the first jobs of this command are the same
    assert late.status == 1
    assert "no job was started" in late.err
    after = {path.name: path.read_bytes() for path in (tmp_path / "sweep").iterdir() if path.is_file()}
    assert after == before
    assert not (tmp_path / "sweep" / ".claims").exists()


def test_two_processes_run_no_job_twice(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(COUNTED)
    own = ["model=custom", "model._target_=mine.Net", "allow_modules=[mine]", "hydra.sweep.dir=sweep"]
    tiny = [o for o in TINY if not o.startswith("model")]
    command = ["-m", *tiny, *own, "epochs=3", "seed=0,1,2,3", *ONE_BY_ONE]
    alone = start(["-m", *tiny, *own[:-1], "hydra.sweep.dir=alone", "epochs=3", "seed=0"], tmp_path, RUNS="alone.txt")
    both = [start(command, tmp_path, RUNS="runs.txt") for _ in range(2)]
    for process in [alone, *both]:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    once = len((tmp_path / "alone.txt").read_text().splitlines())
    assert len((tmp_path / "runs.txt").read_text().splitlines()) == 4 * once
    assert not list((tmp_path / "sweep").glob("*.interrupted-*"))


def test_a_sweep_without_a_completed_job_fails(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    options = ["-m", *TINY, "epochs=1", "optim=sgd", "hydra.sweep.dir=sweep", "hydra.launcher.fuse=false"]
    done = run_cli(*options, "optim.lr=1e30,1e31")
    assert done.status == 1
    assert "no job was completed" in done.err
    assert "diverged" in done.err
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["status"] == "finished"
    mixed = run_cli(*options[:-2], "hydra.sweep.dir=mixed", "hydra.launcher.fuse=false", "optim.lr=1e30,1e-2")
    assert mixed.status == 0, mixed.err  # a diverged job has a result


def test_jobs_that_need_no_folder_run_too(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("-m", "job=explain", "technique=mixup,cutmix")
    assert done.status == 0, done.err
    assert "mixup" in done.out
    assert "cutmix" in done.out


def test_a_claim_has_one_owner_until_its_process_is_dead(tmp_path: Path) -> None:
    mine, theirs = Claims(tmp_path), Claims(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    from mltricks.sweep.claims import start_of

    theirs.me = Owner(child.pid, start_of(child.pid), myself().host)
    assert theirs.take(3)
    assert not mine.take(3)
    assert theirs.take(3)
    assert mine.take(4)
    child.kill()
    child.wait()
    assert mine.take(3)
    assert not Owner(os.getpid(), "0", myself().host).is_alive()  # the process id was used before, by another process
    assert Owner(os.getpid(), "0", "another machine").is_alive()


def test_claims_are_exclusive_among_many(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(Path.cwd())!r})\nfrom pathlib import Path\n" + (
        "from mltricks.sweep.claims import Claims\nimport time\n"
        f"c = Claims(Path({str(tmp_path)!r}))\n"
        "print(*[n for n in range(200) if c.take(n)], flush=True)\ninput()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [subprocess.Popen([sys.executable, "-c", script], text=True, **pipes) for _ in range(4)]
    taken = [int(n) for p in processes for n in p.stdout.readline().split()]  # type: ignore[union-attr]
    for p in processes:
        p.communicate("\n")
    assert sorted(taken) == list(range(200))


def test_the_output_of_an_interrupted_job_is_kept_under_another_name(tmp_path: Path) -> None:
    for k in (1, 2):
        (tmp_path / "3").mkdir()
        set_aside(tmp_path / "3")
        assert (tmp_path / f"3.interrupted-{k}").is_dir()
    set_aside(tmp_path / "4")
    assert not (tmp_path / "3").exists()


def test_a_job_is_identified_by_its_overrides(tmp_path: Path) -> None:
    record = tmp_path / "0" / ".hydra" / "overrides.yaml"
    record.parent.mkdir(parents=True)
    record.write_text(yaml.safe_dump(["a=1"]))
    check_same(tmp_path, 0, ["a=1", "hydra.job.env_set.X=1"])
    check_same(tmp_path, 1, ["a=2"])
    with pytest.raises(ValueError, match="its job 0 has the overrides a=1, this command's has a=2"):
        check_same(tmp_path, 0, ["a=2"])


def test_skipped_numbers_split_a_batch() -> None:
    assert [[n for n, _ in c] for c in consecutive([(n, []) for n in (0, 1, 4, 6, 7)])] == [[0, 1], [4], [6, 7]]


def test_a_subfolder_name_other_than_the_number_is_refused(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("-m", *TINY, "seed=0,1", "hydra.sweep.subdir=mine_${hydra.job.num}")
    assert done.status == 1
    assert "hydra/sweeper=basic" in done.err


def test_a_sweep_stopped_before_its_page_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "multirun" / "now"
    record = Record(folder, "grid", [])
    record.begin({})
    (folder / "0" / ".hydra").mkdir(parents=True)
    record.end("ended", [])
    config: Any = SimpleNamespace(hydra=SimpleNamespace(sweep=SimpleNamespace(dir=str(folder))))

    def stop(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("mltricks.report.write.write", stop)
        with pytest.raises(KeyboardInterrupt):
            SweepPage().on_multirun_end(config)
    assert unfinished("multirun/${now:x}") == Path("multirun/now")
    SweepPage().on_multirun_end(config)
    assert json.loads((folder / NAME).read_text())["status"] == "finished"
    assert unfinished("multirun/${now:x}") is None


def test_values_out_of_range_are_refused_before_the_first_job(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("-m", *TINY, "epochs=1,0", "seed=0,1", "hydra.sweep.dir=sweep")
    assert done.status == 1
    assert done.err.count("epochs=0 is out of range") == 1
    assert not (tmp_path / "sweep").exists()


def test_the_same_error_is_printed_once(tmp_path: Path) -> None:
    failed = [Ended(n, [f"seed={n}"], tmp_path, Summary("failed", error="boom" if n else "bang")) for n in range(3)]
    assert said_once(failed) == ["job 0 (seed=0) failed: bang", "job 1 (seed=1) failed: boom (same error: job 2)"]
