"""Further metrics by name, measured on validation and test splits beside those of the objective.

A metric of torchmetrics is accumulated over the batches of a split by torchmetrics itself, so it is that of the whole
split, also where it is no mean over samples. ``knn`` and ``linear_probe`` are ours: what the features of the model are
worth to the k nearest training samples and to a linear model; ``mltricks.features`` measures them.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import Count, NonNegative, Positive, check_fields, suggest
from mltricks.data.info import Info
from mltricks.objectives.of_targets import FEATURE_TARGETS

NUM_TRIED = 32
TASKS = {"multiclass": "num_classes", "multilabel": "num_labels"}
"""The tasks of torchmetrics that have classes, and the argument for their number."""


@dataclass(frozen=True)
class Knn:
    """Settings of ``metric=knn``: accuracy, or R^2 of values, of the weighted vote of the nearest training samples.

    Args:
        k: number of neighbours; where there are fewer training samples, all of them vote.
        temperature: a neighbour of cosine similarity s votes with weight exp(s / temperature).
    """

    k: Count = 200
    temperature: Positive = 0.1

    def __post_init__(self) -> None:
        check_fields(self, "metric.knn.")


@dataclass(frozen=True)
class LinearProbe:
    """Settings of ``metric=linear_probe``: accuracy of logistic, or R^2 of ridge regression on standardised features.

    Args:
        l2: weight of half the squared norm of the weights beside the mean loss.
    """

    l2: NonNegative = 1e-3

    def __post_init__(self) -> None:
        check_fields(self, "metric.linear_probe.")


OF_FEATURES = {"knn": Knn, "linear_probe": LinearProbe}
"""The metrics of features, with the class of their settings."""


@dataclass(frozen=True)
class Metrics:
    """The metrics that ``metric=`` names.

    Attributes:
        objective: turns outputs into probabilities or values.
        made: a fresh object of torchmetrics for every name.
        family: the objective's.
        of_features: settings of the metrics of features by name.
    """

    objective: Any = None
    made: dict[str, Any] = field(default_factory=dict)
    family: str = ""
    of_features: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return [*self.made, *self.of_features]

    def meter(self) -> Meter:
        """An empty accumulator for one split."""
        return Meter(self)

    def higher_is_better(self, name: str) -> bool:
        """The direction of a metric.

        Raises:
            ValueError: torchmetrics does not say.
        """
        found = True if name in self.of_features else self.made[name].higher_is_better
        if found is None:
            raise ValueError(
                f"objective_metric=val/{name} cannot steer a run: torchmetrics does not say whether a higher value is "
                "better. Choose another metric."
            )
        return bool(found)


class Meter:
    """Accumulates metrics of torchmetrics over the batches of a split; called with every batch and the outputs on it.

    Args:
        metrics: the metrics.
    """

    def __init__(self, metrics: Metrics):
        self.metrics = metrics
        self.held: dict[str, Any] = {}

    def __call__(self, batch: Batch, outputs: Any) -> None:
        if not self.metrics.made:
            return
        predictions, y = paired(self.metrics.objective.predict(outputs), batch["y"], self.metrics.family)
        if not self.held:
            self.held = {name: metric.clone().to(y.device) for name, metric in self.metrics.made.items()}
        for metric in self.held.values():
            metric.update(predictions, y)

    def values(self) -> dict[str, float]:
        """The metrics over all batches so far."""
        return {name: float(metric.compute()) for name, metric in self.held.items()}


def paired(predictions: Tensor, y: Tensor, family: str) -> tuple[Tensor, Tensor]:
    """Predictions and targets as torchmetrics takes them: single values without an axis, labels as 0 or 1."""
    if not y.is_floating_point():
        return predictions, y
    if family == "multilabel":
        return predictions, (y.reshape(predictions.shape) >= 0.5).long()
    predictions, y = predictions.flatten(1), y.reshape(len(y), -1)
    return (predictions[:, 0], y[:, 0]) if y.shape[1] == 1 else (predictions, y)


def create_metrics(given: Any, info: Info, objective: Any) -> Metrics:
    """The metrics that ``metric=`` names.

    Args:
        given: names, joined by + or in a list; or mappings with a ``name`` and arguments of the metric.
        info: describes the data.
        objective: of the run.

    Raises:
        ValueError: an unknown name, a metric that does not fit the data, or arguments that it refuses.
    """
    nodes = given.split("+") if isinstance(given, str) else given
    made: dict[str, Any] = {}
    of_features: dict[str, Any] = {}
    for node in nodes if nodes != ["none"] else []:
        name, arguments = (node, {}) if isinstance(node, str) else named(node)
        if name in made or name in of_features:
            raise ValueError(f"metric={name} is given twice. Leave one out.")
        if name in OF_FEATURES:
            of_features[name] = create_feature_metric(name, arguments, info)
        else:
            made[name] = create_metric(name, arguments, info, objective.family(info))
    return Metrics(objective, made, objective.family(info), of_features)


def create_feature_metric(name: str, arguments: dict[str, Any], info: Info) -> Any:
    """The settings of a metric of features.

    Raises:
        ValueError: an unknown or wrong argument, or targets that are neither classes nor values.
    """
    cls = OF_FEATURES[name]
    known = [f.name for f in fields(cls)]
    for argument in arguments:
        if argument not in known:
            raise ValueError(f"metric={name} has no argument {argument}. {suggest(argument, known)}")
    if info.target not in FEATURE_TARGETS:
        raise ValueError(
            f"metric={name} predicts classes or values from the features of a sample, and these targets are "
            f"{info.target}. Leave it out."
        )
    return cls(**arguments)


def named(node: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if "name" not in node:
        raise ValueError(f"metric={node} has no name. Write {{name: f1_score, average: macro}}.")
    return str(node["name"]), {key: value for key, value in node.items() if key != "name"}


def create_metric(name: str, arguments: dict[str, Any], info: Info, family: str) -> Any:
    """An object of torchmetrics, tried on random predictions; ``family`` is the objective's.

    Raises:
        ValueError: it cannot be made, or does not give one number.
    """
    cls, task = find(name, info, family)
    if "num_outputs" in inspect.signature(cls).parameters and info.num_outputs > 1 and not task:
        task = {"num_outputs": info.num_outputs}
    try:
        metric = cls(**{**task, **arguments})
        value = tried(metric.clone(), info, family)
    except Exception as error:  # torchmetrics may raise anything
        raise ValueError(
            f"metric={name} cannot be measured here with {arguments or 'its defaults'}: {error}"
        ) from error
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise ValueError(f"metric={name} gives no single number, so it cannot be recorded. Choose another metric.")
    return metric


def tried(metric: Any, info: Info, family: str) -> Any:
    """The value of a metric on random predictions; ``family`` is the objective's."""
    generator = torch.Generator().manual_seed(0)
    outputs = torch.rand(NUM_TRIED, info.num_outputs, generator=generator)
    y = torch.rand(NUM_TRIED, info.num_outputs, generator=generator)
    if family == "multiclass":
        y = torch.arange(NUM_TRIED) % info.num_outputs
        outputs = outputs.softmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the random values, such as a class that does not occur
        metric.update(*paired(outputs, y, family))
        return metric.compute()


