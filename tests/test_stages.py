"""Runs of stages: planned before the first one starts, resumed bit for bit, shared by the trials of a sweep."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome
from wandb_file import read_wandb

import mltricks
from mltricks import checkpoint
from mltricks.config.stages import as_change, as_typed, stage_names
from mltricks.observers import facts
from mltricks.stages.plan import plan, with_folders
from mltricks.stages.record import Stage
from mltricks.stages.run import last_stage
from mltricks.state import leaves
from mltricks.summary import read_summary
from mltricks.train import train
from mltricks.weights import load_weights

STAGES = """# @package _global_
# Two stages for tests
stages:
  teach: [epochs=1, model.width=8]
  learn: [epochs=2, technique=distill, "technique.distill.teacher=${stage:teach}"]
"""
SHARED = [text for text in TINY if not text.startswith("model.width")]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of options with an experiment of two stages."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "experiment").mkdir()
    (folder / "experiment" / "two.yaml").write_text(STAGES)
    return folder


def compose(own: Path, *overrides: str) -> Any:
    return mltricks.compose(["experiment=two", *SHARED, *overrides], str(own))


def planned(own: Path, *overrides: str, sweep: Path | None = None) -> list[Stage]:
    cfg = compose(own, *overrides)
    node: Any = mltricks.config.compose.plain(cfg)["stages"]
    return plan(node, node["command"], Path("run"), sweep)


@pytest.fixture(scope="module")
def whole(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    mltricks.train(compose(own), folder)
    return folder


def test_each_stage_is_an_ordinary_run_and_the_last_one_is_the_result(whole: Path) -> None:
    teach, learn, summary = (read_summary(p / "summary.json") for p in (whole / "teach", whole / "learn", whole))
    assert teach
    assert learn
    assert summary
    assert (teach.status, learn.status, summary.status) == ("completed",) * 3
    assert (teach.steps, learn.steps) == (10, 20)
    assert (summary.objective, summary.test) == (learn.objective, learn.test)
    assert summary.seconds == pytest.approx(teach.seconds + learn.seconds, abs=2e-3)
    assert [(told["name"], told["folder"], told["steps"]) for told in summary.stages] == [
        ("teach", "teach", 10),
        ("learn", "learn", 20),
    ]
    saved = checkpoint.load_config(whole / "learn" / "checkpoints" / "last.pt")
    assert Path(saved["technique"]["distill"]["teacher"]) == whole / "teach"
    assert mltricks.load(str(whole / "teach")).module().state_dict().keys()


def test_the_folder_of_the_whole_predicts_like_that_of_the_last_stage(whole: Path) -> None:
    x = torch.randint(0, 16, (3, 1, 8, 8), dtype=torch.uint8)
    predictions = [mltricks.load(str(folder)).predict(x) for folder in (whole, whole / "learn")]
    assert torch.equal(*predictions)


def test_a_finished_run_is_neither_repeated_nor_overwritten(whole: Path, own: Path) -> None:
    before = (whole / "learn" / "checkpoints" / "last.pt").stat().st_mtime_ns
    again = mltricks.train(compose(own), whole, resume=True)
    assert again.status == "completed"
    assert (whole / "learn" / "checkpoints" / "last.pt").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"holds a run that completed, in stages\. Type another hydra\.run\.dir, or"):
        mltricks.train(compose(own), whole)


@pytest.mark.parametrize("text", ["epochs=30", "stages.learn.epochs=30"])
def test_a_resume_changes_no_stage(run_cli: Callable[..., Outcome], own: Path, whole: Path, text: str) -> None:
    done = run_cli(f"resume={whole}", text)
    assert done.status == 1
    assert f"error: {text} cannot be given with resume={whole}: its stages keep what they began with" in done.err
    assert f"type resume={whole}/learn epochs=N" in done.err


def test_a_stopped_run_is_not_overwritten(own: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()  # as after a kill
    with pytest.raises(ValueError, match=r"holds a run that was stopped. Type resume="):
        mltricks.train(compose(own), tmp_path / "run")
    again = mltricks.train(compose(own, "overwrite=true", "seed=1"), tmp_path / "run")
    assert again.status == "completed"
    assert checkpoint.load_config(tmp_path / "run" / "teach" / "checkpoints" / "last.pt")["seed"] == 1


def test_a_folder_that_no_stage_made_is_kept(own: Path, tmp_path: Path) -> None:
    (tmp_path / "run" / "teach").mkdir(parents=True)
    (tmp_path / "run" / "teach" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"teach is there already, and no stage made it"):
        mltricks.train(compose(own), tmp_path / "run")
    assert (tmp_path / "run" / "teach" / "notes.txt").read_text() == "mine"


def test_a_configuration_changed_by_a_program_is_refused(own: Path, tmp_path: Path) -> None:
    cfg = compose(own)
    cfg.optim.lr = 0.5
    with pytest.raises(ValueError, match=r"optim\.lr was set to 0\.5 in a configuration with stages"):
        mltricks.train(cfg, tmp_path / "run")


@pytest.mark.parametrize(("stage", "at"), [("teach", 4), ("learn", 13)])
def test_a_stopped_run_resumes_bit_for_bit(
    run_cli: Callable[..., Outcome], own: Path, whole: Path, tmp_path: Path, stage: str, at: int
) -> None:
    stopper = ["tracker=custom", "tracker._target_=stopper.Stopper"]
    (tmp_path / "experiment").mkdir()
    text = STAGES
    for line in text.splitlines():
        if line.strip().startswith(f"{stage}:"):
            added = [*stopper, "+tracker.moment=step", f"+tracker.at={at}", f"+tracker.number={int(signal.SIGTERM)}"]
            text = text.replace(line, line.replace("[", f"[{', '.join(added)}, ", 1))
    (tmp_path / "experiment" / "two.yaml").write_text(text)
    typed = ["--config-dir", str(tmp_path), "experiment=two", *SHARED, "allow_modules=[stopper]"]
    helpers = {"PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[:2]))}
    stopped = run_cli(*typed, "progress=lines", f"hydra.run.dir={tmp_path}/run", env=helpers)
    assert stopped.status == 75
    assert stopped.out.endswith("continue with:\n  python -m mltricks resume=run\n"), "the whole, not the stage alone"
    summary = read_summary(tmp_path / "run" / "summary.json")
    assert summary
    assert summary.status == "interrupted"
    assert [told["status"] for told in summary.stages] == (
        ["interrupted", "not begun"] if stage == "teach" else ["completed", "interrupted"]
    )
    (tmp_path / "run").rename(tmp_path / "moved")
    resumed = run_cli(f"resume={tmp_path}/moved", "tracker=none", "allow_modules=[stopper]", env=helpers)
    assert resumed.status == 0, resumed.err
    for name in ("teach", "learn"):
        states = [checkpoint.load(f / name / "checkpoints" / "last.pt")["state"] for f in (whole, tmp_path / "moved")]
        for state in states:
            state.pop("host")
        assert all(torch.equal(a, b) for a, b in zip(*map(leaves, states), strict=True))
    saved = checkpoint.load_config(tmp_path / "moved" / "learn" / "checkpoints" / "last.pt")
    assert saved["technique"]["distill"]["teacher"] == str(tmp_path / "moved" / "teach")
    again = read_summary(tmp_path / "moved" / "summary.json")
    assert again
    assert [text for text in again.overrides if "resume" in text] == []
    assert "experiment=two" in again.overrides


def test_trials_of_a_sweep_share_equal_stages(run_cli: Callable[..., Outcome], own: Path, tmp_path: Path) -> None:
    swept = ["stages.learn.optim.lr=1e-3,1e-2", "stages.learn.technique=distill,none"]
    alone = ["hydra.launcher.workers=1", f"hydra.sweep.dir={tmp_path}/s"]
    done = run_cli("-m", "--config-dir", str(own), "experiment=two", *SHARED, *swept[:1], *alone)
    assert done.status == 0, done.err
    assert "stages.learn.optim.lr=0.01" in done.out
    (shared,) = (tmp_path / "s" / "stages").glob("[!.]*")
    summaries = [json.loads((tmp_path / "s" / str(i) / "summary.json").read_text()) for i in range(2)]
    assert [[told["taken"] for told in s["stages"]] for s in summaries] == [[False, False], [True, False]]
    assert {s["stages"][0]["folder"] for s in summaries} == {f"../stages/{shared.name}"}
    assert not (tmp_path / "s" / "0" / "teach").exists()
    rows = (tmp_path / "s" / "sweep.csv").read_text().splitlines()
    assert len(rows) == 3, "a trial is one row"
    assert "stages.learn.optim.lr" in rows[0]
    learn = tmp_path / "s" / "1" / "learn"
    assert [facts.swept(folder) for folder in (learn, shared)] == [{"stages.learn.optim.lr": 0.01}, {}]
    names = [checkpoint.load_config(folder / "checkpoints" / "last.pt")["name"] for folder in (learn, shared)]
    assert names == ["001", None], "a tracker adds the folder's name"


def test_two_workers_wait_for_a_stage_that_they_share(
    run_cli: Callable[..., Outcome], own: Path, tmp_path: Path
) -> None:
    given = ["stages.learn.optim.lr=1e-3,1e-2", "hydra.launcher.workers=2", f"hydra.sweep.dir={tmp_path}/s"]
    done = run_cli("-m", "--config-dir", str(own), "experiment=two", *SHARED, *given)
    assert done.status == 0, done.err
    assert len(list((tmp_path / "s" / "stages").glob("[!.]*"))) == 1
    taken = [json.loads((tmp_path / f"s/{i}/summary.json").read_text())["stages"][0]["taken"] for i in range(2)]
    assert sorted(taken) == [False, True]


def test_stages_have_one_key_if_their_results_are_the_same(own: Path) -> None:
    teach, learn = (stage.key for stage in planned(own))
    assert [s.key for s in planned(own, "progress=lines", "name=other")] == [teach, learn]
    assert [s.key for s in planned(own, sweep=Path("sweep"))] == [teach, learn], "wherever the earlier stage lies"
    assert planned(own, "stages.learn.optim.lr=0.5")[0].key == teach
    assert planned(own, "stages.learn.optim.lr=0.5")[1].key != learn
    other = [stage.key for stage in planned(own, "stages.teach.optim.lr=0.5")]
    assert other[0] != teach
    assert other[1] != learn, "its teacher is another"


def test_stages_that_measure_or_read_other_things_have_other_keys(tmp_path: Path) -> None:
    def keys(*overrides: str) -> list[str]:
        node: Any = mltricks.config.compose.plain(mltricks.compose(list(overrides)))["stages"]
        return [stage.key for stage in plan(node, node["command"], tmp_path / "run", tmp_path)]

    pretrain, knn, probe = keys("experiment=simclr_probe", "stages.knn.job.k=3")
    assert len({pretrain, knn, probe}) == 3, "two jobs on one checkpoint"
    other = keys("experiment=simclr_probe", "stages.knn.job.k=5")
    assert (other[0], other[2]) == (pretrain, probe)
    assert other[1] != knn
    folders = ("experiment=simclr_finetune", "data=image_folder")
    assert not {*keys(*folders, "data.path=a")} & {*keys(*folders, "data.path=b")}


def test_a_stage_can_be_left_out(tmp_path: Path) -> None:
    node: Any = mltricks.config.compose.plain(mltricks.compose(["experiment=simclr_finetune", "~stages.scratch"]))[
        "stages"
    ]
    assert [stage.name for stage in plan(node, node["command"], tmp_path, None)] == ["pretrain", "finetune"]


def test_only_and_from_take_earlier_stages_from_another_run(own: Path, whole: Path) -> None:
    done = f"stages.done={whole}"
    assert [(s.name, s.folder) for s in planned(own, "stages.only=teach")] == [("teach", Path("run/teach"))]
    for typed in ("stages.only=learn", "stages.from=learn"):
        found = planned(own, typed, done, "stages.learn.optim.lr=0.5")
        assert [(s.name, s.folder) for s in found] == [("teach", whole / "teach"), ("learn", Path("run/learn"))]
    assert [s.folder for s in planned(own, done)] == [whole / "teach", whole / "learn"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+stages.plots=[]"], r"stages\.plots: a run has a folder plots of its own\. Give the stage another name"),
        (["epochs=3"], r"epochs=3: the stage teach sets epochs itself\. Type stages\.teach\.epochs=3"),
        (["stages.lern.epochs=3"], r"stages\.lern: there is no stage lern\. Did you mean learn\?"),
        (["stages.learn.epoch=3"], r"stages\.learn: epoch=3: epoch is no setting\. Did you mean epochs"),
        (["stages.only=tech"], r"stages\.only=tech is no stage\. Did you mean teach\?"),
        (["stages.only=teach", "stages.from=teach"], "exclude each other"),
        (["stages.from=learn"], r"stages\.from=learn needs the stage teach .* Type stages\.done=RUN"),
        (["stages.teach.seed='${stage:learn}'"], r"stages\.teach: \$\{stage:learn\} names no earlier stage"),
        (["stages.done=nowhere"], r"stages\.done=nowhere: nowhere holds no run of stages"),
    ],
)
def test_a_plan_that_cannot_be_right_is_refused(own: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planned(own, *overrides)


def test_a_folder_of_runs_of_stages_is_told_from_one(own: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=rf"{whole.parent} holds no run of stages.* That in {whole} is one"):
        planned(own, f"stages.done={whole.parent}")


def test_another_configuration_of_an_earlier_stage_is_named(own: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=r"its stage teach is another: seed is 0 there and 1 here"):
        planned(own, "stages.from=learn", f"stages.done={whole}", "seed=1")


def test_a_setting_of_stages_needs_stages(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"stages\.only=x has no effect: this command has no stages"):
        mltricks.train(mltricks.compose(["stages.only=x"]), tmp_path / "run")


@pytest.mark.parametrize(
    "text",
    [
        *("stages.a.optim.lr=0.1", "stages.a.optim=sgd", "stages.a.technique=[mixup,ema]", "+stages.a.model.hidden=8"),
    ],
)
def test_the_change_of_a_stage_is_shown_as_it_is_typed(text: str) -> None:
    assert as_change(text) != text
    assert as_typed(as_change(text)) == text


def test_a_change_replaces_what_the_stage_lists(own: Path) -> None:
    cfg = planned(own, "stages.learn.epochs=5", "stages.learn.optim=sgd", "stages.learn.optim.lr=0.5")[1].cfg
    assert (cfg["epochs"], cfg["optim"]["lr"], cfg["optim"]["_target_"]) == (5, 0.5, "mltricks.optim.sgd.SGD")
    other = planned(own, "stages.learn.technique=label_smoothing")[1]
    assert list(other.cfg["technique"]) == ["label_smoothing"], "the teacher goes with distill"
    assert other.needs == ()
    falling = planned(own, "stages.learn.technique.distill.weight={schedule: linear, start: 0.8, end: 0.0}")[1]
    assert falling.cfg["technique"]["distill"]["weight"] == {"schedule": "linear", "start": 0.8, "end": 0.0}
    with_two = planned(own, "stages.teach.technique=mixup+ema")[0]
    assert list(with_two.cfg["technique"]) == ["mixup", "ema"]


def test_a_change_may_add_a_setting_of_a_users_own_class(own: Path) -> None:
    mine = ["tracker=custom", "tracker._target_=mine.Tracker", "+tracker.at=1"]
    listed = f"stages.teach=[{','.join(repr(text) for text in mine)}]"
    teach = planned(own, listed, "stages.teach.tracker.at=5", "+stages.teach.tracker.most=7")[0]
    assert (teach.cfg["tracker"]["at"], teach.cfg["tracker"]["most"]) == (5, 7)


def test_a_command_adds_and_removes_stages(own: Path) -> None:
    """None of them is left in the configuration of another, which is that of one run."""
    alone = planned(own, "~stages.learn")
    assert [(stage.name, stage.key) for stage in alone] == [("teach", planned(own)[0].key)]
    more = planned(own, "+stages.again=['epochs=3','init=checkpoint','init.checkpoint=${stage:learn}']")
    assert [(stage.name, stage.needs) for stage in more] == [
        ("teach", ()),
        ("learn", ("teach",)),
        ("again", ("learn",)),
    ]
    assert [stage_names(stage.cfg["stages"]) for stage in (*alone, *more)] == [[]] * 4


def test_references_stand_in_texts_lists_and_dicts(own: Path) -> None:
    before = {stage.name: stage for stage in planned(own)}
    at = {name: str(Path("run", name).absolute()) for name in before}
    assert (
        with_folders("checkpoint=${stage:teach}+${stage:learn}", before) == f"checkpoint='{at['teach']}+{at['learn']}'"
    )
    assert with_folders("notes=[a,'${stage:teach}/x y']", before) == f"notes=[a,'{at['teach']}/x y']"
    assert with_folders("+model.of={b: ${stage:teach}}", before) == f"+model.of={{b:'{at['teach']}'}}"


def test_a_study_tunes_a_setting_of_a_stage(run_cli: Callable[..., Outcome], own: Path, tmp_path: Path) -> None:
    """Over the range in the file of the option that the stage has; a stage's technique has ranges too."""
    study = ["hydra/sweeper=study", "n_trials=1", "tune=stages.learn.optim.lr+stages.learn.technique.distill.weight"]
    given = ["--config-dir", str(own), "experiment=two", *SHARED, f"hydra.sweep.dir={tmp_path}/s"]
    done = run_cli("-m", *given, *study)
    assert done.status == 0, done.err
    learn = mltricks.resume.saved_config(tmp_path / "s" / "0" / "learn")
    assert f"stages.learn.optim.lr={learn['optim']['lr']:.4g}" in done.out
    assert learn["optim"]["lr"] != compose(own).optim.lr


