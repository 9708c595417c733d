"""Time from the command to the first optimiser step, on MNIST: python benchmarks/startup.py --data data

Each program is a new process that exits right after its first step; they run in turn.
Needs: pip install -e '.[bench]', and MNIST under --data.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from harness import PEERS, environment, process, race, report


def unpacked(data: Path) -> str:
    """Copy MNIST with its files unpacked, as torchvision leaves them after a download."""
    from torchvision.datasets import MNIST

    root = tempfile.mkdtemp()
    shutil.copytree(data / "MNIST", Path(root) / "MNIST")
    MNIST(root, download=True)
    return root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    root = unpacked(options.data)
    custom = ["tracker=custom", "tracker._target_=first_step.FirstStep", "allow_modules=[first_step]"]
    ours = ["data=mnist", f"data.root={root}", "data.fraction=0.1", "batch_size=32", "optim.lr=0.01", *custom]
    print(environment("torchvision", "lightning", "hydra-core"))
    contestants = {
        "mltricks": process("-m", "mltricks", *ours),
        "torch + torchvision": process(str(PEERS / "plain_torch.py"), root),
        "Lightning + Hydra": process(str(PEERS / "lightning_hydra.py"), f"root={root}"),
    }
    report("seconds from the command to the first step", race(contestants, options.rounds), ["mltricks"])


if __name__ == "__main__":
    main()
