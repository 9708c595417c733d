"""Open a study; refuse one that was started with another configuration, as its trials are not comparable."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mltricks.pruning.storage import exclusive, open_storage
from mltricks.resume import differences, is_free

RECORD = "mltricks"
"""Study attribute that holds the record of the command that started the study."""


def open_study(url: str, name: str, directions: Sequence[Any], record: dict[str, Any]) -> tuple[Any, Any]:
    """Open or create a study, and return it with its storage.

    Args:
        url: URL of the storage.
        name: name of the study.
        directions: ``maximize`` or ``minimize`` for each objective.
        record: the result of ``record_of``.

    Raises:
        ValueError: the study was started with another record; the message shows the differences.
    """
    import optuna

    storage = open_storage(url)
    sampler, pruner = optuna.samplers.RandomSampler(), optuna.pruners.NopPruner()
    with exclusive(storage, name):
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            directions=list(directions),
            load_if_exists=True,
        )
        if RECORD in study.user_attrs:
            check_same_study(name, record, json.loads(study.user_attrs[RECORD]))
        elif study.get_trials(deepcopy=False):
            raise ValueError(f"study_name={name} belongs to another program in {url}. Type study_name=ANOTHER.")
        else:
            study.set_user_attr(RECORD, json.dumps(record))
    return study, storage


def record_of(space: Any, cfg: dict[str, Any], goals: Any, replicates: int) -> dict[str, Any]:
    """The record of a study, for JSON. A command may continue a study only if their records agree.

    Args:
        space: the search space.
        cfg: configuration of the first job.
        goals: the goals of the study.
        replicates: seeds for each trial.
    """
    aims = dict(zip(goals.names, goals.directions, strict=True))
    described = space.describe()
    record = {"config": cfg, "space": described["space"], "objectives": aims, "replicates": replicates}
    return dict(json.loads(json.dumps(record)))


def check_same_study(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse to continue a study that was started with another record.

    Raises:
        ValueError: the records differ; the message shows every difference and the fix.
    """
    changed = list(_differences(mine, theirs))
    if changed:
        raise ValueError(
            "\n".join(
                [
                    f"study_name={name} was started with another configuration:",
                    *(f"  {what}: {there} in the study, {here} now" for what, here, there in changed),
                    "Its trials are not comparable with new ones. Type its own command to continue it, or "
                    "study_name=ANOTHER for a new study.",
                ]
            )
        )


def _differences(mine: dict[str, Any], theirs: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    swept = {key.partition("@")[0] for record in (mine, theirs) for key in record["space"]}
    for path, (here, there) in differences(mine["config"], theirs["config"]).items():
        under = any(f"{path}.".startswith(f"{key}.") for key in swept)
        if not is_free(path) and not under:
            yield path, _shown(here), _shown(there)
    for part in ("space", "objectives"):
        for key in {**theirs[part], **mine[part]}:
            here, there = mine[part].get(key), theirs[part].get(key)
            if here != there:
                yield f"{part} {key}" if part == "objectives" else key, _shown(here), _shown(there)
    if mine["replicates"] != theirs["replicates"]:
        yield "replicates", _shown(mine["replicates"]), _shown(theirs["replicates"])


def _shown(value: Any) -> str:
    """A value or a domain as short text."""
    if value is None:
        return "null or absent"
    if isinstance(value, dict) and "choices" in value:
        return ",".join(map(str, value["choices"]))
    if isinstance(value, dict) and "low" in value:
        scale = "log " if value.get("log") else ""
        return f"{scale}interval({value['low']:g},{value['high']:g})"
    return str(value)
