"""A traced step as one CUDA graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from mltricks.batch import Batch
from mltricks.graph.replay import replay
from mltricks.graph.tracing import trace
from mltricks.state import State, leaves, map_state, rebuild
from mltricks.step import Hyper, Metrics, Step


class CapturedStep:
    """A step that is captured once for every set of input shapes, and replayed from then on.

    The state lives in the capture's own tensors: it is copied in once and then updated in place, so a returned state
    must not be used after the next call. Reseeding between steps works, because every replay reads the generator's
    seed and offset again.
    """

    def __init__(self, step: Step, warmup_steps: int):
        self.step, self.warmup_steps = step, warmup_steps
        self.captures: dict[Any, _Capture] = {}
        self.state: State | None = None

    @torch.no_grad()
    def __call__(self, state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        if self.state is None:
            self.state = map_state(torch.clone, state)
        elif state is not self.state:
            torch._foreach_copy_(list(leaves(self.state)), list(leaves(state)))
        key = tuple((x.shape, x.dtype) for x in leaves(batch))
        if key not in self.captures:
            with torch.random.fork_rng(devices=[state["step"].device]):
                self.captures[key] = _Capture(self.step, self.state, batch, hyper, self.warmup_steps)
        return self.state, self.captures[key].replay(batch, hyper)


class _Capture:
    """One captured graph and the tensors it reads and writes."""

    def __init__(self, step: Step, state: State, batch: Batch, hyper: Hyper, warmup_steps: int):
        graph, shape = trace(step, state, batch, hyper)
        run = replay(graph)
        self.inputs = [leaf.clone() for leaf in (*leaves(batch), *leaves(hyper))]
        held = list(leaves(state))
        self.reads = [i - len(held) for i in read(graph) if i >= len(held)]
        before = [leaf.clone() for leaf in held]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmup_steps):
                run(*held, *self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            result = rebuild(shape, iter(run(*held, *self.inputs)))
            torch._foreach_copy_(held, list(leaves(result["state"])))
        self.metrics: dict[str, Tensor] = result["metrics"]
        torch._foreach_copy_(held, before)

    def replay(self, batch: Batch, hyper: Hyper) -> Metrics:
        """Run the graph on a batch. The metrics are copied, since the next replay overwrites them."""
        given = [*leaves(batch), *leaves(hyper)]
        copied = [self.inputs[i] for i in self.reads]
        torch._foreach_copy_(copied, [given[i] for i in self.reads], non_blocking=True)
        self.graph.replay()
        return {name: value.clone() for name, value in self.metrics.items()}


def read(graph: fx.GraphModule) -> list[int]:
    """The positions of the inputs that a graph reads; the others, as a batch's ``index``, need not be copied."""
    placeholders = [node for node in graph.graph.nodes if node.op == "placeholder"]
    return [i for i, node in enumerate(placeholders) if node.users]


class CapturedGraph:
    """A graph module as one CUDA graph. Inputs are copied in and results copied out: both belong to the capture."""

    def __init__(self, graph: fx.GraphModule, example: list[Tensor], warmup_steps: int):
        self.inputs, self.reads, run = [t.clone() for t in example], read(graph), replay(graph)
        before = [t.clone() for t in example]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(warmup_steps):
                run(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = list(run(*self.inputs))
        torch._foreach_copy_(self.inputs, before)

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        copied = [self.inputs[i] for i in self.reads]
        torch._foreach_copy_(copied, [inputs[i] for i in self.reads], non_blocking=True)
        self.graph.replay()
        return [t.clone() for t in self.results]
