"""The search space: Hydra's syntax, ranges from the options' files, settings that only some options have."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
import yaml

from mltricks.config.cards import read_card, read_cards, read_values
from mltricks.config.create import locate
from mltricks.config.known import target_of
from mltricks.config.options import conf_dir
from mltricks.config.settings import HINTS
from mltricks.config.values import check_value, field_hints, kinds_and_range
from mltricks.construct import make_model
from mltricks.data.info import Info
from mltricks.inputs.image import Image
from mltricks.inputs.pair import Pair
from mltricks.inputs.tokens import Tokens
from mltricks.objectives.base import Objective
from mltricks.objectives.classify import Classify
from mltricks.objectives.contrastive import Contrastive
from mltricks.objectives.next_token import NextToken
from mltricks.objectives.segment import Segment
from mltricks.sweep.ranges import Choices, Span, ends, parse_comment
from mltricks.sweep.space import Space, read_space

MakeSpace = Callable[..., Space]


def place_of(*overrides: str) -> SimpleNamespace:
    """The sweep's configuration and the config loader, which a sweeper receives from Hydra."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.core.plugins import Plugins
    from hydra.core.utils import setup_globals
    from hydra.types import RunMode

    setup_globals()
    Plugins.instance()
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_dir())))
    config = loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)
    return SimpleNamespace(config=config, context=SimpleNamespace(config_loader=loader))


@pytest.fixture(scope="module")
def space() -> MakeSpace:
    """``space("optim.lr=0.1,0.2", tune=[...])`` reads a command as a sweeper does."""
    place = place_of()
    return lambda *arguments, tune=(): read_space(list(arguments), place, list(tune))


