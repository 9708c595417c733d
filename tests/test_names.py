"""Lists of names: joined by ``+`` on the command line, in Python and in every message."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Outcome

import mltricks
from mltricks.config.create import locate
from mltricks.config.names import OF_SWEEPS_AND_JOBS, command, takes_names, with_brackets, without_brackets
from mltricks.config.options import conf_dir
from mltricks.config.overrides import parse
from mltricks.config.values import field_hints, kinds_and_range


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("technique=mixup+ema", "technique=[mixup,ema]"),
        ("technique=mixup", "technique=mixup"),
        ("technique=none", "technique=[]"),
        ("technique=none,mixup,mixup+ema", "technique=[],mixup,[mixup,ema]"),
        ("technique=choice(mixup+ema,none)", "technique=choice([mixup,ema],[])"),
        ("augment=crop+flip", "augment=[crop,flip]"),
        ("augment=none", "augment=none"),
        ("tags=fast", "tags=[fast]"),
        ("tune=optim.lr+optim.weight_decay", "tune=[optim.lr,optim.weight_decay]"),
        ("study.tune=optim.lr", "study.tune=[optim.lr]"),
        ("hydra.sweeper.objectives=val/loss+seconds", "hydra.sweeper.objectives=[val/loss,seconds]"),
        ("optim.no_decay=norm_and_bias+head", "optim.no_decay=[norm_and_bias,head]"),
        ("optim.no_decay=none", "optim.no_decay=[]"),
        ("allow_modules=a.b+c", "allow_modules=[a.b,c]"),
        ("technique.dropout.layers=head", "technique.dropout.layers=[head]"),
        ("technique.dropout.layers=head+features.*,none", "technique.dropout.layers=[head,features.*],[]"),
        ("technique.adaptive_clip.exclude=none", "technique.adaptive_clip.exclude=[]"),
        ("optim.no_decay=*norm?.bias", "optim.no_decay=[*norm?.bias]"),
        ("init.include=*", "init.include=[*]"),
    ],
)
def test_names_joined_by_plus_are_a_list(typed: str, meant: str) -> None:
    assert with_brackets(typed) == meant
    assert without_brackets(meant) == typed
    assert with_brackets(meant) == meant, "the form with brackets goes on working"


@pytest.mark.parametrize(
    "typed",
    [
        *("optim.lr=1e+3", "data.path=a+b", "tune=null", "technique=${x}", "technique='a+b'", "~technique"),
        *("+model.k=a+b", "technique.dropout.layers=null", "technique.centralize.layers=conv", "technique=glob(*mix*)"),
    ],
)
def test_everything_else_stays_as_it_is(typed: str) -> None:
    assert with_brackets(typed) == typed


def test_any_list_survives_the_way_there_and_back() -> None:
    rng = random.Random(0)
    names = ["mixup", "ema", "sam", "cutmix", "clip_norm"]
    for _ in range(300):
        lists = [rng.sample(names, rng.randint(0, 4)) for _ in range(rng.randint(1, 3))]
        typed = "technique=" + ",".join(f"[{','.join(names)}]" for names in lists)
        shown = without_brackets(typed)
        assert "[" not in shown
        value = parse([with_brackets(shown)])[0].value()
        items = value.list if hasattr(value, "list") else [value]
        assert [item if isinstance(item, list) else [item] for item in items] == lists


def test_settings_of_sweepers_and_jobs_that_hold_lists_of_names_are_known() -> None:
    files = [*(conf_dir() / "hydra/sweeper").glob("*.yaml"), *(conf_dir() / "job").glob("*.yaml")]
    lists = {
        key for file in files for key, value in yaml.safe_load(file.read_text()).items() if isinstance(value, list)
    }
    assert lists - {"factors", "l2"} <= set(OF_SWEEPS_AND_JOBS), "factors and l2 are numbers"


@pytest.mark.parametrize("path", sorted((conf_dir() / "technique").glob("*.yaml")), ids=lambda path: path.stem)
def test_settings_of_techniques_that_hold_names_are_known_by_their_yaml_files(path: Path) -> None:
    settings = yaml.safe_load(path.read_text())["technique"][path.stem]
    hints = field_hints(locate(settings.pop("_target_"), "technique", []))
    for name in [name for name, value in settings.items() if "${" not in str(value)]:
        holds = any(str in typing.get_args(kind) for kind in kinds_and_range(hints[name])[0] if is_sequence(kind))
        assert takes_names(f"technique.{path.stem}.{name}") == holds, name


def is_sequence(kind: Any) -> bool:
    return typing.get_origin(kind) is Sequence


def test_a_pattern_of_layers_is_typed_as_its_card_says(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("technique=dropout", "technique.dropout.layers=head+features.*", "max_steps=1")
    assert done.status == 0, done.err


def test_python_takes_the_same_form() -> None:
    cfg = mltricks.compose(["technique=mixup+ema", "tags=a+b"])
    assert list(cfg.technique) == ["mixup", "ema"]
    assert cfg.tags == ["a", "b"]
    assert mltricks.compose(["technique=none"]) == mltricks.compose([])


def test_the_command_composes_the_same_step_in_both_forms(run_cli: Callable[..., Outcome]) -> None:
    plus, brackets = run_cli("technique=mixup+ema", "show=true"), run_cli("technique=[mixup,ema]", "show=true")
    assert plus.status == brackets.status == 0
    assert plus.out == brackets.out
    assert "mixup -> ema" in plus.out


def test_messages_show_no_brackets(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("technique=[mixup,emaa]")
    assert done.status == 1
    assert "technique=mixup+emaa: technique has no option emaa. Did you mean ema" in done.err


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_passes_a_shown_command_on_unchanged() -> None:
    overrides = ["technique=[mixup,ema]", "augment=[crop,flip]", "tags=[a]", "model.arguments={a:1}", "notes='a b'"]
    shown = re.sub(r"^python -m mltricks", "printf '%s\\\\n'", command(overrides))
    done = subprocess.run(["zsh", "-f", "-c", shown], capture_output=True, text=True, check=True)
    assert [with_brackets(line) for line in done.stdout.splitlines()] == overrides
