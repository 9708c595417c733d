"""Plots and the page of a run: they show the measured values, and no name can inject HTML."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Outcome
from PIL import Image

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.inputs import image as images
from mltricks.objectives import class_sections as outcome
from mltricks.objectives import regress, segment
from mltricks.observers.report import Report
from mltricks.observers.run_page.about import command
from mltricks.observers.run_page.write import gather, paired, write_report
from mltricks.summary import Summary

EVIL = '<script>alert("1")</script>'
NAMES = ("confusion_matrix", "learning_curves", "schedule", "training_samples", "worst_examples")


class Reader(HTMLParser):
    """Collects the tags, links and text that a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)


@pytest.fixture
def reported(train_digits: Callable[..., Summary], tmp_path: Path) -> tuple[Summary, Path]:
    return train_digits("plots=true", "scheduler=cosine", "technique=mixup"), tmp_path / "run"


def test_a_run_writes_pictures_and_a_page(reported: tuple[Summary, Path]) -> None:
    summary, folder = reported
    for name in NAMES:
        with Image.open(folder / "plots" / f"{name}.png") as image:
            assert min(image.size) > 100
            assert len(image.convert("L").getcolors(256) or range(300)) > 10, f"{name} is empty"
    seen = Reader((folder / "report.html").read_text())
    for value in (*summary.test.values(), *summary.val.values()):
        assert f"{value:.4f}" in seen.text
    assert summary.versions["torch"] in seen.text
    assert "_target_: mltricks.techniques.mixup.Mixup" in seen.text


