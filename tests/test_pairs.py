"""Every pair of techniques resumes and traces exactly, or is refused with a reason when the run is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from contract import (
    PAIRS_A_RUN,
    advance,
    assert_resumes_exactly,
    chosen,
    make,
    needs,
    pairs,
    place,
    reason_against,
    stacked_as,
    statement,
    turn,
    untraced,
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", chosen(pairs(), PAIRS_A_RUN, metafunc.config), ids="+".join)


@pytest.mark.allpairs
def test_a_pair_resumes_and_traces_or_is_refused(
    pair: tuple[str, str], teacher: Callable[..., Path], tmp_path: Path, record_property: Callable[[str, str], None]
) -> None:
    overrides = [stacked_as(pair), *dict.fromkeys(needs(pair, teacher)), "optim=sgd", "optim.lr=0.01"]
    a, b = pair
    stated = statement(a).not_with.get(b) or statement(b).not_with.get(a)
    refused = reason_against(overrides)
    if refused:
        assert stated, f"{a} and {b} are refused, and neither card says Not with: {refused}"
        assert f"technique={a}" in refused or f"technique={b}" in refused
        record_property("refused", stated)
        return
    assert not stated, f"a card says that {a} and {b} cannot be combined, but they are built: {stated}"
    losses = assert_resumes_exactly(overrides, 2, 4, tmp_path / "last.pt")
    if not untraced(a, b):
        assert losses == pytest.approx(advance(make(*overrides, "engine=traced"), 4), rel=1e-4)


def test_shards_cover_every_pair_and_do_not_change_when_options_are_added() -> None:
    every = pairs()
    shards = [turn(every, shard, 20) for shard in range(-(-len(every) // 20))]
    assert sorted(pair for shard in shards for pair in shard) == sorted(every)
    assert max(map(len, shards)) < 40
    assert turn(every, len(shards), 20) == shards[0], "shard numbers wrap around"
    assert place("mixup", "ema") == place("ema", "mixup")
