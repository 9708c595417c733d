"""A study has one configuration: opening it, and refusing the name of one that was begun with another."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from mltricks.pruning.storage import exclusive, open_storage
from mltricks.resume import differences, is_free

RECORD = "mltricks"
"""Study attribute that says what the study was begun with."""


def open_study(url: str, name: str, directions: Sequence[Any], record: dict[str, Any]) -> tuple[Any, Any]:
    """The study of a name, made where there is none, and the storage that keeps it.

    Args:
        url: of the storage.
        name: of the study.
        directions: ``maximize`` or ``minimize`` for each objective.
        record: of ``record_of``.

    Raises:
        ValueError: the study was begun with another record; the difference is shown.
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
            raise ValueError(f"study_name={name} is a study of another program in {url}. Type study_name=ANOTHER.")
        else:
            study.set_user_attr(RECORD, json.dumps(record))
    return study, storage


def record_of(space: Any, cfg: dict[str, Any], goals: Any, replicates: int) -> dict[str, Any]:
    """What two commands must share to go on with the same study, for JSON.

    Args:
        space: the search space.
        cfg: configuration of the first job.
        goals: of the study.
        replicates: seeds for each trial.
    """
    aims = dict(zip(goals.names, goals.directions, strict=True))
    described = space.describe()
    record = {"config": cfg, "space": described["space"], "objectives": aims, "replicates": replicates}
    return dict(json.loads(json.dumps(record)))


def check_same_study(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse to go on with a study that was begun otherwise.

    Raises:
        ValueError: shows every difference, and what to type.
    """
    changed = list(_differences(mine, theirs))
    if changed:
        raise ValueError(
            "\n".join(
                [
                    f"study_name={name} was begun with another configuration:",
                    *(f"  {what}: {there} there, {here} here" for what, here, there in changed),
                    "Its trials could not be compared with new ones. Type the former command to go on with it, or "
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
    """A value, or a domain, in few words."""
    if value is None:
        return "null or absent"
    if isinstance(value, dict) and "choices" in value:
        return ",".join(map(str, value["choices"]))
    if isinstance(value, dict) and "low" in value:
        scale = "log " if value.get("log") else ""
        return f"{scale}interval({value['low']:g},{value['high']:g})"
    return str(value)
