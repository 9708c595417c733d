"""A stack: every member gets the folder of a single run, and the failure of one member does not affect the others."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import EXACT, TINY, command_environment
from torch import Tensor, nn

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.launch.fused import train_fused
from mltricks.launch.job import Job
from mltricks.observers.files import read_records, yaml_text
from mltricks.summary import Summary
from mltricks.weights import load_weights

CLOCK = ("seconds", "samples_per_s")
MLP = ("model=mlp", "model.width=16", "data.limit=320", "batch_size=32", "plots=auto", *EXACT)
Varied = Sequence[Sequence[str]]


def jobs_of(folder: Path, shared: Sequence[str], varied: Varied) -> list[Job]:
    """A job for every list of overrides in ``varied``."""
    made = []
    for num, own in enumerate(varied):
        overrides = [*shared, *own]
        made.append(Job(num, overrides, plain(mltricks.compose(overrides)), folder / str(num), None))
    return made


def fuse(folder: Path, shared: Sequence[str], varied: Varied) -> list[tuple[int, Summary]]:
    """Train jobs as a stack; return the results in the order in which they were reported."""
    told: list[tuple[int, Summary]] = []
    train_fused(jobs_of(folder, shared, varied), lambda job, summary: told.append((job.num, summary)))
    return told


def alone(folder: Path, shared: Sequence[str], varied: Varied) -> None:
    """Train the same jobs one by one, as single runs."""
    for num, own in enumerate(varied):
        cfg = mltricks.compose([*shared, *own, "plots=false", "progress=none"])
        mltricks.train(cfg, folder / str(num), overrides=[*shared, *own])


def records(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in read_records(folder / "metrics.jsonl")]


def summary_of(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def assert_equal(mine: Any, theirs: Any, where: str, within: float = 1e-5) -> None:
    """The same keys in the same order; numbers within a tolerance."""
    if isinstance(mine, list):
        assert len(mine) == len(theirs), where
        for a, b in zip(mine, theirs, strict=True):
            assert_equal(a, b, f"{where} {[b[key] for key in ('step', 'split') if key in b]}", within)
    elif isinstance(mine, dict):
        assert list(mine) == list(theirs), where
        for key in mine:
            assert_equal(mine[key], theirs[key], f"{where}.{key}", within)
    elif isinstance(mine, float):
        assert mine == pytest.approx(theirs, rel=within, abs=within), where
    else:
        assert mine == theirs, where


CASES: dict[str, tuple[list[str], Varied]] = {
    "schedule, mixup, dropout and EMA": (
        [*MLP, "technique=[mixup,ema]", "regularizer=dropout", "scheduler=cosine", "optim=sgd", "log_every=7"],
        [["seed=0", "optim.lr=0.1"], ["seed=1", "optim.lr=0.03", "technique.mixup.alpha=0.4"], ["optim.lr=0.01"]],
    ),
    "batch norm": (
        ["model=resnet9", "model.width=4", "data.limit=160", "batch_size=16", "optim=sgd", "augment=standard"],
        [["seed=3", "optim.lr=0.02"], ["seed=4", "optim.lr=0.005"]],
    ),
    "adamw, EMA of different length, convolutions": (
        ["data.limit=320", "batch_size=32", "model.width=4", "technique=[ema,sam]", "scheduler=onecycle"],
        [["optim.lr=3e-3", "technique.ema.decay=0.9"], ["optim.lr=1e-3", "technique.ema.decay=0.99"]],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_member_equals_the_run_alone(case: str, tmp_path: Path) -> None:
    shared, varied = CASES[case]
    shared = [*shared, "epochs=5"]
    told = fuse(tmp_path / "fused", shared, varied)
    alone(tmp_path / "alone", shared, varied)
    assert sorted(num for num, _ in told) == list(range(len(varied)))
    for num in range(len(varied)):
        mine, theirs = tmp_path / "fused" / str(num), tmp_path / "alone" / str(num)
        assert records(theirs)[-1]["step"] >= 50
        assert_equal(records(mine), records(theirs), str(num))
        one, other = summary_of(mine), summary_of(theirs)
        assert (one.pop("fused"), other.pop("fused")) == ({"trials": len(varied)}, None)
        for name in ("seconds", "phases", "folder", "started", "ended"):  # the clock's, and each one's own
            del one[name], other[name]
        assert_equal(one, other, f"{num}: summary")
        assert one["status"] == "completed"
        assert one["test"]
        assert_equal_weights(mine, theirs)


def assert_members_end_as_alone(
    folder: Path, shared: Sequence[str], varied: Varied, within: float, rtol: float, atol: float
) -> None:
    """Check that a stack's members have the records, test scores and best weights of the same runs alone."""
    told = fuse(folder / "fused", shared, varied)
    assert [summary.fused for _, summary in told] == [{"trials": len(varied)}] * len(varied)
    for num, own in enumerate(varied):
        mltricks.train(mltricks.compose([*shared, *own]), folder / "alone" / str(num))
        mine, theirs = folder / "fused" / str(num), folder / "alone" / str(num)
        assert_equal(records(mine), records(theirs), "records", within)
        assert_equal(summary_of(mine)["test"], summary_of(theirs)["test"], "test", within)
        ours, others = load_weights(mine)[0], load_weights(theirs)[0]
        assert all(torch.allclose(ours[name], others[name], rtol=rtol, atol=atol) for name in others)


