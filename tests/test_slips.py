"""Slips of the command line: each is refused with the key, the value and the fix, before a folder exists."""

from __future__ import annotations

from pathlib import Path

import pytest

import mltricks
from mltricks.build import build
from mltricks.config.compose import compose, plain
from mltricks.config.slips import check_command, check_package

SLIPS = [
    ("~model", "every run needs model. Type model=OPTION"),
    ("~tracker", "Type tracker=none"),
    ("~job", "every run needs job"),
    ("technique=[null]", "null is no option of technique. Type technique=[]"),
    ("technique={}", "technique takes names of options"),
    ("allow_modules=null", "allow_modules takes a list of packages"),
    ("checkpoint=[a]", "checkpoint takes one path"),
    ("=3", "has no key"),
    ("=", "has no key"),
    ("technique=" + "a" * 5000, "5010 characters"),
    ("technique=" + "[" * 200 + "]" * 200, "nests brackets"),
    ("+hydra.foo=1", "hydra has no setting foo"),
    ("seed=range(0,0)", "the range is empty"),
    ("hydra/sweeper=stdy", "hydra/sweeper has no option stdy. Did you mean study"),
]


@pytest.mark.parametrize(("typed", "said"), SLIPS, ids=[said for _, said in SLIPS])
def test_it_is_refused_with_the_fix(typed: str, said: str) -> None:
    with pytest.raises(ValueError) as refusal:
        compose([typed])
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["hydra/sweeper=study"], {}, "has no effect without -m"),
        (["hydra.run.dir=/etc/passwd"], {}, "a file stands there"),
        (["hydra.run.dir=/etc/passwd/run"], {}, "a file stands there"),
        (["hydra.run.dir=/proc/foo"], {}, "no folder can be made there"),
    ],
)
def test_a_command_that_cannot_work_is_refused(overrides: list[str], options: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_command(overrides, options)


def test_commands_that_work_are_not_refused(tmp_path: Path) -> None:
    check_command(["hydra/sweeper=study", f"hydra.sweep.dir={tmp_path}"], {"-m": ""})
    check_command(["hydra.run.dir=outputs/first"], {})
    check_package("pkg://mltricks.conf")
    with pytest.raises(ValueError, match="the package nope, which is not installed"):
        check_package("pkg://nope")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("device=meta", "nothing is computed there"),
        ("device=cpu:5", "nothing is computed there"),
        ("model.width=100000000", "does not fit into memory"),
        ("model.depth=1000001", "Allowed: 0 to 1000"),
    ],
)
def test_what_only_the_run_can_tell_is_refused_when_it_is_built(override: str, said: str) -> None:
    cfg = plain(mltricks.compose(["model=mlp", "data.limit=64", override]))
    with pytest.raises(ValueError, match=said):
        build(cfg)
