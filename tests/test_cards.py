"""Every card has whole sentences, known fields, and statements that the contract tests can parse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from statements import Statement, problems, read_statement

from mltricks.config.cards import read_card, read_values
from mltricks.config.options import conf_dir

OPTIONS = sorted(path for path in conf_dir().rglob("*.yaml") if path.name != "config.yaml")


@pytest.mark.parametrize("path", OPTIONS, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_a_card_has_no_mistakes(path: Path) -> None:
    assert not list(problems(path)), path


@pytest.mark.parametrize("path", sorted((conf_dir() / "technique").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_technique_states_how_it_is_switched_off(path: Path) -> None:
    assert "Off" in read_card(path).fields, f"{path}: write # Off: SETTING=VALUE, always (reason), or none (reason)"


def test_lists_of_techniques_leave_no_key_of_their_own_in_the_configuration() -> None:
    paths = [path for group in ("augment", "regularizer") for path in (conf_dir() / group).glob("*.yaml")]
    assert not [str(path) for path in paths if not path.read_text().startswith("# @package _global_\n")]


def test_a_list_may_stand_on_several_lines() -> None:
    first, second = "  first:\n    - model=mlp\n    # why\n    - epochs=1\n", "  second: [x=1,\n    y=2]   # two\n"
    text = f"a: 1   # one\nstages:\n{first}{second}"
    assert read_values(text, "") == [
        ("a", "1", "one"),
        ("stages.first", "[model=mlp, epochs=1]", ""),
        ("stages.second", "[x=1, y=2]", "two"),
    ]


def write(folder: Path, *lines: str) -> Path:
    path = folder / "technique" / "mine.yaml"
    path.parent.mkdir()
    body = "technique:\n  mine:\n    _target_: a.B\n    p: 0.5   # probability\n"
    path.write_text("\n".join(["# @package _global_", "# What it is", *lines, body]))
    return path


def test_statements_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "# Off: p=0 q=1.5 (where nothing is random)",
        "# Needs: data.limit=9 technique.mine.teacher=RUN",
        "# Not with: simclr (no labels); optim=sgd (it has no",
        "#   second moment)",
        "# Loss: rises while the queue fills",
    )
    assert not list(problems(path))
    assert read_statement(path) == Statement(
        ["technique.mine.p=0", "technique.mine.q=1.5"],
        ["data.limit=9", "technique.mine.teacher=RUN"],
        {"simclr": "no labels", "optim=sgd": "it has no second moment"},
        loss_falls=False,
    )


def test_off_may_be_always_or_never(tmp_path: Path) -> None:
    for word, off in (("always", []), ("none", None)):
        (tmp_path / word).mkdir()
        assert read_statement(write(tmp_path / word, f"# Off: {word} (reason)")).off == off


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("# Off: p -> 0", "Off: p -> 0"),
        ("# Off: none", "reason"),
        ("# Needs: a residual model", "Needs: a residual model"),
        ("# Not with: simclr", "Not with: simclr"),
        ("# Loss: goes up", "Loss: goes up"),
        ("# Switched off: p=0", "no command and no field"),
        ("# and so on", "no command and no field"),
        ("# Combines: with everything, and", "mid-sentence"),
        ("# Combines: with everything (but", "mid-sentence"),
        ("# Off: p=0\n# Off: p=1", "twice"),
    ],
)
def test_a_malformed_line_is_found(tmp_path: Path, line: str, said: str) -> None:
    found = list(problems(write(tmp_path, line)))
    assert any(said in text for text in found), found


def test_a_malformed_statement_names_its_file(tmp_path: Path) -> None:
    path = write(tmp_path, "# Off: p -> 0")
    with pytest.raises(ValueError, match=r"technique/mine\.yaml: Off: p -> 0"):
        read_statement(path)


@pytest.mark.parametrize("path", sorted((conf_dir() / "technique").glob("[a-z]*.yaml")), ids=lambda path: path.stem)
def test_no_technique_is_off_by_default(path: Path) -> None:
    """Values that switch a technique off are allowed, because search ranges include them, but not as its default."""
    defaults = {key: value for key, value, _ in read_card(path, [conf_dir()]).values}
    off = [setting.split("=") for setting in read_statement(path).off or []]
    assert not off or any(json.loads(defaults[key]) != json.loads(value) for key, value in off)
