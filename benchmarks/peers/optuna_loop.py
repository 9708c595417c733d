"""For ``tuners.py``: Optuna in one process around a hand-written loop."""

import sys

import optuna
import torch
from digits_mlp import splits, train

num_trials, width, epochs = map(int, sys.argv[1:])
torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.ERROR)
data = splits()


def objective(trial: optuna.Trial) -> float:
    lr = trial.suggest_float("lr", 1e-4, 1e-2, log=True)
    weight_decay = trial.suggest_float("weight_decay", 1e-3, 0.3, log=True)
    return train(data, lr, weight_decay, width, epochs)


study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
study.optimize(objective, n_trials=num_trials)
print(study.best_value)