def assert_equal_weights(mine: Path, theirs: Path) -> None:
    """Check that the weights of both folders predict alike, and that their checkpoints have the same content."""
    x = build(plain(mltricks.compose([*TINY]))).data.test.x[:50]
    a, b = (mltricks.load(folder).predict(x) for folder in (mine, theirs))
    assert torch.allclose(a, b, atol=1e-5)
    first, second = (torch.load(folder / "checkpoints/last.pt", weights_only=True) for folder in (mine, theirs))
    assert dict(flat(first["state"])).keys() == dict(flat(second["state"])).keys()
    for (name, value), (_, other) in zip(flat(first["state"]), flat(second["state"]), strict=True):
        if "seconds" not in name and "samples_per_s" not in name:
            assert value.shape == other.shape, name
            assert torch.allclose(value.double(), other.double(), rtol=1e-4, atol=1e-5), name


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_each_folder_has_the_files_of_a_single_run_except_plots(tmp_path: Path) -> None:
    varied = [["seed=0"], ["seed=1"]]
    fuse(tmp_path / "fused", [*MLP, "epochs=1"], varied)
    alone(tmp_path / "alone", [*MLP, "epochs=1"], varied)
    for num in ("0", "1"):
        found, expected = (
            {str(path.relative_to(folder / num)) for path in (folder / num).rglob("*")}
            for folder in (tmp_path / "fused", tmp_path / "alone")
        )
        assert found == expected
    assert (tmp_path / "fused/1/config.yaml").read_text() == yaml_text(
        plain(mltricks.compose([*MLP, "epochs=1", "seed=1"]))
    )


def test_a_member_that_diverges_leaves_the_stack_without_affecting_others(tmp_path: Path) -> None:
    shared = [*MLP, "optim=sgd", "epochs=3", "log_every=5"]
    varied = [["optim.lr=0.05"], ["optim.lr=1e30"], ["optim.lr=0.05", "seed=1"]]
    told = fuse(tmp_path / "fused", shared, varied)
    assert [num for num, _ in told] == [1, 0, 2], "a member that leaves is reported at once"
    alone(tmp_path / "alone", shared, [varied[0], [*varied[2], "seed=1"]])
    assert_equal(records(tmp_path / "fused/0"), records(tmp_path / "alone/0"), "0")
    assert_equal(records(tmp_path / "fused/2"), records(tmp_path / "alone/1"), "2")
    lost = summary_of(tmp_path / "fused/1")
    assert lost["status"] == "diverged"
    assert "diverged at step" in lost["error"]
    assert "optim.lr" in lost["error"]
    assert not lost["test"]
    with pytest.raises(mltricks.ledger.Diverged) as single:
        mltricks.train(mltricks.compose([*shared, *varied[1], "plots=false", "progress=none"]), tmp_path / "single")
    assert lost["error"] == str(single.value)
    assert lost["steps"] == summary_of(tmp_path / "single")["steps"]


