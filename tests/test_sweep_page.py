"""The table and the page of a sweep show the content of its folders, for any sweeper and any end of the sweep."""

from __future__ import annotations

import csv
import doctest
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from html import unescape
from importlib import import_module
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from conftest import command_environment
from sweep_folders import EVIL, SHORT, change, command, like_a_study, report

from mltricks.figures.base import Figure
from mltricks.figures.page import plotly_js
from mltricks.report.charts.contour import contour
from mltricks.report.charts.invariants import rule_of
from mltricks.report.collect import collect
from mltricks.report.importance import LARGEST, SAMPLES, Importance, importance
from mltricks.report.leaderboard import groups
from mltricks.report.scales import axes, make_axis
from mltricks.report.slices import edges
from mltricks.report.write import write
from mltricks.sweep.statistics import mean_interval

JOBS = [(1e-4, 0), (1e-4, 1), (1e-3, 0), (1e-3, 1), (1e-2, 0), (1e-2, 1)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sweep") / "grid"
    done = command("optim.lr=1e-4,1e-3,1e-2", "seed=0,1", f"hydra.sweep.dir={folder}", cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"sweep: {folder}/sweep.html" in done.stdout
    return folder


@pytest.fixture
def grid(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "grid"))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def payload(folder: Path) -> dict[str, Any]:
    text = (folder / "sweep.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def texts(folder: Path, tag: str) -> list[str]:
    """The texts of all elements with a tag in the section on commands."""
    section = (folder / "sweep.html").read_text().partition('<section id="commands">')[2].partition("</section>")[0]
    return [unescape(text) for text in re.findall(f"<{tag}>(.*?)</{tag}>", section, re.DOTALL)]


def warned(folder: Path) -> list[str]:
    """The warnings of the page."""
    return texts(folder, "li")


def fake(root: Path, jobs: list[tuple[list[str], float | None]], **summary: Any) -> Path:
    """A sweep folder written by another program, with only overrides and objectives."""
    for i, (overrides, value) in enumerate(jobs):
        (root / str(i) / ".hydra").mkdir(parents=True)
        (root / str(i) / ".hydra" / "overrides.yaml").write_text(json.dumps(overrides))
        status = "completed" if value is not None else "diverged"
        content = {"status": status, "objective": {"name": "val/loss", "value": value}, "seconds": 1.0, **summary}
        (root / str(i) / "summary.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("name", ["folders", "values", "scales"])
def test_the_examples_of_the_docstrings(name: str) -> None:
    assert doctest.testmod(import_module(f"mltricks.report.{name}")).failed == 0


def test_the_table_has_a_row_per_job_with_every_swept_value(made: Path) -> None:
    found = rows(made)
    metrics = [
        "train/loss",
        "train/accuracy",
        *(f"{s}/{m}" for s in ("val", "test") for m in ("loss", "accuracy", "f1")),
    ]
    own = ["seed", "seconds", "epochs", "num_params", "mean", "low", "high", "interval_of", "n", "error"]
    assert list(found[0]) == ["job", "status", "objective", "optim.lr", *metrics, *own]
    assert [(float(r["optim.lr"]), int(r["seed"])) for r in found] == JOBS
    for row in found:
        summary = json.loads((made / row["job"] / "summary.json").read_text())
        assert float(row["objective"]) == summary["objective"]["value"], "to the last digit"
        for column in metrics:
            split, _, name = column.partition("/")
            assert float(row[column]) == summary[split][name]
        assert int(row["num_params"]) == summary["num_params"] > 0
        both = [float(r["objective"]) for r in found if r["optim.lr"] == row["optim.lr"]]
        mean, low, high = mean_interval(both)
        shown = [mean, max(low, 0.0), min(high, 1.0)]
        assert [float(row[name]) for name in ("mean", "low", "high")] == shown, "an accuracy is a share"
        assert (row["interval_of"], row["n"]) == ("seeds", "2")
        assert (row["status"], int(row["epochs"])) == (summary["status"], 2)
    assert (made / "sweep.csv").read_bytes().count(b"\r\n") == 7


def test_texts_that_need_quotes_survive_the_table(grid: Path) -> None:
    like_a_study(grid)
    write(grid)
    found = rows(grid)
    assert found[2]["error"] == f'CUDA out of memory, "2 GiB", {EVIL}\nsecond line'
    assert [r["status"] for r in found[:3]] == ["pruned", "diverged", "failed"]
    assert found[3]["data.path"] == EVIL
    assert len(found) == 6, "an interrupted attempt is not a row"


def test_data_cannot_close_the_script_tag(grid: Path) -> None:
    like_a_study(grid)
    write(grid)
    text = (grid / "sweep.html").read_text()
    assert EVIL not in text
    num_charts = text.count('<div class="chart" data-name=')
    assert text.count("</script>") == text.count("<script") == len(re.findall("&#39;sha256-", text)) + num_charts + 1
    library = plotly_js().decode()
    assert text.count(library) == 1
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", text.replace(library, ""))
    assert len(text) < len(library) + 200_000


def test_the_folders_alone_are_enough(grid: Path) -> None:
    before = rows(grid)
    for name in ("multirun.yaml", "sweep.json", "sweep.csv", "sweep.html"):
        (grid / name).unlink(missing_ok=True)
    done = report(grid)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(grid / "sweep.csv"), str(grid / "sweep.html")]
    assert rows(grid) == before


def test_a_sweep_that_is_not_over(grid: Path) -> None:
    (grid / "sweep.json").unlink(missing_ok=True)
    (grid / "5" / "summary.json").unlink()
    shutil.rmtree(grid / "4")
    assert report(grid).returncode == 0
    state = payload(grid)["state"]
    assert (state["finished"], state["done"], state["total"]) == (False, 4, 6)
    assert [(r["job"], r["status"]) for r in rows(grid)][-1] == ("5", "unfinished")
    assert collect(grid).rows[-1].curves["score"], "its curve so far is shown"


@pytest.mark.parametrize("damage", ["summary.json", ".hydra/overrides.yaml", "metrics.jsonl", "config.yaml"])
def test_truncated_files_do_not_stop_the_page(grid: Path, damage: str) -> None:
    path = grid / "0" / damage
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\xff")
    write(grid)
    assert len(rows(grid)) == 6


def test_replicates_in_folders_of_their_own(tmp_path: Path) -> None:
    sweep = fake(tmp_path / "s", [([f"optim.lr={lr}", f"seed={s}"], lr + s) for lr in (1, 2) for s in (0, 1)])
    for trial in (0, 1):
        (sweep / f"t{trial}").mkdir()
        for replicate in (0, 1):
            (sweep / str(2 * trial + replicate)).rename(sweep / f"t{trial}" / str(replicate))
    write(sweep)
    assert [r["job"] for r in rows(sweep)] == ["t0/0", "t0/1", "t1/0", "t1/1"]
    assert [g["mean"] for g in payload(sweep)["groups"]] == [1.5, 2.5], "a lower loss is better"


def test_conditional_keys_and_columns_of_the_same_name(tmp_path: Path) -> None:
    sweep = fake(tmp_path / "s", [(["epochs=1"], 1.0), (["epochs=2", "+optim.momentum=0.9"], 2.0)])
    (sweep / "0" / "config.yaml").write_text("optim: {momentum: 0.5}\nepochs: 1\n")
    write(sweep)
    assert [(r["config.epochs"], r["optim.momentum"]) for r in rows(sweep)] == [("1", "0.5"), ("2", "0.9")]


def test_the_mean_counts_only_complete_runs(tmp_path: Path) -> None:
    jobs = [([f"optim.lr={lr}", f"seed={s}"], v) for lr, s, v in [(1, 0, 1.0), (1, 1, 3.0), (2, 0, 0.5), (2, 1, None)]]
    sweep = fake(tmp_path / "s", [*jobs, (["optim.lr=3", "seed=0"], 0.1)])
    change(sweep, 4, status="pruned")
    found = groups(collect(sweep))
    assert [g.values["optim.lr"] for g in found] == ["2", "1", "3"]
    assert [g.score.mean if g.score else None for g in found] == [0.5, 2.0, None]
    assert (found[1].best, found[1].worst, found[2].partial) == (1.0, 3.0, 0.1)
    write(sweep)
    assert any("1 of the 2 runs of the best configuration diverged" in text for text in warned(sweep))


def test_importance_finds_what_matters(tmp_path: Path) -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    a, b, c = (draw.uniform(0, 1, 80) for _ in range(3))
    jobs = [
        ([f"optim.lr={x}", f"seed={y}", f"model.width={z}"], float(2 * x + z)) for x, y, z in zip(a, b, c, strict=True)
    ]
    sweep = collect(fake(tmp_path / "s", jobs))
    found = importance(sweep, axes(sweep))
    assert isinstance(found, Importance)
    shares = {share.key: share.value for share in found.shares}
    assert all(0 < share.error < 0.1 for share in found.shares)
    assert shares["optim.lr"] == pytest.approx(4 / 5, abs=0.2), "the variance is 4 to 1"
    assert shares["model.width"] == pytest.approx(1 / 5, abs=0.15)
    assert abs(shares["seed"]) < 0.05
    assert (found.n, found.note) == (80, "")


def test_few_trials_give_no_importance(made: Path) -> None:
    sweep = collect(made)
    assert len(sweep.rows) == 6
    assert importance(sweep, axes(sweep)) == "6 jobs have a result. With fewer than 20 the importance would be chance."


@pytest.mark.parametrize(
    ("values", "best", "said"),
    [
        (["1e-4", "1e-3", "1e-2"], 2, "optim.lr=0.001,0.01,0.1"),
        (["1e-4", "1e-3", "1e-2"], 0, "optim.lr=1e-05,0.0001,0.001"),
        (["1e-4", "1e-3", "1e-2"], 1, None),
        (["0", "0.1", "0.2"], 0, None),
        (["0", "0.1", "0.2"], 2, "optim.lr=0.1,0.2,0.3"),
        (["16", "32", "64"], 2, "optim.lr=32,64,128"),
        (["a", "b", "c"], 2, None),
    ],
)
def test_the_next_range_extends_beyond_the_best_value(tmp_path: Path, values: list[str], best: int, said: str) -> None:
    sweep = collect(fake(tmp_path / "s", [([f"optim.lr={v}"], float(i != best)) for i, v in enumerate(values)]))
    found = edges(sweep, axes(sweep), groups(sweep)[0])
    assert [edge.override for edge in found] == ([said] if said else [])


@pytest.mark.parametrize(
    ("key", "values", "said"),
    [
        ("optim.lr", ["0.001", "0.002", "0.1"], "'optim.lr=tag(log,interval(0.01,1))'"),
        ("optim.lr", ["0.1", "0.2", "0.3"], "'optim.lr=tag(log,interval(0.173,0.52))'"),
        ("model.gain", ["0.1", "0.2", "0.3"], "'model.gain=interval(0.2,0.4)'"),
        ("model.size", ["1", "2", "3"], "'model.size=range(2,5)'"),
        ("data.fraction", ["0.1", "0.5", "0.9"], "'data.fraction=interval(0.5,1)'"),
        ("optim.momentum", ["0.9", "0.99", "0.999"], "'optim.momentum=interval(0.95,0.9999)'"),
    ],
)
def test_a_study_gets_an_interval_that_hydra_can_read(tmp_path: Path, key: str, values: list[str], said: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    sweep = collect(fake(tmp_path / "s", [([f"{key}={v}"], float(i != 2)) for i, v in enumerate(values)]))
    sweep.origin.sweeper = "study"
    (edge,) = edges(sweep, axes(sweep), groups(sweep)[0])
    assert edge.override == said
    assert OverridesParser.create().parse_override(said.strip("'")).is_sweep_override()


@pytest.mark.parametrize(
    ("key", "values", "best", "said"),
    [
        ("data.fraction", ["0.1", "0.5", "0.9"], 2, "data.fraction=0.5,0.75,1"),
        ("data.fraction", ["0.5", "0.75", "1.0"], 2, None),
        ("batch_size", ["2", "25", "48"], 0, "batch_size=1,3,10"),
        ("batch_size", ["1", "2", "4"], 0, None),
        ("model.unknown", ["1", "5", "9"], 0, "model.unknown=1,3,5"),
        ("model.width", ["16", "64"], 1, "model.width=32,64,128"),
        ("optim.lr", ["0.01", "0.02", "0.04", "0.05"], 3, "optim.lr=0.0224,0.0382,0.0654,0.112"),
    ],
)
def test_the_next_range_stays_within_what_is_allowed(
    tmp_path: Path, key: str, values: list[str], best: int, said: str
) -> None:
    sweep = collect(fake(tmp_path / "s", [([f"{key}={v}"], float(i != best)) for i, v in enumerate(values)]))
    found = edges(sweep, axes(sweep), groups(sweep)[0])
    assert [edge.override for edge in found] == ([said] if said else [])


def test_where_ties_disagree_no_next_range_is_proposed(tmp_path: Path) -> None:
    jobs = [([f"optim.lr={lr}", f"model.width={width}"], float(width == 64)) for lr in (0.1, 0.2) for width in (16, 64)]
    jobs = [(overrides, 1.0 - value) for overrides, value in jobs]
    sweep = collect(fake(tmp_path / "s", jobs))
    found = groups(sweep)
    assert [edge.key for edge in edges(sweep, axes(sweep), found[0], found)] == ["model.width"]


def test_a_repeated_job_does_not_count_twice(tmp_path: Path) -> None:
    same, other = ["optim.lr=0.1", "seed=0"], ["optim.lr=0.1", "seed=1"]
    (group,) = groups(collect(fake(tmp_path / "one", [(same, 0.5), (same, 0.5), (same, 0.5)])))
    assert (group.n, group.rows) == (1, [0, 1, 2])
    assert group.score is not None
    assert math.isinf(group.score.high), "one run has no interval"
    (group,) = groups(collect(fake(tmp_path / "two", [(same, 0.5), (same, 0.5), (other, 0.7)])))
    assert (group.n, group.score) == (2, mean_interval([0.5, 0.7]))


def test_jobs_on_different_data_are_ranked_separately(tmp_path: Path) -> None:
    jobs = [
        ([f"data={d}", f"optim.lr={r}"], v) for d, r, v in (("a", 1, 0.9), ("a", 2, 0.8), ("b", 1, 5.0), ("b", 2, 4))
    ]
    sweep = fake(tmp_path / "s", jobs)  # type: ignore[arg-type]
    found = groups(collect(sweep))
    assert [(g.measured_on, g.score.mean, g.rank) for g in found if g.score] == [
        ("data=a", 0.8, 1),
        ("data=a", 0.9, 2),
        ("data=b", 4.0, 1),
        ("data=b", 5.0, 2),
    ]
    write(sweep)
    assert payload(sweep)["best"] is None
    assert texts(sweep, "pre") == []
    assert "data=a; data=b" in warned(sweep)[0]
    assert (
        len({g.measured_on for g in groups(collect(fake(tmp_path / "t", [(["data.limit=9"], 1.0), ([], 2.0)])))}) == 1
    )


@pytest.mark.parametrize(("floor", "is_said"), [(0.4, True), (0.5, True), (0.6, False)])
def test_the_best_is_compared_with_a_constant_prediction(tmp_path: Path, floor: float, is_said: bool) -> None:
    jobs = [([f"optim.lr={i}"], v) for i, v in enumerate([0.5, 0.75])]
    sweep = fake(tmp_path / "s", jobs, trivial={"val": {"loss": floor}})  # type: ignore[arg-type]
    write(sweep)
    assert f"<b>{floor:.4f}</b><span>trivial predictor" in (sweep / "sweep.html").read_text()
    said = f"no better than a constant prediction, which has {floor}"
    assert any(said in words for words in warned(sweep)) == is_said


def test_the_interval_of_a_mean_of_shares_stays_within_0_and_1(tmp_path: Path) -> None:
    jobs = [(["optim.lr=1", f"seed={i}"], value) for i, value in enumerate((0.9, 1.0, 1.0))]
    sweep = collect(fake(tmp_path / "s", jobs))
    assert max(group.score.high for group in groups(sweep) if group.score) > 1, "a loss may be more than 1"
    for row in sweep.rows:
        row.scored_on = 144
    (group,) = groups(sweep)
    assert group.score is not None
    assert 0.8 < group.score.low < 0.9
    assert group.score.high == 1.0


def test_equal_means_have_the_same_rank(tmp_path: Path) -> None:
    sweep = fake(tmp_path / "s", [([f"optim.lr={i}"], v) for i, v in enumerate([0.5, 0.25, 0.25, None, 0.75])])
    assert [g.rank for g in groups(collect(sweep))] == [1, 1, 3, 4, None]
    write(sweep)
    assert any("2 of the 4 configurations have the same best score" in text for text in warned(sweep))


def test_no_importance_is_negative(tmp_path: Path) -> None:
    import numpy as np

    draw = np.random.default_rng(1)
    rows = zip(draw.uniform(size=40), draw.uniform(size=40), draw.uniform(size=40), strict=True)
    sweep = collect(fake(tmp_path / "s", [([f"optim.lr={a}", f"model.width={b}"], float(c)) for a, b, c in rows]))
    found = importance(sweep, axes(sweep))
    assert isinstance(found, Importance)
    assert min(share.value for share in found.shares) >= 0


def test_importance_is_not_shown_where_almost_all_results_are_equal(tmp_path: Path) -> None:
    import numpy as np

    draw = np.random.default_rng(0)
    drawn = [set(draw.integers(400, size=LARGEST).tolist()) for _ in range(SAMPLES)]
    odd = next(i for i in range(400) if sum(i in sample for sample in drawn) < 2)  # two samples have a variance
    jobs = [([f"optim.lr={i + 1}"], float(i == odd)) for i in range(400)]
    sweep = collect(fake(tmp_path / "s", jobs))
    assert "have the same result: too few differ" in str(importance(sweep, axes(sweep)))


def test_a_key_that_only_some_jobs_have_is_not_a_number_in_the_others() -> None:
    axis = make_axis("k", ["0.1", "", "0.3"])
    assert (axis.kind, axis.numbers) == ("number", [0.1, None, 0.3])
    axis = make_axis("k", ["0.1", "null"])
    assert (axis.kind, axis.names) == ("category", ["0.1", "null"])


def test_a_sweep_has_the_name_it_was_given_and_a_command_in_short_forms(tmp_path: Path) -> None:
    typed = ["hydra/sweeper=study", "tune=optim.lr+optim.weight_decay", "n_trials=2", "study.sampler=random"]
    own = ["name=rates", "tags=wide+mlp", "notes=first try"]
    assert command(*typed, *own, "hydra.sweep.dir=s", cwd=tmp_path).returncode == 0
    written = (tmp_path / "s" / "sweep.html").read_text(encoding="utf-8")
    assert "<h1>rates</h1>" in written
    assert re.search(r'<p class="sub">s · sweeper study · started [^<]+ · wide, mlp · first try</p>', written)
    shown = texts(tmp_path / "s", "pre")[-1]
    assert all(word in shown for word in typed), shown
    assert '"notes=first try"' in shown
    assert "tags=wide+mlp" in shown


def test_a_failed_sweep_has_its_page_too(tmp_path: Path) -> None:
    done = command("model.width=8,0", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1
    assert [r["status"] for r in rows(tmp_path / "s")] == ["completed", "failed"]
    assert rows(tmp_path / "s")[1]["error"]


@pytest.mark.parametrize("sweeper", ["basic", "optuna"])
def test_sweepers_of_hydra_get_a_page(tmp_path: Path, sweeper: str) -> None:
    own = ["hydra.sweeper.n_trials=2", "hydra.sweeper.direction=maximize"] if sweeper == "optuna" else []
    done = command("optim.lr=1e-3,1e-2", f"hydra/sweeper={sweeper}", *own, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "whitelist" not in done.stderr
    assert (tmp_path / "s" / "multirun.yaml").is_file(), "by which a tracker knows the sweep"
    assert {float(r["optim.lr"]) for r in rows(tmp_path / "s")} <= {1e-3, 1e-2}
    found = payload(tmp_path / "s")
    assert (found["state"]["done"], found["state"]["total"], found["state"]["sweeper"]) == (2, 2, sweeper)
    command_of_sweep = texts(tmp_path / "s", "pre")[-1]
    assert command_of_sweep.startswith(f"python -m mltricks -m hydra/launcher=basic hydra/sweeper={sweeper}")


def test_a_page_is_written_after_ctrl_c(tmp_path: Path) -> None:
    arguments = [*SHORT, "seed=0,1", "epochs=100000", "hydra.sweep.dir=s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mltricks", "-m", *arguments],
        cwd=tmp_path,
        env=command_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "s" / "0" / "metrics.jsonl").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert rows(tmp_path / "s")[0]["status"] == "interrupted"
    assert payload(tmp_path / "s")["state"]["finished"] is False


@pytest.mark.parametrize(
    ("make", "said"),
    [(lambda p: None, "there is no such folder"), (Path.mkdir, "holds no job"), (Path.touch, "folder")],
)
def test_folders_without_jobs_are_refused(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "s")
    done = report(tmp_path / "s")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert not list(tmp_path.glob("s/*"))


def test_the_command_imports_no_torch(made: Path) -> None:
    code = (
        f"import sys; from mltricks.report.__main__ import main; assert main([{str(made)!r}]) == 0; "
        "print(sorted({'torch', 'matplotlib', 'optuna', 'wandb', 'plotly'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=command_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_how_to_use_the_command() -> None:
    for arguments, status in (([], 2), (["a", "b"], 2), (["--help"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "mltricks.report", *arguments],
            env=command_environment(),
            capture_output=True,
            text=True,
        )
        assert done.returncode == status
        assert "usage: python -m mltricks.report DIR" in done.stdout + done.stderr


def test_a_folder_of_sweeps_is_refused(tmp_path: Path) -> None:
    for i, name in enumerate(("old", "new")):
        (tmp_path / "day" / name / "0" / ".hydra").mkdir(parents=True)
        (tmp_path / "day" / name / "sweep.json").write_text("{}")
        os.utime(tmp_path / "day" / name / "sweep.json", (i + 1, i + 1))
    with pytest.raises(ValueError, match=r"holds 2 sweeps.*python -m mltricks\.report .*/day/new$"):
        collect(tmp_path)
    assert not (tmp_path / "sweep.html").exists()


PLANE = {
    "batch_size": ([8, 32, 128, 512], lambda lr, b: lr / b),
    "optim.momentum": ([0.0, 0.5, 0.8, 0.9], lambda lr, m: lr / (1 - m)),
    "optim.weight_decay": ([1e-5, 1e-4, 1e-3, 1e-2], lambda lr, d: lr * d),
}

SGD = {"_target_": "mltricks.optim.sgd.SGD", "lr": 0.1}


def plane(root: Path, key: str, more: tuple[str, ...] = (), optim: dict[str, Any] | None = None) -> Figure | None:
    """The contour over the learning rate and another key."""
    values, constant = PLANE[key]
    points = [(lr, v) for lr in (0.001, 0.004, 0.02, 0.1, 0.3, 1.0) for v in values]
    jobs = [([f"optim.lr={lr}", f"{key}={v}", *more], abs(math.log(constant(lr, v) * 100))) for lr, v in points]
    folder = fake(root, jobs)
    for i in range(len(jobs)):
        (folder / str(i) / "config.yaml").write_text(json.dumps({"optim": {**SGD, **(optim or {})}}))
    sweep = collect(folder)
    found = importance(sweep, axes(sweep))
    assert isinstance(found, Importance)
    return contour(sweep, axes(sweep), found)


def flat(figure: Figure | None) -> list[dict[str, Any]]:
    assert figure is not None
    return [trace for trace in figure["data"] if trace.get("mode") == "lines"]


@pytest.mark.parametrize("key", PLANE)
def test_flat_directions_are_drawn_where_the_invariant_is_constant(tmp_path: Path, key: str) -> None:
    figure = plane(tmp_path / "s", key)
    (lines,) = flat(figure)
    assert figure is not None
    x_is_rate = figure["layout"]["xaxis"]["title"]["text"] == "optim.lr"
    constant, drawn, found = PLANE[key][1], list(zip(lines["x"], lines["y"], strict=True)), []
    pieces = [list(piece) for gap, piece in groupby(drawn, key=lambda point: point == (None, None)) if not gap]
    for piece in pieces:
        values = [constant(*(point if x_is_rate else point[::-1])) for point in piece]
        assert values == pytest.approx([values[0]] * len(values))
        found.append(math.log(values[0]))
        rates = [point[0 if x_is_rate else 1] for point in piece]
        assert 0.001 <= min(rates) <= max(rates) <= 1.0 + 1e-9
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert len(found) == 7
    assert steps == pytest.approx([steps[0]] * len(steps)), "the lines are equally far apart"


def test_no_flat_direction_is_drawn_where_the_rate_is_scaled_by_it(tmp_path: Path) -> None:
    assert flat(plane(tmp_path / "a", "batch_size", optim={"scale_lr": "linear"})) == []
    assert flat(plane(tmp_path / "b", "optim.momentum", optim={"coordinates": "decoupled"})) == []
    assert len(flat(plane(tmp_path / "c", "optim.momentum", optim={"scale_lr": "linear"}))) == 1


def test_a_flat_direction_is_one_of_the_optimiser(tmp_path: Path) -> None:
    """Adam's rate goes with the root of the batch size, and its L2 decay is divided by the root as the gradient is."""
    adam, adamw = ({"_target_": f"mltricks.optim.{cls.lower()}.{cls}"} for cls in ("Adam", "AdamW"))
    (lines,) = flat(plane(tmp_path / "a", "batch_size", optim=adamw))
    assert lines["name"] == "optim.lr / sqrt(batch_size) constant"
    radam = {"_target_": "mltricks.optim.radam.RAdam"}
    assert [rule_of("optim.weight_decay", one) is None for one in (adam, adamw, radam)] == [True, False, True]
    assert rule_of("optim.weight_decay", {**radam, "decoupled_decay": True}) is not None
    assert rule_of("optim.momentum", {"_target_": "mltricks.optim.muon.Muon"}) is None
    assert rule_of("batch_size", {"_target_": "mine.Optim"}) is None


def test_the_examples_of_the_flat_directions() -> None:
    found = doctest.testmod(import_module("mltricks.report.charts.invariants"))
    assert (found.attempted, found.failed) == (2, 0)
