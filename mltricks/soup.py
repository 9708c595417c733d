"""``job=soup``: the mean of the weights of several runs that started from the same weights, as one model.

Source: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", 2022, arXiv:2203.05482, section 2 and recipe 1; https://github.com/mlfoundations/model-soups.
Greedy: the runs are tried in the order of their validation score, and one is added if it raises that of the soup, as in
the authors' code (the paper also adds one that leaves it equal). So the soup is never below the best run on the
validation split, which is then used up; the test split chooses nothing.
Batch-norm statistics are re-estimated for every mean, as ``mltricks.predicting`` says; counts are those of the
first run of the soup.
Cost: forward passes over the validation split and ``statistics_batches`` training batches, for every run that is tried.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mltricks.checkpoint import versions
from mltricks.config.compose import plain
from mltricks.config.values import Size, check_value
from mltricks.data.splits import DataSplits
from mltricks.evaluate import direction
from mltricks.inference import load_checkpoint, load_splits, measured, members_of, table
from mltricks.inputs.base import saved
from mltricks.metrics import Metrics, create_metrics
from mltricks.observers.formats import shown_folder
from mltricks.predicting import inputs_for_statistics, norms_with_statistics, re_estimated
from mltricks.predictor import Predictor
from mltricks.process.atomic import write_atomically
from mltricks.state import leaves, map_state
from mltricks.summary import Summary, git_state, json_safe
from mltricks.weights import BUFFER, PARAM, RAW, Weights, predict_from, write_weights

FILE = Path("checkpoints/best.safetensors")


def cook(cfg: Any, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Average the best weights of the runs in ``checkpoint``, and write them as the weights of a run.

    Returns:
        The content of ``soup.json``.

    Raises:
        ValueError: fewer than two runs, or they differ in model, data or the statistics of the inputs.
    """
    settings, start = plain(cfg)["job"], time.perf_counter()
    check_value("kind", settings["kind"], Literal["uniform", "greedy"])
    check_value("statistics_batches", settings["statistics_batches"], Size | None)
    predictor, cfg = load_checkpoint(cfg, overrides, "soup")
    members = members_of(predictor)
    if not members:
        raise ValueError(
            f"checkpoint={cfg['checkpoint']} is one run, and a soup has at least two. Type checkpoint=RUN+RUN."
        )
    check_alike(members)
    splits = load_splits(predictor, cfg)
    further = create_metrics(cfg["metric"], predictor.info, predictor.objective)
    pot = Pot(splits, cfg, settings["statistics_batches"], further, predictor.objective.fitted(splits))
    names = greedy(members, pot) if settings["kind"] == "greedy" else list(members)
    soup = pot.mean([members[name] for name in names])
    mine, *theirs = (measured(one, splits, cfg["eval_batch_size"], further) for one in (soup, *members.values()))
    found = dict(zip(members, theirs, strict=True))
    content = {"kind": settings["kind"], "ingredients": names, "overrides": list(overrides), **mine, "members": found}
    write(folder, soup, content, pot, time.perf_counter() - start)
    print(f"{settings['kind']} soup of {len(names)} of {len(members)} runs: {', '.join(names)}")
    print(*table({"soup": mine, **found}), shown_folder(folder / FILE), sep="\n")
    return content


def write(folder: Path, soup: Predictor, content: dict[str, Any], pot: Pot, seconds: float) -> None:
    """Write the weights, ``soup.json`` and the summary, by which other commands know the folder as that of a run."""
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    dtype = map_state(lambda t: str(t).removeprefix("torch."), soup.dtype)
    write_weights(folder / FILE, soup.cfg, soup.info, dtype, soup.weights, soup.own)
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "soup.json", lambda partial: partial.write_text(text))
    summary = Summary("completed", overrides=content["overrides"], versions=versions(), device=str(soup.device))
    summary.val, summary.test, summary.folder, summary.git = content["val"], content["test"], str(folder), git_state()
    way = "maximize" if pot.higher_is_better else "minimize"
    summary.objective = {"name": f"val/{pot.score}", "value": content["val"][pot.score], "direction": way}
    summary.seconds = round(seconds, 3)
    summary.write(folder / "summary.json")


