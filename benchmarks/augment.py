"""Augmentation: how many images per second are shifted, mirrored and normalised, compared with torchvision.

python benchmarks/augment.py [--images 4096] [--batch_size 128] [--rounds 7]

Both programs do the same with images of CIFAR-10's shape: pad by 4 and crop, mirror every other image, normalise,
batch. mltricks uses the run's own source and techniques. torchvision uses ``RandomCrop``, ``RandomHorizontalFlip``,
``ToTensor`` and ``Normalize`` on PIL images, through a ``DataLoader`` without workers. One process, one thread, CPU
time, the programs in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
from harness import environment, race
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.inputs.image import Image as ImageKind
from mltricks.samplers.shuffle import Shuffle
from mltricks.techniques.crop import Crop
from mltricks.techniques.flip import Flip

MEAN, STD = torch.tensor([125.3, 123.0, 113.9]).view(3, 1, 1), torch.tensor([63.0, 62.1, 66.8]).view(3, 1, 1)


def ours(x: Tensor, y: Tensor, batch_size: int, fill: str) -> Callable[[], None]:
    """One epoch of mltricks' source through its techniques."""
    source = Source(MemorySplit(x, y, image=True), Shuffle(), batch_size, seed=0)
    info = ImageKind((3, 32, 32), MEAN, STD)
    stack: list[Any] = [Crop(4, fill), Flip(0.5)]

    def epoch() -> None:
        for batch in islice(source.stream(0), source.steps_per_epoch):
            for technique in stack:
                batch = technique.batch(batch, None)
            info.normalize(batch["x"])

    return epoch


class Pictures(Dataset):  # type: ignore[type-arg]
    """Images as torchvision's CIFAR10 gives them: a PIL image made from an array, transformed."""

    def __init__(self, x: Tensor, y: Tensor, transform: Callable[[Any], Tensor]):
        self.x, self.y, self.transform = x.numpy(), y.tolist(), transform

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.x[i])), self.y[i]


def theirs(x: Tensor, y: Tensor, batch_size: int, padding_mode: str) -> Callable[[], None]:
    """One epoch of torchvision's transforms through a ``DataLoader``."""
    steps = [
        transforms.RandomCrop(32, 4, padding_mode=padding_mode),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize((MEAN / 255).flatten().tolist(), (STD / 255).flatten().tolist()),
    ]
    loader = DataLoader(Pictures(x, y, transforms.Compose(steps)), batch_size, shuffle=True, drop_last=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(1)
    x = torch.randint(0, 256, (args.images, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(args.images) % 10
    contestants = {
        "ours, zero": ours(x, y, args.batch_size, "zero"),
        "ours, reflect": ours(x, y, args.batch_size, "reflect"),
        "torchvision, zero": theirs(x, y, args.batch_size, "constant"),
        "torchvision, reflect": theirs(x, y, args.batch_size, "reflect"),
    }
    times = race(contestants, args.rounds, clock=time.process_time)
    print(environment("torchvision", "pillow", "numpy"))
    print(f"{args.images} images, batches of {args.batch_size}, {args.rounds} rounds in turn, processor time")
    done = args.images - args.images % args.batch_size
    for name, seconds in times.items():
        print(f"{name:>22}: median {done / statistics.median(seconds):10,.0f} images a second")
    for fill in ("zero", "reflect"):
        pairs = zip(times[f"torchvision, {fill}"], times[f"ours, {fill}"], strict=True)
        ratios = [peer / own for peer, own in pairs]
        print(f"faster than torchvision, {fill}: median x{statistics.median(ratios):.1f}, min x{min(ratios):.1f}")


if __name__ == "__main__":
    main()
