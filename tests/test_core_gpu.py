"""Samplers, freezing and changing shapes on a CUDA device, under every engine.

No configuration is composed here, so this file needs only torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from bare import CLASSES, params_of, sgd, small_net
from test_learning_samplers import ByLoss
from test_shapes import AnySize, Grow
from torch import nn

from mltricks.batch import Batch
from mltricks.data.order import first_held, teaching
from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.engine import Eager, Graph, Traced
from mltricks.functional_model import FunctionalModel
from mltricks.objectives.classify import Classify
from mltricks.samplers.shuffle import Shuffle
from mltricks.shapes import declared
from mltricks.state import State, map_state
from mltricks.step import build_step
from mltricks.technique import floats_of
from mltricks.techniques.freeze import Freeze

ENGINES = [Eager(), Traced(), Graph(warmup_steps=2)]
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
LENGTH = 24


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Make convolutions deterministic."""
    kept = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = kept


class Small:
    """A run without configuration: 96 images, 6 updates an epoch.

    Args:
        engine: executes the step.
        module: the network.
        sampler: the sampler of the source.
        techniques: techniques by name.
    """

    def __init__(self, engine: Any, module: nn.Module, sampler: Any, **techniques: Any):
        device = torch.device("cuda")
        generator = torch.Generator().manual_seed(0)
        x, y = torch.randn(96, 1, 8, 8, generator=generator), torch.randint(CLASSES, (96,), generator=generator)
        split = MemorySplit(x.to(device), y.to(device))
        self.source, self.optim, module = Source(split, sampler, 16, 0), sgd(0.1, 0.9, 0.01), module.to(device)
        params = params_of(module)
        frozen = {name for t in techniques.values() for name in t.frozen(params)}
        self.shapes, self.tensors = declared(techniques, (1, 8, 8)), engine.tensors
        self.state: State = {"params": params, "buffers": {}, "own": {name: {} for name in techniques}}
        self.state["opt"] = self.optim.init({name: p for name, p in params.items() if name not in frozen})
        self.state["step"] = torch.zeros((), dtype=torch.int64, device=device)
        learn = None
        if isinstance(sampler, ByLoss):
            self.state["sampler"] = map_state(lambda t: t.to(device), first_held(sampler, split))
            learn = teaching(sampler, self.source.steps_per_epoch)
        model = FunctionalModel(module)
        step = build_step(model, Classify(), techniques, self.optim, lambda x: x, CLASSES, engine.donate, learn, frozen)
        self.step = engine(step, device)

    def batches(self, start: int) -> Iterator[Batch]:
        stream = enumerate(self.source.stream(start, lambda: self.state["sampler"]), start)
        return (batch if self.shapes is None else self.shapes.bring(batch, step / LENGTH) for step, batch in stream)

    def hyper(self) -> dict[str, Any]:
        fed: dict[str, Any] = {"progress": 0.0, "optim": floats_of(self.optim)}
        return map_state(lambda v: torch.tensor(v, device="cuda"), fed) if self.tensors else fed

    def advance(self, steps: int, start: int = 0) -> list[float]:
        losses = []
        for batch in islice(self.batches(start), steps):
            self.state, metrics = self.step(self.state, batch, self.hyper())
            losses.append(metrics["loss"])
        return torch.stack(losses).tolist()


def learning(engine: Any) -> Small:
    return Small(engine, small_net(), ByLoss())


def growing(engine: Any) -> Small:
    torch.manual_seed(0)
    return Small(engine, AnySize((1, 8, 8), CLASSES, 4), Shuffle(), grow=Grow(until=0.5))


def freezing(engine: Any) -> Small:
    return Small(engine, small_net(), Shuffle(), freeze=Freeze(include=["3.*"], exclude=[], norms="fixed"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [learning, growing, freezing])
def test_it_resumes_bit_for_bit_and_equals_eager(make: Any, engine: Any) -> None:
    whole, part, other, eager = make(engine), make(engine), make(engine), make(Eager())
    losses = whole.advance(20)
    part.advance(9)
    other.state = map_state(torch.clone, part.state)
    assert other.advance(11, 9) == losses[9:]
    assert losses == pytest.approx(eager.advance(20), abs=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_parameters_stay_bit_for_bit(engine: Any) -> None:
    run = freezing(engine)
    before = {name: p.clone() for name, p in run.state["params"].items()}
    run.advance(6)
    moved = {name for name, p in run.state["params"].items() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if not name.startswith("3")}


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("make", [learning, freezing])
def test_the_host_never_waits_within_a_step(make: Any, engine: Any) -> None:
    run = make(engine)
    run.advance(4)
    batch, hyper = next(run.batches(4)), run.hyper()
    torch.cuda.synchronize()
    try:
        torch.cuda.set_sync_debug_mode("error")
        run.state, _ = run.step(run.state, batch, hyper)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert int(run.state["step"]) == 5


def test_a_capture_copies_only_the_inputs_that_it_reads() -> None:
    with_index, learns = freezing(ENGINES[2]), learning(ENGINES[2])
    with_index.advance(1)
    learns.advance(1)
    (capture,), (other,) = with_index.step.captures.values(), learns.step.captures.values()
    assert 2 not in capture.reads, "x, y, index"
    assert 2 in other.reads


def test_every_shape_has_its_own_capture() -> None:
    run = growing(ENGINES[2])
    run.advance(20)
    assert len(run.step.captures) == 3