def test_the_recipe_finds_a_users_own_experiment(run_cli: Callable[..., Outcome], own: Path, tmp_path: Path) -> None:
    given = ["--config-dir", str(own), "experiment=two", *SHARED, f"hydra.sweep.dir={tmp_path}/s", "budget_epochs=1"]
    done = run_cli("-m", *given, "hydra/sweeper=recipe")
    assert "but the recipe needs at least" in done.err
    assert [path.name[:5] for path in (tmp_path / "s" / "stages").glob("[!.]*")] == ["teach"]


def test_the_last_stage_alone_is_a_command(own: Path, whole: Path, tmp_path: Path) -> None:
    """The tuner searches the last stage: its overrides compose a single run that starts from the shared stages."""
    cfg = mltricks.config.compose.plain(compose(own))
    command = last_stage(cfg, cfg["stages"]["command"], tmp_path, train)
    alone = mltricks.config.compose.plain(mltricks.compose(command))
    assert not [name for name in alone["stages"] if name in ("teach", "learn")]
    teacher = Path(alone["technique"]["distill"]["teacher"])
    assert teacher.parent == tmp_path / "stages"
    there, here = (load_weights(folder)[0] for folder in (whole / "teach", teacher))
    assert all(torch.equal(there[name], here[name]) for name in there)


