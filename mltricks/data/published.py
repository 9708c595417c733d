"""Published image data sets: download and verify their files, and decode them once.

torchvision supplies the addresses and checksums, and downloads. It is imported only to download or decode, because the
import takes longer than everything else here.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mltricks.data.base import DataOption, image_splits, pixel_sums
from mltricks.data.cache import Decoded, cached, stamp
from mltricks.data.splits import DataSplits


@dataclass(frozen=True)
class Published:
    """A published data set.

    Attributes:
        name: of its class in ``torchvision.datasets``.
        folder: of its files, below ``data.root``.
        files: their names; torchvision has the checksums of all.
        decode: maps ``data.root`` and torchvision's class to ``x``, ``y``, ``test_x``, ``test_y`` and
            ``about["classes"]``.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    decode: Callable[[Path, Any], Decoded]


def load_published(option: DataOption, published: Published) -> DataSplits:
    """Read a published data set, and download it first if needed and allowed.

    Raises:
        ValueError: a file is missing, damaged or cannot be downloaded.
    """
    root = Path(option.root)
    paths = [root / published.folder / name for name in published.files]
    missing = [path for path in paths if not path.is_file()]
    if missing and not option.download:
        raise ValueError(
            f"data.root={option.root} does not hold {published.name}: {missing[0]} is missing. Type data.download=true "
            "to fetch it, or data.root=FOLDER where it lies."
        )
    if missing:
        fetch(root, published, [path.name for path in missing])
    key = {path.name: stamp(path) for path in paths}
    found = cached(option.root, published.name.lower(), key, lambda: _decode(root, published))
    t = found.tensors
    return image_splits(option, t["x"], t["y"], (t["test_x"], t["test_y"]), tuple(found.about["classes"]), t["sums"])


def fetch(root: Path, published: Published, missing: list[str]) -> None:
    """Download into a temporary folder, verify, and move the files into place, so that no process sees partial files.

    Raises:
        ValueError: the network or the disk fails, or a checksum is wrong.
    """
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as partial:
            getattr(datasets, published.name)(partial, download=True)
            (root / published.folder).mkdir(parents=True, exist_ok=True)
            for name in missing:
                os.replace(Path(partial) / published.folder / name, root / published.folder / name)
    except (OSError, RuntimeError, EOFError, shutil.ReadError) as error:
        raise ValueError(
            f"{published.name} cannot be fetched into data.root={root}: {error}. Put its files into "
            f"{root / published.folder} by hand, or type data.root=FOLDER where they lie."
        ) from error


def _decode(root: Path, published: Published) -> Decoded:
    from torchvision import datasets

    dataset = getattr(datasets, published.name)
    verify(root / published.folder, published, checksums(dataset))
    made = published.decode(root, dataset)
    made.tensors["sums"] = pixel_sums(made.tensors["x"])
    return made


def checksums(dataset: Any) -> dict[str, str]:
    """The MD5 of every file by name, from torchvision's class."""
    if hasattr(dataset, "resources"):
        return dict(dataset.resources)
    return {**dict(dataset.train_list + dataset.test_list), dataset.meta["filename"]: dataset.meta["md5"]}


def verify(folder: Path, published: Published, expected: dict[str, str]) -> None:
    """Compare every file with its published checksum.

    Raises:
        ValueError: a file has another checksum.
    """
    from torchvision.datasets.utils import check_integrity

    for name in published.files:
        if not check_integrity(folder / name, expected[name]):
            raise ValueError(
                f"{folder / name} is damaged: its MD5 is not {expected[name]}, which is that of {published.name}. "
                "Delete it and type data.download=true to fetch it again."
            )
