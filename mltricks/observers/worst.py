"""The table of the worst predictions on the test split."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mltricks.batch import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from mltricks.build import Run


class Examples:
    """Collects the outputs on the test split.

    Args:
        run: the run.
        most: rows of the table; 0: no table.
    """

    def __init__(self, run: Run, most: int):
        self.run, self.most = run, most
        self.parts: list[dict[str, Tensor]] = []

    def add(self, batch: Batch, outputs: Tensor) -> None:
        """Keep a few numbers of every sample of a batch."""
        if self.most:
            self.parts.append(self.run.objective.digest(outputs, batch["y"]))

    def table(self) -> dict[str, Any] | None:
        """The arguments of ``media.log_table``; ``None`` if there is no wrong prediction, or the objective has none."""
        from mltricks.observers.run_page.sheet import TestSheet
        from mltricks.observers.run_page.write import gather

        try:
            outcome, info = gather(self.parts), self.run.data.info
            order, columns = self.run.objective.mistakes(outcome, info, self.most) if outcome else ([], {})
            if not len(order):
                return None
            pictures = TestSheet(info, self.run.data.test).pictures(order)
            pixels = None if pictures is None else pictures.cpu().numpy()
            return {"name": "test/worst_predictions", "columns": columns, "pixels": pixels}
        except Exception as error:  # a user's objective may be anything; the run is done
            print(f"tracker=wandb: the table was not made ({type(error).__name__}: {error})", file=sys.stderr)
            return None
