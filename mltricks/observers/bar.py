"""The progress bar of a run or a sweep, drawn by a thread of rich."""

from __future__ import annotations

import os
import sys
from typing import Any, Protocol

REFRESHES_PER_SECOND = 4


def draws_bars() -> bool:
    """Whether the output is a terminal that can move its cursor."""
    term = os.environ.get("TERM", "" if os.name == "nt" else "dumb")
    return sys.stdout.isatty() and term not in ("dumb", "unknown")


class Source(Protocol):
    """What the bar reads at every refresh."""

    @property
    def done(self) -> int:
        """What is done of ``num_steps``."""

    @property
    def num_steps(self) -> int:
        """Length of the bar."""

    def fields(self) -> dict[str, str]:
        """The texts beside the bar, by name, the most important first: a narrow terminal shows only these."""

    def below(self) -> list[str]:
        """Lines below the bar; each is cut at the edge of the terminal."""


def progress_bar(source: Source, styles: dict[str, str], console: Any = None) -> Any:
    """A progress bar of rich that reads the numbers of ``source`` at every refresh.

    Args:
        source: what it shows.
        styles: styles of the fields; the first stands before the bar, the others after it, in their order.
        console: of rich; standard output by default.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    # in a notebook rich would draw an empty box without ipywidgets
    console = console or Console(force_jupyter=False)

    class Field(ProgressColumn):
        """One of the source's fields."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        def render(self, task: Task) -> Text:
            return Text(task.fields.get(self.name, ""), style=styles[self.name], no_wrap=True)

    class Pulled(Progress):
        """A bar that reads its progress at every refresh, so a step does not update it."""

        def get_renderables(self) -> Any:
            for task in self.tasks:
                task.completed, task.total = source.done, source.num_steps
                task.fields.update(dict.fromkeys(styles, "") | fitting(source.fields(), console.width))
            yield from super().get_renderables()
            yield from (Text(line, no_wrap=True, overflow="ellipsis") for line in source.below())

    first, *others = map(Field, styles)
    columns = [first, BarColumn(None), *others]
    bar = Pulled(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND, expand=True, transient=True)
    bar.add_task("", total=source.num_steps)
    return bar


def fitting(fields: dict[str, str], width: int, bar: int = 10) -> dict[str, str]:
    """The fields that fit beside a bar of ``bar`` characters: the first ones are kept.

    Every field takes a space, also one that is left out: its column stays, empty.

    >>> fitting({"left": "0:05", "epoch": "epoch 1/3", "step": "40/120"}, 26)
    {'left': '0:05', 'epoch': 'epoch 1/3'}
    >>> fitting({"left": "0:05", "epoch": "epoch 1/3", "step": "40/120"}, 25)
    {'left': '0:05'}
    """
    names = list(fields)
    while len(names) > 1 and sum(len(fields[name]) for name in names) + len(fields) + bar > width:
        names.pop()
    return {name: fields[name] for name in names}
