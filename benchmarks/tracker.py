"""What tracker=wandb costs a run, recorded offline: python benchmarks/tracker.py --epochs 200 --rounds 5

Each run is a new process that trains the default model with its report, from the command to its exit; the two take
turns. The start of the second process, which sends, and the wait for it at the end are part of the figure.
"""

from __future__ import annotations

import argparse

from harness import environment, process, race, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(environment("wandb"))
    command = ["-m", "mltricks", f"epochs={options.epochs}"]
    contestants = {
        "tracker=wandb": process(*command, "tracker=wandb", "tracker.mode=offline"),
        "tracker=none": process(*command),
    }
    report("seconds of a run, from the command to its exit", race(contestants, options.rounds), ["tracker=wandb"])


if __name__ == "__main__":
    main()
