"""What ``job=knn`` and ``job=probe`` share: features of a run beside those of baselines, and the files of the job.

The baselines are the raw inputs, normalised as the model receives them and as long vectors, and the model as it was
constructed, from the run's seed and before any training.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.checkpoint import versions
from mltricks.config.compose import plain
from mltricks.data.splits import DataSplits
from mltricks.features.encoder import Encode, Encoder, Samples, encoded
from mltricks.features.scores import Predict, Task, measured, task_of
from mltricks.inference import OF_BATCHES, encoder_of, load_checkpoint, load_splits, table
from mltricks.observers.formats import shown_folder
from mltricks.predictor import Predictor, rebuild
from mltricks.process.atomic import write_atomically
from mltricks.state import INIT, fold, reseed
from mltricks.summary import Summary, git_state, json_safe

RUN, UNTRAINED, RAW_INPUT = "this run", "untrained model", "raw input"
MOST_NUMBERS = 2**30
"""The most numbers in the raw inputs of all splits, 4 GiB, at which they serve as a baseline."""
IDLE = (*OF_BATCHES, "metric")
"""Keys that ``job=evaluate`` takes and these jobs do not."""
Row = dict[str, Any]
Learn = Callable[[dict[str, Samples], Task], tuple[Predict, Row]]
"""Learns from the samples of ``train``, and of ``val`` where it chooses settings. The row gets what it found out:
``used``, the settings in use, and ``advice``, lines for the user."""


@dataclass(frozen=True)
class Loaded:
    """A run, and the data on which its features are measured.

    Attributes:
        predictor: the run.
        splits: the data.
        task: what their targets ask for.
        batch_size: samples of a forward pass.
    """

    predictor: Predictor
    splits: DataSplits
    task: Task
    batch_size: int


def load(cfg: Any, overrides: Sequence[str], job: str) -> Loaded:
    """The run in ``checkpoint``, and its data or those that the command names: only the inputs must be alike.

    Raises:
        ValueError: the checkpoint is missing, a setting has no effect, or the data do not fit.
    """
    predictor, cfg = load_checkpoint(cfg, overrides, job, IDLE)
    encoder_of(predictor)  # refuses before the data are read
    splits = load_splits(predictor, cfg, ("input",))
    return Loaded(predictor, splits, task_of(splits.info, f"job={job}"), cfg["eval_batch_size"])


def encoders(loaded: Loaded, layer: str | None) -> tuple[dict[str, Encode], list[str]]:
    """What makes the features of every row, by its name; and why there is none for raw inputs, if so."""
    predictor, kind = loaded.predictor, loaded.predictor.info.input
    found: dict[str, Encode] = {RUN: encoder_of(predictor, layer), UNTRAINED: untrained(predictor, layer)}
    if why := no_vectors(loaded):
        return found, [f"There is no row for the {RAW_INPUT}: {why}."]

    def vectors(x: Any) -> Tensor:
        features = kind.features(kind.normalize(x))
        assert features is not None, "the kind has features"
        return features.float()

    return {**found, RAW_INPUT: vectors}, []


def no_vectors(loaded: Loaded) -> str:
    """Why raw inputs are no baseline: they are no vectors of numbers, or too long ones; empty if they are."""
    splits, kind = loaded.splits, loaded.predictor.info.input
    one = kind.features(kind.normalize(next(splits.val.batches([torch.arange(1)]))["x"]))
    if one is None:
        return f"{kind.kind} inputs are no vectors of numbers"
    num = sum(len(split) for split in (splits.train, splits.val, splits.test))
    return f"{num:,} samples of {one.numel():,} numbers are too many" if one.numel() * num > MOST_NUMBERS else ""


def untrained(predictor: Predictor, layer: str | None) -> Encoder:
    """The features of the model as it is constructed, from the run's seed."""
    parts = predictor.cfg, predictor.info, predictor.objective, [*predictor.cfg["allow_modules"]]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        reseed(fold(predictor.cfg["seed"], INIT))
        model, _ = rebuild(*parts, predictor.weights, predictor.device)
    params, buffers = (
        {name: slots[0][0][slots[0][1]].detach() for name, slots in places} for places in (model.params, model.buffers)
    )
    trained = encoder_of(predictor, layer)
    return Encoder(model, params, buffers, trained.normalize, trained.layer)


def rows_of(loaded: Loaded, layer: str | None, baselines: bool, learn: Learn) -> dict[str, Row]:
    """For every encoder the width of its features, the metrics on validation and test, and what ``learn`` adds."""
    makers, said = encoders(loaded, layer) if baselines else ({RUN: encoder_of(loaded.predictor, layer)}, [])
    splits = {part: getattr(loaded.splits, part) for part in ("train", "val", "test")}
    rows = {}
    for name, encode in makers.items():
        samples = {part: encoded(encode, split, loaded.batch_size) for part, split in splits.items()}
        predict, facts = learn(samples, loaded.task)
        found = {part: measured(loaded.task, predict(samples[part].x), samples[part].y) for part in ("val", "test")}
        rows[name] = {"num_features": samples["train"].x.shape[1], **found, **facts}
    rows[RUN]["advice"] += said
    return rows


def run_job(cfg: Any, folder: Path, overrides: list[str], mode: str, name: str, learn: Learn) -> float:
    """Measure, write ``NAME.json`` and ``summary.json``, print the table; return the score on validation.

    Args:
        cfg, folder, overrides, mode: of the job.
        name: of the job.
        learn: makes the predictor of every row.
    """
    start, settings, checkpoint = time.perf_counter(), plain(cfg)["job"], str(plain(cfg)["checkpoint"])
    loaded = load(cfg, overrides, name)
    rows = rows_of(loaded, settings["layer"], settings["baselines"], learn)
    size = {part: len(getattr(loaded.splits, part)) for part in ("train", "val", "test")}
    used = {key: value for key, value in settings.items() if key != "_target_"}
    content = {"job": name, "checkpoint": checkpoint, "settings": used, "samples": size, "rows": rows}
    text = json.dumps(json_safe({**content, "overrides": list(overrides)}), indent=2) + "\n"
    write_atomically(folder / f"{name}.json", lambda partial: partial.write_text(text))
    summary = summary_of(loaded, rows[RUN], size, overrides)
    summary.folder, summary.seconds = str(folder), round(time.perf_counter() - start, 3)
    summary.write(folder / "summary.json")
    if mode != "MULTIRUN":
        print(*told(rows), shown_folder(folder / f"{name}.json"), sep="\n")
    return float(summary.objective["value"])


def summary_of(loaded: Loaded, row: Row, size: dict[str, int], overrides: Sequence[str]) -> Summary:
    """The summary of the job, by which sweeps and stages know its result."""
    task = loaded.task.objective
    way = "maximize" if task.higher_is_better else "minimize"
    summary = Summary("completed", val=row["val"], test=row["test"], samples=size, overrides=list(overrides))
    summary.objective = {"name": f"val/{task.score}", "value": row["val"][task.score], "direction": way}
    summary.versions, summary.device, summary.git = versions(), str(loaded.predictor.device), git_state()
    return summary


def told(rows: dict[str, Row]) -> Iterator[str]:
    """The lines that a user reads."""
    yield from table({name: {part: row[part] for part in ("val", "test")} for name, row in rows.items()})
    for name, row in rows.items():
        yield ", ".join([f"{name}: {row['num_features']:,} features", *(f"{k}={v:g}" for k, v in row["used"].items())])
    yield from rows[RUN]["advice"]
