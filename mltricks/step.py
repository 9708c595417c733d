"""The training step: a pure function composed once from the configuration. This file documents the step.

``build_step`` closes over structure only. Everything that changes between steps is an argument: the state, the batch,
and ``hyper``, the float hyperparameters at this step (numbers, or 0-d tensors under a tracing engine).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import INPUTS, Batch
from mltricks.data.order import PER_SAMPLE, Learn
from mltricks.functional.micro_batches import in_micro_batches
from mltricks.functional.wrapped_model import Recorded
from mltricks.functional_model import FunctionalModel
from mltricks.optim.kernels import update_of
from mltricks.state import HOST, State, fold, map_state, reseed
from mltricks.technique import Aux, Ctx, GradFn, LossFn, Params, PredFn, Technique, bind, defines

Hyper = dict[str, Any]
"""Keys: ``progress``; ``optim`` with the optimiser's floats; and every technique's name with its floats."""
Metrics = dict[str, Tensor]
Step = Callable[[State, Batch, Hyper], tuple[State, Metrics]]
Techniques = dict[str, Technique]
"""The techniques of a run by name, in the order in which a call passes through them."""


def build_step(
    model: FunctionalModel,
    objective: LossFn,
    techniques: Techniques,
    optim: Any,
    normalize: Callable[[Tensor], Tensor],
    num_outputs: int,
    donate: bool = False,
    learn: Learn | None = None,
    frozen: Collection[str] = (),
    num_micro: int = 1,
    steps_per_epoch: int | None = None,
) -> Step:
    """Compose the step.

    Args:
        model: the model as a function.
        objective: the innermost loss.
        techniques: all of a run, augment ++ regularizer ++ technique.
        optim: an optimiser with ``init(params)`` and ``update(grads, opt, params)``, and optionally
            ``evaluate(params, opt)``, which returns the weights to predict with.
        normalize: maps raw inputs to the model's inputs; runs before the first technique that needs it.
        num_outputs: width of the model's output.
        donate: let the optimiser overwrite the given state if it has a fused kernel for that. The caller must then not
            use that state again.
        learn: updates a learning sampler's tensors from the losses of a batch.
        frozen: names of frozen parameters; the optimiser's ``init`` must not have seen them.
        num_micro: number of micro-batches for the innermost gradient, for batches too large for the memory;
            techniques still see the gradient of the batch that they asked for.
        steps_per_epoch: updates an epoch, for techniques that count epochs.
    """
    objective = objective if learn is None else with_sample_losses(objective)
    raw, ready = split_at_normalize(techniques)
    needs_previous = any(t.needs_previous for t in techniques.values())
    afters = in_order_of_change(techniques)

    @torch.no_grad()
    def step(state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        bound = {name: bind(t, hyper.get(name, {})) for name, t in techniques.items()}
        parts = dict(state["buffers"]), state["own"], state["step"]
        ctx = Ctx(model, *parts, hyper["progress"], num_outputs, steps_per_epoch=steps_per_epoch)
        batch = normalized(through(bound, raw, batch, ctx), normalize)
        batch = through(bound, ready, batch, ctx)
        before, opt = state["params"], state["opt"]
        moving = {name: p for name, p in before.items() if name not in frozen} if frozen else before
        base = gradient(onion(bound, "loss", objective), before if frozen else {})
        grads, aux = onion(bound, "grads", in_micro_batches(base, num_micro))(moving, batch, ctx)
        taught = {} if learn is None else {"sampler": learn(state["sampler"], state["step"], batch, aux)}
        aux["previous"] = {name: p.clone() for name, p in before.items()} if needs_previous else before
        params, opt = updated(bind(optim, hyper["optim"]), grads, opt, moving, donate, aux.get("finite"))
        params = {**before, **params} if frozen else params
        aux["grads"] = grads
        params, own = through_after(bound, afters, params, ctx, aux)

        new = {"params": params, "buffers": ctx.buffers, "opt": opt, "own": own, "step": state["step"] + 1, **taught}
        return new, aux["metrics"]

    return step


def normalized(batch: Batch, normalize: Callable[[Any], Any]) -> Batch:
    """A batch whose inputs are as the model sees them."""
    return {key: normalize(value) if key in INPUTS else value for key, value in batch.items()}


def updated(
    optim: Any, grads: Params, opt: Any, params: Params, donate: bool, finite: Tensor | None
) -> tuple[Params, Any]:
    """The optimiser's update; where ``finite`` is false, parameters and optimiser tensors stay unchanged."""
    new_params, new_opt = update_of(optim, donate, finite is not None)(grads, opt, params)
    if finite is None:
        return new_params, new_opt
    return keep_where(finite, new_params, params), keep_where(finite, new_opt, opt)


def through_after(
    techniques: Techniques, names: Sequence[str], params: Params, ctx: Ctx, aux: Aux
) -> tuple[Params, dict[str, Any]]:
    """Pipe the parameters through the ``after`` verb of the named techniques, each with its own tensors."""
    own = dict(ctx.all_own)
    for name in names:
        changed, own[name] = techniques[name].after(params, ctx.scope(name), aux)
        assert changed is params or techniques[name].after_changes != "own", f"technique={name}: after only reads"
        params = changed
    return params, own


