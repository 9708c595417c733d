"""Short forms: settings of the chosen sweeper, typed without their prefix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Outcome

from mltricks.config.overrides import parse
from mltricks.config.shorthand import chosen_sweeper, expand, owners, short

ABLATION = ["-m", "hydra/sweeper=ablation"]


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        (["seeds=5"], ["hydra.sweeper.seeds=5"]),
        (["retune=[optim.lr]"], ["hydra.sweeper.retune=[optim.lr]"]),
        (["ablation.mode=add", "seed=3"], ["hydra.sweeper.mode=add", "seed=3"]),
        (["mode='add'"], ["hydra.sweeper.mode='add'"]),
        (["hydra.sweeper.seeds=5", "technique=[mixup]"], ["hydra.sweeper.seeds=5", "technique=[mixup]"]),
    ],
)
def test_short_forms_become_settings_of_the_chosen_sweeper(typed: list[str], written: list[str]) -> None:
    assert expand([*ABLATION, *typed]) == [*ABLATION, *written]
    assert expand(["--multirun", *ABLATION[1:], *typed]) == ["--multirun", *ABLATION[1:], *written]


def test_settings_of_every_sweeper_launcher_and_job_can_be_typed_with_its_name() -> None:
    for owner in owners().values():
        for name in owner.settings:
            done = expand([*owner.choice.split(), f"{owner.name}.{name}=1"])
            assert done[-1] == f"{owner.group.replace('/', '.')}.{name}=1"
            assert expand([*owner.choice.split(), f"{short(owner.name, name)}=1"])[-1] == done[-1]


def test_a_bare_key_belongs_to_the_job_the_sweeper_or_the_launcher_of_the_command() -> None:
    assert expand(["job=lr_find", "num_steps=50"])[-1] == "job.num_steps=50"
    assert expand(["job=overfit", "num_steps=50"])[-1] == "job.num_steps=50"
    assert expand(["-m", "seed=0,1", "workers=2"])[-1] == "hydra.launcher.workers=2"
    assert expand(["-m", "job=overfit", "num_steps=50,60"])[-1] == "job.num_steps=50,60", "a job's setting can be swept"


def test_other_keys_are_left_unchanged() -> None:
    single = ["technique=mixup", "optim.lr=3e-3", "seed=1", "sampler=balanced", "+model.hidden=3", "~tracker", "x"]
    assert expand(single) == single
    assert expand([*ABLATION, *single]) == [*ABLATION, *single]
    assert expand(["-m", "hydra/sweeper=optuna", *single]) == ["-m", "hydra/sweeper=optuna", *single]


def test_a_key_of_the_configuration_is_never_taken_for_a_setting_of_the_sweeper() -> None:
    assert "sampler" in owners()["study"].settings
    assert expand(["-m", "hydra/sweeper=study", "sampler=tpe"])[-1] == "sampler=tpe"
    assert expand(["-m", "hydra/sweeper=study", "study.sampler=tpe"])[-1] == "hydra.sweeper.sampler=tpe"


def test_an_experiment_can_choose_the_sweeper(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen_sweeper([]) == "grid"
    assert chosen_sweeper(["experiment=baseline"]) == "grid"
    assert chosen_sweeper(["hydra/sweeper=study", "hydra/sweeper=recipe"]) == "recipe"


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["seeds=5"], ["seeds=5", "-m hydra/sweeper=ablation"]),
        (["-m", "seeds=5"], ["seeds=5", "hydra/sweeper=ablation"]),
        (["hydra/sweeper=ablation", "seeds=5"], ["seeds=5", "-m"]),
        (["-m", "recipe.budget_epochs=100"], ["recipe.budget_epochs=100", "hydra/sweeper=recipe"]),
        ([*ABLATION, "seeds=1,2"], ["seeds=1,2", '"seeds=[1,2]"']),
        (["-m", "hydra/sweeper=study", "tune=optim.lr,seed"], ["tune=optim.lr,seed", "Type tune=optim.lr+seed"]),
        (["tune=optim.lr+seed"], ["tune=optim.lr+seed is a setting", "-m hydra/sweeper=study tune=optim.lr+seed"]),
        ([*ABLATION, "seedss=5"], ["seedss", "seeds"]),
        ([*ABLATION, "ablation.seedss=5"], ["seedss", "seeds"]),
        (["-m", "hydra/sweeper=study", "n_trial=5"], ["n_trial", "n_trials"]),
        (["-m", "hydra/sweeper=optuna", "n_trials=5"], ["hydra.sweeper.n_trials=5"]),
        (["-m", "max_steps=choice(null,5)"], ["max_steps=null,5"]),
        (["num_steps=5"], ["num_steps=5", "job=lr_find", "job=overfit"]),
        (["job=overfit", "low=5"], ["low=5", "job=lr_find"]),
        (["workers=2"], ["workers=2", "-m hydra/launcher=local"]),
    ],
)
def test_a_typing_error_is_refused_with_the_fix(
    run_cli: Callable[..., Outcome], typed: list[str], words: list[str]
) -> None:
    done = run_cli(*typed)
    assert done.status == 1
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err


def test_a_short_form_reaches_the_sweeper(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*ABLATION, "technique=[mixup,ema]", "seeds=1")
    assert done.status == 1
    assert "seeds=1" in done.err


def test_expanded_short_forms_can_be_parsed() -> None:
    assert parse(expand([*ABLATION, "retune=[optim.lr,technique.mixup.alpha]"])[2:])[0].value() == [
        "optim.lr",
        "technique.mixup.alpha",
    ]