def draw(space: Space, num: int, seed: int = 0) -> list[dict[str, str]]:
    """The jobs of random trials, as ``{key: text}``."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    jobs = []
    for _ in range(num):
        trial = study.ask()
        job = space.suggest(trial)
        assert space.job_of(trial.params) == job  # the parameters in the study are enough to make the job again
        jobs.append(dict(text.split("=", 1) for text in job))
        study.tell(trial, 0.0)
    return jobs


SYNTAX = [
    ("seed=1,2,3", ["1", "2", "3"], [1, 2, 3]),
    ("seed=choice(4,5)", ["4", "5"], [4, 5]),
    ("optim.lr=1e-3,0.5", ["0.001", "0.5"], [0.001, 0.5]),
    ("seed=range(1,10,4)", ["1", "5", "9"], [1, 5, 9]),
    ("seed=range(10,1,-4)", ["2", "6", "10"], [2, 6, 10]),
    ("optim.lr=range(0.1,0.5,0.1)", ["0.1", "0.2", "0.3", "0.4"], [0.1, 0.2, 0.3, 0.4]),
    ("max_steps=null,5", ["null", "5"], [None, 5]),
    ("deterministic=true,false", ["True", "False"], [True, False]),
    ("technique=[mixup,ema],[cutmix]", ["[mixup,ema]", "[cutmix]"], ["[mixup,ema]", "[cutmix]"]),
    ("technique=choice([],[cutmix],sam)", ["[]", "[cutmix]", "sam"], ["[]", "[cutmix]", "sam"]),
    ("objective_metric='val/loss',\"val/accuracy\"", ["'val/loss'", '"val/accuracy"'], ["val/loss", "val/accuracy"]),
    ("optim=adamw,sgd", ["adamw", "sgd"], ["adamw", "sgd"]),
    ("technique=glob(*mix*)", ["augmix", "cutmix", "mixup"], ["augmix", "cutmix", "mixup"]),
    (
        "optim=glob(*,exclude=[m*,t*,c*,n*,r*,la*,adag*,sch*,*_decoupled])",
        ["adam", "adamw", "lion", "sgd"],
        ["adam", "adamw", "lion", "sgd"],
    ),
]


@pytest.mark.parametrize(("typed", "texts", "values"), SYNTAX, ids=[line[0] for line in SYNTAX])
def test_a_grid_has_exactly_the_values_typed(space: MakeSpace, typed: str, texts: list[str], values: list[Any]) -> None:
    key = typed.split("=")[0]
    read = space(typed, "epochs=2")
    points = read.points()
    assert [point[key] for point in points] == values
    assert [read.job_of(point) for point in points] == [[f"{key}={text}", "epochs=2"] for text in texts]
    assert {job[key] for job in draw(read, 60)} == set(texts)


def test_the_last_setting_typed_changes_fastest(space: MakeSpace) -> None:
    points = space("optim=adam,sgd", "seed=0,1", "epochs=1,2").points()
    rows = [(p["optim"], p["seed"], p["epochs"]) for p in points]
    assert rows == [(o, s, e) for o in ("adam", "sgd") for s in (0, 1) for e in (1, 2)]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("optim.lr=interval(1e-4,1e-1)", Span(1e-4, 1e-1)),
        ("optim.lr=tag(log,interval(1e-4,1e-1))", Span(1e-4, 1e-1, log=True)),
        ("optim.lr=tag(log, interval(1, 10))", Span(1.0, 10.0, log=True)),
        ("batch_size=int(interval(16,64))", Span(16, 64, whole=True)),
        ("batch_size=int(tag(log,interval(16,64)))", Span(16, 64, log=True, whole=True)),
    ],
)
def test_intervals(space: MakeSpace, typed: str, expected: Span) -> None:
    key = typed.split("=")[0]
    read = space(typed)
    assert read.domains() == {key: expected}
    drawn = [float(job[key]) for job in draw(read, 200)]
    assert expected.low <= min(drawn)
    assert max(drawn) <= expected.high
    assert all(value.is_integer() for value in drawn) == expected.whole
    middle = (expected.low * expected.high) ** 0.5 if expected.log else (expected.low + expected.high) / 2
    below = sum(value < middle for value in drawn)
    assert 70 < below < 130, "half of the draws lie on either side of the scale's middle"
    with pytest.raises(ValueError, match="a grid needs values"):
        read.points()


def test_settings_of_a_technique_belong_to_the_choices_that_include_it(space: MakeSpace) -> None:
    read = space(
        "technique=[mixup,ema],[cutmix],[]",
        "technique.mixup.alpha=interval(0.1,1)",
        "technique.ema.decay=0.95",
        tune=["technique.cutmix.alpha", "optim.lr"],
    )
    jobs = draw(read, 40)
    assert {job["technique"] for job in jobs} == {"[mixup,ema]", "[cutmix]", "[]"}
    for job in jobs:
        stack = job["technique"]
        assert ("technique.mixup.alpha" in job) == ("mixup" in stack)
        assert ("technique.ema.decay" in job) == ("ema" in stack)
        assert ("technique.cutmix.alpha" in job) == ("cutmix" in stack)
        assert "optim.lr" in job
    assert read.conditional() == {"technique.mixup.alpha", "technique.cutmix.alpha"}
    assert any("technique.mixup.alpha" in note for note in read.notes())


def test_a_grid_holds_settings_once_for_each_option_that_has_them(space: MakeSpace) -> None:
    points = space("technique=mixup,cutmix", "technique.mixup.alpha=0.1,0.2,0.3", "seed=0,1").points()
    assert len(points) == 3 * 2 + 2
    assert [("technique.mixup.alpha" in p) for p in points] == [True] * 6 + [False] * 2


def test_an_option_inside_another_counts_too(space: MakeSpace) -> None:
    read = space("augment=none,standard", "technique=[],[crop]", "technique.crop.padding=1,2")
    for job in draw(read, 30):
        has_crop = job["augment"] == "standard" or job["technique"] == "[crop]"
        assert ("technique.crop.padding" in job) == has_crop
    jobs = {(p["augment"], p["technique"]): p for p in read.points() if "technique.crop.padding" in p}
    assert set(jobs) == {("none", "[crop]"), ("standard", "[]"), ("standard", "[crop]")}


def test_ranges_are_those_of_the_option_that_is_chosen(space: MakeSpace) -> None:
    read = space("optim=adamw,sgd", tune=["optim.lr", "optim.momentum"])
    for job in draw(read, 60):
        low, high = (1e-4, 1e-2) if job["optim"] == "adamw" else (1e-3, 0.5)
        assert low <= float(job["optim.lr"]) <= high
        assert ("optim.momentum" in job) == (job["optim"] == "sgd")
    assert set(read.domains()) == {"optim", "optim.lr@adamw", "optim.lr@sgd", "optim.momentum"}
    assert read.domains()["optim.lr@sgd"] == Span(1e-3, 0.5, log=True)


def test_tune_reads_scale_and_type_from_the_comment(space: MakeSpace) -> None:
    read = space(
        "technique=[ema,crop]", tune=["optim.lr", "technique.ema.decay", "technique.crop.padding", "batch_size"]
    )
    assert read.domains() == {
        "optim.lr": Span(1e-4, 1e-2, log=True),
        "technique.ema.decay": Span(0.9, 0.999),
        "technique.crop.padding": Span(1, 4, whole=True),
        "batch_size": Choices((16, 32, 64, 128), ("16", "32", "64", "128")),
    }


def test_tune_reads_options_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    text = (conf_dir() / "optim" / "sgd.yaml").read_text()
    (tmp_path / "optim" / "mine.yaml").write_text(text.replace("search: 1e-3 to 0.5", "search: 0.2 to 0.3"))
    (tmp_path / "optim" / "_common.yaml").write_text((conf_dir() / "optim" / "_common.yaml").read_text())
    place = place_of(f"hydra.searchpath=[file://{tmp_path}]")
    assert read_space(["optim=mine"], place, ["optim.lr"]).domains() == {"optim.lr": Span(0.2, 0.3)}


REFUSED = [
    (["technique=mixup,mixupp"], [], "mixupp"),
    (["optim.lrr=0.1,0.2"], [], "optim.lrr"),
    (["technique.mixup.alpha=0.1,0.2"], [], "technique.mixup.alpha"),
    (["optim.lr=interval(-0.1,1)"], [], "optim.lr=-0.1 is out of range"),
    (["technique=[mixup],[cutmix]", "technique.cutmix.p_batch=interval(0.5,1.5)"], [], "p_batch=1.5 is out of range"),
    (["optim.lr=interval(1,0.1)"], [], "lower one first"),
    (["optim.lr=tag(log,interval(0,1))"], [], "log scale excludes 0"),
    (["optim.lr=tag(lin,interval(0.1,1))"], [], "tag lin is unknown"),
    (["batch_size=interval(16,64)"], [], r"int\(interval"),
    (["seed=1,1"], [], "appears twice"),
    (["seed=range(3,3)"], [], "nothing to choose"),
    (["optim=range(0,2)"], [], "has options, not numbers"),
    (["optim=adam,sgd", "optim.eps=1e-8,-1"], [], "optim.eps=-1"),
    (["scheduler.warmup_start=0,0.1"], [], "no effect without a warm-up"),
    (["engine=eager,traced", "optim=torch"], [], "engine=eager"),
    (["model=mlp,transformer"], [], "model=transformer"),
    (["model=mlp,convnet", "model.width=0,8"], [], "model.width=0"),
    (["technique=[],fixmatch"], [], "unlabel"),
    (["data.fraction=0.5,1.5"], [], "data.fraction=1.5"),
    ([], ["optim.nesterov"], r"optim.nesterov is no setting under these options. Keys with a range: .*optim.lr"),
    (["optim=sgd"], ["optim.nesterov"], "no range of its own under optim=sgd.*optim.lr"),
    (["optim=sgd,muon"], ["optim.adam_lr", "optim.eps"], "optim.eps has no range of its own under optim=muon"),
    ([], ["technique.mixup.alpha"], "technique.mixup.alpha is no setting under these options"),
    (["optim.lr=0.1"], ["optim.lr"], "both given"),
]


@pytest.mark.parametrize(("typed", "tune", "words"), REFUSED, ids=[" ".join([*line[0], *line[1]]) for line in REFUSED])
def test_wrong_search_spaces_are_refused_before_any_trial(
    space: MakeSpace, typed: list[str], tune: list[str], words: str
) -> None:
    from hydra.errors import HydraException

    with pytest.raises((ValueError, HydraException), match=words):
        space(*typed, tune=tune)


def test_commands_with_the_same_meaning_are_the_same_study(space: MakeSpace) -> None:
    first = space("optim.lr=tag(log,interval(1e-4,1e-1))", "epochs=2", "seed=0,1")
    same = space("optim.lr=tag(log,interval(0.0001,0.1))", "epochs=2", "seed=choice(0,1)")
    other = space("optim.lr=tag(log,interval(1e-4,1e-1))", "epochs=3", "seed=0,1")
    assert first.describe() == same.describe() == json.loads(json.dumps(first.describe()))
    assert first.describe() != other.describe()


def test_a_linear_scale_over_decades_gives_a_note(space: MakeSpace) -> None:
    assert "tag(log,interval(0.0001,0.1))" in space("optim.lr=interval(1e-4,1e-1)").notes()[0]
    assert space("optim.lr=tag(log,interval(1e-4,1e-1))").notes() == []


def settings_with_ranges() -> list[tuple[str, str, str, str, str]]:
    """Group, option, key, default and comment of every setting with a search range; a class of one's own has none."""
    cards = [card for group in read_cards([conf_dir()]).values() for card in group if card.name != "custom"]
    found = [(card.group, card.name, *row) for card in cards for row in card.values if "search:" in row[2]]
    top = read_values((conf_dir() / "config.yaml").read_text(), "")
    return [*found, *(("config", "config", *row) for row in top if "search:" in row[2])]


