"""``resume=DIR``: settings taken from the folder, settings that may be changed, and refusals."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY, Outcome
from omegaconf import OmegaConf
from safetensors import safe_open
from safetensors.torch import save_file

import mltricks
from mltricks import checkpoint
from mltricks.config.compose import plain
from mltricks.config.newer import NEWER
from mltricks.data.custom import load_data
from mltricks.data.fingerprint import check_same
from mltricks.resume import differences, resumed_config, saved_config
from mltricks.summary import Summary, read_summary

RUN = [*TINY, "epochs=2", "technique=[mixup,ema]", "optim.lr=1e-3"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("finished")
    mltricks.train(mltricks.compose(RUN), folder)
    return folder


@pytest.fixture
def stopped(finished: Path, tmp_path: Path) -> Path:
    """The folder of a run that was killed before it wrote its result."""
    folder = tmp_path / "stopped"
    shutil.copytree(finished, folder)
    (folder / "summary.json").unlink()
    return folder


def prints(folder: Path) -> dict[str, str]:
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def resumed(folder: Path, *given: str) -> dict[str, object]:
    overrides = [f"resume={folder}", *given]
    return resumed_config(mltricks.compose(overrides), overrides)


def test_a_finished_run_is_not_changed(run_cli: Callable[..., Outcome], finished: Path) -> None:
    before = prints(finished)
    done = run_cli(f"resume={finished}")
    assert done.status == 0, done.err
    assert "is complete" in done.out
    assert prints(finished) == before


def test_a_finished_run_returns_its_result_in_python_too(finished: Path) -> None:
    summary = mltricks.train(resumed(finished), finished, True)
    assert isinstance(summary, Summary)
    assert summary == read_summary(finished / "summary.json")


def test_the_configuration_is_that_of_the_folder(stopped: Path) -> None:
    assert resumed(stopped) == checkpoint.load(stopped)["config"]
    assert resumed(stopped) == plain(mltricks.compose(RUN))


def test_a_run_of_a_version_without_the_newer_keys_still_serves(stopped: Path) -> None:
    before = {key: value for key, value in resumed(stopped).items() if key not in NEWER}
    del before["optim"]["no_decay"], before["data"]["fraction"]  # one from the option's file, one that it includes
    content = checkpoint.load(stopped)
    checkpoint.save(stopped / "checkpoints" / "last.pt", content["state"], before)
    (stopped / "config.yaml").write_text(yaml.safe_dump(before, sort_keys=False))
    rewrite_weights(stopped / "checkpoints" / "best.safetensors", before)
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert torch.isfinite(mltricks.load(stopped).predict(images)).all()
    cfg = resumed(stopped)
    assert [cfg[key] for key in NEWER] == [None, [], None, [], {"only": None, "from": None, "done": None}]
    assert mltricks.train(cfg, stopped, True).status == "completed"


def rewrite_weights(path: Path, cfg: dict[str, object]) -> None:
    """Weights with another configuration, as the version that has it writes them."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = {**file.metadata(), "config": json.dumps(cfg)}
    del metadata["digest"]
    metadata["digest"] = checkpoint.digest({**metadata, "tensors": tensors})
    save_file(tensors, path, metadata)


def test_before_the_first_checkpoint_the_initial_configuration_is_used(stopped: Path) -> None:
    before = resumed(stopped)
    (stopped / "checkpoints" / "last.pt").unlink()
    assert resumed(stopped) == before
    (stopped / ".hydra").mkdir()
    shutil.move(stopped / "config.yaml", stopped / ".hydra" / "config.yaml")
    assert resumed(stopped) == before


