"""Whether runs were measured on the same data: their settings, the sizes of their splits, and their fingerprints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mltricks.comparison.entry import Entry
from mltricks.comparison.grouping import Configuration, Difference
from mltricks.sweep.measured import FOLD, is_measure

CHECKPOINT = Path("checkpoints/last.pt")
FIXED = ("cifar10", "cifar100", "digit_halves", "digit_masks", "digits", "fashion_mnist", "mnist")
"""Data that come with a package or are checked by their hash: they cannot have changed between two runs."""
SPLITS = ("train", "val", "test")


def other_data(found: Sequence[Configuration], different: Sequence[Difference]) -> list[str]:
    """Warnings if the runs were not measured on the same data or by the same metric; empty if they were."""
    rows = [row for row in different if is_measure(row.key)]
    if rows:
        said = "; ".join(f"{row.key} is {' and '.join(dict.fromkeys(row.values))}" for row in rows)
        return [f"The runs were measured on different data or by different metrics ({said}): compare no scores."]
    entries = [entry for one in found for entry in one.entries]
    splits = [s for s in SPLITS if s != "train" or not any(row.key.startswith("data.") for row in different)]
    by_fold: dict[Any, list[Entry]] = {}
    for entry in entries:
        by_fold.setdefault(entry.seeds.get(FOLD), []).append(entry)
    return [w for same in by_fold.values() for w in (*other_sizes(same, splits), *other_content(same, splits))]


def other_sizes(entries: Sequence[Entry], splits: Sequence[str]) -> Iterator[str]:
    """A warning for the first split whose size differs although the settings of the data are equal."""
    for split in splits:
        sizes = {entry.summary.samples.get(split): entry for entry in entries if split in entry.summary.samples}
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            yield (
                f"The data have changed between the runs: the {split} split has {a:,} samples in {first.name} "
                f"and {b:,} in {second.name}."
            )
            return


def other_content(entries: Sequence[Entry], splits: Sequence[str]) -> Iterator[str]:
    """A warning for every run whose data had another content than those of the first.

    Only of data that can change, since reading a fingerprint imports torch.
    """
    known = [(e, e.folder / CHECKPOINT) for e in entries if e.settings.get("data") not in FIXED]
    prints = [(entry, fingerprint_in(path, splits)) for entry, path in known if path.is_file()]
    if len(prints) < 2:
        return
    from mltricks.data.fingerprint import first_difference

    first, kept = prints[0]
    for entry, found in prints[1:]:
        if (name := first_difference(found, kept)) is not None:
            yield (
                f"The data have changed between the runs: those of {entry.name} are not those of {first.name} ({name})."
            )


def fingerprint_in(path: Path, splits: Sequence[str]) -> dict[str, Any]:
    """The part of a checkpoint's fingerprint that is about these splits; tensors of the weights are not read.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    from mltricks.checkpoint import load_host

    found = load_host(path)["data"]
    return {part: {s: found[part][s] for s in splits if s in found[part]} for part in ("samples", "content")}