def test_each_member_stops_early_by_itself(tmp_path: Path) -> None:
    shared = [*MLP, "optim=sgd", "epochs=8", "early_stopping.patience=2", "early_stopping.min_delta=0.01"]
    varied = [["optim.lr=0.1"], ["optim.lr=1e-6"], ["optim.lr=1e-6", "seed=5"]]
    fuse(tmp_path / "fused", shared, varied)
    alone(tmp_path / "alone", shared, varied)
    ends = []
    for num in range(3):
        mine, theirs = summary_of(tmp_path / "fused" / str(num)), summary_of(tmp_path / "alone" / str(num))
        ends.append((mine["status"], mine["steps"]))
        assert ends[-1] == (theirs["status"], theirs["steps"])
        assert_equal(mine["test"], theirs["test"], f"{num}: test")
    assert ends[1][0] == ends[2][0] == "stopped_early"
    assert ends[1][1] < ends[0][1]


def test_a_refused_configuration_fails_alone(tmp_path: Path) -> None:
    told = fuse(tmp_path, [*MLP, "epochs=1"], [["seed=0"], ["optim.lr=-1"], ["seed=1"]])
    assert {num: summary.status for num, summary in told} == {0: "completed", 1: "failed", 2: "completed"}
    refused = summary_of(tmp_path / "1")
    assert "optim.lr=-1 is out of range" in refused["error"]
    assert not refused["out_of_memory"]
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["summary.json"]


def test_jobs_that_cannot_be_stacked_run_one_by_one_with_a_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = fuse(tmp_path, [*MLP, "epochs=1"], [["seed=0"], ["batch_size=16"]])
    assert [(num, summary.status, summary.fused) for num, summary in told] == [
        (0, "completed", None),
        (1, "completed", None),
    ]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "its 2 trials start again one by one" in said[0]
    assert "batch_size is 32 in the first and 16 in number 1" in said[0]


class Wide(nn.Module):
    """A linear model whose training needs about a hundred megabytes per run for a moment."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int, width: int):
        super().__init__()
        self.head = nn.Linear(torch.Size(in_shape).numel(), num_outputs)
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        if self.training:
            wide = x.mean(1, keepdim=True).expand(-1, self.width) * self.head.weight.mean()
            x = x + 1e-6 * wide.exp().mean(1, keepdim=True)
        return self.head(x)


@contextmanager
def at_most(more: int) -> Iterator[None]:
    """Limit the address space of this process to its present size plus some bytes."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.cpu
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to limit memory")
def test_a_stack_that_does_not_fit_is_halved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a real memory limit: a run needs 45 MB two or three times for a moment, and 320 MB are available."""
    shared = [
        *("model=custom", "model._target_=test_fused.Wide", "+model.width=700000"),
        *("allow_modules=[test_fused]", "data.limit=64", "batch_size=16", "max_steps=1", "optim=sgd"),
    ]
    fuse(tmp_path / "warm", [*MLP, "max_steps=1"], [["seed=0"], ["seed=1"]])  # imports need memory too
    with at_most(320_000_000):
        told = fuse(tmp_path / "fused", shared, [[f"seed={seed}"] for seed in range(4)])
    said = [line for line in capsys.readouterr().err.splitlines() if "a stack" in line]
    assert said[0].startswith("a stack could not be trained; its 4 trials start again in stacks of up to 2: "), said
    assert "allocate memory" in said[0]
    assert [num for num, _ in told] == [0, 1, 2, 3]
    assert all(summary.status == "completed" for _, summary in told)
    sizes = [summary.fused["trials"] if summary.fused else 1 for _, summary in told]
    assert max(sizes) <= 2
    alone(tmp_path / "alone", shared, [["seed=2"]])
    assert_equal(records(tmp_path / "fused/2")[-1], records(tmp_path / "alone/0")[-1], "2")


def test_running_out_of_memory_is_recorded_in_the_summary(tmp_path: Path) -> None:
    shared = ["model=custom", "model._target_=greedy.Greedy", "allow_modules=[greedy]"]
    options = [*shared, "+model.limit=0", "data.limit=64", "batch_size=16", "max_steps=2"]
    told = fuse(tmp_path, options, [["seed=0"], ["seed=1"]])
    assert [(num, summary.status, summary.out_of_memory) for num, summary in told] == [
        (0, "failed", True),
        (1, "failed", True),
    ]


STOPPED = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_fused import fuse
fuse(Path({folder!r}), {shared!r}, {varied!r})
"""


