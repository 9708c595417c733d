"""``job=knn``: classify by the nearest training samples in the space of a run's features, without any training.

Source: Wu, Xiong, Yu, Lin, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination", 2018,
arXiv:1805.01978, section 3.4; temperature 0.1 as in the code of MoCo for CIFAR-10 and in lightly.
Features of training, validation and test samples without augmentation; values are predicted by the weighted mean of the
neighbours' values. No sample is its own neighbour: the queries are no training samples.
Cost: one forward pass over the three splits for each row; the products of validation and test with all training
features, in pieces of 64 MiB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mltricks.config.compose import plain
from mltricks.config.values import Count, Positive, check_values
from mltricks.features.encoder import Samples
from mltricks.features.scores import Predict, Task, by_neighbours
from mltricks.probes.of_features import Row, run_job

SETTINGS = {"k": Count, "temperature": Positive, "layer": str | None, "baselines": bool}


def knn(cfg: Any, folder: Path, overrides: list[str], mode: str) -> float:
    """Measure the features of the run in ``checkpoint``; return its score on validation.

    Raises:
        ValueError: the checkpoint is missing, or its features or the data do not serve.
    """
    settings = plain(cfg)["job"]
    check_values(settings, SETTINGS)

    def learn(samples: dict[str, Samples], task: Task) -> tuple[Predict, Row]:
        size = len(samples["train"].x)
        k = min(settings["k"], size)
        capped = f"k={settings['k']} is more than the {size} training samples: all of them vote."
        predict = by_neighbours(samples["train"], task, k, settings["temperature"])
        return predict, {"used": {"k": k}, "advice": [capped] if k < settings["k"] else []}

    return run_job(cfg, folder, overrides, mode, "knn", learn)
