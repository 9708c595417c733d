"""MoCo v2: match a view with another view's key, against a queue of earlier keys from a slowly moving encoder.

Source: He, Fan, Wu, Xie, Girshick, "Momentum Contrast for Unsupervised Visual Representation Learning", 2019,
arXiv:1911.05722, algorithm 1; Chen, Fan, Girshick, He, "Improved Baselines with Momentum Contrastive Learning", 2020,
arXiv:2003.04297 (the projector); the authors' CIFAR-10 notebook, whose batch norms take their statistics from parts of
the batch, with the keys in another order. On one device that is what shuffling between devices is for: a query and its
key in the same part would share statistics, and could be matched by them.
Deviation: the key encoder moves after the update instead of before the keys are made, which is the same sequence. The
projector's input is the model's features. With ``probe`` the objective trains the model's last linear layer on detached
features.
Shapes: ``x`` (B, C, H, W) float -> loss; only the probe reads ``y``. Legend: B batch, D width of a key, Q queue.
Cost: two forward passes, one of them without gradient; a copy of the weights; the probe adds one forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mltricks.batch import Batch
from mltricks.config.values import Count, Positive, Probability
from mltricks.functional import heads
from mltricks.functional.ghost_norm import check_splits, haunt
from mltricks.functional.self_supervised import collapse, feature_width, features_of, named, with_probe
from mltricks.functional.two_views import TwoViews
from mltricks.technique import Aux, Ctx, LossFn, Own, Params
from mltricks.techniques.ema import average

SPLITS = "technique.moco.norm_splits"


@dataclass(frozen=True)
class Moco(TwoViews):
    """Replace the loss with the cross-entropy of [q.k, q.queue] / temperature, whose first entry is right.

    q and k are the projections of two views, of length 1: q by the model, k by the key encoder without gradient.

    Args:
        temperature: divisor of the cosine similarities, > 0.
        momentum: share of the key encoder that an update keeps, in [0, 1].
        queue_size: keys of earlier batches, >= 1.
        norm_splits: parts of the batch from which batch norms take their statistics, >= 1; they divide the batch.
        projection_width: length of the keys, >= 1.
        probe: let the objective train the last linear layer only.

    Attributes:
        projector: its structure; ``setup`` makes it.
    """

    temperature: Positive
    momentum: Probability
    queue_size: Count
    norm_splits: Count
    projection_width: Count
    probe: bool
    projector: nn.Module = field(init=False, repr=False, compare=False)

    after_changes = "own"

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        self.check_sizes(len(batch["x"]))
        width = feature_width("moco", model, params, batch["x"][:2])
        projector = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, self.projection_width))
        object.__setattr__(self, "projector", projector)  # structure, no hyperparameter; ``bind`` copies it
        self.split_norms(model)
        params = {**params, **named("moco", projector)}
        encoder = {name: p.clone() for name, p in params.items()}
        buffers = {name: b.clone() for name, b in model.named_buffers()}
        queue = F.normalize(torch.randn(self.queue_size, self.projection_width), dim=1)
        return params, {"params": encoder, "buffers": buffers, "queue": queue}

    def check_sizes(self, batch: int) -> None:
        """Refuse a queue of which a batch would replace more than all, or unequal parts."""
        if self.queue_size % batch:
            fitting = max(1, round(self.queue_size / batch)) * batch
            raise ValueError(
                f"technique.moco.queue_size={self.queue_size} is no multiple of batch_size={batch}, so a batch of keys "
                f"would push out a part of another. Type technique.moco.queue_size={fitting}."
            )
        check_splits(SPLITS, self.norm_splits, batch)

    def split_norms(self, model: nn.Module) -> None:
        """Make the model's batch norms take their statistics from parts of the batch."""
        if self.norm_splits == 1:
            return
        for name, module in list(model.named_modules()):
            if isinstance(module, _BatchNorm):
                haunt(name, module, self.norm_splits, SPLITS)

    def loss(self, inner: LossFn) -> LossFn:
        def contrast(params: Params, batch: Batch, ctx: Ctx) -> tuple[Tensor, Aux]:
            first, second = self.both(batch["x"]).chunk(2)
            features = features_of("moco", params, first, ctx)
            keys, buffers = self.keys(params, second, ctx)
            queries = self.projected(params, features)
            loss, accuracy = info_nce(queries, keys, ctx.own["queue"], self.temperature)
            metrics = {"contrastive_loss": loss, "contrastive_accuracy": accuracy, **collapse(queries)}
            total, aux = with_probe("moco", inner, params, batch, ctx, loss, metrics, self.probe)
            rows = {name: b.unsqueeze(0) for name, b in buffers.items()}  # one a micro-batch
            return total, {**aux, "moco": {"keys": keys, "buffers": rows}}

        return contrast

    @torch.no_grad()
    def keys(self, params: Params, x: Tensor, ctx: Ctx) -> tuple[Tensor, dict[str, Tensor]]:
        """The keys (B, D) of views, and the key encoder's buffers after them.

        The views are in another order while they pass the encoder, so that a part of the batch has other samples there.
        """
        aside = ctx.fork(buffers=ctx.own["buffers"])
        encoder = {**params, **ctx.own["params"]}  # a later technique may have added parameters after the copy
        order = torch.rand(len(x), device=x.device).argsort()
        features = features_of("moco", encoder, x.index_select(0, order), aside)
        return self.projected(encoder, features).index_select(0, order.argsort()), aside.buffers

    def projected(self, params: Params, features: Tensor) -> Tensor:
        """The projections of features, of length 1: (B, D)."""
        return F.normalize(heads.run(self.projector, params, "moco/", features), dim=1)

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        made = aux["moco"]
        queue = torch.cat([made["keys"], ctx.own["queue"]])[: self.queue_size]
        encoder = average(ctx.own["params"], params, self.momentum)
        buffers = {name: averaged(rows) for name, rows in made["buffers"].items()}
        return params, {"params": encoder, "buffers": buffers, "queue": queue}


def averaged(rows: Tensor) -> Tensor:
    """The mean over micro-batches of a buffer (M, ...); of whole numbers, which count batches, the largest."""
    return rows.mean(0) if rows.is_floating_point() else rows.amax(0)


def info_nce(query_BD: Tensor, key_BD: Tensor, queue_QD: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """The cross-entropy of a query's similarity with its own key, against those with the queue.

    Args:
        query_BD, key_BD: of the same samples, rows of length 1.
        queue_QD: earlier keys, rows of length 1.
        temperature: > 0.

    Returns:
        The mean loss, and the share of queries that are nearer to their key than to the whole queue.
    """
    own_B1 = (query_BD * key_BD).sum(1, keepdim=True)
    similarity = torch.cat([own_B1, query_BD @ queue_QD.T], 1)
    target = torch.zeros(len(query_BD), dtype=torch.int64, device=query_BD.device)
    return F.cross_entropy(similarity / temperature, target), (similarity.argmax(1) == 0).float().mean()