def check_alike(members: dict[str, Predictor]) -> None:
    """Refuse runs whose weights cannot be averaged.

    Raises:
        ValueError: names the first difference.
    """
    (first, mine), *others = members.items()
    for name, member in members.items():
        if any(key.startswith(RAW) for key in member.weights):
            raise ValueError(
                f"{name} predicts with several sets of weights, and a soup takes one of each run. Leave it out, or "
                "type job=evaluate for the mean of predictions."
            )
    for name, member in others:
        if (key := other_shape(mine.weights, member.weights)) is not None:
            a, b = (tuple(one.weights[key].shape) if key in one.weights else "missing" for one in (mine, member))
            raise ValueError(
                f"{first} and {name} are different models: {key} is {a} in the one and {b} in the other. A soup "
                "averages weights of one model; the mean of predictions is job=evaluate checkpoint=RUN+RUN."
            )
        statistics = [leaves(saved(one.info.input)[1]) for one in (mine, member)]
        if not all(torch.equal(x, y) for x, y in zip(*statistics, strict=True)):
            raise ValueError(
                f"{first} and {name} were trained on inputs of other statistics, so their weights do not mean the "
                "same. Give runs on the same training samples."
            )


def other_shape(a: Weights, b: Weights) -> str | None:
    """The first tensor of the model that one of two runs lacks or has in another shape; ``None`` if there is none."""
    shapes = [{key: t.shape for key, t in weights.items() if key.startswith((PARAM, BUFFER))} for weights in (a, b)]
    return next((key for key in {**shapes[0], **shapes[1]} if shapes[0].get(key) != shapes[1].get(key)), None)


class Pot:
    """Makes and measures means of weights.

    Args:
        splits: the data.
        cfg: configuration of the first run.
        num: training batches for batch-norm statistics; ``None`` for all, 0 for the mean of the runs' statistics.
        further: metrics besides those of the objective.
        objective: of the first run, with what it takes from the data.

    Attributes:
        score: the metric by which soups are compared, the one that chose the runs' best weights.
        higher_is_better: its direction.
    """

    def __init__(self, splits: DataSplits, cfg: dict[str, Any], num: int | None, further: Metrics, objective: Any):
        self.splits, self.cfg, self.num, self.further = splits, cfg, num, further
        self.score = str(cfg["objective_metric"] or objective.score).rpartition("/")[2]
        self.higher_is_better = direction(self.score, objective, further)

    def mean(self, members: Sequence[Predictor]) -> Predictor:
        """The model with the mean of the weights of several."""
        first = members[0]
        keys = [key for key in first.weights if key.startswith((PARAM, BUFFER))]  # the rest stays the first run's
        weights = first.weights | {key: averaged([member.weights[key] for member in members]) for key in keys}
        if self.num != 0 and norms_with_statistics(first.model) and len(members) > 1:
            weights |= self.statistics(first, weights)
        parts = first.model, first.techniques, first.info.normalize, first.info.num_outputs
        return replace(first, weights=weights, forward=predict_from(*parts, weights, first.own, first.device))

    def statistics(self, first: Predictor, weights: Weights) -> Weights:
        """The buffers that belong to these weights."""
        held = {key: t.to(first.device) for key, t in weights.items()}
        params, buffers = (
            {key.removeprefix(prefix): t for key, t in held.items() if key.startswith(prefix)}
            for prefix in (PARAM, BUFFER)
        )
        size, seed = self.cfg["batch_size"], self.cfg["seed"]
        inputs = inputs_for_statistics(self.splits.train, first.info, size, seed, self.num)
        found = re_estimated(first.model, params, buffers, inputs)
        return {BUFFER + name: t.cpu() for name, t in found.items()}

    def rank(self, model: Predictor) -> tuple[float, float]:
        """The validation score of a model, higher being better, and the loss that decides between equal ones."""
        size = self.cfg["eval_batch_size"]
        found = measured(model, self.splits, size, self.further, ["val"])["val"]
        return (1 if self.higher_is_better else -1) * found[self.score], -found["loss"]


def greedy(members: dict[str, Predictor], pot: Pot) -> list[str]:
    """The names of the runs of a greedy soup, in the order in which they were added."""
    ranks = {name: pot.rank(member) for name, member in members.items()}
    best_first = sorted(ranks, key=lambda name: ranks[name], reverse=True)
    chosen, best = best_first[:1], ranks[best_first[0]][0]
    for name in best_first[1:]:
        score = pot.rank(pot.mean([members[one] for one in [*chosen, name]]))[0]
        if score > best:
            chosen, best = [*chosen, name], score
    return chosen


def averaged(tensors: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of floats; the first of others, such as counts."""
    if not tensors[0].is_floating_point():
        return tensors[0]
    return torch.stack([t.double() for t in tensors]).mean(0).to(tensors[0].dtype)
