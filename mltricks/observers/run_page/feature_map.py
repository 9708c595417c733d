"""The space of the features of the best weights: a map of validation samples, and the neighbours of some of them.

Both take samples without augmentation, of which there are never more than ``MAPPED`` of validation and ``BANK`` of
training, so that the section costs less than a validation of usual size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mltricks.data.splits import Split
from mltricks.features.encoder import Encoder, Samples, encoded, of_weights
from mltricks.features.projection import two_components
from mltricks.features.scores import drawn
from mltricks.figures.features import feature_map
from mltricks.figures.parts import Chart, Gallery, Section, Text
from mltricks.functional.neighbours import nearest
from mltricks.state import leaves, rebuild
from mltricks.trivial import spread
from mltricks.weights import load_weights

if TYPE_CHECKING:
    from mltricks.build import Run

MAPPED, BANK = 500, 2_000
"""The most samples of validation in the map, and the most training samples among which neighbours are sought."""
QUERIES, NEIGHBOURS = 10, 5
FIFTHS = 5
"""Groups of values that have a colour each."""
GREY = 128
"""Between the pictures of a row: visible on white and on black."""


def features_section(run: Run, folder: Path) -> Section | None:
    """The map and the neighbours; ``None`` without saved weights, or for a model without feature vectors."""
    encode = encoder_in(run, folder)
    if encode is None:
        return None
    size, seed = run.cfg["eval_batch_size"], run.cfg["seed"]
    at = drawn(len(run.data.val), MAPPED, seed)
    try:
        val = encoded(encode, run.data.val, size, at)
    except ValueError:  # its input is no feature vector of a sample
        return None
    plane, shares = two_components(F.normalize(val.x, dim=1))
    figure = feature_map(grouped(run, val.y.cpu(), plane, at), shares)
    said = (
        f"{len(at):,} validation samples by the input of the last linear layer, {encode.layer}, with the best weights: "
        f"{val.x.shape[1]:,} features, scaled to length 1 and projected on their first two principal components."
    )
    parts = [Chart("feature_map", figure, still=True), Text(said), *neighbours(run, encode, val, at)]
    return Section("Features", parts)


def encoder_in(run: Run, folder: Path) -> Encoder | None:
    """The encoder with the best weights of a folder; ``None`` if it has none, or the model has no features."""
    try:
        return of_weights(run.model, load_weights(folder)[0], run.data.info, run.device)
    except ValueError:
        return None


def grouped(
    run: Run, y: Tensor, plane: Tensor, at: Tensor
) -> Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[str]]]:
    """The points of every class, or of every fifth of the values; one group for other targets."""
    texts = [f"no. {i}" + (f", {said}" if said else "") for i, said in zip(at.tolist(), captions(run, y), strict=True)]
    names, of = groups_of(run, y)
    rows = {name: (of == i).nonzero().flatten().tolist() for i, name in enumerate(names)}
    return {
        name: (plane[where, 0].tolist(), plane[where, 1].tolist(), [texts[i] for i in where])
        for name, where in rows.items()
        if where
    }


def groups_of(run: Run, y: Tensor) -> tuple[Sequence[str], Tensor]:
    """The names of groups, and the group of every sample, (N,) int64."""
    if y.ndim == 1 and not y.is_floating_point():
        return run.data.info.class_names, y
    if y.is_floating_point() and y.flatten(1 if y.ndim > 1 else 0).numel() == len(y):
        bounds = torch.linspace(0, 1, FIFTHS + 1).to(y)
        ends = y.flatten().quantile(bounds).tolist()
        names = [f"{low:.3g} to {high:.3g}" for low, high in pairwise(ends)]
        return names, torch.bucketize(y.flatten(), torch.tensor(ends[1:-1]).to(y))
    return ["validation samples"], torch.zeros(len(y), dtype=torch.int64)


def captions(run: Run, y: Tensor) -> list[str]:
    """The target of every sample in a few words; may be empty."""
    return [run.objective.caption(one, run.data.info) for one in y]


def neighbours(run: Run, encode: Encoder, val: Samples, at: Tensor) -> list[Any]:
    """A few validation samples, each with the training samples whose features are most similar to its own."""
    asked = spread(len(at), QUERIES)[:QUERIES]
    queries, kind = raw(run.data.val, at[asked]), run.data.info.input
    if kind.pictures(queries["x"]) is None:
        return []
    among = drawn(len(run.data.train), BANK, run.cfg["seed"])
    bank = encoded(encode, run.data.train, run.cfg["eval_batch_size"], among)
    k = min(NEIGHBOURS, len(among))
    found = nearest(val.x[asked.to(val.x.device)], bank.x, k)[1].cpu()
    close = raw(run.data.train, among[found.flatten()])
    together = [torch.cat(pair) for pair in zip(leaves(queries["x"]), leaves(close["x"]), strict=True)]
    pictures = kind.pictures(rebuild(queries["x"], iter(together)))  # in one call: they share a range of pixels
    assert pictures is not None, "the kind has pictures"
    rows = torch.cat([pictures[: len(asked), None], pictures[len(asked) :].unflatten(0, (len(asked), k))], 1)
    true, theirs = captions(run, queries["y"].cpu()), captions(run, close["y"].cpu())
    said = [(one, " · ".join(theirs[i * k : (i + 1) * k])) for i, one in enumerate(true)]
    words = (
        f"Validation samples, each with the {k} training samples of the largest cosine similarity to the right of it, "
        f"among {len(among):,}. Below: their targets."
    )
    return [Gallery(side_by_side(rows), said, "neighbours", wide=True), Text(words)]


def raw(split: Split, positions: Tensor) -> dict[str, Any]:
    """Samples as a split has them, in one batch."""
    return next(iter(split.batches([positions])))


def side_by_side(pictures: Tensor) -> Tensor:
    """(N, P, H, W, 3) pictures to (N, H, ..., 3): those of a row beside each other, the first one set apart."""
    gap = max(1, pictures.shape[3] // 16)
    strips = F.pad(pictures, (0, 0, gap, 0), value=GREY).permute(0, 2, 1, 3, 4).flatten(2, 3)
    first, others = strips.tensor_split([gap + pictures.shape[3]], 2)
    return torch.cat([first[:, :, gap:], F.pad(others, (0, 0, 2 * gap, 0), value=GREY)], 2)
