"""The section of a run's page about its features: scikit-learn's projection, true neighbours, every kind of input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from contract import KINDS
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from test_feature_jobs import SNAPSHOT, own_model

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.features.projection import two_components
from mltricks.figures.parts import Chart, Gallery, Section, Text
from mltricks.observers.run_page.feature_map import features_section, groups_of, side_by_side
from mltricks.summary import Summary

HERE = Path(__file__).parent


def test_the_projection_is_scikit_learns_pca_up_to_the_sign() -> None:
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 8.0)
    plane, shares = two_components(x)
    theirs = PCA(2).fit(x.double())
    np.testing.assert_allclose(plane.abs().numpy(), np.abs(theirs.transform(x.double())), atol=1e-8)
    assert shares == pytest.approx(theirs.explained_variance_ratio_.tolist())
    assert torch.equal(two_components(x)[0], plane)
    torch.testing.assert_close(two_components(-x)[0], -plane)


def test_a_projection_with_fewer_than_two_directions() -> None:
    line, shares = two_components(torch.tensor([[1.0], [3.0], [5.0]]))
    torch.testing.assert_close(line, torch.tensor([[-2.0, 0.0], [0.0, 0.0], [2.0, 0.0]], dtype=torch.float64))
    assert shares == [1.0, 0.0]
    assert two_components(torch.ones(1, 4))[0].tolist() == [[0.0, 0.0]]
    assert two_components(torch.ones(3, 4))[1] == [0.0, 0.0]


def test_pictures_stand_beside_each_other_with_grey_between() -> None:
    pictures = torch.arange(1, 4, dtype=torch.uint8).view(1, 3, 1, 1, 1).expand(1, 3, 2, 2, 3)
    row = side_by_side(pictures)
    assert row.shape == (1, 2, 10, 3)
    assert row[0, 0, :, 0].tolist() == [1, 1, 128, 128, 128, 2, 2, 128, 3, 3]


def section_of(folder: Path, *overrides: str) -> Section | None:
    cfg = plain(mltricks.compose([*overrides, "progress=none", "plots=false"]))
    mltricks.train(cfg, folder)
    return features_section(build(cfg), folder)


def parts(section: Section | None, kind: Any) -> list[Any]:
    assert section is not None
    return [part for part in section.parts if isinstance(part, kind)]


def test_the_page_shows_the_map_and_true_neighbours(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    train_digits("plots=true", "technique=ema", "technique.ema.decay=0.8")
    folder = tmp_path / "run"
    page = (folder / "report.html").read_text()
    assert "144 validation samples by the input of the last linear layer, head" in page
    for name in ("feature_map", "neighbours"):
        with Image.open(folder / "plots" / f"{name}.png") as image:
            assert min(image.size) > 100
    cfg = plain(mltricks.compose([*TINY, "epochs=2", "technique=ema", "technique.ema.decay=0.8"]))
    run = build(cfg)
    (gallery,) = parts(features_section(run, folder), Gallery)
    module = mltricks.load(folder).module()
    inputs: list[torch.Tensor] = []
    module.network.get_submodule("head").register_forward_hook(
        lambda _, given, output: inputs.append(given[0].detach().cpu())
    )
    batches = [next(split.batches([torch.arange(len(split))])) for split in (run.data.val, run.data.train)]
    for batch in batches:
        module(batch["x"])
    close = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(inputs[1])
    asked = torch.arange(0, 144, 15)
    at = close.kneighbors(inputs[0][asked], return_distance=False)
    expected = [" · ".join(str(int(batches[1]["y"][i])) for i in row) for row in at]
    assert [more for _, more in gallery.captions] == expected
    assert [true for true, _ in gallery.captions] == [str(int(k)) for k in batches[0]["y"][asked]]
    shown = run.data.info.input.pictures(batches[1]["x"][[int(i) for i in at[0]]])
    assert shown is not None
    assert gallery.pixels.shape == (10, 8, 6 * 8 + 4 + 3, 3)


def test_values_are_coloured_by_fifths_and_vectors_have_no_pictures(tmp_path: Path) -> None:
    section = section_of(tmp_path, *[override.format(here=HERE) for override in KINDS["values"]], "epochs=1")
    (chart,) = parts(section, Chart)
    assert not parts(section, Gallery)
    sizes = [len(trace["x"]) for trace in chart.figure["data"]]
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) <= 1


def test_tokens_have_a_map_of_one_colour(tmp_path: Path) -> None:
    section = section_of(tmp_path, *[o.format(here=HERE) for o in KINDS["tokens"]], "max_steps=2", "batch_size=8")
    (chart,) = parts(section, Chart)
    assert len(chart.figure["data"]) == 1
    assert len(chart.figure["data"][0]["x"]) <= 500
    assert "validation samples" in parts(section, Text)[0].words
    assert not parts(section, Gallery)


def test_pairs_have_neighbours_too(tmp_path: Path) -> None:
    (gallery,) = parts(section_of(tmp_path, *KINDS["pair"], "epochs=1", "data.limit=200"), Gallery)
    assert gallery.pixels.shape[0] == 10


def test_labels_are_one_group() -> None:
    run = build(plain(mltricks.compose([o.format(here=HERE) for o in KINDS["labels"]])))
    names, groups = groups_of(run, torch.zeros(4, 3, dtype=torch.bool))
    assert (len(names), groups.tolist()) == (1, [0, 0, 0, 0])


@pytest.mark.parametrize(
    "overrides", [own_model("NoLinear"), own_model("Twice"), SNAPSHOT], ids=["no linear layer", "twice", "several"]
)
def test_a_model_without_features_has_no_section(
    tmp_path: Path, overrides: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert section_of(tmp_path, "epochs=1", "data.limit=100", *overrides) is None
    assert "could not be made" not in capsys.readouterr().err
