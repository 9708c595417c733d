"""Image folders: one folder per class, with images of any size, decoded by worker processes.

There are two layouts: ``path/CLASS/*.jpg``, divided into three splits, or ``path/train/CLASS/*.jpg``, with folders
``val`` and ``test`` beside ``train`` or split off from it, and a folder ``unlabeled`` of images without classes.
"""

from __future__ import annotations

import functools
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mltricks.config.values import Count
from mltricks.data.base import DataOption, Share, pixel_statistics, pixel_sums
from mltricks.data.cache import Decoded, cached, stamp
from mltricks.data.info import Info
from mltricks.data.partition import stratified
from mltricks.data.splits import UNKNOWN, DataSplits
from mltricks.data.streamed import Reader, StreamedSplit, Workers
from mltricks.inputs.image import Image
from mltricks.inputs.image_files import SUFFIXES, decode_image

PARTS = ("train", "val", "test")
UNLABELED = "unlabeled"
"""The folder of images without classes, in any folders below it."""
NUM_STATISTICS = 1024
"""Maximum number of random training images from which mean and standard deviation are estimated."""


@dataclass(frozen=True)
class ImageFolder(DataOption):
    """Images in folders named after their classes.

    Args:
        path: the folder.
        size: side in pixels: the shorter side is scaled to it, and the longer one is cropped to the centre.
        test_frac: fraction of the images held out as the test split, in (0, 1), if there is no folder ``test``.
    """

    path: str
    size: Count
    test_frac: Share

    def load(self) -> DataSplits:
        folder = Path(self.path)
        parts, classes = scan(folder)
        paths, labels, positions = join(parts, classes)
        train, val, test, aside = self._parts(labels, positions)
        reader = Reader(paths, labels, functools.partial(decode_image, size=self.size))
        workers = Workers(reader, self.num_workers)
        mean, std = self._statistics(workers, torch.cat([train, aside]).sort().values)
        info = Info(Image((3, self.size, self.size), mean, std), "classes", len(classes), classes)
        split = functools.partial(StreamedSplit, workers)
        more = split(positions["unlabeled"]) if "unlabeled" in positions else None
        hidden = self.without_labels(split(torch.arange(len(paths))), train, aside, more)
        return DataSplits(split(train), split(val), split(test), info, *hidden)

    def _parts(self, labels: Tensor, positions: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Positions of the training, validation, test and unused images."""
        rest, test = positions["train"], positions.get("test")
        if test is None:
            count = min(max(1, round(self.test_frac * len(rest))), len(rest) - 1)
            chosen, other = stratified(labels[rest], len(rest), count, self.split_seed + 2)
            rest, test = rest[other], rest[chosen]
        if "val" in positions:
            if self.folds is not None:
                raise ValueError(
                    f"data.folds={self.folds} divides train/, and data.path={self.path} has a val/ too. Move its "
                    "images to train/, or type data.folds=null data.fold=null."
                )
            train, aside = self.keep(labels, rest)
            return train, positions["val"], test, aside
        train, val, aside = self.divide(labels[rest], len(rest))
        return rest[train], rest[val], test, rest[aside]

    def _statistics(self, workers: Workers, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Estimate the statistics of the training images, or read them from the cache."""
        generator = torch.Generator().manual_seed(self.split_seed)
        chosen = positions[torch.randperm(len(positions), generator=generator)[:NUM_STATISTICS]].tolist()
        files = [workers.reader.paths[i] for i in chosen]
        digest = hashlib.sha256(repr([(os.path.abspath(f), *stamp(Path(f))) for f in files]).encode()).hexdigest()
        name = f"image_folder-{hashlib.sha256(os.path.abspath(self.path).encode()).hexdigest()[:12]}-{self.size}"

        def make() -> Decoded:
            pieces = [chosen[i : i + 32] for i in range(0, len(chosen), 32)]
            return Decoded({"sums": torch.cat([pixel_sums(batch["x"]) for batch in workers.stream(pieces)])})

        return pixel_statistics(cached(self.root, name, {"files": digest}, make).tensors["sums"], self.size**2)


def scan(folder: Path) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Find the images.

    Returns:
        The paths by part (``train``, and ``val``, ``test`` and ``unlabeled`` if these folders exist) and class, the
        empty name for images without one; the sorted classes.

    Raises:
        ValueError: the path is missing or a file, holds no class folders, or a class folder holds no image.
    """
    if not folder.exists():
        raise ValueError(f"data.path={folder} does not exist. Type data.path=FOLDER, a folder of class folders.")
    if not folder.is_dir():
        raise ValueError(f"data.path={folder} is a file. Type data.path={folder.parent} if it holds the class folders.")
    names = _folders(folder)
    divided = "train" in names and bool(_folders(folder / "train"))
    if divided:
        other = sorted(set(names) - {*PARTS, UNLABELED})
        if other:
            raise ValueError(
                f"data.path={folder} holds {other[0]}/ beside train/. Allowed there: val/, test/ and unlabeled/. "
                "Rename or move it."
            )
        parts = {part: _classes(folder / part) for part in PARTS if part in names}
    else:
        parts = {"train": _classes(folder)}
    classes = tuple(parts["train"])
    for part, found in parts.items():
        unknown = sorted(set(found) - set(classes))
        if unknown:
            raise ValueError(f"data.path={folder}: {part}/{unknown[0]}/ is a class that train/ does not have.")
    if divided and UNLABELED in names:
        parts[UNLABELED] = {"": _images(folder / UNLABELED)}
        if not parts[UNLABELED][""]:
            raise ValueError(f"data.path: the folder {folder / UNLABELED} holds no image ({' '.join(SUFFIXES)}).")
    return parts, classes


def join(
    parts: dict[str, dict[str, list[str]]], classes: tuple[str, ...]
) -> tuple[list[str], Tensor, dict[str, Tensor]]:
    """All paths and classes as one list, and the positions of every part in it."""
    paths: list[str] = []
    labels: list[int] = []
    positions = {}
    for part, found in parts.items():
        first = len(paths)
        for name, files in found.items():
            paths += files
            labels += [classes.index(name) if name else UNKNOWN] * len(files)
        positions[part] = torch.arange(first, len(paths))
    return paths, torch.tensor(labels), positions


def _folders(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _classes(folder: Path) -> dict[str, list[str]]:
    found = {name: _images(folder / name) for name in _folders(folder)}
    if len(found) < 2:
        raise ValueError(
            f"data.path: {folder} holds {len(found)} class folders, at least 2 are needed. "
            "Put the images of every class into a folder of its name."
        )
    for name, files in found.items():
        if not files:
            raise ValueError(f"data.path: the class folder {folder / name} holds no image ({' '.join(SUFFIXES)}).")
    return found


def _images(folder: Path) -> list[str]:
    """All images below a folder, sorted."""
    found = [
        os.path.join(place, name)
        for place, _, names in os.walk(folder, followlinks=True)
        for name in names
        if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
    ]
    return sorted(found)
