"""The progress bar of a run, drawn by a thread of rich."""

from __future__ import annotations

from typing import Any, Protocol

REFRESHES_PER_SECOND = 4
STYLES = {"step": "dim", "loss": "yellow", "score": "green", "speed": "cyan", "left": "magenta"}
"""Styles of the fields beside the bar, from left to right."""


class Source(Protocol):
    """What the bar reads at every refresh."""

    done: int
    num_steps: int

    def fields(self) -> dict[str, str]:
        """The fields beside the bar, by name, from left to right."""


def progress_bar(source: Source, console: Any = None) -> Any:
    """A progress bar of rich that reads the numbers of ``source`` at every refresh."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task
    from rich.text import Text

    class Field(ProgressColumn):
        """One of the source's fields."""

        def __init__(self, name: str, style: str) -> None:
            super().__init__()
            self.name, self.style = name, style

        def render(self, task: Task) -> Text:
            return Text(task.fields.get(self.name, ""), style=self.style, no_wrap=True)

    class Pulled(Progress):
        """A bar that reads its progress at every refresh, so a step does not update it."""

        def get_renderables(self) -> Any:
            for task in self.tasks:
                task.completed = source.done
                task.fields.update(source.fields())
            return super().get_renderables()

    console = console or Console(force_jupyter=False)  # in a notebook rich would draw an empty box without ipywidgets
    columns = [Field("epoch", "bold"), BarColumn(None), *(Field(name, style) for name, style in STYLES.items())]
    bar = Pulled(*columns, console=console, refresh_per_second=REFRESHES_PER_SECOND, expand=True, transient=True)
    bar.add_task("", total=source.num_steps)
    return bar


def fitting(fields: dict[str, str], width: int, bar: int = 10) -> dict[str, str]:
    """The fields that fit beside a bar of ``bar`` characters; the others are left out, the least important first.

    >>> fitting({"epoch": "epoch 1/3", "step": "40/120", "loss": "loss 0.5", "left": "0:05"}, 38)
    {'epoch': 'epoch 1/3', 'loss': 'loss 0.5', 'left': '0:05'}
    """
    for name in ("speed", "step", "score", "epoch", "loss"):
        if sum(len(text) + 1 for text in fields.values()) + bar <= width:
            break
        fields = {key: text for key, text in fields.items() if key != name}
    return fields
