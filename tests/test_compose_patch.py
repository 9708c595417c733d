"""Patched configurations equal those that Hydra composes, for any overrides."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict, read_write

from mltricks.config.options import conf_dir
from mltricks.launch.compose import Composer

CHOICES = [
    *("technique=[mixup,ema]", "technique=[distill]", "technique=cutmix", "technique=[]", "regularizer=l2"),
    *("optim=sgd", "optim=adamw", "scheduler=cosine", "model=mlp", "data=text", "data=digits", "experiment=null"),
    *("objective=classify", "tracker=wandb", "tracker=none", "+technique@extra=mixup"),
]
VALUES = [
    *("optim.lr=1e-3", "optim.lr=0.5", "optim.lr=null", "seed=3", "seed='3'", 'data.root="a b: c"', "epochs=7"),
    *("data.root='it''s'", "+extra=1", "+extra.deep.key=[1,2]", "++optim.lr=2", "++optim.new={a:1,b:[x,y]}"),
    *("tags=[a,b]", "allow_modules=[mine,yours]", "objective_metric=val/f1", "early_stopping.patience=4"),
    *("early_stopping={patience:2}", "technique.mixup.alpha=0.7", "technique.ema.decay=0.5", "batch_size=${epochs}"),
    *("checkpoint=${oc.env:HOME}", "~optim.lr", "~data.limit", "+data.note='${hydra:job.num}'", "device=on"),
    *("+scheduler.own=${hydra.job.num}", "optim.betas=[0.5,0.9]", "~tracker", "input='???'", "optim.lr=1e400"),
]
TOKEN = "hydra.job.env_set.MLTRICKS_TRIAL=eyJhIjogMX0-_"
OWN = [TOKEN, "hydra.job.env_set.MLTRICKS_TRIAL=abc",
       "+hydra.job.env_set.MLTRICKS_TRIAL=abc", "hydra.sweep.subdir=x_${seed}",
       "hydra.verbose=true", "hydra.job.chdir=true"]  # fmt: skip


@pytest.fixture(scope="module")
def hydra() -> Iterator[Any]:
    """Hydra with our options, set up as for a sweep."""
    GlobalHydra.instance().clear()
    before = HydraConfig.instance().cfg
    yield Hydra.create_main_hydra2("test", create_config_search_path(str(conf_dir())))
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = before


def master(hydra: Any, *overrides: str) -> Any:
    """The configuration of a sweep."""
    cfg = hydra.compose_config("config", ["hydra.mode=MULTIRUN", *overrides], RunMode.MULTIRUN)
    HydraConfig.instance().set_config(cfg)
    assert cfg.hydra.sweep.dir  # fix the time in it once, as every sweeper does
    return cfg


def by_hydra(hydra: Any, cfg: Any, num: int, job: Sequence[str]) -> Any:
    """Compose a job as Hydra's own launcher does."""
    composed = hydra.config_loader.load_sweep_config(cfg, list(job))
    with open_dict(composed):
        composed.hydra.job.num, composed.hydra.job.id = num, str(num)
    HydraConfig.instance().set_config(composed)
    folder = Path(composed.hydra.sweep.dir, str(composed.hydra.sweep.subdir)).absolute()
    with read_write(composed.hydra.runtime), open_dict(composed.hydra.runtime):
        composed.hydra.runtime.output_dir = str(folder)
    return composed


def check_equal(hydra: Any, cfg: Any, composer: Composer, num: int, job: Sequence[str]) -> str:
    """Compare one job and return ``equal``, or ``refused`` if both refuse it."""
    HydraConfig.instance().set_config(cfg)
    try:
        theirs = by_hydra(hydra, cfg, num, job)
        with open_dict(theirs):
            task = OmegaConf.masked_copy(theirs, [k for k in theirs if k != "hydra"])
        resolved = OmegaConf.to_container(task, resolve=True, throw_on_missing=True)
    except Exception:
        HydraConfig.instance().set_config(cfg)
        with pytest.raises(Exception):  # noqa: B017 (of whatever kind Hydra's is)
            composer.job(num, list(job))
        return "refused"
    HydraConfig.instance().set_config(cfg)
    mine = composer.job(num, list(job))
    assert mine.cfg == resolved
    assert repr(mine.cfg) == repr(resolved)  # types and order too
    assert str(mine.folder) == theirs.hydra.runtime.output_dir
    assert mine.overrides == OmegaConf.to_container(theirs.hydra.overrides.task)
    config, own = mine.hydra.config(mine.folder), mine.hydra.task_config()
    assert OmegaConf.to_yaml(config) == OmegaConf.to_yaml(theirs)
    assert OmegaConf.is_struct(own)
    text = mine.hydra.record(config, own, mine.folder)
    assert text["config.yaml"] == OmegaConf.to_yaml(task)
    assert text["overrides.yaml"] == OmegaConf.to_yaml(theirs.hydra.overrides.task)
    assert text["hydra.yaml"] == OmegaConf.to_yaml(OmegaConf.masked_copy(theirs, "hydra"))
    return "equal"


