"""Build a run from its configuration: data, model, techniques, optimiser, step and state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.compatibility.built import check_built, without_effect
from mltricks.compatibility.module import check_module
from mltricks.compatibility.options import check_engine, check_fit, check_prediction
from mltricks.config.create import create
from mltricks.config.settings import check_settings
from mltricks.construct import create_model, create_optim, create_techniques, load_data, make_source
from mltricks.data.order import learns, teaching
from mltricks.data.source import Source
from mltricks.data.splits import DataSplits
from mltricks.freezing import frozen_names, holding, still_norms
from mltricks.functional_model import DTYPES, FunctionalModel
from mltricks.hyper import Hypers
from mltricks.metrics import Metrics, create_metrics
from mltricks.process.device import choose_device, set_arithmetic, set_threads
from mltricks.schedules.drives import learning_rate_drives
from mltricks.shapes import Shapes, declared
from mltricks.state import SETUP, State, fold, map_state, reseed
from mltricks.step import (
    Predict,
    Step,
    Techniques,
    acting_on_host,
    build_predict,
    build_step,
    normalized,
    on_host,
)
from mltricks.technique import floats_of


@dataclass
class Run:
    """All parts of a run. Only ``state`` and ``in_micro_batches`` change it after ``build``."""

    cfg: dict[str, Any]
    device: torch.device
    data: DataSplits
    model: FunctionalModel
    objective: Any
    techniques: Techniques
    optim: Any
    engine: Any
    hypers: Hypers
    source: Source
    predict: Predict
    state: State
    total_steps: int
    frozen: frozenset[str] = frozenset()
    shapes: Shapes | None = None
    metrics: Metrics = field(default_factory=Metrics)
    num_micro: int = 1
    messages: list[str] = field(default_factory=list)
    """Messages for the user, such as which weights came from another run."""
    step: Step = None  # type: ignore[assignment]

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield training batches without end, from batch number ``start`` on.

        Ask for a batch only after the previous step: a learning sampler derives the order of an epoch from the state.
        """
        stream = self.source.stream(start, lambda: self.state["sampler"])
        if acting_on_host(self.techniques):
            stream = (on_host(self.techniques, batch, self.cfg["seed"], i) for i, batch in enumerate(stream, start))
        if self.shapes is None:
            return stream
        shapes, hypers = self.shapes, self.hypers
        return (shapes.bring(batch, hypers.progress(step)) for step, batch in enumerate(stream, start))

    def in_micro_batches(self, num: int) -> None:
        """Rebuild the step so that the innermost gradient is computed over ``num`` micro-batches."""
        self.num_micro = num
        self.step = compose_step(self)

    @property
    def num_params(self) -> int:
        """The number of trained scalars, in the model and in the parameters that techniques add."""
        return sum(p.numel() for name, p in self.state["params"].items() if name not in self.frozen)


def build(cfg: dict[str, Any], data: DataSplits | None = None, given: nn.Module | None = None) -> Run:
    """Build a run.

    Args:
        cfg: the resolved configuration as nested dicts.
        data: the ``run.data`` of another run with the same ``cfg["data"]`` and device, or splits that a program gave,
            on the device; ``None`` loads them.
        given: the model where a program gave it; a copy is trained. ``None`` constructs what ``cfg["model"]`` names.

    Raises:
        ValueError: a value is wrong, options do not fit together, or a setting would have no effect.
    """
    check_settings(cfg)
    allow = cfg["allow_modules"]
    set_arithmetic(cfg["deterministic"], cfg["precision"]["tf32"])
    device = choose_device(cfg["device"])
    messages = [*(set_threads(cfg["threads"]) if device.type == "cpu" else []), *idle_on(device, cfg)]
    techniques, drives = create_techniques(cfg, allow)
    optim, optim_drives, notes = create_optim(cfg, allow)
    engine = create(cfg["engine"], "engine", allow)
    check_engine(engine, optim, techniques)
    objective = create(cfg["objective"], "objective", allow)
    data = data_of(cfg, device) if data is None else data
    check_fit(objective, techniques, data, cfg)
    objective = objective.fitted(data)
    check_prediction(optim, techniques)

    source = make_source(cfg, data, objective)
    total_steps = source.total_steps
    raw = next(source.stream(0))
    batch = normalized(raw, data.info.normalize)
    module = create_model(cfg, data, cfg["seed"], allow, objective, batch, messages, given)
    shapes = declared(techniques, data.info.in_shape)
    check_module(module, source, data.info, objective, techniques, shapes)
    model, state, frozen = set_up(module, techniques, optim, batch, device, cfg)
    if source.untaught is not None:
        state["sampler"] = map_state(lambda t: t.to(device, copy=True), source.untaught)
    drives |= optim_drives | learning_rate_drives(cfg, optim, optim_drives, allow, total_steps, source.steps_per_epoch)
    hypers = Hypers(floats_in(optim, techniques), drives, total_steps, device if engine.tensors else None)
    predict = build_predict(model, techniques, data.info.normalize, data.info.num_outputs, optim=optim)
    run = Run(
        cfg, device, data, model, objective, techniques, optim, engine, hypers, source, predict, state, total_steps
    )
    run.frozen, run.shapes, run.messages = frozen, shapes, [*messages, *data.notes, *notes]
    check_built(run, raw)
    run.messages += [*(note for technique in techniques.values() for note in technique.notes), *without_effect(run)]
    run.metrics = create_metrics(cfg["metric"], data.info, objective)
    run.step = compose_step(run)
    return run