def test_settings_without_influence_on_results_may_change(stopped: Path) -> None:
    given = ["device=cpu", "progress=lines", "plots=true", "data.root=/elsewhere", "data.num_workers=0", "log_every=7"]
    cfg = resumed(stopped, *given, "engine=traced", "technique=[mixup,ema]", "optim.lr=1e-3", "epochs=2")
    before = saved_config(stopped)
    changed = {path: mine for path, (mine, _) in differences(cfg, before).items()}
    assert changed == {
        "device": "cpu",
        "progress": "lines",
        "plots": True,
        "data.root": "/elsewhere",
        "data.num_workers": 0,
        "log_every": 7,
        "engine._target_": "mltricks.engine.Traced",
    }


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("epochs=1", ["it was 2 there", "longer, not shorter"]),
        ("max_steps=100", ["longer, not shorter"]),
        ("seed=1", ["seed was 0 there, not 1"]),
        ("optim.lr=0.1", ["optim.lr was 0.001 there, not 0.1"]),
        ("batch_size=64", ["batch_size"]),
        ("optim=sgd", ["optim"]),
        ("technique=[ema,mixup]", ["technique was ['mixup', 'ema'] there"]),
        ("technique=[mixup]", ["technique.ema"]),
        ("technique=[mixup,ema,sam]", ["technique.sam"]),
        ("augment=none", ["technique"]),
        ("data.limit=100", ["data.limit"]),
        ("precision=bf16", ["precision.dtype"]),
        ("eval_every_epochs=2", ["eval_every_epochs"]),
        ("early_stopping.patience=3", ["early_stopping.patience"]),
        ("experiment=baseline", ["experiment=baseline"]),
    ],
)
def test_settings_that_change_results_are_refused(override: str, words: list[str], stopped: Path) -> None:
    with pytest.raises(ValueError) as refusal:
        resumed(stopped, override)
    for word in [override, "cannot be given with resume", *words]:
        assert word in str(refusal.value)


def test_another_configuration_cannot_be_put_onto_a_folder_in_python(stopped: Path) -> None:
    with pytest.raises(ValueError, match=r"optim\.lr=0\.5: the run in .* began with"):
        mltricks.train(mltricks.compose([*RUN, "optim.lr=0.5"]), stopped, True)


def test_allow_modules_of_a_folder_is_not_trusted(stopped: Path) -> None:
    content = torch.load(stopped / "checkpoints" / "last.pt", weights_only=True)
    evil = {
        **checkpoint.load(stopped)["config"],
        "allow_modules": ["os"],
        "model": {"_target_": "os.system", "command": "true"},
    }
    (stopped / "config.yaml").unlink()  # a stranger who made the folder may have made every file in it
    checkpoint.save(stopped / "checkpoints" / "last.pt", content["state"], evil)
    with pytest.raises(ValueError, match=re.escape("If you trust it, type allow_modules=os.")):
        resumed(stopped)
    checkpoint.save(stopped / "checkpoints" / "last.pt", content["state"], {**evil, "allow_modules": []})
    with pytest.raises(ValueError, match=r"model\._target_=os\.system is refused"):
        mltricks.train(resumed(stopped), stopped, True)


