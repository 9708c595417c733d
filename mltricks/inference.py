"""The jobs ``evaluate`` and ``predict``: measure the best weights of a run or of several together, and predict."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks.config.compose import plain
from mltricks.config.families import telling_apart
from mltricks.config.names import shown
from mltricks.config.options import option_folders
from mltricks.config.overrides import parse
from mltricks.construct import load_data
from mltricks.data.source import in_order
from mltricks.data.splits import DataSplits
from mltricks.ensemble import Ensemble, load
from mltricks.evaluate import evaluate
from mltricks.features.encoder import Encoder, of_weights
from mltricks.features.scores import fitted
from mltricks.metrics import Metrics, create_metrics
from mltricks.observers.formats import shown_folder
from mltricks.predictor import Predictor
from mltricks.process.atomic import write_atomically
from mltricks.process.device import set_arithmetic
from mltricks.resume import assign
from mltricks.summary import json_safe

OWN = ("data", "device", "eval_batch_size", "metric", "allow_modules")
"""Keys that may be typed besides ``checkpoint``; everything else is read from the checkpoint."""
TRAINING_ONLY = tuple(
    f"data.{name}"
    for name in (
        *("fraction", "limit", "labels_per_class", "unlabeled_ratio", "unlabeled_from", "pseudo_labels"),
        *("pseudo_share", "drop_last", "epoch_size", "statistics"),
    )
)
"""Settings of the data that change the training of the run alone."""
OF_BATCHES = ("data.unlabeled_ratio", "data.drop_last")
"""Those of them that change training batches alone, not which samples are in the split."""
PLACES = ("data.root", "data.download", "data.num_workers")
"""Settings of the data that say where they lie and how they are read."""
OF_THE_JOB = ("job", "checkpoint", "input", "progress", "hydra")
NUM_SHOWN = 10


def evaluate_checkpoint(cfg: Any, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure the best weights of ``checkpoint`` on the validation and the test split of its data.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        ValueError: the checkpoint is missing, or the data do not fit the model.
    """
    predictor, cfg = load_checkpoint(cfg, overrides, "evaluate")
    splits, further = load_splits(predictor, cfg), create_metrics(cfg["metric"], predictor.info, predictor.objective)
    metrics = measured(predictor, splits, cfg["eval_batch_size"], further)
    members = {
        name: measured(member, splits, cfg["eval_batch_size"], further)
        for name, member in members_of(predictor).items()
    }
    content = {"checkpoint": str(cfg["checkpoint"]), "overrides": list(overrides), **metrics}
    content |= {"members": members} if members else {}
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "evaluation.json", lambda partial: partial.write_text(text))
    print(*table({"ensemble": metrics, **members} if members else {"": metrics}), sep="\n")
    print(shown_folder(folder / "evaluation.json"))
    return content


def measured(
    predictor: Predictor,
    splits: DataSplits,
    batch_size: int,
    further: Metrics,
    names: Sequence[str] = ("val", "test"),
) -> dict[str, dict[str, float]]:
    """The metrics of a model on the named splits.

    Raises:
        ValueError: ``further`` has metrics of features, and the model has no features of its own.
    """
    objective, held = predictor.objective.fitted(splits), {name: getattr(splits, name) for name in names}
    found = {
        name: evaluate(lambda _, x: predictor.forward(x), objective, {}, split, batch_size, (), further)
        for name, split in held.items()
    }
    if further.of_features:
        encode, seed = encoder_of(predictor), predictor.cfg["seed"]
        on = fitted(further.of_features, encode, splits.train, splits.info, batch_size, seed).on
        found = {name: values | on(held[name]) for name, values in found.items()}
    return found


def encoder_of(predictor: Predictor, layer: str | None = None) -> Encoder:
    """The features of a trained model; ``layer`` as for ``mltricks.features.encoder.of_weights``.

    Raises:
        ValueError: it predicts with several sets of weights, or has no such module.
    """
    if isinstance(predictor, Ensemble):
        raise ValueError(
            f"checkpoint={'+'.join(predictor.members)} is several runs, and features are those of one. Type one of "
            "them; several are a sweep, -m checkpoint=A,B."
        )
    return of_weights(predictor.model, predictor.weights, predictor.info, predictor.device, layer)


def table(found: dict[str, dict[str, dict[str, float]]]) -> Iterator[str]:
    """Lines with the metrics of every model on every split; the column of models is left out if it has no names."""
    wide = max(map(len, found)) + 2 if any(found) else 0
    names = list(next(iter(found.values()))["val"])
    yield " " * wide + "split" + "".join(f"{name:>12}" for name in names)
    for model, splits in found.items():
        for split, values in splits.items():
            yield f"{model:<{wide}}{split:<5}" + "".join(f"{values[name]:>12.4f}" for name in names)


def members_of(predictor: Predictor) -> dict[str, Predictor]:
    """The members of an ensemble by name; none for a single run."""
    return predictor.members if isinstance(predictor, Ensemble) else {}


