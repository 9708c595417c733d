"""A teacher of distillation: the model of another run, its weights, and what converts a student's inputs to its own.

It runs in evaluation mode without test-time augmentation, with the weights that its run predicts with (an average, if
it has one).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mltricks.config.create import create
from mltricks.data.info import Info
from mltricks.ensemble import runs_in
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import saved
from mltricks.predictor import rebuild
from mltricks.state import named_leaves
from mltricks.technique import Own
from mltricks.weights import BUFFER, PARAM, RAW, info_of, load_weights

INPUT, OUTPUTS = ("input",), ("target", "num_outputs", "classes")


def teachers_in(technique: str, teacher: str | None) -> list[str]:
    """The folders that the setting ``teacher`` of a technique names.

    Raises:
        ValueError: it names none.
    """
    if teacher is None:
        raise ValueError(
            f"technique.{technique}.teacher is missing: the output folder of the teacher's run. Train one, for "
            "instance with python -m mltricks model=resnet9, and type "
            f"technique.{technique}.teacher=outputs/DATE/TIME."
        )
    return runs_in(teacher)


def one_teacher(technique: str, teacher: str | None) -> str:
    """The folder of a technique that takes one teacher.

    Raises:
        ValueError: it names none, or several.
    """
    first, *others = teachers_in(technique, teacher)
    if others:
        raise ValueError(
            f"technique.{technique}.teacher={teacher} names {len(others) + 1} runs, whose layers have no mean. Give "
            "one; technique=distill takes several."
        )
    return first


def read_teacher(
    technique: str,
    teacher: str,
    student: Info | None,
    allow: Sequence[str],
    where: torch.device,
    same: Sequence[str] = (*INPUT, *OUTPUTS),
) -> tuple[FunctionalModel, Own]:
    """A teacher.

    Args:
        technique: its name, for messages.
        teacher: output folder of the teacher's run, or its ``best.safetensors``.
        student: describes the student's data; ``None`` checks and converts nothing.
        allow: packages that the teacher's ``_target_`` may name besides mltricks and torch.
        where: device of the model.
        same: in which parts of ``Info`` teacher and student must agree.

    Returns:
        The model without its weights; and these, as ``params`` and ``buffers``, with the tensors of
        ``renormalization``.

    Raises:
        ValueError: there are no such weights, or they are those of an ensemble or of another task.
    """
    allow = list(allow)
    tensors, metadata = load_weights(Path(teacher))
    taught = info_of(metadata, tensors, allow)
    check_same_task(technique, teacher, taught, student, same)
    if any(name.startswith(RAW) for name in tensors):
        raise ValueError(
            f"technique.{technique}.teacher={teacher} predicts with several sets of weights, an ensemble; "
            f"{technique} takes teachers of one set each. Give the folder of such a run; technique=distill takes "
            "several, as RUN+RUN."
        )
    config = {**metadata["config"], "precision": {"dtype": "fp32"}}  # the student's precision applies
    objective = create(config["objective"], "objective", allow)
    function, _ = rebuild(config, taught, objective, allow, tensors, where)
    weights = {
        "params": {name: tensors[PARAM + name] for name, _ in function.params},
        "buffers": {name: tensors[BUFFER + name] for name, _ in function.buffers},
    }
    return function, {**weights, **renormalization(technique, student, taught)}


def seen_by(own: Own, x: Any) -> Any:
    """The student's inputs as the teacher with these tensors sees them."""
    return x * own["scale"] + own["shift"] if "scale" in own else x


def check_same_task(
    technique: str, teacher: str, taught: Info, student: Info | None, same: Sequence[str] = (*INPUT, *OUTPUTS)
) -> None:
    """Refuse a teacher with different inputs, outputs or classes."""
    if student is None:
        return
    for name in same:
        theirs, mine = (getattr(info, name) for info in (taught, student))
        theirs, mine = (str(theirs), str(mine)) if name == "input" else (theirs, mine)
        if theirs != mine:
            raise ValueError(
                f"technique.{technique}.teacher={teacher} was trained on other data: its {name} is {theirs}, "
                f"here it is {mine}. Give the folder of a run on the same data."
            )


def renormalization(technique: str, student: Info | None, taught: Info) -> Own:
    """The tensors that convert the student's normalised inputs to the teacher's; empty if both have equal statistics.

    Raises:
        ValueError: the statistics differ, and the input kind has no single mean and deviation tensor.
    """
    if student is None:
        return {}
    mine, theirs = (dict(named_leaves(saved(info.input)[1])) for info in (student, taught))
    if mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine):
        return {}
    if not {"mean", "std"} == mine.keys() == theirs.keys():
        raise ValueError(f"technique.{technique}.teacher was trained on inputs of other statistics. Use the same data.")
    return {"scale": mine["std"] / theirs["std"], "shift": (mine["mean"] - theirs["mean"]) / theirs["std"]}
