"""The sections of a sweep's page that show figures."""

from __future__ import annotations

from collections.abc import Sequence

from mltricks.figures.base import Trace
from mltricks.figures.parts import Chart, Code, Part, Section, Text
from mltricks.report.charts.contour import contour
from mltricks.report.charts.curves import COLORED, curves
from mltricks.report.charts.history import history
from mltricks.report.charts.importance import importance_bars
from mltricks.report.charts.parallel import parallel
from mltricks.report.charts.slices import slices
from mltricks.report.charts.timeline import timeline
from mltricks.report.collect import Collected
from mltricks.report.importance import Importance, importance
from mltricks.report.leaderboard import Group
from mltricks.report.scales import Axis
from mltricks.report.slices import Edge


def figures_of(
    sweep: Collected, axes: Sequence[Axis], found: Sequence[Group], best: Group | None, at_edge: Sequence[Edge]
) -> list[Section]:
    """The sections, in order, without those that have nothing to show."""
    made = [
        curves_section(sweep, found),
        history_section(sweep),
        parallel_section(sweep, axes, found),
        *importance_sections(sweep, axes),
        slices_section(sweep, axes, best, at_edge),
        timeline_section(sweep),
    ]
    return [section for section in made if section is not None]


def curves_section(sweep: Collected, found: Sequence[Group]) -> Section | None:
    """Learning curves by configuration."""
    drawn = curves(sweep, found)
    if drawn is None:
        return None
    said = "Each line is a configuration: the mean over its seeds"
    said += ", and the area from the lowest seed to the highest. " if any(g.n > 1 for g in found) else ". "
    said += f"The best {COLORED} have colours. " if len(found) > COLORED else ""
    said += "Values far from all others may lie outside the axes; zoom out with the buttons of the figure."
    return Section("Learning curves", [Chart("curves", drawn), Text(said)], name="curves")


def history_section(sweep: Collected) -> Section | None:
    """The objective in the course of the sweep."""
    drawn = history(sweep)
    return Section("History", [Chart("history", drawn)], name="history") if drawn else None


def parallel_section(sweep: Collected, axes: Sequence[Axis], found: Sequence[Group]) -> Section | None:
    """Parallel coordinates."""
    drawn = parallel(sweep, axes, found)
    if drawn is None:
        return None
    said = (
        "Drag along an axis to keep the configurations in that range, here and in the leaderboard; hold Shift for "
        "further axes. Double-click to keep all."
    )
    return Section("Parallel coordinates", [Text(said), Chart("parallel", drawn)], name="parallel")


def importance_sections(sweep: Collected, axes: Sequence[Axis]) -> list[Section]:
    """The importance of the keys, and the surface over the two most important numbers."""
    if not axes or len(sweep.rows) < 2:
        return []
    found = importance(sweep, axes)
    if not isinstance(found, Importance):
        return [Section("Importance", [Text(found)], name="importance")]
    seeds = [axis.key for axis in axes if axis.seed]
    noise = " The seed's share shows how large pure noise is." if seeds else ""
    said = (
        f"Share of the variance of {sweep.objective} that is due to each key alone (functional ANOVA of a "
        f"random forest, by Optuna), with its standard error. The forest predicts {max(found.explained, 0):.0%} of the "
        f"variance of jobs it has not seen; n = {found.n} jobs. {found.note}{noise}"
    )
    surface = contour(sweep, axes, found)
    bars = Section(
        "Importance",
        [Chart("importance", importance_bars(found.shares, seeds)), Text(said)],
        name="importance",
        half=surface is not None,
    )
    if surface is None:
        return [bars]
    flat = [f" Dashed: {t['name']}, where training stays nearly the same." for t in surface["data"] if is_line(t)]
    note = Text(
        f"{sweep.objective} over the two most important numbers: means of the jobs near each point. Dots are jobs."
        + "".join(flat)
    )
    return [bars, Section("Contour", [Chart("contour", surface), note], name="contour", half=True)]


def is_line(trace: Trace) -> bool:
    """Whether a trace of the contour is its lines of a constant."""
    return trace.get("mode") == "lines"


def slices_section(
    sweep: Collected, axes: Sequence[Axis], best: Group | None, at_edge: Sequence[Edge]
) -> Section | None:
    """The objective against each key, with the next ranges."""
    drawn = slices(sweep, axes, best)
    if not drawn:
        return None
    parts: list[Part] = [Chart(f"slice_{i}", one) for i, one in enumerate(drawn)]
    parts += [Text("Each point is a job; rings mark those of the best configuration.")] if best else []
    for edge in at_edge:
        parts += [Text(edge.text), Code(edge.override)]
    return Section("Slices", parts, name="slices")


def timeline_section(sweep: Collected) -> Section | None:
    """Which process ran which job."""
    drawn = timeline(sweep)
    return Section("Timeline", [Chart("timeline", drawn)], name="timeline") if drawn else None
