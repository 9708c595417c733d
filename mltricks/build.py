"""Build a run from its configuration: data, model, techniques, optimiser, step and state."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.compatibility import (
    check_batches,
    check_engine,
    check_fit,
    check_losses,
    check_one_output,
    check_optim,
    check_prediction,
    check_sampler,
    check_shapes,
)
from mltricks.config.create import create
from mltricks.config.settings import check_settings
from mltricks.data import custom
from mltricks.data.info import Info
from mltricks.data.order import learns, teaching
from mltricks.data.source import Source, in_order
from mltricks.data.splits import DataSplits
from mltricks.freezing import frozen_names, still_norms
from mltricks.functional_model import FunctionalModel
from mltricks.hyper import Hypers
from mltricks.metrics import Metrics, create_metrics
from mltricks.process.atomic import first_line
from mltricks.process.device import choose_device, set_arithmetic, set_threads
from mltricks.schedules.drives import Drives, extract_drives, learning_rate_drives
from mltricks.shapes import Shapes, declared
from mltricks.state import INIT, ORDER, SETUP, State, fold, map_state, reseed
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

DTYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


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
    allow, seed = cfg["allow_modules"], cfg["seed"]
    set_arithmetic(cfg["deterministic"], cfg["precision"]["tf32"])
    device = choose_device(cfg["device"])
    messages = set_threads(cfg["threads"]) if device.type == "cpu" else []
    techniques, drives = create_techniques(cfg, allow)
    optim_node, optim_drives = extract_drives(cfg["optim"], "optim", allow)
    check_optim(optim_node, allow)
    optim, engine = create(optim_node, "optim", allow), create(cfg["engine"], "engine", allow)
    check_engine(engine, optim)
    objective = create(cfg["objective"], "objective", allow)
    data = load_data(cfg, allow).to(device) if data is None else data
    check_fit(objective, techniques, data, cfg)
    check_prediction(optim, techniques)

    source = make_source(cfg, data, objective)
    total_steps = source.total_steps
    batch = normalized(next(source.stream(0)), data.info.normalize)
    module = create_model(cfg, data, seed, allow, objective, batch, messages, given)
    check_batches(source, module, techniques)
    check_one_output(techniques, module, data.info, objective)
    shapes = declared(techniques, data.info.in_shape)
    check_shapes(shapes, module, data.info, objective)
    model, state, frozen = set_up(module, techniques, optim, batch, device, cfg)
    check_losses(objective, techniques, model, state, batch, data.info.num_outputs)
    if source.untaught is not None:
        state["sampler"] = map_state(lambda t: t.to(device, copy=True), source.untaught)
    drives |= optim_drives | learning_rate_drives(cfg, optim, optim_drives, allow, total_steps, source.steps_per_epoch)
    constants = {"optim": floats_of(optim)} | {name: floats_of(t) for name, t in techniques.items()}
    hypers = Hypers(constants, drives, total_steps, device if engine.tensors else None)
    predict = build_predict(model, techniques, data.info.normalize, data.info.num_outputs, optim=optim)
    run = Run(
        cfg, device, data, model, objective, techniques, optim, engine, hypers, source, predict, state, total_steps
    )
    run.frozen, run.shapes, run.messages = frozen, shapes, messages
    run.metrics = create_metrics(cfg["metric"], data.info, objective)
    run.step = compose_step(run)
    return run


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
    )


def make_source(cfg: dict[str, Any], data: DataSplits, objective: Any) -> Source:
    """The stream of training batches, ordered by the configured sampler."""
    sampler = create(cfg["sampler"], "sampler", cfg["allow_modules"])
    check_sampler(sampler, objective)
    return Source(
        data.train,
        sampler,
        cfg["batch_size"],
        fold(cfg["seed"], ORDER),
        cfg["data"].get("drop_last", True),
        data.unlabeled,
        cfg["data"].get("unlabeled_ratio", 0),
        cfg["epochs"],
        cfg["max_steps"],
    )


def create_techniques(cfg: dict[str, Any], allow: list[str]) -> tuple[Techniques, Drives]:
    """The techniques in order, and the schedules of their floats."""
    techniques: Techniques = {}
    drives: Drives = {}
    for name, node in cfg["technique"].items():
        if name in ("technique", "_target_"):
            raise ValueError(
                "a file of a technique does not begin with the line # @package _global_. Put that line first, above "
                "every other comment."
            )
        if not isinstance(node, dict) or "_target_" not in node:
            raise ValueError(
                f"technique.{name} is set, but technique={name} is not chosen, so it has no effect. "
                f"Type technique={name}, or technique=...+{name} if there are others."
            )
        node, own = extract_drives(node, f"technique.{name}", allow)
        techniques[name] = create(node, f"technique.{name}", allow)
        drives |= {(name, setting): drive for (_, setting), drive in own.items()}
    return techniques, drives


def load_data(cfg: dict[str, Any], allow: list[str]) -> DataSplits:
    """Load the data splits that ``cfg.data`` describes."""
    return custom.load_data(cfg["data"], allow)


def create_model(
    cfg: dict[str, Any],
    data: DataSplits,
    seed: int,
    allow: list[str],
    objective: Any,
    batch: Batch | None = None,
    messages: list[str] | None = None,
    given: nn.Module | None = None,
) -> nn.Module:
    """The model, initialised from the run's seed.

    Args:
        cfg, data, seed, allow, objective: of the run.
        batch: a normalised batch for an initialiser whose call names ``batch``, moved to the CPU, where the model is.
            ``None`` takes the first samples of the data.
        messages: list to which the initialiser's message is appended.
        given: the model where a program gave it; a copy is initialised.
    """
    reseed(fold(seed, INIT))
    model = make_model(cfg["model"], data.info, allow, objective, given)
    init, more = create(cfg["init"], "init", allow), {}
    if "batch" in inspect.signature(init).parameters:
        batch = (
            normalized(next(in_order(data.train, cfg["batch_size"])), data.info.normalize) if batch is None else batch
        )
        more = {"batch": map_state(Tensor.cpu, batch)}
    reseed(fold(seed, INIT, 1))
    note = init(model, **more)
    if note is not None and messages is not None:
        messages.append(note)
    return model


def make_model(
    node: dict[str, Any], info: Info, allow: list[str], objective: Any, given: nn.Module | None = None
) -> nn.Module:
    """Construct the model that a configuration node describes, or copy a given one, and materialise its lazy layers.

    Raises:
        ValueError: the object is no module, rejects these inputs, or its outputs do not fit the objective.
    """
    model = constructed(node, info, allow) if given is None else copied(given)
    what = f"model.name={node['name']}" if "name" in node else f"model._target_={node['_target_']}"
    what = what if given is None else f"the given {type(given).__name__}"
    x = info.input.zeros(2)
    try:
        with torch.no_grad():
            output = model.eval()(x)
        model.train()
    except Exception as error:  # a model may raise anything; the user needs to know which model fits
        shapes = map_state(lambda t: f"{tuple(t.shape)} {t.dtype}", x)
        raise ValueError(
            f"{what} cannot take these data ({info.input.kind}, a batch of {shapes}): "
            f"{error}. Type model={info.input.suits}, or change the model's settings."
        ) from error
    try:
        objective.check_outputs(output, 2, info)
    except ValueError as error:
        raise ValueError(
            f"{what} {error}. Let the model take num_outputs={info.num_outputs}, or type model={info.input.suits}."
        ) from error
    return model


def constructed(node: dict[str, Any], info: Info, allow: list[str]) -> nn.Module:
    """The module that a configuration node describes.

    Raises:
        ValueError: the object is no module, or does not fit into memory.
    """
    try:
        model = create(node, "model", allow, in_shape=info.in_shape, num_outputs=info.num_outputs)
    except RuntimeError as error:
        if "allocate" not in str(error):
            raise
        raise ValueError(f"the model does not fit into memory: {first_line(error)}. Type smaller settings.") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model._target_={node['_target_']} gives a {type(model).__name__}, no torch.nn.Module.")
    return model


def copied(given: nn.Module) -> nn.Module:
    """A copy of a module, on the CPU, where models are built; the given one stays as it is.

    Raises:
        ValueError: its content cannot be copied.
    """
    try:
        return copy.deepcopy(given).cpu()
    except Exception as error:  # whatever a module holds may refuse to be copied
        raise ValueError(
            f"the given {type(given).__name__} cannot be copied ({first_line(error)}), and a run trains a copy. "
            "Give a module that copy.deepcopy takes."
        ) from error


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
    model = FunctionalModel(module, DTYPES[cfg["precision"]["dtype"]], device.type, still_norms(module, frozen))
    buffers = {name: places[0][0][places[0][1]].detach().clone() for name, places in model.buffers}
    moving = {name: p for name, p in params.items() if name not in frozen}
    state = {"params": params, "buffers": buffers, "opt": optim.init(moving), "own": own}
    state = map_state(lambda t: t.to(device), state)
    state["step"] = torch.zeros((), dtype=torch.int64, device=device)
    return model, state, frozen
