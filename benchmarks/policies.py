"""Augmentation policies: images per second of RandAugment and others, compared with torchvision v2 on PIL images.

python benchmarks/policies.py [--images 1024] [--batch_sizes 128 512] [--rounds 7] [--only randaugment]

Both programs do the same with images of CIFAR-10's shape: augment, normalise, batch. mltricks uses the run's own source
and techniques. torchvision uses its transforms of the same name and strength on PIL images, then ``PILToTensor``,
``ToDtype`` and ``Normalize``, through a ``DataLoader`` without workers. For AugMix both make two mixtures beside the
clean image. One process, one thread, processor time, the programs in turn.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from augment import MEAN, STD, Pictures
from harness import environment, race
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import InterpolationMode, v2

from mltricks.batch import INPUTS
from mltricks.data.source import Source
from mltricks.data.splits import MemorySplit
from mltricks.inputs.image import Image as ImageKind
from mltricks.samplers.shuffle import Shuffle
from mltricks.techniques.affine import Affine
from mltricks.techniques.augmix import Augmix
from mltricks.techniques.autoaugment import Autoaugment
from mltricks.techniques.color_jitter import ColorJitter
from mltricks.techniques.randaugment import Randaugment
from mltricks.techniques.trivialaugment import Trivialaugment

AFFINE = v2.RandomAffine(15, (0.1, 0.1), (0.9, 1.1), 10, interpolation=InterpolationMode.BILINEAR)
JITTER = v2.Compose([v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)])
PAIRS: dict[str, tuple[Any, Any]] = {
    "randaugment": (Randaugment(2, 9.0, "torchvision", 1.0, 0), v2.RandAugment()),
    "trivialaugment": (Trivialaugment("wide", 1.0, 0), v2.TrivialAugmentWide()),
    "autoaugment": (Autoaugment("cifar10", 1.0, 0), v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
    "color_jitter": (ColorJitter(0.4, 0.4, 0.4, 0.1, 0.8, 0.2), JITTER),
    "affine": (Affine(15.0, 0.1, 0.9, 1.1, 10.0, "bilinear", 0), AFFINE),
    "augmix": (Augmix(12.0, 3.0, 3, 0, False), v2.AugMix(severity=3, all_ops=False)),
}
"""Our technique and torchvision's transform, at the same strengths."""


def ours(x: Tensor, y: Tensor, batch_size: int, technique: Any) -> Callable[[], None]:
    """One epoch of mltricks' source through a technique."""
    source = Source(MemorySplit(x, y, image=True), Shuffle(), batch_size, seed=0)
    info = ImageKind((3, 32, 32), MEAN, STD)

    def epoch() -> None:
        for batch in islice(source.stream(0), source.steps_per_epoch):
            changed = technique.batch(batch, None)
            for key in INPUTS:
                if key in changed:
                    info.normalize(changed[key])

    return epoch


def theirs(x: Tensor, y: Tensor, batch_size: int, transform: Any) -> Callable[[], None]:
    """One epoch of torchvision's transform through a ``DataLoader``."""
    mean, std = (MEAN / 255).flatten().tolist(), (STD / 255).flatten().tolist()
    finish = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])

    def augmented(image: Any) -> Any:
        if isinstance(transform, v2.AugMix):
            return finish(image), finish(transform(image)), finish(transform(image))
        return finish(transform(image))

    loader = DataLoader(Pictures(x, y, augmented), batch_size, shuffle=True, drop_last=True)

    def epoch() -> None:
        for _ in loader:
            pass

    return epoch


def smooth_images(count: int) -> Tensor:
    """Images without the noise that no photo has, (N, 32, 32, 3) uint8."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1) * 255
    return pixels.byte().permute(0, 2, 3, 1).contiguous()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[128, 512])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    args = parser.parse_args()
    torch.set_num_threads(1)
    x, y = smooth_images(args.images), torch.arange(args.images) % 10
    print(environment("torchvision", "pillow", "numpy"))
    for batch_size in args.batch_sizes:
        done = args.images - args.images % batch_size
        print(f"\n{done} images, batches of {batch_size}, {args.rounds} rounds in turn, processor time")
        for name in args.only:
            technique, transform = PAIRS[name]
            contestants = {
                "ours": ours(x, y, batch_size, technique),
                "torchvision": theirs(x, y, batch_size, transform),
            }
            times = race(contestants, args.rounds, clock=time.process_time)
            rates = {who: done / statistics.median(seconds) for who, seconds in times.items()}
            ratios = [peer / own for peer, own in zip(times["torchvision"], times["ours"], strict=True)]
            print(
                f"{name:>15}: {rates['ours']:8,.0f} images a second, torchvision {rates['torchvision']:7,.0f}; "
                f"faster by median x{statistics.median(ratios):.1f} (x{min(ratios):.1f} to x{max(ratios):.1f}, "
                f"n={len(ratios)})"
            )


if __name__ == "__main__":
    main()
