"""What the command says about itself: help, version, and tab completion in real shells."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome

import mltricks
from mltricks.__main__ import prepare
from mltricks.about.completion import answers
from mltricks.about.explain import allowed, explained
from mltricks.about.help import COMMANDS, help_text
from mltricks.config.known import all_settings
from mltricks.config.options import GROUPS, conf_dir
from mltricks.config.settings import default_options


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_is_ours(run_cli: Callable[..., Outcome], flag: str) -> None:
    done = run_cli("technique=mixup", flag)
    assert done.status == 0
    lines = done.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(re.search(rf"^  {group} ", done.out, re.MULTILINE) for group in GROUPS)
    assert all(f"hydra/sweeper={name}" in done.out for name in ("grid", "study", "ablation", "recipe"))
    assert "_common" not in done.out
    assert "Hydra is" not in done.out
    assert len(COMMANDS) == 10


def test_every_folder_of_options_has_a_line_in_the_help() -> None:
    folders = {path.name for path in conf_dir().iterdir() if path.is_dir()} - {"hydra"}
    assert folders == set(GROUPS)
    assert default_options()["hydra/sweeper"] == "grid"


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS])
def test_the_commands_of_the_help_are_accepted(words: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    typed = words.replace("outputs/DATE/TIME", str(folder)).split()
    assert len(prepare(typed)) >= len(typed)
    assert "python -m mltricks " + words in "\n".join(help_text()) or not words


def test_version_is_ours(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("--version")
    assert done.status == 0
    assert re.fullmatch(rf"mltricks {mltricks.__version__} \(torch [\w.+]+, Python 3[\d.]+\)\n", done.out)


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("tech", ["technique="], ["optim="]),
        ("technique=mi", ["technique=mixup"], ["technique=ema"]),
        ("technique=mixup+", ["technique=mixup+ema"], ["technique=mixup+mixup", "technique=mixup+none"]),
        ("-m technique=none,mixup,", ["technique=none,mixup,ema"], ["technique=none,mixup,mixup"]),
        ("-m optim=sgd,", ["optim=sgd,adamw"], ["optim=sgd,_common"]),
        ("optim=sgd optim.", ["optim.momentum=", "optim.no_decay="], ["optim.beta1="]),
        ("optim.", ["optim.beta1="], ["optim.momentum="]),
        ("technique=mixup+ema technique.", ["technique.mixup.alpha=", "technique.ema.decay="], []),
        ("augment=standard augment", ["augment=", "augment."], []),
        ("optim=sgd optim.nesterov=", ["optim.nesterov=true"], []),
        ("epo", ["epochs="], []),
        ("early", ["early_stopping.patience="], []),
        ("progress=", ["progress=bar"], ["progress=true"]),
        ("plots=", ["plots=auto", "plots=true"], []),
        ("job=lr_find ", ["low=", "num_steps="], ["n_trials="]),
        ("-m hydra/sweeper=study ", ["n_trials=", "study.sampler=", "workers="], ["sampler=tpe", "mode="]),
        ("-m hydra/sweeper=", ["hydra/sweeper=study"], []),
        ("--v", ["--version"], []),
        ("--cfg ", ["job"], []),
    ],
)
def test_completion_knows_groups_options_settings_and_short_forms(
    line: str, some: list[str], others: list[str]
) -> None:
    found = answers(f"mltricks {line}")
    assert set(some) <= set(found), found
    assert not set(others) & set(found), found


def test_completion_finds_paths_and_options_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine/technique").mkdir(parents=True)
    (tmp_path / "mine/technique/noise.yaml").write_text("# Noise\n")
    (tmp_path / "outputs/first").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert answers("mltricks resume=out") == ["resume=outputs/"]
    assert answers("mltricks resume=outputs/") == ["resume=outputs/first/"]
    assert answers("mltricks --config-dir mi") == ["mine/"]
    assert "technique=noise" in answers("mltricks --config-dir mine technique=no")
    assert answers("mltricks resume=nowhere/") == []


def press_tab(shell: list[str], setup: str, typed: str, wanted: str, environment: dict[str, str]) -> str:
    """Type into an interactive shell on a terminal, press Tab, and return what the terminal shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(shell, stdin=follower, stdout=follower, stderr=follower, env=environment, close_fds=True)
    os.close(follower)
    shown = ""

    def read_until(text: str, seconds: float) -> bool:
        nonlocal shown
        end = time.monotonic() + seconds
        while text not in shown and time.monotonic() < end:
            if select.select([leader], [], [], 0.1)[0]:
                shown += os.read(leader, 65536).decode(errors="replace")
        return text in shown

    try:
        os.write(leader, f"{setup}; echo rea''dy\n".encode())
        assert read_until("ready", 30), shown
        shown = ""
        os.write(leader, typed.encode())
        read_until(typed[-3:], 5)
        os.write(leader, b"\t")
        read_until(wanted, 30)
        return shown
    finally:
        process.kill()
        process.wait()
        os.close(leader)


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    program = tmp_path / "bin" / "mltricks"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mltricks "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    home = {"HOME": str(tmp_path), "TERM": "dumb", "XDG_CONFIG_HOME": str(tmp_path), "COLUMNS": "200"}
    return {**os.environ, **home, "PATH": path}


