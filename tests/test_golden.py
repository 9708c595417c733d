"""Golden losses: the recorded first losses of a few runs, so that a change of the mathematics does not go unnoticed.

After an intended change, record them again: python tests/test_golden.py
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from contract import advance, make

GOLDEN = Path(__file__).with_name("golden.json")
CASES = [
    "optim=sgd",
    "optim=adamw scheduler=cosine",
    "optim=lion optim.lr=3e-4",
    "optim=muon",
    "model=resnet9",
    "augment=standard",
    "regularizer=dropout technique=[mixup,ema]",
    "technique=[sam,clip_norm] optim=sgd",
]


@pytest.mark.parametrize("case", CASES)
def test_first_losses_are_the_recorded_ones(case: str) -> None:
    assert advance(make(*case.split()), 8) == pytest.approx(json.loads(GOLDEN.read_text())[case], rel=1e-3)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps({case: advance(make(*case.split()), 8) for case in CASES}, indent=1) + "\n")
