"""The jobs evaluate, predict, list, explain and show, by the real command."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, Outcome, command_environment
from PIL import Image

import mltricks
from mltricks.build import build
from mltricks.config.cards import Card, explanation, listing, read_card, read_cards
from mltricks.config.compose import plain
from mltricks.config.options import conf_dir
from mltricks.jobs import evaluate, predict
from mltricks.show import describe, onion
from mltricks.summary import Summary


@pytest.fixture
def trained(train_digits: Callable[..., Summary], tmp_path: Path) -> tuple[Summary, Path]:
    return train_digits("technique=[ema,tta]", "epochs=1"), tmp_path / "run"


def run_job(job: Callable[..., None], folder: Path, *overrides: str) -> None:
    """Run a job as the command does, in this process."""
    job(mltricks.compose([f"job={job.__name__}", *overrides]), folder, list(overrides), "RUN")


def test_evaluate_gives_the_metrics_of_the_run(
    trained: tuple[Summary, Path], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    summary, run = trained
    done = run_cli("job=evaluate", f"checkpoint={run}", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    content = json.loads((tmp_path / "out/evaluation.json").read_text())
    assert content["test"] == summary.test
    assert content["val"] == summary.val
    table = [line.split() for line in done.out.splitlines()]
    assert table[0] == ["split", *summary.test]
    assert table[2] == ["test", *(f"{v:.4f}" for v in summary.test.values())]


def test_evaluate_accepts_other_data_but_no_other_settings(trained: tuple[Summary, Path], tmp_path: Path) -> None:
    summary, run = trained
    at = f"checkpoint={run}"
    run_job(evaluate, tmp_path / "a", at, "data.val_frac=0.5", "eval_batch_size=7")
    content = json.loads((tmp_path / "a/evaluation.json").read_text())
    assert content["test"]["accuracy"] == pytest.approx(summary.test["accuracy"], abs=1e-6)
    assert content["val"] != summary.val, "half of the training part is another validation split"
    with pytest.raises(ValueError, match=r"optim\.lr=1 has no effect on job=evaluate"):
        run_job(evaluate, tmp_path / "b", at, "optim.lr=1")
    with pytest.raises(ValueError, match=r"job=evaluate needs a trained model.*checkpoint=DIR"):
        run_job(evaluate, tmp_path / "c")
    with pytest.raises(ValueError, match="there are no weights at"):
        run_job(evaluate, tmp_path / "d", f"checkpoint={tmp_path}/nowhere")


def other_digits() -> object:
    """Sixteen classes of images of another size, for ``data=custom``."""
    return [(np.zeros((9, 9), dtype=np.uint8), i % 16) for i in range(64)]


def test_evaluate_refuses_data_of_another_kind(trained: tuple[Summary, Path], tmp_path: Path) -> None:
    own = ["data=custom", f"data._target_={__name__}.other_digits", f"allow_modules=[{__name__}]"]
    with pytest.raises(ValueError, match=r"do not fit the model.*input is image 1x9x9"):
        run_job(evaluate, tmp_path / "out", f"checkpoint={trained[1]}", *own)


def test_a_checkpoint_does_not_choose_the_code_that_reads_data(tmp_path: Path) -> None:
    own = ["data=custom", f"data._target_={__name__}.other_digits", f"allow_modules=[{__name__}]"]
    mltricks.train(
        mltricks.compose([*own, "epochs=1", "batch_size=8", "plots=false", "progress=none"]), tmp_path / "run"
    )
    with pytest.raises(ValueError, match=r"is refused.*allow_modules"):
        run_job(evaluate, tmp_path / "out", f"checkpoint={tmp_path}/run")
    run_job(evaluate, tmp_path / "out", f"checkpoint={tmp_path}/run", f"allow_modules=[{__name__}]")


def read_predictions(folder: Path) -> tuple[list[dict[str, str]], list[dict[str, object]]]:
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def test_predict_reads_a_folder_of_images(
    trained: tuple[Summary, Path], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    model = mltricks.load(trained[1])
    x = build(model.cfg).data.test.x[:4].cpu()
    (tmp_path / "images/deep").mkdir(parents=True)
    names = ["a,comma.png", "b.png", "deep/ü.png", "z.PNG"]
    for name, pixels in zip(names, x.numpy(), strict=True):
        Image.fromarray(pixels[..., 0]).save(tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").write_text("no image")
    done = run_cli("job=predict", f"checkpoint={trained[1]}", "input=images", f"hydra.run.dir={tmp_path}/out")
    assert done.status == 0, done.err
    rows, lines = read_predictions(tmp_path / "out")
    expected = model.predict(x)
    assert [row["input"] for row in rows] == [f"images/{name}" for name in names]
    assert [row["class"] for row in rows] == [str(int(p.argmax())) for p in expected]
    assert [float(row["probability"]) for row in rows] == pytest.approx([float(p.max()) for p in expected])
    for line, probabilities in zip(lines, expected, strict=True):
        assert list(line["probabilities"].values()) == pytest.approx(probabilities.tolist())
    assert done.out.splitlines()[0] == "input  class  probability"


def test_predict_reads_the_test_split_and_arrays(trained: tuple[Summary, Path], tmp_path: Path) -> None:
    summary, run = trained
    run_job(predict, tmp_path / "out", f"checkpoint={run}")
    rows, _ = read_predictions(tmp_path / "out")
    assert len(rows) == 360
    hits = sum(row["true"] == row["class"] for row in rows)
    assert hits / 360 == pytest.approx(summary.test["accuracy"], abs=1e-6)
    x = build(mltricks.load(run).cfg).data.test.x[:7].cpu()
    np.save(tmp_path / "x.npy", x.numpy())
    run_job(predict, tmp_path / "array", f"checkpoint={run}", f"input={tmp_path}/x.npy")
    assert [row["class"] for row in read_predictions(tmp_path / "array")[0]] == [row["class"] for row in rows[:7]]


def test_predict_refuses_files_that_it_cannot_read(trained: tuple[Summary, Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_text("no image")
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    np.save(tmp_path / "odd.npy", np.zeros((2, 5, 5), dtype=np.uint8))
    cases = (
        ("empty", "holds no image"),
        ("nowhere", "does not exist"),
        ("broken.png", "is no image that can be decoded"),
        ("table.csv", "is no image that can be decoded .* This model reads an image, a folder of images, or an array"),
        ("odd.npy", "shape"),
    )
    for name, said in cases:
        with pytest.raises(ValueError, match=said):
            run_job(predict, tmp_path / "out", f"checkpoint={trained[1]}", f"input={tmp_path}/{name}")


def test_every_option_has_a_card() -> None:
    cards = [card for group in read_cards([conf_dir()]).values() for card in group]
    assert {(c.group, c.name) for c in cards} >= {("technique", "mixup"), ("data", "digits"), ("job", "list")}
    for card in cards:
        assert card.what, f"{card.group}={card.name} has no description"
        assert not card.name.startswith("_")
        lines = explanation(card)
        assert lines[0] == f"{card.group}={card.name}"
        assert all(len(line) <= 110 for line in lines if " " in line.strip() and "=" not in line)


def test_settings_of_a_card_are_those_of_the_composed_option() -> None:
    """Keys and defaults read from the text of a card equal those that Hydra composes."""
    from omegaconf import OmegaConf

    for group, name in (("technique", "mixup"), ("technique", "ema"), ("optim", "adamw"), ("scheduler", "cosine")):
        card = read_card(conf_dir() / group / f"{name}.yaml", [conf_dir()])
        choice = f"{group}=[{name}]" if group == "technique" else f"{group}={name}"
        cfg = mltricks.compose([choice])
        root = f"technique.{name}" if group == "technique" else group
        assert {key for key, _, _ in card.values} == {
            f"{root}.{k}" for k in OmegaConf.select(cfg, root) if k != "_target_"
        }
        for key, default, meaning in card.values:
            assert OmegaConf.create(f"v: {default}").v == OmegaConf.select(cfg, key)
            assert meaning


def test_a_card_is_read_from_comments(tmp_path: Path) -> None:
    folder = tmp_path / "technique"
    folder.mkdir()
    (folder / "_common.yaml").write_text("# Shared\nshared: 1   # of all\n")
    (folder / "mine.yaml").write_text(
        "# @package _global_\n# What it is: a thing\n# python -m mltricks technique=mine\n# Source: A 2020\n"
        "defaults:\n  - _common\n  - /technique/crop\n  - override /optim: sgd\n"
        'technique:\n  mine:\n    _target_: a.B\n    colour: "#fff"  # of the sky\n      # and of the sea\n'
        "    bare: 2\n"
    )
    card = read_card(folder / "mine.yaml", [tmp_path])
    assert card == Card(
        "technique",
        "mine",
        "What it is: a thing",
        "python -m mltricks technique=mine",
        {"Source": "A 2020"},
        (
            ("technique.shared", "1", "of all"),
            ("technique.mine.colour", '"#fff"', "of the sky and of the sea"),
            ("technique.mine.bare", "2", ""),
        ),
        ("technique=crop", "optim=sgd"),
    )
    assert listing({"technique": [card]}) == ["technique=mine  What it is: a thing"]


def test_list_and_explain_by_the_command(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "own/technique").mkdir(parents=True)
    (tmp_path / "own/technique/mine.yaml").write_text("# @package _global_\n# My own trick\ntechnique: {}\n")
    listed = run_cli("job=list", "--config-dir", "own")
    assert listed.status == 0, listed.err
    lines = listed.out.splitlines()
    assert any(line.split(maxsplit=1) == ["technique=mine", "My own trick"] for line in lines)
    assert any(line.startswith("data=digits ") for line in lines)
    assert not any("=_" in line.split(" ")[0] for line in lines if line)
    only = run_cli("job=list", "job.group=tracker")
    assert {line.split("=")[0] for line in only.out.splitlines()} == {"tracker"}
    assert "Did you mean technique" in run_cli("job=list", "job.group=technik").err
    explained = run_cli("job=explain", "technique=[mixup,ema]", "optim=sgd").out
    for shown in (
        "technique=mixup\n",
        "technique=ema\n",
        "optim=sgd\n",
        "arXiv:1710.09412",
        "technique.mixup.alpha=0.2",
    ):
        assert shown in explained
    assert "technique=mixup" in run_cli("job=explain").out, "says how to use it"
    assert {path.name for path in tmp_path.iterdir()} == {"own"}, "jobs that only print write no files"


@pytest.mark.parametrize("job", ["list", "explain"])
def test_jobs_that_print_import_nothing_heavy(job: str, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        f"sys.argv = ['mltricks', 'job={job}', 'technique=mixup']\n"
        "from mltricks.__main__ import main\n"
        "main()\n"
        "heavy = {'torch', 'rich', 'matplotlib', 'wandb', 'optuna', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=command_environment(), capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"


def shown_lines(*overrides: str) -> dict[str, str]:
    lines = describe(build(plain(mltricks.compose([*TINY, *overrides]))))
    return dict(line.strip().split(maxsplit=1) for line in lines if line.startswith("  "))


def test_show_lists_the_techniques_of_each_verb() -> None:
    rows = shown_lines("augment=standard", "technique=[mixup,ema,accumulate,sam]", "scheduler=cosine")
    assert rows["techniques"] == "crop -> flip -> mixup -> ema -> accumulate -> sam"
    assert rows["batch"] == "crop -> flip -> normalize -> mixup"
    assert rows["loss"] == "classify"
    assert rows["grads"] == "accumulate(sam(gradient))"
    assert (rows["update"], rows["after"], rows["evaluate"]) == ("adamw", "ema", "ema(model)")
    assert rows["optim.lr"].startswith("0.003 (step 0)")
    assert rows["updates"] == "100, 10 an epoch"
    swapped = shown_lines("technique=[sam,accumulate]")
    assert swapped["grads"] == "sam(accumulate(gradient))"
    assert onion([], "gradient") == "gradient"


def test_show_counts_parameters() -> None:
    rows = shown_lines("technique=simclr")
    run = build(plain(mltricks.compose([*TINY, "technique=simclr"])))
    model = sum(p.numel() for p in run.model.module.parameters())
    everything = sum(p.numel() for p in run.state["params"].values())
    assert rows["parameters"] == f"{model:,}"
    assert rows["added"] == f"by techniques  {everything - model:,}"


def test_show_trains_nothing(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    done = run_cli("show=true", "technique=[mixup,ema]")
    assert done.status == 0, done.err
    assert "mixup -> ema" in done.out
    assert list(tmp_path.iterdir()) == []


def test_training_from_python_refuses_the_configuration_of_another_job(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"does not train \(list_options\). Compose it without job="):
        mltricks.train(mltricks.compose(["job=list"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_no_job_replaces_a_run(trained: tuple[Summary, Path], run_cli: Callable[..., Outcome]) -> None:
    """Neither its result nor Hydra's record is touched, also where the folder is named by another key."""
    run = trained[1]
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for typed in (["job=lr_find", f"hydra.run.dir={run}"], [f"notes={run}", "hydra.run.dir=${notes}"]):
        refused = run_cli(*typed)
        assert refused.status == 1
        assert f"{run} holds a run" in refused.err
        assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert run_cli("job=evaluate", f"checkpoint={run}", f"hydra.run.dir={run}").status == 0
    after = {path for path in run.rglob("*") if path.is_file()}
    assert {path.name for path in after - before.keys()} == {"evaluation.json"}
