"""Typing errors on the command line: each is refused with the key, the value and the fix, before a folder exists."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, Outcome

import mltricks
from mltricks.build import build
from mltricks.config.compose import compose, explain, plain
from mltricks.config.effects import idle
from mltricks.config.options import conf_dir
from mltricks.config.overrides import parse, typed
from mltricks.config.slips import check_command, check_package, idle_folder, repeated
from mltricks.data.samples import as_input, as_target

SLIPS = [
    ("~model", "every run needs model. Type model=OPTION"),
    ("~tracker", "Type tracker=none"),
    ("~job", "every run needs job"),
    ("technique=[null]", "null is no option of technique. Type technique=none"),
    ("technique={}", "technique takes names of options"),
    ("allow_modules=null", "allow_modules takes names of packages"),
    ("checkpoint=[a]", "checkpoint takes one path"),
    ("=3", "has no key"),
    ("=", "has no key"),
    ("technique=" + "a" * 5000, "5010 characters"),
    ("technique=" + "[" * 200 + "]" * 200, "nests brackets"),
    ("+hydra.foo=1", "hydra has no setting foo"),
    ("seed=range(0,0)", "the range is empty"),
    ("hydra.run.dri=x", "hydra.run.dri is no setting. Did you mean hydra.run.dir?"),
    ("hydra.sweeper.n_trials=4", "Did you mean -m hydra/sweeper=study n_trials (default null)?"),
    ("hydra/sweeper=stdy", "hydra/sweeper has no option stdy. Did you mean study"),
]


@pytest.mark.parametrize(("typed", "said"), SLIPS, ids=[said for _, said in SLIPS])
def test_a_typing_error_is_refused_with_the_fix(typed: str, said: str) -> None:
    with pytest.raises(ValueError) as refusal:
        compose([typed])
    assert said in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize(
    ("overrides", "options", "said"),
    [
        (["hydra/sweeper=study"], {}, "has no effect without -m"),
        (["++technique=mixup"], {}, "Type technique=mixup"),
        ([], {"--lr": "0.1"}, "--lr: there is no such flag.*type lr=VALUE, or --help"),
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
def test_errors_that_need_the_data_are_refused_when_the_run_is_built(override: str, said: str) -> None:
    cfg = plain(mltricks.compose(["model=mlp", "data.limit=64", override]))
    with pytest.raises(ValueError, match=said):
        build(cfg)


@pytest.mark.parametrize("name", ["joblib", "submitit_slurm"])
def test_a_launcher_that_is_not_installed_is_named_with_its_package(name: str) -> None:
    from hydra.errors import MissingConfigException

    said = f"In 'config': Could not find 'hydra/launcher/{name}'\n\nAvailable options in 'hydra/launcher':\n\tbasic\n"
    told = explain(MissingConfigException(said), [f"hydra/launcher={name}"], None)
    assert str(told) == f"hydra/launcher={name} is a plug-in of Hydra. Type: pip install 'mltricks[launchers]'"


def test_a_key_typed_twice_gives_a_message() -> None:
    def notes(*overrides: str, multirun: bool = False) -> list[str]:
        return repeated(parse(overrides), multirun)

    assert notes("optim.lr=0.1", "seed=1", "optim.lr=0.2", "seed=1") == [
        "note: optim.lr=0.1 is replaced by optim.lr=0.2, which comes later"
    ]
    assert len(notes("optim.lr=1", "++optim.lr=2", multirun=True)) == 1
    assert notes("model=mlp", "model.width=8", "~tracker", "+model.a=1") == []
    assert notes("++model.arguments={a:1}", "++model.arguments={b:2}") == [], "Hydra merges dicts"
    mixup = "technique.mixup.alpha in technique.mixup={alpha:1}"
    for later in ("technique.mixup={alpha:2}", "technique.mixup.alpha=2"):
        assert notes("technique=mixup", "technique.mixup={alpha:1}", later) == [
            f"note: {mixup} is replaced by {later}, which comes later"
        ]
    assert notes("++model.arguments={a:1}", "++model.arguments={}") == []
    assert notes("hydra.launcher={workers:1}", "hydra.launcher={fuse:false}", multirun=True) == []
    assert notes("hydra.sweeper.tune=[a]", "hydra.sweeper.tune=[b]", multirun=True) == [
        "note: tune=a is replaced by tune=b, which comes later"
    ]
    with pytest.raises(ValueError, match=r"a group is given once\. Type technique=ema\+mixup\."):
        notes("+technique=ema", "technique=mixup")


@pytest.mark.parametrize(
    ("twice", "words"),
    [
        (["seed=1,2", "seed=3"], "a swept key is given once"),
        (["seed=3", "seed=range(0,2)"], "a swept key is given once"),
        (["technique.mixup={alpha:1},{alpha:2}", "technique.mixup.alpha=3"], "a swept key is given once"),
        (["technique.mixup.alpha=3", "technique.mixup={alpha:1},{alpha:2}"], "a swept key is given once"),
        (["++model.arguments={a:1}", "++model.arguments={b:2},{b:3}"], "a swept key is given once"),
        (["+technique=ema", "technique=mixup,cutmix"], "a swept key is given once"),
        (["++model.arguments={a:1}", "++model.arguments={b:2}"], "a sweep takes one dict of a key"),
        (["+technique=ema", "technique=mixup"], "a group is given once. Type technique=ema+mixup."),
        (["technique=[mixup,cutmix]", "+technique=ema"], "a group is given once. Type technique=mixup+cutmix+ema."),
        (["+technique=ema", "+technique=mixup"], "a group is given once. Type technique=ema+mixup."),
        (["technique=[ema, mixup]", "+technique=ema"], "a group is given once. Type technique=ema+mixup."),
        (["technique=[]", "+technique=ema"], "a group is given once. Type technique=ema."),
        (["+regularizer=none", "regularizer=none"], "a group is given once. Type regularizer=none."),
        (["+model=mlp", "model=convnet"], "a group is given once. Type model=convnet."),
    ],
)
def test_what_would_run_otherwise_than_it_shows_is_refused(twice: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        repeated(parse(twice), True)


def test_the_command_prints_that_message(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("show=true", "model=mlp", "model=convnet")
    assert "note: model=mlp is replaced by model=convnet, which comes later" in done.err.splitlines()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("job=list epochs=3 job.group=engine", ["epochs=3 has no effect on job=list"]),
        (
            "job=lr_find scheduler=cosine scheduler.warmup_frac=0.1 optim.lr=1",
            ["scheduler=cosine has no effect on job=lr_find", "scheduler.warmup_frac=0.1 has no effect on job=lr_find"],
        ),
        ("data.root=x data.limit=64", ["data.root=x has no effect on data=digits"]),
        ("data=mnist data.root=x", []),
        ("-m hydra/sweeper=study hydra.sweeper.asha.eta=4", ["asha.eta=4 has no effect without pruner=asha"]),
        ("-m hydra/sweeper=study hydra.sweeper.asha.eta=4 hydra.sweeper.pruner=asha", []),
        (
            "-m hydra/sweeper=study hydra.sweeper.pruner=patient hydra.sweeper.patient.around=asha "
            "hydra.sweeper.asha.eta=4",
            [],
        ),
        ("-m hydra/sweeper=ablation hydra.sweeper.first_seeds=3", ["first_seeds=3 has no effect without mode=select"]),
        ("-m hydra/sweeper=ablation hydra.sweeper.first_seeds=3 hydra.sweeper.mode=select", []),
    ],
)
def test_a_setting_without_effect_is_named(typed: str, said: list[str]) -> None:
    words = typed.removeprefix("-m ").split()
    assert idle(parse(words), [conf_dir()], typed.startswith("-m")) == [f"note: {text}" for text in said]


def test_the_command_names_settings_without_effect(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli("data.num_workers=4", "precision.tf32=true", "show=true")
    assert "note: data.num_workers=4 has no effect on data=digits" in done.err.splitlines()
    run = run_cli(*TINY, "data.num_workers=4", "precision.tf32=true", "epochs=1", "progress=lines", "device=cpu")
    assert "note: precision.tf32=true has no effect on device=cpu" in run.out.splitlines()


class Reads(torch.nn.Module):
    """A model whose forward pass branches on the content of a tensor; the error names that line."""

    def __init__(self, how: str, in_shape: tuple[int, ...], num_outputs: int):
        super().__init__()
        self.how, self.layer = how, torch.nn.Linear(math.prod(in_shape), num_outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.layer(x.flatten(1))
        if self.how == "item":
            return x * x.max().item()
        if self.how == "branch":
            return x if x.mean() > 100 else 2 * x
        return x + x[x > 0].sum()


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("item", "return x * x.max().item()"),
        ("branch", "return x if x.mean() > 100 else 2 * x"),
        ("mask", "return x + x[x > 0].sum()"),
    ],
)
def test_a_step_that_reads_a_tensor_is_refused_with_its_line(how: str, line: str) -> None:
    model = ["model=custom", "model._target_=test_slips.Reads", f"+model.how={how}", "allow_modules=[test_slips]"]
    run = build(plain(mltricks.compose([*model, "engine=traced", "data.limit=64", "batch_size=8"])))
    with pytest.raises(ValueError) as refusal:
        run.step(run.state, next(run.batches()), run.hypers.at(0))
    assert "test_slips.py, line " in str(refusal.value)
    assert f": {line}. Compute it with tensors, as torch.where does, or type engine=eager" in str(refusal.value)


def test_labels_that_are_words_are_refused() -> None:
    for y in ("cat", b"cat", ["cat"], np.array(["cat"]), None, Decimal(3), {"cat": 1}):
        with pytest.raises(ValueError, match=r"y of sample 3 is .*, a \w+\. Give classes as whole numbers"):
            as_target(y, "sample 3")
    for x in ("cat", None, {"cat": 1}):
        with pytest.raises(ValueError, match=r"x of sample 3 is .*, a \w+\. Give an image or a vector of floats"):
            as_input(x, "sample 3")


@pytest.mark.parametrize("model", ["torchvision", "timm"])
def test_weights_that_cannot_be_downloaded_are_named(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no server listens on that port
    cfg = plain(mltricks.compose([f"model={model}", "model.name=resnet18", "model.pretrained=true", "data.limit=64"]))
    with pytest.raises(ValueError, match=r"weights of resnet18 cannot be downloaded .* model\.pretrained=false"):
        build(cfg)


def test_a_folder_without_effect_gives_a_message() -> None:
    def notes(*overrides: str, multirun: bool) -> list[str]:
        return idle_folder(parse(overrides), multirun)

    assert notes("hydra.run.dir=a", "seed=1,2", multirun=True) == [
        "note: hydra.run.dir=a has no effect on a sweep, whose folder is hydra.sweep.dir"
    ]
    assert notes("++hydra.sweep.dir=a", multirun=False) == [
        "note: ++hydra.sweep.dir=a has no effect on a single run, whose folder is hydra.run.dir"
    ]
    assert notes("hydra.run.dir=a", "hydra.sweep.dir='${hydra.run.dir}'", multirun=True) == []
    assert notes("hydra.run.dir=a", multirun=False) == notes("hydra.sweep.dir=a", multirun=True) == []


def test_a_techniques_file_without_its_first_line_is_named(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    (tmp_path / "my_conf/technique").mkdir(parents=True)
    text = (conf_dir() / "technique/ema.yaml").read_text()
    assert text.startswith("# @package _global_\n")
    (tmp_path / "my_conf/technique/mine.yaml").write_text("# my_conf/technique/mine.yaml\n" + text)
    done = run_cli("--config-dir", "my_conf", "technique=mine", "data.limit=64")
    assert "does not begin with the line # @package _global_" in done.err


@pytest.mark.parametrize(
    "name",
    [
        "run",
        "outputs/2026-11-27/a.b",
        "1_000",
        "null",
        "a b",
        "ö (1)",
        "it's",
        "a$b",
        'a"b',
        "a\\b",
        "a\\'b",
        "a\\\\'",
        "a\\",
        "C:\\\\x",
    ],
)
def test_advice_with_a_path_can_be_typed(name: str) -> None:
    (word,) = shlex.split(typed("resume", name))
    (override,) = parse([word])
    assert override.key_or_group == "resume"
    assert override.value() == name
