"""The training step: a pure function composed once from the configuration. This file is the documentation of the loop.

``build_step`` closes over structure only. Everything that changes from step to step comes in as an argument: the state,
the batch, and ``hyper``, the float hyperparameters at this step (numbers, or 0-d tensors under a tracing engine).
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
from mltricks.state import State, map_state
from mltricks.technique import Aux, Ctx, GradFn, LossFn, Params, PredFn, Technique, bind, defines

Hyper = dict[str, Any]
"""``progress``; ``optim``: the optimiser's floats; and the floats of every technique, by its name."""
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
) -> Step:
    """Compose the step.

    Args:
        model: the model as a function.
        objective: the innermost loss.
        techniques: all of a run, augment ++ regularizer ++ technique.
        optim: an optimiser, ``init(params)`` and ``update(grads, opt, params)``; optionally ``evaluate(params, opt)``,
            the weights that predict in the place of those that train.
        normalize: raw inputs to what the model sees; runs before the first technique that needs it.
        num_outputs: width of the model's output.
        donate: let the optimiser write into the given state's own storage, where it has a fused kernel for that.
            The state that was given must then not be used again.
        learn: what a sampler learns from the losses of a batch.
        frozen: names of parameters that never move; the optimiser's ``init`` must not have seen them.
        num_micro: pieces in which the innermost gradient is taken, where a batch is too large for the memory; the
            techniques see the gradient of what they ask for.
    """
    objective = objective if learn is None else with_sample_losses(objective)
    raw, ready = split_at_normalize(techniques)
    needs_previous = any(t.needs_previous for t in techniques.values())
    afters = in_order_of_change(techniques)

    @torch.no_grad()
    def step(state: State, batch: Batch, hyper: Hyper) -> tuple[State, Metrics]:
        bound = {name: bind(t, hyper.get(name, {})) for name, t in techniques.items()}
        ctx = Ctx(model, dict(state["buffers"]), state["own"], state["step"], hyper["progress"], num_outputs)

        batch = through(bound, raw, batch, ctx)
        batch = {key: normalize(value) if key in INPUTS else value for key, value in batch.items()}
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

        new = {"params": params, "buffers": ctx.buffers, "opt": opt, "own": own, "step": state["step"] + 1}
        return {**new, **taught}, aux["metrics"]

    return step


def updated(
    optim: Any, grads: Params, opt: Any, params: Params, donate: bool, finite: Tensor | None
) -> tuple[Params, Any]:
    """The optimiser's update; where ``finite`` is false, everything as it was."""
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
    """An objective whose ``Aux`` holds the losses of the samples too, from the very outputs that made its loss."""

    def loss(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
        model = Recorded(ctx.model)
        value, aux = objective(params, batch, replace(ctx, model=model))
        assert model.first is not None, "the objective runs the model"
        with torch.no_grad():
            return value, {
                **aux,
                PER_SAMPLE: objective.per_sample(map_state(Tensor.detach, model.first[1]), batch["y"]),
            }

    return loss


def gradient(loss: LossFn, constants: Mapping[str, Tensor] = MappingProxyType({})) -> GradFn:
    """The base of the gradient onion: reverse-mode differentiation of a loss.

    Args:
        loss: the loss.
        constants: all parameters, where those that are differentiated are only some of them.
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
    """Wrap ``base`` in a verb of every technique that defines it: the first technique stands outermost."""
    fn = base
    for name, technique in reversed(techniques.items()):
        if defines(technique, verb):
            fn = _scoped(name, getattr(technique, verb)(fn))
    return fn


def _scoped(name: str, fn: Any) -> Any:
    """Show ``fn`` the context as the technique ``name`` sees it."""

    def scoped(params: Params, data: Any, ctx: Ctx) -> Any:
        return fn(params, data, ctx.scope(name))

    return scoped


def through(techniques: Techniques, names: Sequence[str], batch: Batch, ctx: Ctx) -> Batch:
    """Pipe a batch through the ``batch`` verb of the named techniques."""
    for name in names:
        batch = techniques[name].batch(batch, ctx.scope(name))
    return batch


def split_at_normalize(techniques: Techniques) -> tuple[list[str], list[str]]:
    """The names of the techniques that change the batch before and after it is normalised."""
    names = [name for name, t in techniques.items() if defines(t, "batch")]
    first = next((i for i, name in enumerate(names) if not works_on_raw(techniques[name])), len(names))
    return names[:first], names[first:]


def in_order_of_change(techniques: Techniques) -> list[str]:
    """The names of the techniques with ``after``: first the update is scaled, then weights are set, then they are read.

    Each of these three goes by the order of the list. So an average is of the weights that the step ends with, and a
    mask is not undone, wherever they stand.
    """
    names = [name for name, t in techniques.items() if defines(t, "after")]
    return sorted(names, key=lambda name: ("update", "weights", "own").index(techniques[name].after_changes))


def works_on_raw(technique: Technique) -> bool:
    """Whether ``batch`` may be given raw uint8 pixels."""
    return technique.on_raw or technique.needs_raw


def keep_where(flag: Tensor, new: Any, old: Any) -> Any:
    """Leaf by leaf the new value where ``flag`` holds and the old one elsewhere."""
    if isinstance(new, dict):
        return {key: keep_where(flag, new[key], old[key]) for key in new}
    return torch.where(flag, new, old)


Predict = Callable[[State, Tensor], Tensor]
"""The state and raw inputs (B, ...) to outputs (B, K)."""


def apply_model(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
    """The base of the prediction onion: the model itself."""
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
        base: what stands innermost; it receives the parameters that predict.
        optim: the optimiser, where the state holds its tensors: it may predict with other weights than it trains.
    """
    predict = onion(techniques, "evaluate", base)

    @torch.no_grad()
    def run(state: State, x: Tensor) -> Tensor:
        own = state["own"]
        ctx = Ctx(model, dict(state["buffers"]), own, state["step"], 1.0, num_outputs, train=False)
        return predict(predicting_params(optim, state), normalize(x), ctx)

    return run


def predicting_params(optim: Any, state: State) -> Params:
    """The parameters that the techniques' prediction starts from: those in the state, or what its optimiser makes."""
    evaluate = getattr(optim, "evaluate", None)
    return state["params"] if evaluate is None else evaluate(state["params"], state["opt"])
