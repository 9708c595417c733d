"""After training: measuring the best weights of a run, and predicting with them, from the command line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mltricks.build import load_data
from mltricks.config.compose import plain
from mltricks.config.overrides import parse
from mltricks.data.source import in_order
from mltricks.data.splits import DataSplits
from mltricks.evaluate import evaluate
from mltricks.observers.console import shown_folder
from mltricks.predictor import Predictor, from_images, load
from mltricks.process.atomic import write_atomically
from mltricks.process.device import set_arithmetic
from mltricks.resume import assign
from mltricks.summary import json_safe

OWN = ("data", "device", "eval_batch_size", "allow_modules")
"""What may be given besides the checkpoint; everything else comes from it."""
OF_THE_JOB = ("job", "checkpoint", "input", "progress", "hydra")
NUM_SHOWN = 10


def evaluate_checkpoint(cfg: Any, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Measure the best weights of ``checkpoint`` on the validation and the test split of its data.

    Returns:
        The content of ``evaluation.json``.

    Raises:
        ValueError: there is no such checkpoint, or the data are of another kind than those it was trained on.
    """
    predictor, cfg = load_checkpoint(cfg, overrides, "evaluate")
    splits = load_splits(predictor, cfg)
    metrics = {
        name: evaluate(lambda _, x: predictor.forward(x), predictor.objective, {}, split, cfg["eval_batch_size"])
        for name, split in (("val", splits.val), ("test", splits.test))
    }
    content = {"checkpoint": str(cfg["checkpoint"]), "overrides": list(overrides), **metrics}
    text = json.dumps(json_safe(content), indent=2) + "\n"
    write_atomically(folder / "evaluation.json", lambda partial: partial.write_text(text))
    names = list(metrics["val"])
    print("split" + "".join(f"{name:>12}" for name in names))
    for split, values in metrics.items():
        print(f"{split:<5}" + "".join(f"{values[name]:>12.4f}" for name in names))
    print(shown_folder(folder / "evaluation.json"))
    return content


def predict_checkpoint(cfg: Any, folder: Path, overrides: Sequence[str]) -> None:
    """Write ``predictions.csv`` and ``predictions.jsonl``: a line for each image, row or test sample.

    Raises:
        ValueError: there is no such checkpoint or input, or the model predicts tokens.
    """
    predictor, cfg = load_checkpoint(cfg, overrides, "predict")
    if predictor.info.target == "tokens":
        raise ValueError(
            "job=predict writes classes or values; this model predicts tokens. Use mltricks.load in Python."
        )
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


def load_checkpoint(cfg: Any, overrides: Sequence[str], job: str) -> tuple[Predictor, dict[str, Any]]:
    """The model of ``checkpoint``, and its configuration with what the command changes."""
    given = plain(cfg)
    if given["checkpoint"] is None:
        raise ValueError(f"job={job} needs a trained model. Type job={job} checkpoint=DIR, the output folder of a run.")
    predictor = load(given["checkpoint"], given["allow_modules"], given["device"])
    set_arithmetic(predictor.cfg["deterministic"], predictor.cfg["precision"]["tf32"])
    merged = {**predictor.cfg, **{key: given[key] for key in ("checkpoint", "input", "allow_modules")}}
    for override in parse(overrides):
        key = override.key_or_group
        first = key.partition(".")[0].partition("/")[0]
        if first not in (*OWN, *OF_THE_JOB):
            raise ValueError(
                f"{override.input_line} has no effect on job={job}: the model and the rest come from the checkpoint. "
                f"Leave it out; {', '.join(OWN)} may be given."
            )
        if first in OWN and not (key == "data" and same_option(given, predictor.cfg)):
            assign(merged, key, given)
    return predictor, merged


def same_option(given: dict[str, Any], saved: dict[str, Any]) -> bool:
    """Whether the data option on the command line is the run's own, whose other settings then stay."""
    return given["data"].get("_target_") == saved["data"].get("_target_")