RANGES = settings_with_ranges()


def test_every_comment_with_a_range_is_found() -> None:
    files = [path for path in conf_dir().rglob("*.yaml") if path.stem != "custom"]
    lines = [line for path in files for line in path.read_text().splitlines() if "search:" in line]
    assert len(RANGES) >= len(lines) > 40


@pytest.mark.parametrize(
    ("group", "option", "key", "default", "comment"), RANGES, ids=[f"{r[1]}-{r[2]}" for r in RANGES]
)
def test_search_ranges_are_allowed_and_include_the_default(
    group: str, option: str, key: str, default: str, comment: str
) -> None:
    domain = parse_comment(comment)
    assert domain is not None, f"{comment!r} cannot be read"
    hint = hint_of(group, option, key)
    for value in ends(domain):
        if hint is None:
            build_model(option, key, value)
        else:
            check_value(key, value, hint)
            kinds, _ = kinds_and_range(hint)
            assert int not in kinds or isinstance(value, int), "an integer setting has an integer range"
    given = None if default == "null" else parse_comment(f"search: choices {default}")
    value = given.values[0] if isinstance(given, Choices) else None
    if isinstance(domain, Choices):
        assert value in domain.values
    elif value is None or value == 0:  # null or 0 switches it off: the search range covers only values with an effect
        assert value is None or domain.low <= 0 or re.search(r">= 0|\[0", comment)
    else:
        assert domain.low <= value <= domain.high