def test_random_jobs_equal_those_composed_by_hydra(hydra: Any) -> None:
    cfg = master(hydra)
    composer, rng = Composer(hydra.config_loader, cfg), random.Random(0)
    outcomes = []
    for num in range(40):
        job = [*rng.sample(CHOICES, rng.randint(0, 2)), *rng.sample(VALUES, rng.randint(0, 4))]
        job += rng.sample(OWN, 1) if num % 7 == 0 else []
        rng.shuffle(job)
        outcomes.append(check_equal(hydra, cfg, composer, num, job))
    assert outcomes.count("equal") > 15
    assert outcomes.count("refused") > 1


@pytest.mark.parametrize("value", VALUES)
def test_every_kind_of_value(hydra: Any, value: str) -> None:
    cfg = master(hydra)
    check_equal(hydra, cfg, Composer(hydra.config_loader, cfg), 4, ["technique=[mixup,ema]", value])


@pytest.mark.parametrize("job", [[], ["optim.lr=3"], ["technique=[mixup,ema]", "seed=1"], ["hydra.verbose=true"]])
def test_a_job_receives_its_trial_token(hydra: Any, job: list[str]) -> None:
    cfg = master(hydra)
    composer = Composer(hydra.config_loader, cfg)
    for num in range(2):
        assert check_equal(hydra, cfg, composer, num, [*job, f"{TOKEN}{num}"]) == "equal"
    assert composer.job(7, [*job, TOKEN]).trial == "eyJhIjogMX0-_"


@pytest.mark.parametrize("folder", ["a b" * 40, "it's: here", "# 1", "über", "plain"])
def test_a_sweep_may_be_in_a_folder_of_any_name(hydra: Any, folder: str, tmp_path: Path) -> None:
    override = f"hydra.sweep.dir={tmp_path}/{folder}".replace("'", "\\'")
    key, _, value = override.partition("=")
    cfg = master(hydra, f"{key}='{value}'")
    composer = Composer(hydra.config_loader, cfg)
    for job in ([], ["seed=918273645"], ["optim.lr=3", TOKEN]):
        assert check_equal(hydra, cfg, composer, 12, job) == "equal"


def test_the_configuration_may_refer_to_the_trial_token(hydra: Any) -> None:
    cfg = master(hydra, "+data.note='${oc.env:MLTRICKS_TRIAL}'")
    composer = Composer(hydra.config_loader, cfg)
    assert composer.job(0, ["+data.note='${oc.env:MLTRICKS_TRIAL}'", TOKEN]).cfg["data"]["note"] == "eyJhIjogMX0-_"


def test_interpolations_follow_a_patched_value(hydra: Any) -> None:
    cfg = master(hydra, "+data.note=${seed}-${optim.lr}")
    composer = Composer(hydra.config_loader, cfg)
    jobs = [composer.job(n, ["+data.note=${seed}-${optim.lr}", f"seed={n}", f"optim.lr={n}"]) for n in range(3)]
    assert [job.cfg["data"]["note"] for job in jobs] == ["0-0", "1-1", "2-2"]
    assert len(composer.bases) == 1


def test_a_change_of_one_job_does_not_affect_another(hydra: Any) -> None:
    composer = Composer(hydra.config_loader, master(hydra))
    first, second = (composer.job(n, [f"seed={n}"]) for n in range(2))
    first.cfg["model"]["width"] = 12345
    first.hydra.task_config().model.width = 12345
    assert second.cfg["model"]["width"] != 12345
    assert second.hydra.task_config().model.width != 12345


def test_an_environment_variable_of_a_job_is_seen_by_its_configuration(hydra: Any) -> None:
    cfg = master(hydra, "+hydra.job.env_set.MLTRICKS_DATA=elsewhere")
    assert Composer(hydra.config_loader, cfg).job(0, ["seed=1"]).cfg["data"]["root"] == "elsewhere"


def test_a_users_options_are_found(hydra: Any, tmp_path: Path) -> None:
    (tmp_path / "optim").mkdir()
    (tmp_path / "optim" / "mine.yaml").write_text("_target_: mine.Optim\nlr: 0.5\nmomentum: 0.1\n")
    cfg = master(hydra, f"hydra.searchpath=[file://{tmp_path}]")
    composer = Composer(hydra.config_loader, cfg)
    assert check_equal(hydra, cfg, composer, 0, ["optim=mine", "optim.momentum=0.2"]) == "equal"


def test_a_missing_value_is_named_before_anything_runs(hydra: Any) -> None:
    with pytest.raises(ValueError, match=r"data\.path is missing\. Type data\.path=VALUE"):
        Composer(hydra.config_loader, master(hydra)).job(0, ["data=image_folder"])


def test_a_key_that_does_not_exist_is_refused(hydra: Any) -> None:
    with pytest.raises(HydraException, match=r"optim\.lrr"):
        Composer(hydra.config_loader, master(hydra)).job(0, ["optim.lrr=1"])


def test_hydras_private_function_behaves_as_we_need() -> None:
    """It takes parsed overrides and a configuration, needs no loader, and changes the configuration in place."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    config = OmegaConf.create({"a": {"b": 1, "c": 2}, "d": 3})
    OmegaConf.set_struct(config, True)
    overrides = OverridesParser.create().parse_overrides(["a.b=5", "+a.e=[1,x]", "~a.c", "++d=null"])
    assert ConfigLoaderImpl._apply_overrides_to_config(overrides, config) is None
    assert OmegaConf.to_container(config) == {"a": {"b": 5, "e": [1, "x"]}, "d": None}
