"""For ``tuners.py``: Ray Tune around a hand-written loop, with one CPU per trial and reused workers."""

import os
import sys

import ray
import torch
from digits_mlp import splits, train
from ray import tune

num_trials, width, epochs = map(int, sys.argv[1:])
os.environ |= {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "RAY_AIR_NEW_OUTPUT": "0"}


def objective(config: dict) -> None:
    torch.set_num_threads(1)
    tune.report({"accuracy": train(splits(), config["lr"], config["weight_decay"], width, epochs)})


ray.init(num_cpus=len(os.sched_getaffinity(0)), include_dashboard=False, log_to_driver=False)
results = tune.Tuner(
    objective,
    param_space={"lr": tune.loguniform(1e-4, 1e-2), "weight_decay": tune.loguniform(1e-3, 0.3)},
    tune_config=tune.TuneConfig(num_samples=num_trials, metric="accuracy", mode="max", reuse_actors=True),
    run_config=tune.RunConfig(storage_path=os.path.abspath("ray"), verbose=0),
).fit()
print(results.get_best_result().metrics["accuracy"])
ray.shutdown()
