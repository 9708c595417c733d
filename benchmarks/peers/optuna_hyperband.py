"""For ``halving.py``: Optuna's Hyperband in one process around a hand-written loop, on a tenth of MNIST.

mltricks reads the images, so that both programs train on the same split.
"""

import json
import sys

import optuna
import torch
from torch import nn

from mltricks.config.compose import compose, plain
from mltricks.construct import load_data

BATCH_SIZE = 64
settings = json.loads(sys.argv[1])
torch.set_num_threads(1)
optuna.logging.set_verbosity(optuna.logging.ERROR)
splits = load_data(plain(compose(settings["data"])), [])
(x, y), (x_val, y_val) = (
    (splits.info.normalize(part.x.movedim(-1, 1)).flatten(1), part.y) for part in (splits.train, splits.val)
)
epochs_used = 0


def objective(trial: optuna.Trial) -> float:
    global epochs_used
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    weight_decay = trial.suggest_float("weight_decay", 1e-3, 0.3, log=True)
    model = nn.Sequential(nn.Linear(x.shape[1], settings["width"]), nn.ReLU(), nn.Linear(settings["width"], 10))
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, foreach=True)
    best = 0.0
    for epoch in range(1, settings["epochs"] + 1):
        for rows in torch.randperm(len(x)).split(BATCH_SIZE):
            if len(rows) == BATCH_SIZE:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
                optimizer.step()
        with torch.no_grad():
            accuracy = (model(x_val).argmax(1) == y_val).float().mean().item()
        epochs_used, best = epochs_used + 1, max(best, accuracy)
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return best


torch.manual_seed(settings["seed"])
pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=settings["epochs"], reduction_factor=3)
sampler = optuna.samplers.RandomSampler(settings["seed"])
study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
study.optimize(objective, n_trials=settings["trials"])
print(json.dumps({"best": study.best_value, "epochs": epochs_used}))
