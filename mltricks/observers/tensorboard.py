"""TensorBoard: curves, norms of layers, configuration, hyperparameters and plots as event files, in ``tensorboard/``.

The HPARAMS tab compares the runs below ``--logdir``: the trials of a sweep by the values that the sweep gave them, and
single runs by their options, rates and sizes.

Source: https://www.tensorflow.org/tensorboard.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config.values import Positive, check_fields
from mltricks.observers.base import Observer, Record
from mltricks.observers.curves import NewLines, curves, layer_curves
from mltricks.observers.facts import facts, swept
from mltricks.observers.files import yaml_text
from mltricks.observers.layers import FILE as LAYERS

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary

COMPARED = ("optim", "scheduler", "technique")
"""Groups whose settings are hyperparameters, besides the options of all groups."""
SCALARS = ("seed", "epochs", "batch_size")
OPTIONS = ("data", "model", "optim", "scheduler", "techniques")
"""Facts that are hyperparameters."""


@dataclass
class Tensorboard(Observer):
    """Writes every record as scalars.

    Args:
        flush_s: longest delay in seconds before points are written to disk, > 0.
        log_images: whether to write ``plots/*.png`` at the end.
        gradients: whether to write the norms of ``layers.jsonl``.

    Raises:
        ValueError: the package is not installed.
    """

    flush_s: Positive
    log_images: bool
    gradients: bool
    writer: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        check_fields(self, "tracker.")
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError("tracker=tensorboard needs the package tensorboard. Type: pip install tensorboard")

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.layers = folder, NewLines(folder / LAYERS, resumed_at)
        after = resumed_at + 1 if resumed_at else None  # removes what an interrupted run wrote after its checkpoint
        self.writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=after, flush_secs=max(1, round(self.flush_s))
        )
        known = {name: value for name, value in facts(run).items() if value is not None}
        self.compared = hyperparameters(run.cfg, known, folder)
        self.writer.add_text("config", indented(yaml_text(run.cfg)))
        self.writer.add_text("about", markdown({**{key: run.cfg.get(key) for key in ("name", "notes")}, **known}))

    def record(self, record: Record) -> None:
        for row in self.layers.read() if self.gradients else ():
            self.add(layer_curves(row), row["step"])
        self.add(curves(record), record["step"])

    def add(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def finish(self, summary: Summary) -> None:
        if self.writer is None:
            return
        for path in sorted((self.folder / "plots").glob("*.png")) if self.log_images else ():
            self.writer.add_image(f"plots/{path.stem}", read_png(path), summary.steps, dataformats="HWC")
        if summary.status != "interrupted":
            self.add_hyperparameters(summary)
        self.writer.close()

    def add_hyperparameters(self, summary: Summary) -> None:
        """Write the row of the HPARAMS tab, into the run's own events: ``add_hparams`` would make a second run."""
        from torch.utils.tensorboard.summary import hparams

        best = {f"best/{name}": value for name, value in summary.val.items()}
        self.add(best, summary.steps)
        names = [*best, *(f"test/{name}" for name in summary.test)]
        for part in hparams(self.compared, dict.fromkeys(names, 0.0)):
            self.writer.file_writer.add_summary(part)


def hyperparameters(cfg: dict[str, Any], known: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the HPARAMS tab shows of a run, by dotted key: numbers, texts and truth values."""
    options = {name: known[name] for name in OPTIONS}
    settings = {path: value for group in COMPARED for path, value in scalars(cfg[group], group)}
    given = {path: value for path, value in swept(folder).items() if value is not None}
    return {**options, **{name: cfg[name] for name in SCALARS}, **settings, **given}


def scalars(node: Any, path: str) -> list[tuple[str, Any]]:
    """The numbers, texts and truth values below a node of the configuration, with their dotted keys."""
    if isinstance(node, dict):
        return [pair for key, part in node.items() if key != "_target_" for pair in scalars(part, f"{path}.{key}")]
    return [(path, node)] if isinstance(node, bool | int | float | str) else []


def indented(text: str) -> str:
    """A text as code in Markdown."""
    return "".join(f"    {line}\n" for line in text.splitlines())


def markdown(values: dict[str, Any]) -> str:
    """Values by name as a table in Markdown."""
    texts = {name: str(value).replace("|", r"\|") for name, value in values.items() if value is not None}
    return "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in texts.items())])


def read_png(path: Path) -> Any:
    """A picture as (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