def test_the_page_loads_no_other_file(reported: tuple[Summary, Path]) -> None:
    text = (reported[1] / "report.html").read_text()
    seen = Reader(text)
    sources = [attributes["src"] or "" for tag, attributes in seen.tags if tag == "img"]
    assert 26 <= len(sources) <= 26 + outcome.NUM_WORST, "training samples, and neighbours of ten"
    for source in sources:
        head, _, data = source.partition(",")
        assert head == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
    assert not {tag for tag, _ in seen.tags} & {"link", "iframe", "object", "form"}
    assert not [attributes for tag, attributes in seen.tags if tag == "script" and "src" in attributes]
    metas = [attributes for tag, attributes in seen.tags if tag == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    policy = next(a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert "unsafe-eval" not in policy
    scripts = policy.partition("script-src ")[2].partition(";")[0].split()
    assert all(source.startswith("'sha256-") for source in scripts), scripts


def tampered_run(tmp_path: Path, classes: tuple[str, ...]) -> Any:
    import dataclasses

    run = build(plain(mltricks.compose([*TINY])))
    run.data = dataclasses.replace(run.data, info=dataclasses.replace(run.data.info, classes=classes))
    return run


def test_html_in_names_is_escaped(tmp_path: Path) -> None:
    run = tampered_run(tmp_path, (EVIL, "<img src=x onerror=alert(1)>", "$a_{", "&amp;", "日本", *"56789"))
    y = torch.arange(10)
    scores = torch.full((10,), 0.1)
    part = {"y": y, "predicted": y.roll(1), "confidence": scores, "p_true": scores}
    summary = Summary("diverged", overrides=[f"+x={EVIL}"], error=EVIL, versions={"torch": EVIL}, device=EVIL)
    summary.objective, summary.test = {"name": f"val/{EVIL}", "value": 0.5}, {EVIL: 0.5}
    run.cfg["technique"][EVIL] = EVIL
    write_report(run, tmp_path, summary, [part])
    seen = Reader((tmp_path / "report.html").read_text())
    kinds = [attributes.get("type") for tag, attributes in seen.tags if tag == "script"]
    assert kinds.count(None) == 3, "plotly.js, charts.js and copy.js"
    assert set(kinds) == {None, "application/json"}
    assert all("onerror" not in attributes for _, attributes in seen.tags)
    assert EVIL in seen.text
    for name in ("confusion_matrix", "worst_examples"):
        assert (tmp_path / "plots" / f"{name}.png").is_file(), "names with special characters can be drawn"


def test_a_failing_plot_does_not_fail_the_run(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "plots").write_text("in the way")
    done = run_cli(*TINY[:3], "plots=true", "progress=none", "epochs=1", f"hydra.run.dir={folder}")
    assert done.status == 0
    lines = done.err.strip().splitlines()
    failed = {line.partition(" could")[0] for line in lines}
    assert {f"plots: plots/{name}.png" for name in NAMES if name != "schedule"} <= failed
    assert all(line.startswith("plots: plots/") for line in lines), lines
    assert "completed" in Reader((folder / "report.html").read_text()).text


def test_the_page_of_a_diverged_run_says_so(train_digits: Callable[..., Summary], tmp_path: Path) -> None:
    from mltricks.ledger import Diverged

    with pytest.raises(Diverged):
        train_digits("plots=true", "optim=sgd", "optim.lr=1e30", "epochs=2", "log_every=1")
    assert "diverged" in Reader((tmp_path / "run" / "report.html").read_text()).text


def test_the_errors_shown_are_those_of_the_models_predictions(
    train_digits: Callable[..., Summary], tmp_path: Path
) -> None:
    """Compare the digests made by the test of a run with predictions of the saved weights."""
    summary = train_digits()
    model = mltricks.load(tmp_path / "run")
    run = build(model.cfg)
    report = Report()
    report.start(run, tmp_path, 0)
    batches = list(run.data.test.batches(torch.arange(len(run.data.test)).split(100)))
    for batch in batches:
        report.tested(batch, model.forward(batch["x"]))
    found = gather(report.parts)
    probabilities = model.predict(run.data.test.x)
    y = torch.cat([batch["y"] for batch in batches]).cpu()
    matrix = outcome.confusion(found, 10)
    expected = torch.zeros(10, 10, dtype=torch.int64)
    for true, predicted in zip(y.tolist(), probabilities.argmax(1).tolist(), strict=True):
        expected[true, predicted] += 1
    assert torch.equal(matrix, expected)
    assert float(matrix.diagonal().sum() / matrix.sum()) == pytest.approx(summary.test["accuracy"], abs=1e-7)
    order = outcome.worst(found).tolist()
    wrong = [i for i in range(len(y)) if probabilities[i].argmax() != y[i]]
    confidence = {i: float(probabilities[i].max()) for i in wrong}
    assert set(order) <= set(wrong), "right predictions are no errors"
    assert [confidence[i] for i in order] == sorted(confidence.values(), reverse=True)[: outcome.NUM_WORST]


def test_class_scores_equal_those_of_scikit_learn() -> None:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    y = torch.randint(4, (60,), generator=torch.Generator().manual_seed(0))
    predicted = torch.randint(4, (60,), generator=torch.Generator().manual_seed(1))
    matrix = outcome.confusion({"y": y, "predicted": predicted}, 4)
    assert matrix.tolist() == confusion_matrix(y, predicted).tolist()
    expected = zip(*precision_recall_fscore_support(y, predicted), strict=True)
    for (_, count, *scores), (*others, support) in zip(outcome.class_scores(matrix), expected, strict=True):
        assert count == support
        assert scores == pytest.approx([float(v) for v in others])


def test_values_and_tokens_have_their_own_pictures(tmp_path: Path) -> None:
    from mltricks.objectives.next_token import NextToken
    from mltricks.objectives.regress import Regress

    generator = torch.Generator().manual_seed(0)
    y, outputs = torch.randn(30, generator=generator), torch.randn(30, 1, generator=generator)
    values = gather([Regress().digest(outputs[i : i + 10], y[i : i + 10]) for i in (0, 10, 20)])
    assert int(regress.worst(values)[0]) == int((y - outputs[:, 0]).abs().argmax())
    tokens, logits = torch.randint(5, (6, 7), generator=generator), torch.randn(6, 7, 5, generator=generator)
    parts = [NextToken().digest(logits[i : i + 3], tokens[i : i + 3]) for i in (0, 3)]
    found = gather(parts)
    losses = found["loss_sum"].sum(0) / found["count"].sum()
    expected = -logits.log_softmax(-1).gather(2, tokens[..., None])[..., 0].mean(0)
    torch.testing.assert_close(losses.float(), expected)


def test_the_kept_masks_are_those_of_the_named_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    y, logits = torch.randint(3, (25, 4, 4), generator=generator), torch.randn(25, 3, 4, 4, generator=generator)
    parts = [segment.Segment().digest(logits[i : i + 10], y[i : i + 10]) for i in (0, 10, 20)]
    found = gather(parts)
    places = segment.positions_of(found)
    assert torch.equal(found["bad_true"].long(), y[places])
    assert torch.equal(found["bad_mask"].long(), logits.argmax(1)[places])
    assert int(found["right"].argmin()) in places.tolist()
    colors = segment.painted(y)
    assert colors.shape == (25, 4, 4, 3)
    assert len(colors.flatten(0, 2).unique(dim=0)) == 3
    assert torch.equal(segment.Segment().target_pictures(y), colors)


def test_images_of_any_range_become_pixels() -> None:
    dim = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    assert images.Image((1, 4, 4)).pictures(dim)[0, 3, 3].tolist() == [255, 255, 255]
    normalised = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pixels = images.Image((3, 4, 4)).pictures(normalised)
    assert (pixels.shape, int(pixels.min()), int(pixels.max())) == ((2, 4, 4, 3), 0, 255)
    assert images.Image((5, 4, 4)).pictures(torch.rand(1, 5, 4, 4)).shape == (1, 4, 4, 3)


def test_pictures_are_in_the_units_of_the_data() -> None:
    x = torch.randint(256, (3, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([100.0, 120.0, 90.0]).view(3, 1, 1), torch.tensor([50.0, 60.0, 70.0]).view(3, 1, 1)
    kind = images.Image((3, 4, 4), mean, std)
    torch.testing.assert_close(kind.denormalize(kind.normalize(x)), x.float())


def test_a_half_section_alone_takes_the_whole_width() -> None:
    from mltricks.figures.parts import Section

    halves = lambda *flags: [s.half for s in paired([Section("", [], half=flag) for flag in flags])]  # noqa: E731
    assert halves(True, False) == [False, False]
    assert halves(True, True, False) == [True, True, False]
    assert halves(True, True, True, False) == [True, True, False, False]


def test_trials_of_a_sweep_draw_plots_only_if_asked_for(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """``plots=auto`` draws plots of single runs only, ``plots=true`` always; the page of a sweep shows its trials."""
    tiny = [option for option in TINY if not option.startswith("plots")]
    run_cli(*tiny, "epochs=1", f"hydra.run.dir={tmp_path}/single")
    assert (tmp_path / "single/report.html").is_file()
    for drawn, options in ((False, []), (True, ["plots=true"])):
        sweep = tmp_path / f"sweep-{drawn}"
        done = run_cli("-m", *tiny, "max_steps=2", "seed=0,1", *options, f"hydra.sweep.dir={sweep}")
        assert done.status == 0, done.err
        for num in "01":
            assert (sweep / num / "report.html").is_file() is drawn
            assert (sweep / num / "plots").is_dir() is drawn


def test_the_report_of_a_trial_is_written_afterwards(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    """``python -m mltricks.report DIR/0`` measures the test split again with the saved weights."""
    from mltricks.report.__main__ import main

    sweep = tmp_path / "sweep"
    done = run_cli("-m", *TINY, "epochs=1", "optim.lr=1e-3,1e-2", f"hydra.sweep.dir={sweep}")
    assert done.status == 0, done.err
    assert main([str(sweep / "1")]) == 0
    seen = Reader((sweep / "1" / "report.html").read_text())
    for said in ("Most confident errors", "Calibration", "optim.lr=0.01", "mltricks.load("):
        assert said in seen.text
    assert not (sweep / "0" / "report.html").exists()
    assert main([str(sweep)]) == 0
    assert (sweep / "sweep.html").is_file()


def test_the_command_of_a_run_without_overrides(tmp_path: Path) -> None:
    """A report that is written afterwards has no Hydra around it, but the run's own record."""
    assert command(Summary("completed"), tmp_path).startswith("import mltricks")
    (tmp_path / ".hydra").mkdir()
    assert command(Summary("completed"), tmp_path) == "python -m mltricks"


def test_the_report_of_a_run_with_foreign_classes_needs_leave(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mltricks.report.__main__ import main

    cfg = mltricks.compose([*TINY, "max_steps=2", "allow_modules=[two_methods]"])
    mltricks.train(cfg, tmp_path / "run")
    assert main([str(tmp_path / "run")]) == 1
    assert "two_methods" in capsys.readouterr().err
    assert main([str(tmp_path / "run"), "--allow-modules", "two_methods"]) == 0
