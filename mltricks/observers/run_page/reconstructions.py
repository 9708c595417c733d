"""What a technique that reconstructs its inputs made of samples that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mltricks.figures.parts import Gallery, Section, Table, Text
from mltricks.functional.reconstruction import Reconstruction, Reconstructs
from mltricks.state import reseed_step
from mltricks.step import predicting_params
from mltricks.technique import Ctx, bind
from mltricks.trivial import spread

if TYPE_CHECKING:
    from mltricks.build import Run

NUM_SAMPLES = 256
"""Test samples whose error is measured, at most."""
NUM_SHOWN = 10


def reconstructions_section(run: Run) -> Section | None:
    """Test samples as they are, as the model saw them, and reconstructed, by the first technique that does so."""
    name = next((name for name, t in run.techniques.items() if isinstance(t, Reconstructs)), "")
    if not name:
        return None
    found = reconstructed(run, name)
    rows = [["reconstruction", float(found.error)], [found.trivial_words, float(found.trivial)]]
    parts: list[Gallery | Table | Text] = [Table(["", found.words], rows)]
    pictures = side_by_side(run, list(found.steps.values()))
    if pictures is not None:
        captions = [("", ", ".join(found.steps))] + [("", "")] * (len(pictures) - 1)
        parts.insert(0, Gallery(pictures, captions, "reconstructions", wide=True))
    draws = f"Test samples, with draws of {name} that training did not see, and the weights of the last update."
    return Section("Reconstructions", [*parts, Text(f"{draws} {found.note}".strip())])


def reconstructed(run: Run, name: str) -> Reconstruction:
    """Reconstruct test samples; the run's state and the random state of the process stay as they are."""
    technique = bind(run.techniques[name], run.hypers.at(run.total_steps - 1).get(name, {}))
    at = spread(len(run.data.test), NUM_SAMPLES)[:NUM_SAMPLES]  # a split may be sorted by class
    x = run.data.info.normalize(next(run.data.test.batches([at]))["x"])
    parts = dict(run.state["buffers"]), run.state["own"], run.state["step"]
    ctx = Ctx(run.model, *parts, 1.0, run.data.info.num_outputs, train=False).scope(name)
    with torch.no_grad(), torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        reseed_step(run.cfg["seed"], run.total_steps)
        found: Reconstruction = technique.reconstruct(predicting_params(run.optim, run.state), x, ctx)
    return found


def side_by_side(run: Run, steps: list[Tensor]) -> Tensor | None:
    """Samples as pictures (N, H, W, 3), the steps of each beside each other; ``None`` if the kind has no pictures."""
    shown = [step[spread(len(step), NUM_SHOWN)[:NUM_SHOWN].to(step.device)] for step in steps]
    pictures = run.data.info.input.pictures(run.data.info.input.denormalize(torch.cat(shown)))
    if pictures is None:
        return None
    gap = torch.full_like(pictures[: len(shown[0]), :, : max(1, pictures.shape[2] // 16)], 255)
    return torch.cat([part for step in pictures.split(len(gap)) for part in (gap, step)][1:], 2)
