"""The measured effects of all options: a page in Markdown, and the figure on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby

from mltricks.about.reference import escaped, page
from mltricks.config.cards import read_cards
from mltricks.config.options import GROUPS, conf_dir
from mltricks.evidence.table import FOLDER, Row, Task, difference_words, name_of, tasks
from mltricks.figures.base import Figure
from mltricks.figures.effects import Mark, effects

MEASURED = ("technique", "optim", "scheduler", "sampler", "init", "objective")
"""The groups whose options are measured, or are named with the reason why not."""
TITLE = "# What each option is worth"
HEAD = """
Every option that a labelled run can use was added to a plain baseline and compared with it on small tasks, with the
learning rate tuned for both sides: the difference over paired seeds on the test split, and its 95 % interval. What
could not be measured is listed with the reason; where a cell is empty, the task was not for that option. Whatever the
sign, it is here. An effect is **bold** if it survives the control of false discoveries over all rows of its task
(Benjamini and Hochberg, 5 %): of the bold ones, one in twenty is expected to be chance. Read it with care:

- The runs are short and the data small. Augmentation and regularisation prevent overfitting, which such runs hardly
  reach, and make learning slower, which they show.
- Options have their default settings; only the learning rate is tuned.
- The weights of the best validated epoch are tested. Where that comes early, an average of the last epochs changes
  nothing.
- Each interval is for one comparison: of a hundred without any effect, five exclude zero by chance. It spans the
  differences between seeds, not what the choice of the learning rate adds.
- The rows of a task share their baseline's five runs: if those were lucky, all of them look worse.

`python -m mltricks job=explain technique=mixup` prints the rows of an option, `make evidence` measures all of them
again (hours on two cores; a stopped call goes on where it was). *Step* is the CPU time of a training step with the
option divided by that without it, on one thread.
"""
FIGURE = """
![Differences with their intervals, a line an option and a column a task](pictures/effects.png)
"""


def effects_page() -> str:
    """The page ``effects.md``: a table for each group, what was not measured and why, and the costs."""
    found = tasks()
    if not found:
        return page(TITLE, "", "Nothing has been measured yet. `make evidence` does it.", "")
    parts = [TITLE, HEAD, FIGURE, *(about(task) for task in found), ""]
    options = list(dict.fromkeys(row.option for task in found for row in task.rows))
    for group, members in groupby(sorted(options, key=rank), key=group_of):
        parts += [f"## {group}", "", *table(list(members), found), ""]
    return page(*parts, *unmeasured(found), *costs())


def about(task: Task) -> str:
    """A line about a task."""
    facts, factor = task.about, 100 if name_of(task.metric) == "accuracy" else 1
    base = "" if task.baseline_mean is None else f"; {name_of(task.metric)} {factor * task.baseline_mean:.2f}"
    return (
        f"- **{task.title}**: `{' '.join(task.baseline)}`{base}. Measured {facts['date']} at commit {facts['commit']}, "
        f"n={facts['seeds']}, {facts['environment']}: `{task.command}`"
    )


def group_of(option: str) -> str:
    """The heading of an option: its group, or the key of a setting."""
    return option.partition("=")[0]


def rank(option: str) -> tuple[int, str]:
    """Groups in their usual order, settings of the model last."""
    group = group_of(option)
    known = list(GROUPS)
    return (known.index(group) if group in known else len(known), option)


def table(options: Sequence[str], found: Sequence[Task]) -> Iterator[str]:
    """A row for every option."""
    yield f"| option | {' | '.join(task.title for task in found)} | step |"
    yield f"| --- | {' | '.join('---' for _ in found)} | --- |"
    for option in options:
        rows = [next((row for row in task.rows if row.option == option), None) for task in found]
        known = [row for row in rows if row is not None]
        steps = [row.cost for row in known if row.cost is not None]
        step = " to ".join(dict.fromkeys(f"{end(steps):.2f}" for end in (min, max))) if steps else ""
        cells = [cell(row, task) for row, task in zip(rows, found, strict=True)]
        beside = next((f", both with {' '.join(row.beside)}" for row in known if row.beside), "")
        yield f"| `{option}`{escaped(beside)} | {' | '.join(cells)} | {step} |"


def cell(row: Row | None, task: Task) -> str:
    """An effect, bold where it is proven among all rows of the task."""
    if row is None or row.difference is None:
        return "" if row is None else "no pair finished"
    words = difference_words(row, task.metric).replace(" points", "")
    lost = f", {row.lost} lost" if row.lost else ""
    return f"**{words}**{lost}" if row.verdict in ("helps", "hurts") else f"{words}{lost}"


def unmeasured(found: Sequence[Task]) -> Iterator[str]:
    """The options without a row, with the reasons; those of the baseline are what the others are compared with."""
    yield from ("## Not measured", "")
    reasons: dict[str, dict[str, list[str]]] = {}
    for task in found:
        for option, reason in task.unmeasured.items():
            reasons.setdefault(option, {}).setdefault(reason, []).append(task.title)
    measured = {row.option for task in found for row in task.rows}
    measured |= {f"{group_of(row.option)}={row.control}" for task in found for row in task.rows if row.control}
    for option in options_of(MEASURED):
        if option not in measured and option not in reasons:
            reasons[option] = {"not yet": [task.title for task in found]}
    for option, by_reason in sorted(reasons.items(), key=lambda entry: rank(entry[0])):
        said = [r if len(titles) == len(found) else f"{r} ({', '.join(titles)})" for r, titles in by_reason.items()]
        yield f"- `{option}`: {'; '.join(map(escaped, said))}."
    yield ""


def options_of(groups: Sequence[str]) -> Iterator[str]:
    """All options of some groups."""
    for group, cards in read_cards([conf_dir()], groups).items():
        yield from (f"{group}={card.name}" for card in cards)


def costs() -> Iterator[str]:
    """What every option adds to a step of a small model."""
    path = FOLDER / "costs.json"
    if not path.is_file():
        return
    content = json.loads(path.read_text(encoding="utf-8"))
    facts = content["about"]
    yield from ("## The cost of a step", "")
    yield (
        f"CPU time of a step with the option divided by that without it, on one thread, in turn; median (minimum to "
        f"maximum). `{' '.join(content['baseline'])}`, {facts['environment']}, {facts['date']}, commit "
        f"{facts['commit']}: `{content['command']}`"
    )
    yield from ("", "| option | step | rounds |", "| --- | --- | --- |")
    for row in content["rows"]:
        if "median" in row:
            yield f"| `{row['option']}` | {row['median']:.2f} ({row['low']:.2f} to {row['high']:.2f}) | {row['n']} |"
    yield ""


def effects_figure() -> Figure:
    """All rows of all tasks, by group, in points of a hundred."""
    found = tasks()
    options = sorted(dict.fromkeys(row.option for task in found for row in task.rows), key=rank)
    lines: dict[str, str] = {}
    for group, members in groupby(options, key=group_of):
        lines |= {group: group} | {option: option.partition("=")[2] for option in members}
    columns = [(task.title, [mark(row, task) for row in task.rows if row.interval is not None]) for task in found]
    return effects(lines, columns, 5.0, "points of accuracy")


def mark(row: Row, task: Task) -> Mark:
    """An effect in points of a hundred."""
    low, high = row.interval or (0.0, 0.0)
    said = f"{row.option}: {row.verdict}, {difference_words(row, task.metric)}"
    return Mark(row.option, 100 * (row.difference or 0.0), 100 * low, 100 * high, row.verdict, said)
