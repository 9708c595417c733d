"""What targets ask of a predictor that is fitted to features: classes are classified, values are regressed.

Legend: K classes or values.
"""

from __future__ import annotations

from dataclasses import dataclass

from mltricks.data.info import Info
from mltricks.objectives.classify import Classify
from mltricks.objectives.regress import Regress

FEATURE_TARGETS = ("classes", "values")
"""The kinds of target that can be predicted from features."""


@dataclass(frozen=True)
class Task:
    """What the targets of a data set are.

    Attributes:
        objective: measures outputs against them.
        num_outputs: K.
    """

    objective: Classify | Regress
    num_outputs: int

    @property
    def classifies(self) -> bool:
        return isinstance(self.objective, Classify)


def task_of(info: Info, what: str) -> Task:
    """The task that the targets of a data set pose.

    Args:
        info: describes the data.
        what: asks, for the message.

    Raises:
        ValueError: the targets are neither classes nor values.
    """
    if info.target not in FEATURE_TARGETS:
        raise ValueError(
            f"{what} predicts classes or values from features, and the targets of these data are {info.target}. "
            "Type data=NAME with other data of the same inputs."
        )
    return Task(Classify() if info.target == "classes" else Regress(), info.num_outputs)