def data_of(cfg: dict[str, Any], device: torch.device) -> DataSplits:
    """The splits on the device; where the configuration says so, another run's predictions label some samples."""
    data = load_data(cfg, cfg["allow_modules"]).to(device)
    if (source := cfg["data"].get("statistics")) is not None:
        from mltricks.input_statistics import with_statistics

        data = with_statistics(data, source, cfg["allow_modules"])
    if data.aside is None:
        return data
    from mltricks.pseudo_labelling import labelled

    return labelled(data, cfg, device)


def floats_in(optim: Any, techniques: Techniques) -> dict[str, dict[str, float]]:
    """The float hyperparameters of the optimiser, its groups' included, and of every technique."""
    own = floats_of(optim) | getattr(optim, "group_rates", {})
    return {"optim": own} | {name: floats_of(t) for name, t in techniques.items()}


def idle_on(device: torch.device, cfg: dict[str, Any]) -> list[str]:
    """A line for every setting that only counts on other devices; one command serves several machines."""
    given = {"precision.tf32=true": cfg["precision"]["tf32"] is True and device.type != "cuda"}
    given[f"threads={cfg['threads']}"] = cfg["threads"] is not None and device.type != "cpu"
    return [f"note: {setting} has no effect on device={device.type}" for setting, is_idle in given.items() if is_idle]


def compose_step(run: Run) -> Step:
    """The run's step as its engine executes it."""
    return run.engine(pure_step(run, run.data.info.normalize, run.engine.donate), run.device)


def pure_step(run: Run, normalize: Callable[[Tensor], Tensor], donate: bool = False) -> Step:
    """The run's step without its engine; the arguments are those of ``build_step``."""
    source = run.source
    return build_step(
        run.model,
        run.objective,
        run.techniques,
        run.optim,
        normalize,
        run.data.info.num_outputs,
        donate,
        teaching(source.sampler, source.steps_per_epoch) if learns(source.sampler) else None,
        run.frozen,
        run.num_micro,
        source.steps_per_epoch,
    )


def set_up(
    module: nn.Module,
    techniques: Techniques,
    optim: Any,
    batch: Batch,
    device: torch.device,
    cfg: dict[str, Any],
) -> tuple[FunctionalModel, State, frozenset[str]]:
    """Run every technique's ``setup`` and create the state; the third result names the frozen parameters."""
    module.to(device)
    probe = FunctionalModel(module)
    params = {name: places[0][0][places[0][1]].detach().clone() for name, places in probe.params}
    own: dict[str, Any] = {}
    for i, (name, technique) in enumerate(techniques.items()):
        seed = fold(cfg["seed"], SETUP, i)
        reseed(seed)
        params, own[name] = technique.setup(module, params, batch, seed)
    constants = {name for name, places in probe.params if not places[0][0][places[0][1]].requires_grad}
    frozen = frozen_names(techniques, params, constants)
    still = still_norms(module, frozen_names(holding(techniques), params, constants))
    model = FunctionalModel(module, DTYPES[cfg["precision"]["dtype"]], device.type, still)
    buffers = {name: places[0][0][places[0][1]].detach().clone() for name, places in model.buffers}
    moving = {name: p for name, p in params.items() if name not in frozen}
    state = {"params": params, "buffers": buffers, "opt": optim.init(moving), "own": own}
    state = map_state(lambda t: t.to(device), state)
    state["step"] = torch.zeros((), dtype=torch.int64, device=device)
    return model, state, frozen
