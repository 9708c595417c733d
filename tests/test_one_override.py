"""Any technique is one override away: every option of every group builds and trains beside the defaults."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from contract import KINDS, advance, make, needs
from statements import read_statement

from mltricks.config.options import conf_dir

GROUPS = ("augment", "regularizer", "sampler", "scheduler", "optim", "init", "objective")
"""Groups besides ``technique``, whose options the contract tests train one by one."""
ELSEWHERE = {
    "sampler=custom": "test_own_options",
    "scheduler=custom": "test_own_options",
    "optim=custom": "test_own_options",
    "objective=custom": "test_own_options",
    "init=checkpoint": "test_init",
}
"""Options that need something of the user's, with the tests that give it."""

DATA = {
    "objective=next_token": KINDS["tokens"],
    "objective=regress": KINDS["values"],
    "objective=torch_regress": KINDS["values"],
    "objective=segment": KINDS["mask"],
    "objective=contrastive": KINDS["similarity"],
    "init=whitening": ["model=resnet9", "model.whiten=2"],
    "sampler=weighted": ["sampler.class_weights=[1,2,1,1,1,1,1,1,1,0]"],
}
"""What options need besides the defaults: other data, or a value that is the user's to choose."""


def options() -> list[str]:
    """Every option of these groups that needs nothing of the user's."""
    found = [f"{group}={path.stem}" for group in GROUPS for path in sorted((conf_dir() / group).glob("[a-z]*.yaml"))]
    return [option for option in found if option not in ELSEWHERE]


@pytest.mark.parametrize("option", options())
def test_an_option_trains_beside_the_defaults(option: str, teacher: Callable[..., Path]) -> None:
    group, _, name = option.partition("=")
    wanted = DATA.get(option) or read_statement(conf_dir() / group / f"{name}.yaml").needs
    wanted = [o.replace("{here}", str(Path(__file__).parent)) for o in wanted]
    own = [o.replace("=RUN", f"={teacher()}") if o.endswith("=RUN") else o for o in wanted]
    listed = listed_in(group, name)
    run = make(*own, option, *needs(listed, teacher))
    assert all(math.isfinite(loss) for loss in advance(run, 2))


def listed_in(group: str, name: str) -> list[str]:
    """The techniques that an option of ``augment`` or ``regularizer`` brings."""
    import yaml

    content = yaml.safe_load((conf_dir() / group / f"{name}.yaml").read_text()) or {}
    return [str(entry).rpartition("/")[2] for entry in content.get("defaults", []) if "technique/" in str(entry)]
