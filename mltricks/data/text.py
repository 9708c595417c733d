"""Character-level text: windows of a file, each with the next character as the target at every position.

The file is cut into three contiguous parts, training, validation and test, so that no window spans two parts.
Shapes: ``x`` (B, L) int64 characters, ``y`` (B, L) the same shifted by one. Legend: B batch, L ``length``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mltricks.batch import Batch
from mltricks.config.values import Count
from mltricks.data.base import DataOption, Share
from mltricks.data.info import Info
from mltricks.data.splits import DataSplits
from mltricks.inputs.tokens import Tokens


@dataclass(frozen=True)
class Text(DataOption):
    """Windows of a text. The vocabulary is sorted and covers the whole file, so that no part has unknown characters.

    ``val_frac`` and ``test_frac`` are fractions of the characters; ``fraction`` and ``limit`` choose among the training
    windows at random. A fold is one of ``folds`` equal blocks in front of the test part: validation stays contiguous.

    Args:
        path: the file, UTF-8.
        length: characters per window.
        stride: characters from the start of one training window to the next; ``None`` for ``length``, without
            overlap. Validation and test windows never overlap.
        test_frac: fraction of the file, at its end, that is the test split, in (0, 1).
    """

    path: str
    length: Count
    stride: Count | None
    test_frac: Share

    def load(self) -> DataSplits:
        tokens, vocabulary = tokenize(read_text(Path(self.path)))
        rest = len(tokens) - round(self.test_frac * len(tokens))
        first, end = self._validation(len(tokens), rest)
        pieces = ((0, first), (end, rest - end))
        starts = {
            "train": torch.cat([self._starts(*piece, self.stride or self.length) for piece in pieces]),
            "val": self._starts(first, end - first, self.length),
            "test": self._starts(rest, len(tokens) - rest, self.length),
        }
        for part, found in starts.items():
            if len(found) == 0:
                held = f"data.val_frac={self.val_frac}" if self.folds is None else f"data.folds={self.folds}"
                raise ValueError(
                    f"data.path={self.path} is too short: of its {len(tokens)} characters the {part} part (by "
                    f"{held} and data.test_frac={self.test_frac}) has no window of "
                    f"data.length={self.length} and one character more. Type a smaller data.length, or give more text."
                )
        info = Info(Tokens((self.length,), len(vocabulary)), "tokens", len(vocabulary), vocabulary)
        kept, aside = self.keep(None, starts["train"])
        windows = {part: WindowSplit(tokens, found, self.length) for part, found in {**starts, "train": kept}.items()}
        chosen = starts["train"] if self.unlabeled_from == "all" else aside
        unlabeled = WindowSplit(tokens, chosen, self.length) if self.unlabeled_ratio else None
        return DataSplits(windows["train"], windows["val"], windows["test"], info, unlabeled)

    def _validation(self, size: int, rest: int) -> tuple[int, int]:
        """The first character of the validation part, and the one after its last, before the test part at ``rest``."""
        if self.folds is None or self.fold is None:
            return rest - round(self.val_frac * size), rest
        return self.fold * rest // self.folds, (self.fold + 1) * rest // self.folds

    def _starts(self, first: int, size: int, stride: int) -> Tensor:
        """The starts of a part's windows: each has ``length`` characters and one more, the last target."""
        return torch.arange(first, max(first, first + size - self.length), stride)


class WindowSplit:
    """Windows of one sequence; batches are gathered from it, so that overlapping windows need no extra memory.

    Args:
        tokens: the whole sequence, (T,) int64.
        starts: start of each window, (N,) int64.
        length: of a window.
    """

    labels: Tensor | None = None
    in_memory = True

    def __init__(self, tokens: Tensor, starts: Tensor, length: int):
        self.tokens, self.starts, self.length = tokens, starts, length
        self.windows = tokens.unfold(0, length, 1)

    def __len__(self) -> int:
        return len(self.starts)

    def to(self, device: torch.device) -> WindowSplit:
        return WindowSplit(self.tokens.to(device), self.starts.to(device), self.length)

    def select(self, indices: Tensor) -> WindowSplit:
        """The windows at the given positions, in that order."""
        return WindowSplit(self.tokens, self.starts[indices], self.length)

    def batches(self, indices: Iterable[Tensor]) -> Iterator[Batch]:
        for index in indices:
            index = index.to(self.tokens.device, non_blocking=True)
            start = self.starts.index_select(0, index)
            x, y = self.windows.index_select(0, start), self.windows.index_select(0, start + 1)
            yield {"x": x, "y": y, "index": index}


def read_text(path: Path) -> str:
    """The content of a UTF-8 file, line ends as they are.

    Raises:
        ValueError: the file is missing, a folder, empty or not UTF-8.
    """
    if path.is_dir():
        raise ValueError(f"data.path={path} is a folder. Type data.path=FILE, a text file in UTF-8.")
    if not path.is_file():
        raise ValueError(f"data.path={path} does not exist. Type data.path=FILE, a text file in UTF-8.")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"data.path={path} is not UTF-8: byte {error.object[error.start]:#04x} at position {error.start}. "
            "Convert it, for instance with iconv -t utf-8."
        ) from error
    if not text:
        raise ValueError(f"data.path={path} is empty. Give a text file in UTF-8.")
    return text


def tokenize(text: str) -> tuple[Tensor, tuple[str, ...]]:
    """Map characters to their index in the sorted vocabulary, (T,) int64; also return the vocabulary.

    >>> tokenize("abca")
    (tensor([0, 1, 2, 0]), ('a', 'b', 'c'))
    """
    codes = torch.from_numpy(np.frombuffer(text.encode("utf-32-le"), np.int32).copy()).long()
    present = torch.bincount(codes) > 0
    place = present.long().cumsum(0) - 1
    return place[codes], tuple(chr(code) for code in present.nonzero().flatten().tolist())
