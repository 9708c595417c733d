"""``threads``: the number of threads of an operation is set and recorded, with advice if the cores are busy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest
import torch

from mltricks.process.device import set_threads
from mltricks.summary import Summary


@pytest.fixture
def two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.mark.usefixtures("two_threads")
def test_the_number_is_set_and_recorded(train_digits: Callable[..., Summary]) -> None:
    summary = train_digits("threads=1", "device=cpu")
    assert (summary.threads, torch.get_num_threads()) == (1, 1)
    with pytest.raises(ValueError, match="threads=0 is out of range"):
        train_digits("threads=0", "overwrite=true")


@pytest.mark.usefixtures("two_threads")
def test_advice_is_given_if_the_cores_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.cpu_count() or 1
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 0, 0))
    assert set_threads(None) == []
    monkeypatch.setattr(os, "getloadavg", lambda: (float(cores), 0, 0))
    assert "threads=1 is often faster" in set_threads(None)[0]
    assert set_threads(1) == []
    assert set_threads(None) == [], "one thread does not wait for others"
