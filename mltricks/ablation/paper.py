"""The table of an ablation for a paper, as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mltricks.ablation.words import Compared, Found, corrected, decimals, percent, short_verdict, signed
from mltricks.process.atomic import write_atomically

ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
"""Characters that LaTeX has a command for; a backslash goes before the others in ``SPECIAL``."""
SPECIAL = "&%$#_{}"


def write_tables(folder: Path, found: Found) -> None:
    """Write ``ablation.md`` and ``ablation.tex``."""
    for name, text in (("ablation.md", markdown(found)), ("ablation.tex", latex(found))):
        write_atomically(folder / name, lambda partial, text=text: partial.write_text(text, encoding="utf-8"))  # type: ignore[misc]


def head(found: Found) -> list[str]:
    """The names of the columns."""
    return ["comparison", "n", "mean", "difference", f"{percent(found['level'])} interval", "p", "time", "verdict"]


def cells(arm: Compared, places: int) -> list[str]:
    """The row of a comparison; what is unknown is empty."""
    interval = arm["difference_interval"]
    return [
        arm["name"],
        str(arm["n"]),
        "" if arm["mean"] is None else f"{arm['mean']:.{places}f}",
        "" if arm["difference"] is None else signed(arm["difference"], places),
        "" if interval is None else f"[{signed(interval[0], places)}, {signed(interval[1], places)}]",
        "" if arm["p_holm"] is None else f"{arm['p_holm']:.3f}" if arm["p_holm"] >= 5e-4 else "< 0.001",
        "" if arm["cost_ratio"] is None else f"{arm['cost_ratio']:.2f}",
        short_verdict(arm),
    ]


def caption(found: Found) -> str:
    """What the table shows and how it was computed."""
    split, count = str(found["metric"]).partition("/")[0], corrected(found)
    better = "higher" if found["direction"] == "maximize" else "lower"
    holm = f", corrected for {count} comparisons (Holm 1979)" if count > 1 else ""
    return (
        f"Effects on {found['metric']} ({better} is better), measured on the {split} split; {found['chosen_by']} chose "
        f"{'the retuned settings and ' if found['retuned'] else ''}the epochs. Mean: of the runs with the change. "
        f"Difference: with minus without, mean over n of {found['seeds']} paired seeds, with its "
        f"{percent(found['level'])} t-interval (of one comparison). p and verdict: paired t-test{holm}. Time: "
        "seconds of a run with, divided by those without."
    )


def markdown(found: Found) -> str:
    """The table in Markdown, with its caption below."""
    places = decimals(found["arms"])
    rows = [[cell.replace("|", "\\|") for cell in cells(arm, places)] for arm in found["arms"]]
    rule = ["---", *["---:"] * 6, "---"]
    lines = [f"| {' | '.join(row)} |" for row in ([head(found), rule, *rows])]
    return "\n".join([*lines, "", caption(found), ""])


def latex(found: Found) -> str:
    """The table in LaTeX, for the package booktabs."""
    places = decimals(found["arms"])
    rows = [[escaped(row[0]), *map(formula, row[1:7]), row[7]] for row in (cells(arm, places) for arm in found["arms"])]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            rf"  \caption{{{escaped(caption(found))}}}",
            r"  \label{tab:ablation}",
            r"  \centering",
            r"  \begin{tabular}{lrrrrrrl}",
            r"    \toprule",
            f"    {line(map(escaped, head(found)))}",
            r"    \midrule",
            *(f"    {line(row)}" for row in rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def line(row: Sequence[str] | map[str]) -> str:
    """A row of a tabular."""
    return " & ".join(row) + r" \\"


def formula(cell: str) -> str:
    """A number as LaTeX sets it, with a proper minus."""
    return f"${cell}$" if cell else ""


def escaped(words: str) -> str:
    """A text without commands of LaTeX.

    >>> print(escaped("label_smoothing & 95 %"))
    label\\_smoothing \\& 95 \\%
    """
    return "".join(ESCAPES.get(c, f"\\{c}" if c in SPECIAL else c) for c in words)
