"""The base class of data options: division of the training part into splits, and image statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from mltricks.config.values import Count, Fraction, Range, Size, check_fields
from mltricks.data.info import Info
from mltricks.data.partition import folds_of, per_class, stratified
from mltricks.data.splits import DataSplits, MemorySplit, Split
from mltricks.inputs.image import Image
from mltricks.inputs.resizing import resized

Share = Annotated[float, Range(0.0, 1.0, above=True, below=True)]
"""A proper fraction, in (0, 1)."""


@dataclass(frozen=True)
class DataOption:
    """The fields of every data option.

    Args:
        root: folder of downloaded data.
        download: whether the network may be used.
        val_frac: fraction of the training part held out for validation, in (0, 1), stratified; without ``folds``.
        folds: number of parts for cross-validation, stratified; ``None``: ``val_frac`` decides.
        fold: the part held out for validation, from 0; ``None`` without ``folds``.
        fraction: fraction of the rest used for training, in (0, 1], stratified.
        limit: maximum number of training samples, stratified; ``None`` for all.
        labels_per_class: labelled training samples of each class, in place of ``fraction`` and ``limit``; ``None`` for
            all.
        resize: side in pixels, or height and width, to which images are brought once; ``None`` leaves them as they are.
        statistics: what inputs are normalised with: ``imagenet``, or the statistics of the run in an output folder;
            ``None`` for those of the training samples.
        split_seed: seed of these choices; separate from the run's seed, so that all seeds share the same splits.
        unlabeled_ratio: unlabelled samples per labelled one in a batch.
        unlabeled_from: what they are drawn from: ``all`` training samples without their labels, or the ``rest``, which
            have no label. Samples that the data have no labels of belong to both.
        pseudo_labels: output folder of a run whose predictions label the rest of the samples; ``None`` for none.
        pseudo_share: share of these that is trained on, in (0, 1], the most confident ones; with ``pseudo_labels``.
        drop_last: leave out the last batch of an epoch if it is not full.
        epoch_size: training samples an epoch; the sampler's order is repeated or cut. ``None``: as the sampler gives.
        num_workers: worker processes that decode streamed data.
    """

    root: str
    download: bool
    val_frac: Share
    folds: Annotated[int, Range(2)] | None
    fold: Size | None
    fraction: Fraction
    limit: Count | None
    labels_per_class: Count | None
    resize: Count | tuple[Count, Count] | None
    statistics: str | None
    split_seed: Size
    unlabeled_ratio: Size
    unlabeled_from: Literal["all", "rest"]
    pseudo_labels: str | None
    pseudo_share: Fraction | None
    drop_last: bool
    epoch_size: Count | None
    num_workers: Size

    resizes: ClassVar[bool] = False
    """Whether it can bring its images to another size."""

    def __post_init__(self) -> None:
        check_fields(self, "data.")
        if self.resize is not None and not self.resizes:
            raise ValueError(
                f"data.resize={self.resize} is for images in memory with one target each, and these are none. "
                "Type data.resize=null; the size of image_folder is data.size."
            )
        if self.folds is None and self.fold is not None:
            raise ValueError(f"data.fold={self.fold} has no effect without data.folds. Type data.folds=5 with it.")
        if self.folds is not None and (self.fold is None or self.fold >= self.folds):
            every = ",".join(map(str, range(self.folds)))
            raise ValueError(
                f"data.fold={'null' if self.fold is None else self.fold} is none of the {self.folds} folds. "
                f"Allowed: 0 to {self.folds - 1}; for all of them, -m data.fold={every}."
            )
        self._check_few()

    def _check_few(self) -> None:
        """Refuse settings for few labels that contradict each other or have no effect."""
        if self.labels_per_class is not None and (self.limit is not None or self.fraction != 1.0):
            other = f"data.limit={self.limit}" if self.limit is not None else f"data.fraction={self.fraction}"
            raise ValueError(
                f"data.labels_per_class={self.labels_per_class} and {other} both choose the samples that are trained "
                "on. Leave one of them out."
            )
        if self.unlabeled_from == "rest" and self.unlabeled_ratio == 0:
            raise ValueError(
                "data.unlabeled_from=rest has no effect without unlabelled samples. Type data.unlabeled_ratio=7 too."
            )
        if (self.pseudo_labels is None) != (self.pseudo_share is None):
            given, other = ("pseudo_labels", "pseudo_share=0.2")
            if self.pseudo_labels is None:
                given, other = ("pseudo_share", "pseudo_labels=RUN")
            raise ValueError(f"data.{given}={getattr(self, given)} has no effect alone. Type data.{other} with it.")

    def load(self) -> DataSplits:
        """Read the data into splits.

        Raises:
            ValueError: a file is missing, damaged or of the wrong content.
        """
        raise AssertionError(f"{type(self).__name__} defines no load")

    def brought(self, x: Tensor) -> Tensor:
        """Images (N, H, W, C) uint8 in the size of ``resize``."""
        assert self.resize is not None, "a size is wanted"
        height, width = (self.resize, self.resize) if isinstance(self.resize, int) else self.resize
        return resized(x, height, width)

    def divide(self, labels: Tensor | None, size: int) -> tuple[Tensor, Tensor, Tensor]:
        """Positions of the training, validation and unused samples among ``size`` samples with the given labels.

        Raises:
            ValueError: no sample, or none of a class, is left for training.
        """
        if size < 2:
            raise ValueError(f"there are {size} samples to train and validate on; at least 2 are needed.")
        val, rest = self.held_out(labels, size)
        train, aside = self.keep(labels, rest)
        return train, val, aside

    def held_out(self, labels: Tensor | None, size: int) -> tuple[Tensor, Tensor]:
        """Positions of the validation samples and of the others, each ascending."""
        if self.folds is None:
            return stratified(labels, size, min(max(1, round(self.val_frac * size)), size - 1), self.split_seed)
        if size < self.folds:
            raise ValueError(f"data.folds={self.folds} is more than the {size} samples. Type data.folds={size}.")
        assert self.fold is not None, "checked above"
        mine = folds_of(labels, size, self.folds, self.split_seed).eq(self.fold)
        return mine.nonzero().flatten(), (~mine).nonzero().flatten()

    def keep(self, labels: Tensor | None, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Apply ``fraction`` and ``limit``, or ``labels_per_class``: the training samples, and the unused ones.

        Raises:
            ValueError: no sample, or none of a class, is left for training.
        """
        if self.labels_per_class is not None:
            return self.keep_few(labels, positions, self.labels_per_class)
        count = round(self.fraction * len(positions))
        count = min(count, self.limit) if self.limit is not None else count
        setting = f"data.limit={self.limit}" if count == self.limit else f"data.fraction={self.fraction}"
        if count < 1:
            raise ValueError(f"{setting} leaves no training sample of {len(positions)}. Type a larger data.fraction.")
        if labels is None:
            kept, aside = stratified(None, len(positions), count, self.split_seed + 1)
            return positions[kept], positions[aside]
        num_classes = int(labels.max()) + 1
        if count < num_classes:
            raise ValueError(
                f"{setting} keeps {count} training samples, fewer than the {num_classes} classes. "
                f"Type data.limit={num_classes} or more."
            )
        kept, aside = stratified(labels[positions], len(positions), count, self.split_seed + 1)
        empty = (torch.bincount(labels[positions[kept]], minlength=num_classes) == 0).nonzero().flatten().tolist()
        if empty:
            held = f"data.val_frac={self.val_frac}" if self.folds is None else f"data.folds={self.folds}"
            raise ValueError(
                f"class number {empty[0]} has no training sample: it is too rare for {held} "
                f"with {setting}. Give more samples of it, or type another share."
            )
        return positions[kept], positions[aside]

    def keep_few(self, labels: Tensor | None, positions: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """``count`` samples of every class among ``positions``, and the others.

        Raises:
            ValueError: the samples have no classes, or a class has fewer.
        """
        setting = f"data.labels_per_class={count}"
        if labels is None:
            raise ValueError(
                f"{setting} counts by class, and the targets of these data are no classes. Type data.limit=N instead."
            )
        sizes = torch.bincount(labels[positions], minlength=int(labels.max()) + 1)
        least = int(sizes.min())
        if least < count:
            fix = f"Type data.labels_per_class={least} or less." if least else "Give more samples of it."
            raise ValueError(f"{setting}: class number {int(sizes.argmin())} has {least} samples to train on. {fix}")
        kept, aside = per_class(labels[positions], count, self.split_seed + 1)
        return positions[kept], positions[aside]

    def without_labels(
        self, whole: Any, train: Tensor, aside: Tensor, more: Any = None
    ) -> tuple[Split | None, Split | None]:
        """The parts ``unlabeled`` and ``aside`` of the splits.

        Args:
            whole: all labelled samples.
            train, aside: positions among them: those trained on, and those whose labels are hidden.
            more: samples that the data have no labels of.

        Raises:
            ValueError: samples without labels are asked for, and there are none.
        """
        unlabeled, hidden = None, None
        if self.unlabeled_from == "rest" or self.pseudo_labels is not None:
            if len(aside) == 0 and more is None:
                key = "unlabeled_from=rest" if self.pseudo_labels is None else f"pseudo_labels={self.pseudo_labels}"
                raise ValueError(f"data.{key}: every sample has its label. Type data.labels_per_class=4 with it.")
            hidden = joined(whole.select(aside), more)
        if self.unlabeled_ratio:
            rest = self.unlabeled_from == "rest"
            unlabeled = hidden if rest else joined(whole.select(torch.cat([train, aside])), more)
        return unlabeled, (None if self.pseudo_labels is None else hidden)


def joined(split: Any, more: Any) -> Any:
    """The samples of two splits; ``more`` may be ``None``."""
    return split if more is None else split.joined(more)


def image_splits(
    option: DataOption,
    x: Tensor,
    y: Tensor,
    test: tuple[Tensor, Tensor],
    classes: tuple[str, ...],
    sums: Tensor | None = None,
    white: int = 255,
    more: MemorySplit | None = None,
) -> DataSplits:
    """Split labelled images held in memory.

    Args:
        option: the fractions and seed of the division.
        x: (N, H, W, C) uint8 images of the training part.
        y: (N,) int64 classes of the training part.
        test: images and classes of the test part.
        classes: the names of the classes.
        sums: ``pixel_sums(x)`` if already known.
        white: value of a white pixel.
        more: images without labels, with ``UNKNOWN`` in the place of their classes.
    """
    train, val, aside = option.divide(y, len(y))
    original = (x.shape[3], *x.shape[1:3])
    if option.resize is not None:
        x, test, sums = option.brought(x), (option.brought(test[0]), test[1]), None
        more = None if more is None else MemorySplit(option.brought(more.x), more.y, image=True)
    whole = MemorySplit(x, y, image=True)
    height, width, channels = x.shape[1:]
    rest = torch.cat([train, aside])
    mean, std = pixel_statistics(pixel_sums(x[rest]) if sums is None else sums[rest], height * width)
    before = None if option.resize is None else original
    kind = Image((channels, height, width), mean, std, white, before)
    info = Info(kind, "classes", len(classes), classes)
    parts = whole.select(train), whole.select(val), MemorySplit(*test, image=True)
    return DataSplits(*parts, info, *option.without_labels(whole, train, aside, more))


def pixel_sums(x: Tensor) -> Tensor:
    """Sum and sum of squares of every channel of every image: (N, H, W, C) uint8 to (N, 2, C) int64.

    These give exact statistics of any subset of images without reading the pixels again.
    """
    rows = []
    for part in x.split(256):
        part = part.flatten(1, 2).int()
        rows.append(torch.stack([part.sum(1), part.square().sum(1)], 1))
    return torch.cat(rows) if rows else torch.zeros(0, 2, x.shape[-1], dtype=torch.int64)


def pixel_statistics(sums: Tensor, num_pixels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel, each (C, 1, 1) float32; the deviation of a constant channel is 1.

    Args:
        sums: ``pixel_sums`` of the images, (N, 2, C) int64.
        num_pixels: per image.
    """
    count = len(sums) * num_pixels
    total, squares = sums.sum(0).tolist()
    spread = [
        count * q - s * s for s, q in zip(total, squares, strict=True)
    ]  # Python integers, so nothing overflows or rounds
    std = [(v**0.5) / count if v > 0 else 1.0 for v in spread]
    return tuple(torch.tensor(v).view(-1, 1, 1) for v in ([s / count for s in total], std))  # type: ignore[return-value]
