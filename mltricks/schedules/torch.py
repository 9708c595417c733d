"""Any schedule of ``torch.optim.lr_scheduler`` by its name.

Source: the class's own documentation. The class is stepped on a dummy optimiser when the run is built, and the learning
rates that it sets are kept as a table, so the result equals a loop that steps the class itself, bit for bit, and a run
resumes anywhere. Deviation: schedules that need more than the number of steps are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mltricks.config.values import suggest
from mltricks.schedules.base import Schedule

UNFIT = {
    "ReduceLROnPlateau": "it follows the validation loss, as scheduler=plateau does",
    "LambdaLR": "it takes a function, which a configuration cannot hold",
    "MultiplicativeLR": "it takes a function, which a configuration cannot hold",
    "SequentialLR": "it takes other schedules",
    "ChainedScheduler": "it takes other schedules",
}
OF_THE_RUN = ("total_steps", "T_max")
"""Arguments that are the length of the run unless they are given."""


@dataclass(frozen=True)
class Torch(Schedule):
    """The learning rates of ``torch.optim.lr_scheduler.<name>``, after the warm-up.

    Args:
        name: the class.
        arguments: its arguments besides the optimiser; ``None`` for none.
        interval: whether it counts updates or epochs.

    Raises:
        ValueError: an unknown or unsupported class, or arguments that it refuses.
    """

    name: str
    arguments: dict[str, Any] | None
    interval: Literal["step", "epoch"]

    def __post_init__(self) -> None:
        super().__post_init__()
        known = list(inspect.signature(find(self.name)).parameters)
        for argument in self.arguments or {}:
            if argument == "optimizer" or argument not in known:
                raise ValueError(
                    f"scheduler.arguments has {argument}, which {self.name} does not take from a configuration. "
                    f"{suggest(argument, [name for name in known if name != 'optimizer'])} "
                    f"To leave it out, type ~scheduler.arguments.{argument}."
                )
        if "cycle_momentum" in known and (self.arguments or {}).get("cycle_momentum", True):
            raise ValueError(
                f"scheduler.name={self.name} drives the momentum too unless it is told not to, and scheduler=torch "
                "drives the learning rate alone. Type +scheduler.arguments.cycle_momentum=false, or scheduler=onecycle."
            )

    def drive(self, peak: float, total_steps: int, steps_per_epoch: int) -> Callable[[float], float]:
        warm = round(self.warmup_frac * total_steps)
        unit = steps_per_epoch if self.interval == "epoch" else 1
        table = self.rates(peak, -(-max(total_steps - warm, 1) // unit))
        start = self.warmup_start * peak

        def rate(progress: float) -> float:
            step = round(progress * total_steps)
            if step < warm:
                return start + (table[0] - start) * step / warm
            return table[min((step - warm) // unit, len(table) - 1)]

        return rate

    def rates(self, peak: float, count: int) -> list[float]:
        """The learning rates that the class sets for ``count`` units of its interval.

        Raises:
            ValueError: the class refuses its arguments or this number of steps.
        """
        import torch.optim  # imported here, because it takes a second

        cls = find(self.name)
        of_run = {name: count for name in OF_THE_RUN if name in inspect.signature(cls).parameters}
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
        found = []
        try:
            scheduler = cls(optimizer, **{**of_run, **(self.arguments or {})})
            for i in range(count):
                found.append(float(optimizer.param_groups[0]["lr"]))
                optimizer.step()
                if i < count - 1:  # OneCycleLR refuses to be stepped after the last update
                    scheduler.step()
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"scheduler.name={self.name} refuses scheduler.arguments={self.arguments}: {error}"
            ) from error
        return found

    def factor(self, progress: float) -> float:
        raise ValueError(
            "schedule: torch drives the learning rate alone, as scheduler=torch. Choose another schedule here."
        )


def find(name: str) -> Any:
    """The class of ``torch.optim.lr_scheduler`` with this name.

    Raises:
        ValueError: the class does not exist, or is not supported.
    """
    from torch.optim import lr_scheduler

    base = lr_scheduler.LRScheduler
    classes = {
        n: c for n, c in vars(lr_scheduler).items() if inspect.isclass(c) and issubclass(c, base) and n[0] != "_"
    }
    del classes["LRScheduler"]
    if name in UNFIT:
        raise ValueError(
            f"scheduler.name={name} cannot be used: {UNFIT[name]}. Type another, for instance scheduler=cosine."
        )
    if name not in classes:
        raise ValueError(
            f"scheduler.name={name} is no schedule of torch.optim.lr_scheduler. "
            f"{suggest(name, classes.keys() - UNFIT.keys())}"
        )
    return classes[name]