def test_a_job_for_one_run_refuses_stages(run_cli: Callable[..., Outcome], own: Path) -> None:
    done = run_cli("--config-dir", str(own), "experiment=two", "job=lr_find")
    assert done.status == 1
    assert "job=lr_find works on one run, and this command has the stages teach, learn" in done.err


def test_the_page_tells_of_every_stage(own: Path, tmp_path: Path) -> None:
    mltricks.train(compose(own, "plots=true"), tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    for name in ("teach", "learn"):
        assert f'href="{name}/report.html"' in page
        assert f"Learning curves: {name}" in page
        assert (tmp_path / "run" / "plots" / f"learning_curves_{name}.png").is_file()


def test_stages_are_one_group_at_a_tracker(run_cli: Callable[..., Outcome], own: Path, tmp_path: Path) -> None:
    given = ["tracker=wandb", "tracker.mode=offline", f"hydra.run.dir={tmp_path}/night"]
    env = {"NETRC": "/nonexistent", "WANDB_ERROR_REPORTING": "false"}
    done = run_cli("--config-dir", str(own), "experiment=two", *SHARED, *given, env=env)
    assert done.status == 0, done.err
    logged = [read_wandb(tmp_path / "night" / name).run for name in ("teach", "learn")]
    assert [(run.run_group, run.display_name) for run in logged] == [("night", "night teach"), ("night", "night learn")]


def test_in_a_sweep_the_group_is_that_of_the_sweep(run_cli: Callable[..., Outcome], own: Path, tmp_path: Path) -> None:
    given = ["tracker=wandb", "tracker.mode=offline", f"hydra.sweep.dir={tmp_path}/s", "seed=0", "name=night"]
    env = {"NETRC": "/nonexistent", "WANDB_ERROR_REPORTING": "false"}
    done = run_cli("-m", "--config-dir", str(own), "experiment=two", *SHARED, *given, env=env)
    assert done.status == 0, done.err
    (shared,) = (tmp_path / "s" / "stages").glob("[!.]*")
    logged = [read_wandb(folder).run for folder in (shared, tmp_path / "s" / "0" / "learn")]
    assert [(run.run_group, run.display_name) for run in logged] == [
        ("s", f"night {shared.name}"),
        ("s", "night 000 learn"),
    ]


def test_a_stage_may_be_another_job(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    first = "pretrain: [technique=simclr, max_steps=3]"
    second = 'knn: [job=knn, job.baselines=false, "checkpoint=${stage:pretrain}"]'
    text = f"# @package _global_\n# Test\nstages:\n  {first}\n  {second}\n"
    (tmp_path / "experiment" / "ssl.yaml").write_text(text)
    done = run_cli("--config-dir", str(tmp_path), "experiment=ssl", *TINY, f"hydra.run.dir={tmp_path}/run")
    assert (done.status, done.out) == (0, ""), done.err
    knn, summary = (read_summary(folder / "summary.json") for folder in (tmp_path / "run/knn", tmp_path / "run"))
    assert knn
    assert summary
    assert (knn.status, summary.status) == ("completed", "completed")
    assert (summary.objective, summary.test) == (knn.objective, knn.test)


def test_show_prints_the_step_of_every_stage_that_can_be_built(
    run_cli: Callable[..., Outcome], own: Path, tmp_path: Path
) -> None:
    done = run_cli("--config-dir", str(own), "experiment=two", *SHARED, "show=true")
    assert done.status == 0, done.err
    assert "stage teach: epochs=1 model.width=8\nstep\n" in done.out
    assert "its step can be built when teach has run" in done.out
    assert not list(tmp_path.iterdir())