def find(name: str, info: Info, family: str) -> tuple[Any, dict[str, Any]]:
    """The class of torchmetrics with this name, and the arguments that the data decide.

    Raises:
        ValueError: there is none for these targets, or torchmetrics is not installed.
    """
    try:
        import torchmetrics  # imported here, because it takes seconds
        from torchmetrics import classification, regression
        from torchmetrics.functional import classification as of_classes
        from torchmetrics.functional import regression as of_values
    except ImportError as error:
        raise ValueError(f"metric={name} needs torchmetrics. Type: pip install torchmetrics") from error

    if not family:
        raise ValueError(f"metric={name}: there are no further metrics for targets that are {info.target}.")
    is_class = family in TASKS
    classes, functions = (classification, of_classes) if is_class else (regression, of_values)
    known = {
        n.lower(): c for n, c in vars(classes).items() if inspect.isclass(c) and issubclass(c, torchmetrics.Metric)
    }
    known = {n: c for n, c in known.items() if not is_class or "task" in inspect.signature(c.__new__).parameters}
    words = {n: known[n.replace("_", "")] for n in vars(functions) if n.replace("_", "") in known}
    if name not in words:
        known_here = [*words, *(OF_FEATURES if info.target in FEATURE_TARGETS else ())]
        raise ValueError(f"metric={name} is no metric of torchmetrics for {info.target}. {suggest(name, known_here)}")
    return words[name], {"task": family, TASKS[family]: info.num_outputs} if is_class else {}


def check_new(names: Sequence[str], measured: Sequence[str]) -> None:
    """Refuse a metric that has the name of one that the objective measures.

    Raises:
        ValueError: names it.
    """
    for name in names:
        if name in measured:
            raise ValueError(f"metric={name}: the objective measures {name} already. Leave it out.")
