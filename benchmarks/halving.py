"""Successive halving in a stack, compared with random search and Optuna's Hyperband: python benchmarks/halving.py

27 trials of up to 27 epochs on a tenth of MNIST: learning rate and weight decay of an MLP. It measures the best
validation accuracy, the number of epochs and the time. Whole processes, in turn, another seed each time.
Needs MNIST under --data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import environment

PEERS = Path(__file__).parent / "peers"
RANGES = ("optim.lr=tag(log,interval(1e-4,1e-1))", "optim.weight_decay=tag(log,interval(1e-3,0.3))")


@dataclass(frozen=True)
class Result:
    """The result of a search."""

    best: float
    epochs: int
    seconds: float


def command(arguments: list[str], folder: str) -> str:
    """Run a Python process in a folder; return its output."""
    environ = {**os.environ, "PYTHONPATH": str(PEERS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environ, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def data(options: argparse.Namespace) -> list[str]:
    return ["data=mnist", f"data.root={options.data.resolve()}", "data.fraction=0.1"]


def ours(options: argparse.Namespace, seed: int, *settings: str) -> Result:
    """A study of random trials, all in one batch."""
    study = ["-m", "mltricks", "-m", "hydra/sweeper=study", "study.sampler=random", f"study.seed={seed}"]
    study += [f"n_trials={options.trials}", f"n_jobs={options.trials}", *settings, *RANGES]
    run = ["model=mlp", f"model.width={options.width}", "optim=adamw", "batch_size=64", f"epochs={options.epochs}"]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command([*study, *data(options), *run, "hydra.sweep.dir=sweep"], folder)
        seconds = time.perf_counter() - start
        runs = [json.loads(path.read_text()) for path in Path(folder, "sweep").glob("[0-9]*/summary.json")]
    assert len(runs) == options.trials, f"{len(runs)} trials left a result"
    whole = [run["objective"]["value"] for run in runs if run["status"] == "completed"]
    return Result(max(whole), sum(run["epochs"] for run in runs), seconds)


def hyperband(options: argparse.Namespace, seed: int) -> Result:
    """Optuna's Hyperband, in one process."""
    settings = {"data": data(options), "seed": seed, "trials": options.trials}
    settings |= {"width": options.width, "epochs": options.epochs}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = json.loads(command([str(PEERS / "optuna_hyperband.py"), json.dumps(settings)], folder))
        return Result(found["best"], found["epochs"], time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--trials", type=int, default=27)
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--width", type=int, default=32)
    options = parser.parse_args()
    print(environment("optuna"))
    searches = {
        "random": lambda seed: ours(options, seed, "pruner=none"),
        "halving": lambda seed: ours(options, seed, "pruner=asha", "asha.eta=3", "asha.min_epochs=1"),
        "Optuna Hyperband": lambda seed: hyperband(options, seed),
    }
    found: dict[str, list[Result]] = {name: [] for name in searches}
    for seed in range(options.repeats):
        for name, search in searches.items():
            found[name].append(search(seed))
            last = found[name][-1]
            print(f"{seed} {name:>17}: best {last.best:.4f}, {last.epochs} epochs, {last.seconds:.1f} s", flush=True)
    compare(found)


def compare(found: dict[str, list[Result]]) -> None:
    """Print medians over the repetitions, and medians of the differences and ratios of pairs with the same seed."""

    def median(values: list[float]) -> str:
        return f"median {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f}, n={len(values)})"

    for name, results in found.items():
        print(f"{name:>17}: best {median([r.best for r in results])}, s {median([r.seconds for r in results])}")
    for peer in ("random", "Optuna Hyperband"):
        pairs = list(zip(found["halving"], found[peer], strict=True))
        print(f"halving - {peer}, points: {median([100 * (a.best - b.best) for a, b in pairs])}")
        print(f"halving / {peer}, epochs: {median([a.epochs / b.epochs for a, b in pairs])}")
        print(f"halving / {peer}, seconds: {median([a.seconds / b.seconds for a, b in pairs])}")


if __name__ == "__main__":
    main()