def load_splits(predictor: Predictor, cfg: dict[str, Any]) -> DataSplits:
    """The data of a checkpoint's run, or those of the command.

    Raises:
        ValueError: the model was made for other data.
    """
    splits = load_data(cfg, cfg["allow_modules"])
    for name in ("kind", "target", "in_shape", "num_outputs"):
        mine, theirs = getattr(splits.info, name), getattr(predictor.info, name)
        if mine != theirs:
            raise ValueError(
                f"these data do not fit the model in {cfg['checkpoint']}: their {name} is {mine}, it was {theirs}."
            )
    return splits.to(predictor.device)


def rows_of(predictor: Predictor, cfg: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What the model says, one row a sample: of the files in ``input``, or of the test split."""
    size = cfg["eval_batch_size"]
    if cfg["input"] is None:
        count = 0
        for batch in in_order(load_splits(predictor, cfg).test, size):
            outputs = predictor.objective.predict(predictor.forward(batch["x"])).cpu()
            for row, y in zip(described(predictor, outputs), batch["y"].cpu(), strict=True):
                yield {"input": count, "true": truth(predictor, y), **row}
                count += 1
        return
    path = Path(cfg["input"])
    if path.suffix == ".npy":
        yield from (
            {"input": i, **row} for i, row in enumerate(described(predictor, predictor.predict(read_array(path))))
        )
        return
    files = find_images(path)
    for start in range(0, len(files), size):
        chunk = files[start : start + size]
        images = torch.cat([read_image(file, predictor.info.in_shape) for file in chunk])
        yield from (
            {"input": str(f), **row}
            for f, row in zip(chunk, described(predictor, predictor.predict(images)), strict=True)
        )


def described(predictor: Predictor, outputs: Tensor) -> Iterator[dict[str, Any]]:
    """Predictions as rows: the class with its probability, or the values."""
    classes = predictor.classes or tuple(str(k) for k in range(predictor.info.num_outputs))
    for output in outputs:
        if predictor.info.target == "classes":
            best = int(output.argmax())
            probabilities = {name: float(p) for name, p in zip(classes, output, strict=True)}
            yield {"class": classes[best], "probability": float(output[best]), "probabilities": probabilities}
        else:
            values = output.flatten().tolist()
            yield {"value" if len(values) == 1 else f"value_{i}": v for i, v in enumerate(values)}


def truth(predictor: Predictor, y: Tensor) -> Any:
    """A target as a person reads it."""
    if predictor.info.target == "classes" and y.ndim == 0:
        return predictor.classes[int(y)] if predictor.classes else int(y)
    return y.tolist()


def find_images(path: Path) -> list[Path]:
    """One image, or all below a folder in order.

    Raises:
        ValueError: there is none.
    """
    from mltricks.data.image_folder import SUFFIXES

    if path.is_file():
        return [path]
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file()) if path.is_dir() else []
    if not files:
        what = "holds no image" if path.is_dir() else "does not exist"
        raise ValueError(
            f"input={path} {what}. Give an image ({' '.join(sorted(SUFFIXES))}), a folder, or an array (.npy)."
        )
    return files


def read_image(path: Path, shape: tuple[int, ...]) -> Tensor:
    """An image as (1, H, W, C) uint8, decoded as the run's own data are.

    Raises:
        ValueError: it cannot be decoded, or the model takes no images.
    """
    from PIL import Image, UnidentifiedImageError

    from mltricks.data.image_folder import decode_image

    if len(shape) == 3 and shape[0] == 3 and shape[1] == shape[2]:
        return decode_image(str(path), shape[1])[None]
    try:
        with Image.open(path) as image:
            return from_images(image, shape)
    except (OSError, UnidentifiedImageError) as error:
        raise ValueError(f"input: {path} cannot be decoded: {error}. Delete or replace it.") from error


def read_array(path: Path) -> Any:
    """An array that NumPy wrote.

    Raises:
        ValueError: it cannot be read.
    """
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"input={path} cannot be read: {error}") from error
