"""Composing a configuration, and the classes that it may name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.config.create import create, locate
from mltricks.config.options import conf_dir
from mltricks.config.settings import HINTS, check_settings, top_level
from mltricks.config.values import UnknownName

PACKAGE = Path(mltricks.__file__).parent


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["techniq=mixup"], ["techniq", "technique"]),
        (["technique=mixpu"], ["mixpu", "mixup"]),
        (["technique=[mixup,emaa]"], ["emaa", "ema"]),
        (["optim.lrr=1"], ["optim.lrr", "Did you mean optim.lr (default 0.003)?"]),
        (["optim=sgd", "optim.momentm=0.5"], ["Did you mean optim.momentum (default 0.9)"]),
        (["+foo=1"], ["foo is no setting"]),
        (["optim.groups.bias.lr=x64"], ["optim.groups is null", "+optim.groups.bias.lr=x64"]),
        (["epoch=3"], ["Did you mean epochs (default 10)?"]),
        (["early_stopping.pacience=1"], ["Did you mean early_stopping.patience (default 0)?"]),
        (["technique.mixup.alpha=1"], ["no effect", "Type technique=mixup"]),
        (["technique.mixpu.alpha=1"], ["no technique mixpu"]),
        (["technique=mixup", "technique.mixup.alhpa=1"], ["Did you mean technique.mixup.alpha (default 0.2)?"]),
        (["augment=none", "augment.flip.p=1"], ["technique.flip.p=VALUE"]),
        (["optim=sgd,adammw"], ["adammw", "adamw"]),
        (["optim=choice(sgd,adammw)"], ["adammw", "adamw"]),
        (["technique"], ["'technique' is no override", "KEY=VALUE"]),
        (["optim.lr=[1,"], ["cannot be read"]),
        (["+optim.groups.head*.lr=x2"], ["a key has no * or ?", "optim.groups={head*: {lr: x2}}"]),
        (["technique=null"], ["Type technique=none"]),
        (["experiment=nope"], ["experiment has no option nope"]),
        (["optim/foo=1"], ["no group optim/foo"]),
        (["lr=0.1"], ["Did you mean optim.lr (default 3.0e-3)?"]),
        (["val_frac=0.2"], ["Did you mean data.val_frac (default 0.1)?"]),
        (["optim=sgd", "momentum=0.8"], ["Did you mean optim.momentum (default 0.9)"]),
        (["momentum=0.8"], ["optim.momentum (default"]),
        (["momentum=0.8"], ["optim=lars optim.momentum (default 0.9) or optim=muon optim.momentum (default 0.95)"]),
        (["mixup.alpha=0.3"], ["Did you mean technique=mixup technique.mixup.alpha (default 0.2) or"]),
        (["mixup=true"], ["Did you mean technique=mixup?"]),
        (["tecnique=mixup"], ["Did you mean technique?"]),
        (["optim.momentum=0.8"], ["Did you mean", "optim=muon optim.momentum (default 0.95)"]),
        (["model.heads=3"], ["Did you mean", "model=transformer model.heads (default 4)"]),
        (["data=MNIST"], ["Did you mean mnist?"]),
        (["optim=AdamW"], ["Did you mean adamw?"]),
        (["technique=none+mixup"], ["none is the empty list"]),
        (["technique=mixup,ema"], ["Type -m", "technique=mixup+ema for all in one run"]),
        (["optim.lr=1,2"], ["optim.lr=1,2 has several values. Type -m with it for a run with each."]),
        (["notes=a, b"], ["\"notes='a, b'\" for a text"]),
        (["model=resnet50"], ["model=torchvision model.name=resnet50"]),
        (["optim=adadelta"], ["Type optim=timm optim.name=adadelta or optim=torch optim.name=Adadelta."]),
        (["model=mlp", "model.hidden=32"], ["model.width (default 128)", "model=custom", "+model.hidden=32"]),
    ],
)
def test_compose_refuses_unknown_names_with_the_nearest(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ValueError) as refusal:
        mltricks.compose(overrides)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["technique=[mixup,ema]", "technique.mixup.alpha=1"],
        ["technique=[]"],
        ["technique='mixup'"],
        ["hydra.verbose=true"],
        ["hydra/sweeper=basic"],
        ["optim.lr=${seed}", "seed=1"],
        ["model=custom", "model._target_=torch.nn.Linear", "+model.in_features=3", "+model.out_features=4"],
    ],
)
def test_compose_accepts_valid_configurations(overrides: list[str]) -> None:
    cfg = mltricks.compose(overrides)
    assert plain(cfg).keys() >= top_level().keys()


def test_a_users_configuration_folder_is_searched(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text(
        (conf_dir() / "optim" / "sgd.yaml").read_text().replace("0.05", "0.5")
    )
    assert mltricks.compose(["optim=mine"], str(tmp_path)).optim.lr == 0.5
    with pytest.raises(ValueError, match="Did you mean mine"):
        mltricks.compose(["optim=mien"], str(tmp_path))
    with pytest.raises(ValueError, match="is no folder"):
        mltricks.compose([], str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["+optim.foo=1"], "optim.foo is no setting"),
        (["+model.widht=3"], "Did you mean width"),
        (["+model._partial_=true"], "model._partial_ is no setting"),
        (["+precision.x=1"], "precision.x is no setting"),
        (["+tracker.project=x"], "tracker.project is no setting"),
        (["+job.x=1"], "job.x is no setting"),
        (["+data.x=1"], "data.x is no setting"),
        (["optim.lr=-1"], "optim.lr=-1 is out of range. Allowed: 0 < value"),
        (["optim.lr=nan"], "finite"),
        (["optim.lr=inf"], "finite"),
        (["batch_size=0"], "batch_size=0 is out of range"),
        (["epochs=abc"], "epochs='abc' must be an integer"),
        (["epochs=true"], "epochs=True must be an integer"),
        (["epochs=1.5"], "must be an integer"),
        (["seed=-1"], "0 <= value"),
        (["plots=3"], "true or false"),
        (["progress=barr"], "Did you mean bar"),
        (["precision.dtype=fp8"], "fp32 | bf16 | fp16"),
        (["technique=mixup", "technique.mixup.alpha=-1"], "technique.mixup.alpha=-1 is out of range"),
        (["device=gpu"], "device=gpu is unknown"),
        (["optim._target_=null"], "optim._target_ is missing"),
    ],
)
def test_build_refuses_wrong_configurations(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build(plain(mltricks.compose(overrides)))


def test_every_top_level_setting_of_the_loop_has_a_type() -> None:
    not_of_the_loop = {"technique", "checkpoint", "input", "early_stopping", "stages"}
    assert top_level().keys() - not_of_the_loop <= {name.partition(".")[0] for name in HINTS}
    check_settings(plain(mltricks.compose()))


DANGEROUS = [
    "os.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "torch.os.system",
    "torch.serialization.os",
    "torch.hub.load",
    "torch.load",
    "torch.utils.cpp_extension.load",
    "torch.distributed.elastic.multiprocessing.SubprocessHandler",
    "mltricks.train.Path",
    "mltricks.train.signal",
    "mltricks.summary.subprocess",
    "mltricks.config.compose.create",
    "mltricks.config.compose.import_module",
    "mltricks.process.atomic.write_atomically",
    "mltricks",
    "nothing",
    "",
]


@pytest.mark.parametrize("target", DANGEROUS)
def test_dangerous_targets_are_refused(target: str) -> None:
    with pytest.raises(ValueError, match=r"is refused|cannot be imported"):
        locate(target, "model", [])


@pytest.mark.parametrize("target", [t for t in DANGEROUS if t.startswith(("os", "subprocess", "builtins"))])
@pytest.mark.parametrize("where", ["argument", "list", "scheduled"])
def test_nested_targets_are_refused_too(target: str, where: str) -> None:
    inner: Any = {"_target_": target, "command": "true"}
    value = {
        "argument": inner,
        "list": [1, inner],
        "scheduled": {"schedule": "cosine", "start": 1, "end": 0, "x": inner},
    }[where]
    with pytest.raises(ValueError, match="is refused"):
        create({"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1, "bias": value}, "model")


def test_an_alias_in_a_users_trusted_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package_of_mine.py").write_text("from os import system\n\nclass Net:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("package_of_mine.Net", "model", ["package_of_mine"]).__name__ == "Net"
    with pytest.raises(ValueError, match="allow_modules"):
        locate("package_of_mine.Net", "model", [])
    with pytest.raises(ValueError, match="defined in posix"):
        locate("package_of_mine.system", "model", ["package_of_mine"])


def test_unknown_arguments_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="Did you mean in_features"):
        create({"_target_": "torch.nn.Linear", "in_featurs": 1, "out_features": 1}, "model")
    with pytest.raises(ValueError, match=r"model\.out_features is missing"):
        create({"_target_": "torch.nn.Linear", "in_features": 1}, "model")


def test_checkpoints_are_only_ever_read_as_plain_tensors() -> None:
    calls = [
        (path.name, call)
        for path in PACKAGE.rglob("*.py")
        for call in re.findall(r"torch\.load\((?:[^()]|\([^()]*\))*\)", path.read_text())
    ]
    assert calls
    assert all("weights_only=True" in call for _, call in calls), calls
    unpickling = {path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bpickle\.loads\(", path.read_text())}
    assert unpickling == {"patched.py", "slots.py", "worker.py"}, "only data pickled by this process or its own workers"
    streams = {path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bpickle\.load\(", path.read_text())}
    assert streams == {"sender.py"}, "only the pipe to a process of the run itself, never a file"
