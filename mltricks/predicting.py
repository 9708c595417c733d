"""The weights that a state predicts with, and the batch-norm statistics that belong to them.

A technique or an optimiser may predict with weights that were never trained at, such as an average of past weights.
The running statistics of batch norm then belong to other weights. One that says so by an attribute
``statistics_batches`` has them re-estimated before every evaluation: the number of training batches for that, ``None``
for all, 0 for none. Decision 29 in ``docs/decisions`` has the reasons.

Source: ``torch.optim.swa_utils.update_bn``; Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
Generalization", 2018, arXiv:1803.05407, section 3.2.
Deviation: only normalisation layers run in training mode (``update_bn`` leaves dropout active), and batches are not
augmented: the statistics are those of the evaluation. The authors' code augments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from mltricks.build import Run
from mltricks.data.info import Info
from mltricks.data.splits import Split
from mltricks.functional_model import FunctionalModel
from mltricks.state import STATISTICS, State, fold
from mltricks.step import build_predict
from mltricks.technique import Ctx, Params

Buffers = dict[str, Tensor]


def sets_of_weights(run: Run, state: State) -> list[tuple[Params, Buffers]]:
    """The parameters and buffers of every call of the model in one prediction, in order."""
    seen: list[tuple[Params, Buffers]] = []

    def spy(params: Params, x: Tensor, ctx: Ctx) -> Tensor:
        seen.append((params, dict(ctx.buffers)))
        return ctx.apply(params, x)

    info = run.data.info
    x = next(run.data.val.batches([torch.arange(1)]))["x"]
    build_predict(run.model, run.techniques, info.normalize, info.num_outputs, spy, run.optim)(state, x)
    return seen


def to_predict(run: Run, state: State) -> State:
    """The state to evaluate and to keep: where a part of the run asks for it, with re-estimated statistics.

    It is a function of state, data and seed alone, and draws no random numbers.
    """
    num = batches_asked(run)
    if num == 0 or not norms_with_statistics(run.model):
        return state
    params, buffers = sets_of_weights(run, state)[0]
    inputs = inputs_for_statistics(run.data.train, run.data.info, run.cfg["batch_size"], run.cfg["seed"], num)
    return {**state, "buffers": re_estimated(run.model, params, buffers, inputs)}


def batches_asked(run: Run) -> int | None:
    """The largest number of batches that a technique or the optimiser asks for; ``None`` for all, 0 for no estimate."""
    asked = [getattr(part, "statistics_batches", 0) for part in (*run.techniques.values(), run.optim)]
    return None if None in asked else max(asked)


def norms_with_statistics(model: FunctionalModel) -> list[Any]:
    """The normalisation layers that evaluate with running statistics and are not frozen."""
    still = {id(part) for part in model.still}
    norms = [m for m in model.module.modules() if isinstance(m, nn.modules.batchnorm._NormBase) and id(m) not in still]
    return [norm for norm in norms if norm.running_mean is not None]


@torch.no_grad()
def re_estimated(model: FunctionalModel, params: Params, buffers: Buffers, inputs: Iterable[Any]) -> Buffers:
    """The buffers with the running statistics of ``params``: the mean of the statistics of all batches.

    Args:
        model, params, buffers: of the prediction; none of them is changed.
        inputs: normalised inputs (B, ...), one batch after the other.
    """
    norms = norms_with_statistics(model)
    known = {id(norm) for norm in norms}
    others = [part for part in model.module.modules() if id(part) not in known]
    estimating = FunctionalModel(model.module, model.dtype, model.device_type, others)
    momenta = [norm.momentum for norm in norms]
    try:
        for count, x in enumerate(inputs, 1):
            for norm in norms:
                norm.momentum = 1 / count  # the cumulative mean; the first batch replaces what was there
            _, buffers, _ = estimating(params, buffers, x, True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        model.module.eval()  # whoever calls the model next finds one mode in all its parts
    return buffers


def inputs_for_statistics(train: Split, info: Info, batch_size: int, seed: int, num: int | None) -> Iterator[Any]:
    """Normalised inputs of training batches without augmentation, the same at every call.

    Args:
        train: the training split.
        info: describes the data.
        batch_size: samples of a batch; all batches are full unless the split is smaller than one.
        seed: of the run.
        num: number of batches; ``None`` for all that the split has.
    """
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(fold(seed, STATISTICS)))
    full = [piece for piece in order.split(batch_size) if len(piece) == batch_size] or [order]
    return (info.normalize(batch["x"]) for batch in train.batches(islice(full, num)))