def predict_checkpoint(cfg: Any, folder: Path, overrides: Sequence[str]) -> None:
    """Write ``predictions.csv`` and ``predictions.jsonl``: one line per image, row or test sample.

    Raises:
        ValueError: the checkpoint or the input is missing, or the objective cannot write predictions as rows.
    """
    predictor, cfg = load_checkpoint(cfg, overrides, "predict")
    rows = list(rows_of(predictor, cfg))
    folder.mkdir(parents=True, exist_ok=True)

    def write_csv(path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [key for key in rows[0] if key != "probabilities"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows)

    write_atomically(folder / "predictions.csv", write_csv)
    lines = "".join(json.dumps(json_safe(row), ensure_ascii=False) + "\n" for row in rows)
    write_atomically(folder / "predictions.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
    columns = [key for key in rows[0] if key != "probabilities"]
    print("  ".join(columns))
    for row in rows[:NUM_SHOWN]:
        print("  ".join(f"{row[key]:.4f}" if isinstance(row[key], float) else str(row[key]) for key in columns))
    rest = len(rows) - NUM_SHOWN
    print(*([f"... and {rest} more"] if rest > 0 else []), shown_folder(folder / "predictions.csv"), sep="\n")


def load_checkpoint(
    cfg: Any, overrides: Sequence[str], job: str, idle: Sequence[str] = TRAINING_ONLY
) -> tuple[Predictor, dict[str, Any]]:
    """The model of ``checkpoint``, and its configuration with the command's overrides applied.

    Args:
        cfg: the resolved configuration of the command.
        overrides: of the command.
        job: its name, for messages.
        idle: keys out of ``OWN`` that have no effect on the job.

    Raises:
        ValueError: there is no checkpoint, or an override has no effect.
    """
    given = plain(cfg)
    if given["checkpoint"] is None:
        raise ValueError(f"job={job} needs a trained model. Type job={job} checkpoint=DIR, the output folder of a run.")
    predictor = load(given["checkpoint"], given["allow_modules"], given["device"])
    set_arithmetic(predictor.cfg["deterministic"], predictor.cfg["precision"]["tf32"])
    merged = {**predictor.cfg, **{key: given[key] for key in ("checkpoint", "input", "allow_modules")}}
    parsed = parse(overrides)
    keys = {override.key_or_group for override in parsed}
    for override in parsed:
        key = override.key_or_group
        first = key.partition(".")[0].partition("/")[0]
        if first not in (*OWN, *OF_THE_JOB) or key in idle or (key == "input" and job != "predict"):
            raise ValueError(
                f"{shown(override)} has no effect on job={job}: the model and the rest come from the checkpoint. "
                f"Leave it out; {', '.join(key for key in OWN if key not in idle)} may be given."
            )
        if first in OWN and not (key == "data" and same_option(given, predictor.cfg, keys)):
            assign(merged, key, given)
    return predictor, merged


def check_same_data(members: dict[str, Predictor]) -> None:
    """Refuse an ensemble whose members were trained on other splits: one would be measured on its training samples.

    Raises:
        ValueError: names the first setting that differs.
    """
    settings = {
        name: {f"data.{key}": value for key, value in member.cfg["data"].items()} for name, member in members.items()
    }
    first = next(iter(settings), "")
    for name, theirs in settings.items():
        mine = settings[first]
        for key in sorted((mine.keys() | theirs.keys()) - {*TRAINING_ONLY, *PLACES}):
            if mine.get(key) != theirs.get(key):
                raise ValueError(
                    f"{first} and {name} were trained on other data ({key} is {mine.get(key)} and {theirs.get(key)}), "
                    "so the splits of the one may hold training samples of the other. Give runs on the same data, or "
                    "name the data to measure on, as data=NAME or data.path=FILE."
                )


def same_option(given: dict[str, Any], saved: dict[str, Any], keys: Collection[str]) -> bool:
    """Whether the command names the data option that the run used; its other settings then stay.

    Args:
        given: the configuration of the command.
        saved: that of the run.
        keys: of the command's overrides.
    """
    mine, theirs = given["data"], saved["data"]
    if (target := mine.get("_target_")) != theirs.get("_target_"):
        return False
    telling = telling_apart("data", str(target), option_folders())
    return all(mine.get(key) == theirs.get(key) for key in telling if f"data.{key}" not in keys)


def load_splits(
    predictor: Predictor, cfg: dict[str, Any], alike: Sequence[str] = ("input", "target", "num_outputs")
) -> DataSplits:
    """The data splits of the checkpoint's run, or those that the command names.

    Args:
        predictor: the model.
        cfg: as ``load_checkpoint`` returns it.
        alike: in what the data must be as those of the run.

    Raises:
        ValueError: the data do not fit the model.
    """
    if cfg["data"] == predictor.cfg["data"]:
        check_same_data(members_of(predictor))
    splits = load_data(cfg, cfg["allow_modules"])
    for name in alike:
        mine, theirs = (str(getattr(info, name)) for info in (splits.info, predictor.info))
        if mine != theirs:
            raise ValueError(
                f"these data do not fit the model in {cfg['checkpoint']}: their {name} is {mine}, it was {theirs}."
            )
    return splits.to(predictor.device)


def rows_of(predictor: Predictor, cfg: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The predictions, one row per sample, for the files in ``input`` or for the test split."""
    objective, info, size = predictor.objective, predictor.info, cfg["eval_batch_size"]
    if cfg["input"] is None:
        count = 0
        for batch in in_order(load_splits(predictor, cfg).test, size):
            outputs = objective.predict(predictor.forward(batch["x"])).cpu()
            for row, y in zip(objective.rows(outputs, info), batch["y"].cpu(), strict=True):
                yield {"input": count, "true": objective.truth(y, info), **row}
                count += 1
        return
    for names, x in info.input.read(Path(cfg["input"]), size, predictor.dtype):
        rows = objective.rows(predictor.outputs_of(x), info)
        yield from ({"input": name, **row} for name, row in zip(names, rows, strict=True))
