"""``sweep.html``: one file that loads nothing else, with the data as JSON and a script that draws them.

The script creates elements and sets their text, so data are never parsed as HTML. The content security policy allows
only this script.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from dataclasses import asdict
from html import escape
from pathlib import Path
from typing import Any

from mltricks.report.collect import Collected, Row
from mltricks.report.importance import importance
from mltricks.report.leaderboard import Group, best_command, best_group, groups
from mltricks.report.scales import axes
from mltricks.report.slices import edges
from mltricks.report.state import state, warnings

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("dom", "plot", "table", "curves", "parallel", "slices", "steps", "main")


def page(sweep: Collected) -> str:
    """The whole document."""
    style = (ASSETS / "page.css").read_text(encoding="utf-8")
    script = "".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    script = f'"use strict";(() => {{\n{script}}})();'
    parts = {
        "TITLE": escape(sweep.folder.resolve().name),
        "POLICY": f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'; img-src data:",
        "STYLE": style,
        "DATA": as_script(payload(sweep)),
        "SCRIPT": script,
    }
    text = (ASSETS / "page.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        before, _, after = text.partition(f"{{{{{name}}}}}")
        text = before + part + after
    return text


def digest(text: str) -> str:
    """The hash of a script or style for the content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def as_script(data: Any) -> str:
    """JSON for a script element, escaped so that no data can end the element."""
    text = json.dumps(clean(data), separators=(",", ":"), ensure_ascii=False)
    escapes = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for character, written in escapes.items():
        text = text.replace(character, written)
    return text.encode("utf-8", "replace").decode()


def clean(value: Any) -> Any:
    """The value with everything that JSON cannot hold replaced by ``null``, and keys as text."""
    if isinstance(value, dict):
        return {str(key): clean(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def payload(sweep: Collected) -> dict[str, Any]:
    """The data that the script draws."""
    found, scales = groups(sweep), axes(sweep)
    best = best_group(found)
    at_edge = (
        edges(sweep, scales, best) if sweep.recipe is None else []
    )  # a recipe's jobs are not comparable: they differ in purpose and length
    important = importance(sweep, scales)
    command = str(sweep.ended_with["command"]) if sweep.ended_with else best_command(sweep, found)
    return {
        "title": sweep.folder.resolve().name,
        "command": sweep.origin.command,
        "state": state(sweep),
        "objective": {"name": sweep.objective, "maximize": sweep.maximize},
        "best": {"command": command, "group": as_group(best) if best else None, "said": sweep.ended_with},
        "warnings": warnings(sweep, found, at_edge),
        "axes": [asdict(axis) for axis in scales],
        "jobs": [job(row) for row in sweep.rows],
        "groups": [as_group(group) for group in found],
        "importance": asdict(important) if important else None,
        "edges": [asdict(edge) for edge in at_edge],
        "recipe": sweep.recipe,
        "ablation": sweep.ablation,
    }


def as_group(group: Group) -> dict[str, Any]:
    """A configuration, with its interval if there is one."""
    known = group.score is not None and math.isfinite(group.score.low)
    return {
        "values": group.values,
        "rows": group.rows,
        "n": group.n,
        "rank": group.rank,
        "trivial": group.trivial,
        "measured_on": group.measured_on,
        "mean": group.score.mean if group.score else None,
        "interval": [group.score.low, group.score.high] if group.score and known else None,
        "best": group.best,
        "worst": group.worst,
        "partial": group.partial,
        "seconds": round(group.seconds, 3),
    }


def job(row: Row) -> dict[str, Any]:
    """A job for the script."""
    return {
        "name": row.name,
        "status": row.status,
        "value": row.value,
        "values": row.values,
        "overrides": row.overrides,
        "seconds": round(row.seconds, 3),
        "epochs": row.epochs,
        "error": row.error,
        "curves": row.curves,
        "test": row.test,
        "report": row.has_report,
    }