@pytest.mark.parametrize(
    ("shell", "setup"),
    [
        (["bash", "--norc", "-i"], 'eval "$(mltricks -sc install=bash)"'),
        (["zsh", "-f", "-i"], 'eval "$(mltricks -sc install=bash)"'),
        (["zsh", "-f", "-i"], 'eval "$(mltricks -sc install=zsh)"'),
    ],
    ids=["bash", "zsh with the script for bash", "zsh"],
)
@pytest.mark.parametrize(
    ("typed", "wanted"),
    [
        ("mltricks techn", "technique="),
        ("mltricks model=two_t", "model=two_towers"),
        ("mltricks technique=mixup+em", "mixup+ema"),
    ],
)
def test_tab_completes_in_a_real_shell(
    shell: list[str], setup: str, typed: str, wanted: str, shell_environment: dict[str, str]
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"needs {shell[0]}")
    shown = press_tab(shell, setup, typed, wanted, shell_environment)
    assert wanted in shown, shown


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes(shell_environment: dict[str, str]) -> None:
    asked = ("mltricks techn", "mltricks model=two_t", "mltricks technique=mixup+em")
    script = "mltricks -sc install=fish | source; " + "; ".join(f"complete -C '{line}'" for line in asked)
    command = ["fish", "--no-config", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=shell_environment)
    assert done.stdout.split() == ["technique=", "model=two_towers", "technique=mixup+ema"]


def test_an_unknown_shell_is_refused(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("-sc", "install=powershell")
    assert done.status == 1
    assert "bash, zsh or fish" in done.err


EXPLAIN = ("job=explain",)


def test_the_explanation_of_a_sweep_runs_none(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*EXPLAIN, "-m", "hydra/sweeper=ablation", "ablation.mode=add", "hydra.run.dir=x", "seed=0,1")
    assert done.status == 0
    assert {"hydra/sweeper=ablation", "mode", "hydra.run.dir", "seed"} <= set(done.out.splitlines())
    assert not list(Path.cwd().glob("multirun*"))


def test_a_key_says_what_each_option_means_by_it(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*EXPLAIN, "model.width", "epochs")
    words = " ".join(done.out.split())
    assert "channels of the first convolution" in words
    assert "model=mlp (128), units of a hidden layer" in words
    assert "used by (10)" not in words


def test_an_option_of_any_group_is_explained_and_nothing_else_runs(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*EXPLAIN, "job=lr_find", "technique=mixup+ema", "hydra/sweeper=study", "hydra/launcher=local")
    assert done.status == 0
    titles = ["technique=mixup", "technique=ema", "job=lr_find", "hydra/sweeper=study", "hydra/launcher=local"]
    assert set(titles) <= set(done.out.splitlines())
    assert "arXiv:1710.09412" in done.out
    assert "\n    n_trials=null\n" in done.out
    assert "\n    study.sampler=tpe\n" in done.out
    assert "suggested" not in done.out
    assert not [path for path in Path.cwd().glob("outputs/*")]


def test_keys_are_explained_with_meaning_range_default_and_users(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*EXPLAIN, "key=optim.lr+n_trials", "early_stopping", "epochs=3")
    assert done.status == 0
    blocks = {block.splitlines()[0]: block for block in re.split(r"\n(?=\S)", done.out) if block.strip()}
    assert {"optim.lr", "n_trials", "early_stopping.patience", "early_stopping.min_delta", "epochs"} <= set(blocks)
    lr = " ".join(blocks["optim.lr"].split())
    assert all(
        word in lr for word in ("learning rate", "3.0e-3 (optim=adamw)", "> 0", "1e-4 to 1e-2", "optim=sgd (0.05)")
    )
    assert "hydra.sweeper.n_trials" in blocks["n_trials"]
    assert ">= 1" in blocks["epochs"]
    assert "default    10" in blocks["epochs"]


@pytest.mark.parametrize("subject", ["lr", "optim.lrr", "modle", "model=foo", "hydra/sweeper=foo"])
def test_an_unknown_subject_gets_a_suggestion(run_cli: Callable[..., Outcome], subject: str) -> None:
    done = run_cli(*EXPLAIN, subject)
    assert done.status == 1
    assert re.search(r"Did you mean|Known:", done.err), done.err


def test_every_setting_has_a_meaning() -> None:
    settings = all_settings((conf_dir(),))
    assert len(settings) > 150
    assert not [s for s in settings if not s.meaning]
    for setting in settings:
        assert explained(setting.typed, [conf_dir()], 80)


def test_ranges_come_from_the_classes() -> None:
    found = {s.key: allowed(s) for s in reversed(all_settings((conf_dir(),)))}
    assert found["technique.ema.decay"] == "in [0, 1]"
    assert found["optim.lr"] == "> 0"
    assert found["epochs"] == ">= 1"
    assert found["progress"] == "auto | bar | lines | none"
    assert found["max_steps"] == ">= 1 | null"
