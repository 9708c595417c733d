"""Samples whose shape changes during a run, within a declared set of shapes, by the progress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pytest
import torch
from contract import advance, assert_same, largest_difference, make

import mltricks
from mltricks import checkpoint
from mltricks.batch import Batch
from mltricks.build import Run
from mltricks.config.values import Fraction
from mltricks.launch.check import check_parts, check_whole
from mltricks.shapes import declared
from mltricks.show import describe
from mltricks.stack.run import StackedRun, build_all
from mltricks.technique import Shape, Technique


@dataclass(frozen=True)
class Grow(Technique):
    """Images of half the side, then three quarters, then full size; smaller ones leave out rows and columns.

    Args:
        until: share of the run from which images have full size.
    """

    until: Fraction

    def shapes(self, in_shape: Shape) -> Sequence[tuple[float, Shape]]:
        channels, side, _ = in_shape
        sizes = (side // 2, side * 3 // 4, side)
        return [(self.until * k / 2, (channels, size, size)) for k, size in enumerate(sizes)]

    def reshape(self, batch: Batch, shape: Shape) -> Batch:
        side = batch["x"].shape[-1]
        kept = torch.arange(shape[-1], device=batch["x"].device) * side // shape[-1]
        return {**batch, "x": batch["x"].index_select(2, kept).index_select(3, kept)}


GROW = [f"+technique.grow._target_={__name__}.Grow", f"allow_modules=[{__name__}]", "data.limit=96", "optim=sgd"]


class AnySize(torch.nn.Module):
    """A convolution and a mean over positions, which takes images of any size."""

    def __init__(self, in_shape: Shape, num_outputs: int, width: int):
        super().__init__()
        self.conv, self.head = torch.nn.Conv2d(in_shape[0], width, 3), torch.nn.Linear(width, num_outputs)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))


NET = ["model=custom", f"model._target_={__name__}.AnySize", "+model.width=4"]


def growing(*overrides: str, until: float = 0.5, net: Sequence[str] = NET) -> Run:
    return make(*GROW, f"+technique.grow.until={until}", *net, *overrides)


def test_the_shape_is_a_function_of_the_progress() -> None:
    run = growing()
    assert run.total_steps == 24
    assert [run.shapes.at(step / 24)[1] for step in range(24)] == [4] * 6 + [6] * 6 + [8] * 12
    sides = [batch["x"].shape[-1] for batch in islice(run.batches(4), 10)]
    assert sides == [4] * 2 + [6] * 6 + [8] * 2
    source = next(run.source.stream(13))
    assert_same(next(run.batches(13)), source)


def test_a_step_equals_that_on_batches_resized_by_hand() -> None:
    run, plain = growing(), make("data.limit=96", "optim=sgd", f"allow_modules=[{__name__}]", *NET)
    losses = advance(run, 2)
    for step, batch in enumerate(islice(plain.source.stream(0), 2)):
        batch["x"] = batch["x"][:, :, ::2, ::2]
        plain.state, metrics = plain.step(plain.state, batch, plain.hypers.at(step))
        assert float(metrics["loss"]) == pytest.approx(losses[step], abs=1e-6)


@pytest.mark.parametrize("normal", [[], ["technique=mixup"], ["augment=standard"]])
def test_traced_equals_eager_and_keeps_one_recording_a_shape(normal: list[str]) -> None:
    eager, traced = growing(*normal), growing(*normal, "engine=traced")
    assert advance(traced, 16) == pytest.approx(advance(eager, 16), abs=1e-5)
    assert largest_difference(eager.state, traced.state) < 1e-5
    assert len(traced.step.graphs) == 3


@pytest.mark.slow
@pytest.mark.inductor
def test_compiled_equals_eager() -> None:
    eager, compiled = growing(), growing("engine=compile")
    assert advance(compiled, 14) == pytest.approx(advance(eager, 14), abs=1e-5)
    assert len(compiled.step.graphs) == 3


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize("stop", [5, 6, 7, 11])
def test_a_run_resumes_bit_for_bit_across_a_change(engine: str, stop: int, tmp_path: Path) -> None:
    whole, part = growing(f"engine={engine}"), growing(f"engine={engine}")
    losses = advance(whole, 14)
    advance(part, stop)
    checkpoint.save(tmp_path / "last.pt", part.state, part.cfg)
    other = growing(f"engine={engine}")
    other.state = checkpoint.restore(checkpoint.load(tmp_path / "last.pt")["state"], other.state, tmp_path)
    assert advance(other, 14 - stop, stop) == losses[stop:]
    assert_same(whole.state, other.state)


@pytest.mark.parametrize("seeds", [(0, 1), (0, 0)])
@pytest.mark.parametrize("more", [[], ["augment=standard"]])
def test_a_stack_equals_the_runs_alone(seeds: tuple[int, int], more: list[str]) -> None:
    cfgs = [growing(f"seed={seed}", f"optim.lr={0.01 * (k + 1)}", *more).cfg for k, seed in enumerate(seeds)]
    stacked = StackedRun(build_all(cfgs))
    losses = stacked.advance(16)["loss"]
    assert len(stacked.step.graphs) == 3
    for k, run in enumerate(build_all(cfgs)):
        assert losses[k].tolist() == pytest.approx(advance(run, 16), abs=1e-5)
        assert largest_difference(stacked.row(k), run.state) < 1e-5


def test_a_stack_of_different_times_is_refused() -> None:
    cfgs = [growing(until=until).cfg for until in (0.5, 0.8)]
    with pytest.raises(ValueError, match="their samples change their shape at different times"):
        StackedRun(build_all(cfgs))


def test_a_whole_run_trains_and_is_measured_at_full_size(tmp_path: Path) -> None:
    summary = mltricks.train(growing("epochs=2", "plots=false").cfg, tmp_path)
    assert summary.status == "completed"
    assert mltricks.load(tmp_path, allow_modules=[__name__]).predict(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)).any()


def test_show_tells_when_the_shape_changes() -> None:
    assert "in training 1x4x4 from 0% of the run, 1x6x6 from 25% of the run, 1x8x8 from 50%" in "\n".join(
        describe(growing())
    )


def test_a_model_of_fixed_size_is_refused_before_it_trains() -> None:
    refusal = r"trains on samples of shape \(1, 4, 4\), and model=mlp cannot take them.*model=convnet model.head_pool"
    with pytest.raises(ValueError, match=refusal):
        growing(net=["model=mlp", "model.width=8"])
    cfg = growing().cfg
    cfg["model"] = make("model=mlp", "model.width=8").cfg["model"]
    with pytest.raises(ValueError, match=refusal):
        check_whole(cfg, check_parts(cfg), {})


def test_wrong_declarations_are_refused() -> None:
    @dataclass(frozen=True)
    class Table(Technique):
        table: list

        def shapes(self, in_shape):
            return self.table

        def reshape(self, batch, shape):
            return batch

    class Bare(Technique):
        def shapes(self, in_shape):
            return [(0.0, (4,)), (0.5, (8,))]

    good = Table([(0.0, (4,)), (0.5, (8,))])
    assert declared({"a": good}, (8,)).at(0.49) == (4,)
    assert declared({"a": Table([]), "b": Table([(0.0, (8,))])}, (8,)) is None
    for table in ([(0.1, (4,))], [(0.0, (4,)), (0.0, (8,))], [(0.0, (4,)), (0.5, (8,)), (0.4, (4,))]):
        with pytest.raises(ValueError, match=r"technique=a declares shapes from .* must rise from 0"):
            declared({"a": Table(table)}, (8,))
    with pytest.raises(ValueError, match=r"technique=bare declares shapes .* needs reshape"):
        declared({"bare": Bare()}, (8,))
    with pytest.raises(ValueError, match="technique=a and technique=b both change the shape"):
        declared({"a": good, "b": good}, (8,))