def hint_of(group: str, option: str, key: str) -> Any:
    """The type of a setting in its class; ``None`` for models, which check their settings when they are created."""
    if key in HINTS:
        return HINTS[key]
    if group == "model":
        return None
    path = conf_dir() / ("technique" if key.startswith("technique.") else group) / f"{option}.yaml"
    return field_hints(locate(target_of(path), key, ()))[key.rpartition(".")[2]]


def build_model(option: str, key: str, value: Any) -> None:
    """Create a model with one setting changed."""
    card = read_card(conf_dir() / "model" / f"{option}.yaml", [conf_dir()])
    node = {k.removeprefix("model."): yaml_value(text) for k, text, _ in card.values}
    target = target_of(conf_dir() / "model" / f"{option}.yaml")
    names = inspect.signature(locate(target, "model", ())).parameters
    assert key.removeprefix("model.") in names or "switches" in names
    info, objective = TAKEN.get(option, (Info(Image((1, 16, 16)), "classes", 10), Classify()))
    settings = {"_target_": target, **node, key.removeprefix("model."): value}
    model = make_model(settings, info, [], objective)
    assert any(torch.numel(p) for p in model.parameters())


PICTURE = Image((1, 16, 16))
TAKEN: dict[str, tuple[Info, Objective]] = {
    "transformer": (Info(Tokens((16,), 10), "tokens", 10), NextToken()),
    "siamese": (Info(Pair(PICTURE, PICTURE), "similarity", 1), Contrastive(1.0, None)),
    "two_towers": (Info(Pair(PICTURE, PICTURE), "classes", 10), Classify()),
    "fcn": (Info(PICTURE, "mask", 10), Segment()),
}
"""Inputs and objectives of models that do not take images or do not predict classes."""


def yaml_value(text: str) -> Any:
    return yaml.safe_load(text)