@pytest.mark.parametrize(("moment", "at", "steps"), [("val", 2, 20), ("setup", 1, 0)])
def test_a_signal_saves_every_member(moment: str, at: int, steps: int, tmp_path: Path) -> None:
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper", "allow_modules=[stopper]"]
    when = [f"+tracker.moment={moment}", f"+tracker.at={at}", f"+tracker.number={int(signal.SIGTERM)}"]
    shared, varied = [*MLP, "epochs=3", "optim=sgd", "technique=mixup"], [["seed=0"], ["seed=1"]]
    given = {"tests": str(Path(__file__).parent), "folder": str(tmp_path), "shared": [*shared, *stopper, *when]}
    script = "from mltricks.process.interrupt import stop_now\nimport signal\nsignal.signal(signal.SIGTERM, stop_now)\n"
    done = subprocess.run(
        [sys.executable, "-c", script + STOPPED.format(**given, varied=varied)],
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 75, done.stderr
    for num in range(2):
        summary = summary_of(tmp_path / str(num))
        assert (summary["status"], summary["signal"], summary["steps"]) == ("interrupted", 15, steps)
        assert summary["error"] is None
    if steps:
        folder = tmp_path / "1"
        cfg = mltricks.compose([*shared, "seed=1", "plots=false", "progress=none"])
        assert mltricks.train(cfg, folder, resume=True).status == "completed"
        alone(tmp_path / "alone", shared, [["seed=1"]])
        assert_equal(records(folder), records(tmp_path / "alone/0"), "resumed")


def test_the_members_of_a_killed_stack_resume_from_their_checkpoints(tmp_path: Path) -> None:
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper", "allow_modules=[stopper]"]
    when = ["+tracker.moment=val", "+tracker.at=2", f"+tracker.number={int(signal.SIGKILL)}"]
    shared = [*MLP, "epochs=3", "optim=sgd", "technique=[mixup,ema]", "checkpoint_every_steps=7"]
    given = {"tests": str(Path(__file__).parent), "folder": str(tmp_path), "shared": [*shared, *stopper, *when]}
    script = STOPPED.format(**given, varied=[["seed=0"], ["seed=1"]])
    done = subprocess.run([sys.executable, "-c", script], env=command_environment(), capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL
    folder = tmp_path / "1"
    assert int(checkpoint.load(folder)["state"]["step"]) == 14, "killed at the validation after 20 updates"
    cfg = mltricks.compose([*shared, "seed=1", "plots=false", "progress=none"])
    assert mltricks.train(cfg, folder, resume=True).status == "completed"
    alone(tmp_path / "alone", shared, [["seed=1"]])
    assert_equal(records(folder), records(tmp_path / "alone/0"), "resumed")


def test_plots_are_drawn_if_asked_for(tmp_path: Path) -> None:
    fuse(tmp_path, [*MLP, "plots=true", "epochs=1"], [["seed=0"], ["seed=1"]])
    for num in ("0", "1"):
        assert (tmp_path / num / "plots/confusion_matrix.png").is_file()
        assert "Most confident errors" in (tmp_path / num / "report.html").read_text()


def test_wandb_gets_a_run_for_every_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb_file import read_wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    sweep = tmp_path / "nightly"
    sweep.mkdir()
    (sweep / "multirun.yaml").write_text("{}\n")
    shared = [*MLP, "tracker=wandb", "tracker.mode=offline", "optim=sgd", "epochs=2", "log_every=5"]
    varied = [["optim.lr=0.1"], ["optim.lr=1e30"], ["optim.lr=0.01", "seed=1"]]
    fuse(sweep, shared, varied)
    logged = [read_wandb(sweep / str(num)) for num in range(3)]
    assert len({run.run.run_id for run in logged}) == 3
    for num, run in enumerate(logged):
        assert (run.run.run_group, run.run.job_type, run.run.display_name) == ("nightly", "trial", f"{num:03d}")
        summary = summary_of(sweep / str(num))
        assert run.config["optim"]["lr"] == float(varied[num][0].partition("=")[2])
        assert run.summary["status"] == summary["status"]
        assert run.exit_code == (1 if num == 1 else 0)
        rows = {row["_step"]: row for row in run.history}
        for record in read_records(sweep / str(num) / "metrics.jsonl"):
            assert rows[record["step"]][f"{record['split']}/loss"] == record["loss"]
    assert max(row["_step"] for row in logged[0].history) == 20
    assert logged[1].history == [], "a run that diverged at once has no plot"
    assert logged[0].summary["test/loss"] != logged[2].summary["test/loss"]