def test_a_moved_folder_resumes_in_its_new_place(
    run_cli: Callable[..., Outcome], finished: Path, stopped: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "a place, with [odd] = 'names'"
    shutil.move(stopped, moved)
    (moved / "checkpoints" / ".last.pt.1.partial").write_text("left by a writer that was killed")
    done = run_cli("resume='" + str(moved).replace("'", "\\'") + "'", "progress=none")
    assert done.status == 0, done.err
    a, b = read_summary(moved / "summary.json"), read_summary(finished / "summary.json")
    assert a is not None
    assert b is not None
    assert (a.status, a.test, a.val) == ("completed", b.test, b.val)
    assert not list(moved.rglob("*.partial"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [moved.name]


def test_refusals_of_the_command_leave_no_folder(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("resume=nowhere")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "there is no such folder" in done.err
    done = run_cli("-m", "resume=a,b")
    assert done.status == 1
    assert "without -m" in done.err
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run in it"):
        resumed(tmp_path)


def test_a_new_run_in_an_old_folder_is_not_taken_for_the_old_one(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    shutil.copytree(finished, folder)
    with pytest.raises(Exception, match="diverged"):
        mltricks.train(mltricks.compose([*RUN, "model=mlp", "optim=sgd", "optim.lr=1e30", "overwrite=true"]), folder)
    assert resumed(folder)["optim"]["lr"] == 1e30  # type: ignore[index]
    assert not (folder / "checkpoints" / "best.safetensors").exists()
    summary = read_summary(folder / "summary.json")
    assert summary is not None
    assert summary.status == "diverged"


@pytest.mark.parametrize("job", ["predict", "evaluate", "lr_find"])
def test_the_folder_of_another_job_is_refused(job: str, tmp_path: Path) -> None:
    place = tmp_path / ("config.yaml" if job == "lr_find" else ".hydra/config.yaml")
    place.parent.mkdir(exist_ok=True)
    place.write_text(OmegaConf.to_yaml(OmegaConf.create(plain(mltricks.compose([*RUN, f"job={job}"])))))
    with pytest.raises(ValueError, match=f"job={job} ran there, which leaves nothing to resume"):
        resumed(tmp_path)


@pytest.mark.parametrize("content", ["a: [", "\x00\x00", b"\xff\xfe\xfd", "- 1", "", "seed: ${nothing}"])
def test_a_damaged_configuration_is_named(content: str | bytes, stopped: Path) -> None:
    (stopped / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: .*\. Delete it: the checkpoint has the conf"):
        resumed(stopped)
    (stopped / "config.yaml").unlink()
    assert resumed(stopped)["seed"] == 0
    (stopped / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    (stopped / "checkpoints" / "last.pt").unlink()
    with pytest.raises(ValueError, match=r"config\.yaml is damaged: .*Train again|nothing to resume"):
        resumed(stopped)


def test_settings_of_an_option_that_the_command_does_not_name(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("to be or not to be, that is the question: " * 40)
    text = ["data=text", "data.length=8", "objective=next_token", "model=transformer", "model.width=8", "device=cpu"]
    mltricks.train(mltricks.compose([*text, f"data.path={tmp_path}/text.txt", "epochs=1"]), tmp_path / "run")
    (tmp_path / "text.txt").rename(tmp_path / "moved.txt")
    refused = run_cli("resume=run", "epochs=2", "data.length=9")
    assert "data.length=9 cannot be given with resume=run: data.length was 8 there, not 9" in refused.err
    moved = f"data.path={tmp_path}/moved.txt"
    done = run_cli("resume=run", "epochs=2", "data.length=8", moved)
    assert done.status == 0, done.err
    assert read_summary(tmp_path / "run/summary.json").epochs == 2  # type: ignore[union-attr]
    whole = (tmp_path / "moved.txt").read_text()
    (tmp_path / "moved.txt").write_text(whole.replace("q", "Q"))
    assert "the data have changed since the run began (classes)" in run_cli("resume=run", "epochs=3", moved).err
    (tmp_path / "moved.txt").write_text(whole.replace("be, that", "that, be"))
    assert "the data have changed since the run began (content." in run_cli("resume=run", "epochs=3", moved).err
    (tmp_path / "moved.txt").write_text("to be or not to be, that is the question! " * 41)
    refused = run_cli("resume=run", "epochs=3", moved)
    assert re.search(
        r"resume=.*run: the data have changed: \d+ training samples, and \d+ when the run began", refused.err
    )


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("statistics.mean", r"\(statistics\.mean\)"),
        ("classes", r"\(classes\)"),
        ("content.training.labels", r"\(content\.training\.labels\)"),
        ("content.test.x", r"\(content\.test\.x\)"),
        ("samples.validation", r"\d+ validation samples, and \d+ when the run began"),
    ],
)
def test_other_data_are_recognised(name: str, words: str) -> None:
    cfg = plain(mltricks.compose(RUN))
    data, again = (load_data(cfg["data"], []) for _ in range(2))
    kept = data.fingerprint
    check_same(again.fingerprint, kept, "resume=run")
    *path, last = name.split(".")
    inner = kept
    for key in path:
        inner = inner[key]
    inner[last] = inner[last] + 1 if inner[last].dtype == torch.uint8 else inner[last] * 1001 // 1000 + 1
    with pytest.raises(ValueError, match=f"the data have changed.*{words}"):
        check_same(again.fingerprint, kept, "resume=run")


def test_what_has_no_effect_on_resume_is_refused(run_cli: Callable[..., Outcome], stopped: Path) -> None:
    refused = run_cli(f"resume={stopped}", "hydra.run.dir=other")
    assert "hydra.run.dir has no effect with resume" in refused.err
    assert run_cli(f"resume={stopped}/config.yaml").err.startswith(
        f"error: resume={stopped}/config.yaml: that is a file"
    )


def test_a_slip_on_resume_is_named_with_the_nearest(run_cli: Callable[..., Outcome], stopped: Path) -> None:
    for slip, nearest in (("optim.lrr=1", "optim.lr"), ("data.num_worker=1", "data.num_workers")):
        refused = run_cli(f"resume={stopped}", slip)
        assert f"error: {slip}: {slip.partition('=')[0]} is no setting of the run in" in refused.err
        assert f"Did you mean {nearest}" in refused.err


def test_the_record_of_a_resume_has_the_overrides_as_typed(run_cli: Callable[..., Outcome], stopped: Path) -> None:
    done = run_cli(f"resume={stopped}", "epochs=3", "optim.lr=1e-3", "progress=none")
    assert done.status == 0, done.err
    summary = read_summary(stopped / "summary.json")
    assert summary is not None
    assert "optim.lr=1e-3" in summary.overrides
    assert not [text for text in summary.overrides if text.startswith("+")]
