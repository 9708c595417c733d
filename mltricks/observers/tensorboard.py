"""TensorBoard: curves, configuration and plots as event files, in ``tensorboard/`` of the output folder."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mltricks.config.values import Positive, check_fields
from mltricks.observers.base import Observer, Record
from mltricks.observers.curves import curves

if TYPE_CHECKING:
    from mltricks.build import Run
    from mltricks.summary import Summary


@dataclass
class Tensorboard(Observer):
    """Writes every record as scalars.

    Args:
        flush_s: longest delay in seconds before points are written to disk, > 0.

    Raises:
        ValueError: the package is not installed.
    """

    flush_s: Positive
    writer: Any = field(default=None, init=False)

    def __post_init__(self) -> None:
        check_fields(self, "tracker.")
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "tracker=tensorboard needs the package tensorboard. Type: pip install mltricks[tensorboard]"
            )

    def start(self, run: Run, folder: Path, resumed_at: int) -> None:
        from omegaconf import OmegaConf
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        after = resumed_at + 1 if resumed_at else None  # removes what an interrupted run wrote after its checkpoint
        self.writer = SummaryWriter(
            str(folder / "tensorboard"), purge_step=after, flush_secs=max(1, round(self.flush_s))
        )
        text = OmegaConf.to_yaml(OmegaConf.create(run.cfg))
        self.writer.add_text("config", "".join(f"    {line}\n" for line in text.splitlines()))

    def record(self, record: Record) -> None:
        for name, value in curves(record).items():
            self.writer.add_scalar(name, value, record["step"])

    def finish(self, summary: Summary) -> None:
        if self.writer is None:
            return
        for path in sorted((self.folder / "plots").glob("*.png")):
            self.writer.add_image(f"plots/{path.stem}", read_png(path), summary.steps, dataformats="HWC")
        self.writer.close()


def read_png(path: Path) -> Any:
    """A picture as (H, W, 3) uint8."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
