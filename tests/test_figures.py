"""Figures are valid plotly, closed forms hold, and pages hold only what they were given."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mltricks.figures import base, features, page, panels, predictions, probes, still, training
from mltricks.intervals import Z95, wilson
from mltricks.objectives.analysis import calibration, precision_recall
from mltricks.objectives.classify import logistic

EVIL = '<script>alert("1")</script>'
EPOCHS = [1.0, 2.0, 3.0, 4.0]
NAMES = ["cat", EVIL, "$a_{", "&amp;"]
VALUES = torch.randn(60, generator=torch.Generator().manual_seed(0)).tolist()


def examples() -> dict[str, base.Figure]:
    """Every figure, with names that contain HTML and formulas."""
    falling = [1.0, 0.1, 0.01, 0.001]
    curves = {"loss": {"train": (EPOCHS, falling), "val": (EPOCHS, falling)}, EVIL: {"val": (EPOCHS, EPOCHS)}}
    quantities = {key: ([1, 50, 100], [0.1, 0.0, 0.01]) for key in ("gradient", "weight", "ratio")}
    counts = [[3, 1, 0, 0], [0, 2, 0, 0], [0, 0, 0, 0], [1, 0, 0, 4]]
    lr_find = {"rates": [1e-4, 1e-3], "losses": [2.0, 1.0], "smooth": [2.0, 1.1], "first": 2.0, "noise": 0.1}
    lr_find |= {"steepest": 3e-4, "tenth": 1e-4}
    rows = [{"layer": EVIL, "weight": EVIL, "std": 1.0, "gradient": 0.1, "ratio": 1e-3}]
    verdict = {"verdict": "pass", "reason": EVIL}
    return {
        "learning_curves": training.learning_curves(curves, 3),
        "schedule": training.schedules({"optim.lr": (EPOCHS, falling), EVIL: (EPOCHS, falling)}),
        "layers": training.layer_norms({name: quantities for name in NAMES}),
        "throughput": training.throughput(EPOCHS, EPOCHS),
        "phases": training.phases({"load": 0.1, "train": 2.0}),
        "confusion_matrix": predictions.confusion_matrix(counts, NAMES),
        "calibration": predictions.reliability([(0.3, 0.5, 4), (0.9, 1.0, 2)], 0.1),
        "precision_recall": predictions.precision_recall({EVIL: ([0.5, 1.0], [1.0, 0.7], 0.85)}),
        "class_balance": predictions.class_balance({"train": [0.25] * 4, "val": [0.1, 0.2, 0.3, 0.4]}, NAMES),
        "predictions": predictions.predicted_values(VALUES, VALUES[::-1]),
        "residuals": predictions.residuals(VALUES, VALUES[::-1]),
        "feature_map": features.feature_map({name: (EPOCHS, falling, NAMES) for name in NAMES}, [0.5, 0.1]),
        "loss_by_position": predictions.loss_by_position(falling),
        "lr_find": probes.loss_by_rate(lr_find | verdict),
        "overfit": probes.memorised(
            {"tries": [{"losses": falling, "learning_rate": 0.1}], "ignorant_loss": 2.3} | verdict
        ),
        "check_init": probes.signals({"activations": rows, "gradients": rows} | verdict),
        "update_ratio": probes.update_ratios({"weights": rows} | verdict),
        "band": base.figure(base.band(EPOCHS, falling, EPOCHS, "interval")),
        "points": base.figure(base.points(EPOCHS, falling, texts=NAMES)),
    }


@pytest.mark.parametrize("name", examples())
def test_every_figure_is_valid_plotly_and_can_be_drawn_as_a_picture(name: str, tmp_path: Path) -> None:
    import plotly.graph_objects
    import plotly.io

    figure = examples()[name]
    plotly.graph_objects.Figure(figure, skip_invalid=False)
    again = plotly.io.read_json(still.write_json(figure, tmp_path / "figure.json"))
    assert len(again.data) == len(figure["data"])
    with Image.open(still.save(figure, tmp_path / "figure.png", 1.0)) as image:
        assert image.size[1] == figure["layout"]["height"]
        assert len(image.convert("L").getcolors(256) or range(300)) > 10, "the picture is not empty"


def texts(value: Any) -> list[str]:
    """Every text in a figure, except its templates."""
    if isinstance(value, dict):
        return [t for key, v in value.items() if not key.endswith("template") for t in texts(v)]
    if isinstance(value, list | tuple):
        return [t for v in value for t in texts(v)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("name", examples())
def test_no_text_of_a_user_is_read_as_a_tag_or_a_formula(name: str) -> None:
    for text in texts(examples()[name]):
        rest = text.replace("<b>", "").replace("</b>", "").replace("<br>", "")
        assert "<" not in rest
        assert "$" not in rest
        assert still.plain(base.text(EVIL)) == EVIL


def test_the_labels_of_a_logarithmic_axis_are_numbers() -> None:
    import matplotlib

    with matplotlib.rc_context(still.STYLE):
        canvas = still.draw(examples()["learning_curves"])
        canvas.canvas.draw()
        labels = [label.get_text() for label in canvas.axes[0].get_yticklabels()]
    assert "0.01" in labels
    assert not [label for label in labels if "$" in label or "math" in label]


def test_an_axis_of_epochs_has_ticks_within_the_first_epoch_too() -> None:
    assert base.axis(integers=[1, 2, 3])["dtick"] == base.axis(integers=[1])["dtick"] == 1
    assert "dtick" not in base.axis(integers=[0.1, 0.2, 0.3])
    assert "dtick" not in base.axis(integers=[0.6, 1.0])


def test_panels_stand_where_their_domains_say() -> None:
    figure = panels.panels(*(base.figure(base.line([1, 2], [1, 2], "a"), title=str(i)) for i in range(3)), columns=2)
    layout = figure["layout"]
    assert layout["xaxis"]["domain"] == layout["xaxis3"]["domain"]
    assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
    assert layout["yaxis3"]["domain"][1] < layout["yaxis"]["domain"][0]
    assert [t["showlegend"] for t in figure["data"]] == [True, False, False], "a name stands in the legend once"
    assert [note["xref"] for note in layout["annotations"]] == ["x domain", "x2 domain", "x3 domain"]


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (8, 10), (10, 10), (37, 40), (5000, 10000)])
def test_wilsons_interval_solves_its_equation(hits: int, total: int) -> None:
    """Its ends are where the observed share is z standard errors of that end away."""
    share = hits / total
    for end in wilson(hits, total):
        if 0 < end < 1:
            assert abs(share - end) == pytest.approx(Z95 * math.sqrt(end * (1 - end) / total), abs=1e-9)
        else:
            assert end == pytest.approx(share, abs=1e-12)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_calibration_error_is_zero_where_accuracy_equals_confidence() -> None:
    confidence = torch.tensor([0.75] * 4 + [0.5] * 4)
    right = torch.tensor([True, True, True, False, True, True, False, False])
    bins, error = calibration(confidence, right, 10)
    assert bins == [(0.5, 0.5, 4), (0.75, 0.75, 4)]
    assert error == 0.0
    assert calibration(confidence, ~right, 10)[1] == 0.25


def test_the_calibration_error_equals_that_of_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    generator = torch.Generator().manual_seed(0)
    probabilities = (2 * torch.randn(500, 4, generator=generator)).softmax(1)
    y = torch.randint(4, (500,), generator=generator)
    confidence, predicted = probabilities.max(1)
    expected = multiclass_calibration_error(probabilities, y, num_classes=4, n_bins=15)
    assert calibration(confidence, predicted == y)[1] == pytest.approx(float(expected), abs=1e-5)


def test_precision_and_recall_equal_those_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score, precision_recall_curve

    generator = torch.Generator().manual_seed(0)
    score = torch.randint(20, (90,), generator=generator) / 20  # with ties
    positive = torch.rand(90, generator=generator) < score
    recall, precision, average = precision_recall(score, positive)
    expected = precision_recall_curve(positive.numpy(), score.numpy())
    assert precision == pytest.approx(expected[0][:-1][::-1].tolist(), abs=1e-4)
    assert recall == pytest.approx(expected[1][:-1][::-1].tolist(), abs=1e-4)
    assert average == pytest.approx(average_precision_score(positive.numpy(), score.numpy()), abs=1e-4)


def test_the_logistic_regression_equals_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 6, generator=generator)
    y = (x @ torch.randn(6, 3, generator=generator) + torch.randn(400, 3, generator=generator)).argmax(1)
    y[y == 1] = 3  # class 1 has no samples
    reference = LogisticRegression(C=0.1, max_iter=1000, tol=1e-8).fit(x.numpy(), y.numpy())
    found = logistic(x, y, 4)(x).softmax(1)
    expected = torch.tensor(reference.predict_proba(x.numpy()), dtype=torch.float32)
    torch.testing.assert_close(found[:, [0, 2, 3]], expected, atol=2e-3, rtol=0)
    assert float(found[:, 1].max()) < 1e-6


def test_the_points_of_the_calibration_have_wilson_intervals() -> None:
    figure = predictions.reliability([(0.3, 0.5, 4), (0.9, 1.0, 2)], 0.1)
    points = figure["data"][-1]
    above, below = points["error_y"]["array"], points["error_y"]["arrayminus"]
    ends = [(y - low, y + high) for y, low, high in zip(points["y"], below, above, strict=True)]
    assert ends == [pytest.approx(wilson(2, 4)), pytest.approx(wilson(2, 2))]
    assert predictions.reliability([], 0.0)["data"][-1]["error_y"]["array"] == []


def test_a_histogram_counts_every_value_once() -> None:
    places, counts, width = predictions.histogram(VALUES, 7)
    assert sum(counts) == len(VALUES)
    for place, count in zip(places, counts, strict=True):
        ends = place - width / 2, place + width / 2
        assert count >= sum(ends[0] + 1e-9 < v < ends[1] - 1e-9 for v in VALUES)
    assert predictions.histogram([2.0, 2.0], 3)[1] == [2, 0, 0]


def test_data_cannot_end_their_script_element() -> None:
    written = page.as_script({"a": [EVIL, "</script>", math.nan, "\u2028"]})
    assert "<" not in written
    assert '"a":["\\u003cscript' in written
    assert "null" in written


def test_figures_need_no_drawing_library(tmp_path: Path) -> None:
    """The modules of figures import neither plotly nor matplotlib nor numpy nor torch."""
    import subprocess
    import sys

    code = (
        "import sys, mltricks.figures.training, mltricks.figures.predictions, mltricks.figures.probes, "
        "mltricks.figures.page, mltricks.figures.still; "
        "print([n for n in ('plotly', 'matplotlib', 'numpy', 'jinja2', 'PIL', 'torch') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.stdout.strip() == "[]", done.stderr