def with_sample_losses(objective: Any) -> LossFn:
    """Wrap an objective so that ``Aux`` also holds the per-sample losses, computed from the same outputs.

    Where the batch has weights, the loss is the mean of the weighed losses.
    """

    def loss(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        model = Recorded(ctx.model)
        value, aux = objective(params, batch, replace(ctx, model=model))
        assert model.first is not None, "the objective runs the model"
        if "weight" in batch:
            value = weighed(objective.per_sample(model.first[1], batch["y"]), batch["weight"])
            aux = {**aux, "metrics": {**aux["metrics"], "loss": value}}
        with torch.no_grad():
            return value, {
                **aux,
                PER_SAMPLE: objective.per_sample(map_state(Tensor.detach, model.first[1]), batch["y"]),
            }

    return loss


def weighed(losses: Tensor, weight: Tensor) -> Tensor:
    """The mean of the weighed losses of a batch, each (B,)."""
    if losses.shape != weight.shape:
        raise ValueError(
            f"the sampler weighs {len(weight)} samples, and a technique makes a batch of {len(losses)} of them. Leave "
            "it out, or type sampler=shuffle."
        )
    return (losses * weight).mean()


def gradient(loss: LossFn, constants: Mapping[str, Tensor] = MappingProxyType({})) -> GradFn:
    """The innermost gradient function: reverse-mode differentiation of a loss.

    Args:
        loss: the loss.
        constants: all parameters, if only some of them are differentiated.
    """

    def grads(params: Params, batch: Batch, ctx: Ctx) -> tuple[Params, dict[str, Any]]:
        with torch.enable_grad():
            leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
            value, aux = loss({**constants, **leaves} if constants else leaves, batch, ctx)
            if ctx.grad_scale is not None:
                value = value * ctx.grad_scale
            found = torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
        aux["metrics"] = {name: metric.detach() for name, metric in aux["metrics"].items()}
        ctx.buffers.update({name: b.detach() for name, b in ctx.buffers.items() if b.requires_grad})
        return dict(zip(leaves, found, strict=True)), aux

    return grads


def onion(techniques: Techniques, verb: str, base: Any) -> Any:
    """Wrap ``base`` in a verb of every technique that defines it; the first technique is outermost."""
    fn = base
    for name, technique in reversed(techniques.items()):
        if defines(technique, verb):
            fn = _scoped(name, getattr(technique, verb)(fn))
    return fn


def _scoped(name: str, fn: Any) -> Any:
    """Give ``fn`` the context of technique ``name``, whose ``own`` is that technique's."""

    def scoped(params: Params, data: Any, ctx: Ctx) -> Any:
        return fn(params, data, ctx.scope(name))

    return scoped


def through(techniques: Techniques, names: Sequence[str], batch: Batch, ctx: Ctx) -> Batch:
    """Pipe a batch through the ``batch`` verb of the named techniques."""
    for name in names:
        batch = techniques[name].batch(batch, ctx.scope(name))
    return batch


def acting_on_host(techniques: Techniques) -> list[str]:
    """The names of the techniques that change batches before the step."""
    return [name for name, technique in techniques.items() if defines(technique, "on_host")]


def on_host(techniques: Techniques, batch: Batch, seed: int, step: int) -> Batch:
    """Pipe a batch through the ``on_host`` of the techniques, with the random numbers of this seed and step."""
    reseed(fold(seed, HOST, step))
    for name in acting_on_host(techniques):
        batch = techniques[name].on_host(batch)
    return batch


def split_at_normalize(techniques: Techniques) -> tuple[list[str], list[str]]:
    """The names of the techniques that change the batch before and after it is normalised."""
    names = [name for name, t in techniques.items() if defines(t, "batch")]
    first = next((i for i, name in enumerate(names) if not works_on_raw(techniques[name])), len(names))
    return names[:first], names[first:]


def in_order_of_change(techniques: Techniques) -> list[str]:
    """The names of the techniques with ``after``: those that scale the update, then set weights, then read weights.

    Within each of the three kinds the order of the list holds. So wherever a technique is in the list, an average
    sees the step's final weights, and no scaling undoes a pruning mask.
    """
    names = [name for name, t in techniques.items() if defines(t, "after")]
    return sorted(names, key=lambda name: ("update", "weights", "own").index(techniques[name].after_changes))


def works_on_raw(technique: Technique) -> bool:
    """Whether ``batch`` accepts raw uint8 pixels."""
    return technique.on_raw or technique.needs_raw


def keep_where(flag: Tensor, new: Any, old: Any) -> Any:
    """Select leaf by leaf the new value where ``flag`` is true, else the old one. No Python branch, no sync."""
    if isinstance(new, dict):
        return {key: keep_where(flag, new[key], old[key]) for key in new}
    return torch.where(flag, new, old)


Predict = Callable[[State, Tensor], Tensor]
"""Maps the state and raw inputs (B, ...) to outputs (B, K)."""


def apply_model(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
    """The innermost prediction function: the model itself."""
    return ctx.apply(params, x)


def build_predict(
    model: FunctionalModel,
    techniques: Techniques,
    normalize: Callable[[Tensor], Tensor],
    num_outputs: int,
    base: PredFn = apply_model,
    optim: Any = None,
) -> Predict:
    """Compose the prediction through every ``evaluate`` verb.

    Args:
        model, techniques, normalize, num_outputs: as for ``build_step``.
        base: the innermost function; it receives the parameters to predict with.
        optim: the optimiser, if the state holds its tensors: it may predict with other weights than it trains.
    """
    predict = onion(techniques, "evaluate", base)

    @torch.no_grad()
    def run(state: State, x: Tensor) -> Tensor:
        own = state["own"]
        ctx = Ctx(model, dict(state["buffers"]), own, state["step"], 1.0, num_outputs, train=False)
        return predict(predicting_params(optim, state), normalize(x), ctx)

    return run


def predicting_params(optim: Any, state: State) -> Params:
    """The parameters that prediction starts from: those of the state, or the optimiser's own version of them."""
    evaluate = getattr(optim, "evaluate", None)
    return state["params"] if evaluate is None else evaluate(state["params"], state["opt"])
