"""The searchers of a study: selected by name, with the user's options, on search spaces that they support."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from test_space import place_of

from mltricks.study.searchers import CLASSES, create_searcher, notes
from mltricks.sweep.space import Space, read_space

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def numbers() -> Space:
    arguments = ["optim.lr=tag(log,interval(1e-4,1e-1))", "optim.weight_decay=interval(0,0.5)", "epochs=2"]
    return read_space(arguments, place_of(), [])


@pytest.fixture(scope="module")
def words() -> Space:
    return read_space(["optim=adamw,sgd", "model.width=8,16"], place_of(), [])


@pytest.fixture(scope="module")
def mixed() -> Space:
    arguments = ["technique=[],[mixup]", "technique.mixup.alpha=interval(0.1,1)", "optim.lr=interval(0.001,0.01)"]
    return read_space([*arguments, "optim.beta1=interval(0.8,0.95)"], place_of(), [])


def settings(sampler: str, seed: int | None = 0, **others: Any) -> dict[str, Any]:
    return {"sampler": sampler, "seed": seed, "sampler_options": {}, "direction": "minimize", **others}


def bowl(job: list[str]) -> float:
    """A function with its minimum at learning rate 0.01 and decay 0.1."""
    value = dict(text.split("=", 1) for text in job)
    return (math.log10(float(value["optim.lr"])) + 2) ** 2 + 10 * (float(value["optim.weight_decay"]) - 0.1) ** 2


def run(study: optuna.Study, space: Space, given: dict[str, Any], num: int) -> list[list[str]]:
    """Run trials one after another, as a command would."""
    study.sampler = create_searcher(given, space, len(study.trials))
    jobs = []
    for _ in range(num):
        trial = study.ask()
        jobs.append(space.suggest(trial))
        study.tell(trial, bowl(jobs[-1]))
    return jobs


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_searcher_draws_within_the_space_and_its_seed_determines_the_draws(name: str, numbers: Space) -> None:
    first, again = (run(optuna.create_study(), numbers, settings(name), 14) for _ in range(2))
    other = run(optuna.create_study(), numbers, settings(name, seed=1), 14)
    assert first == again
    assert len({str(job) for job in first}) == 14
    assert first != other
    for job in first:
        assert [text.split("=")[0] for text in job] == ["optim.lr", "optim.weight_decay", "epochs"]
        assert 1e-4 <= float(job[0].split("=")[1]) <= 0.1


@pytest.mark.parametrize(("name", "num"), [("tpe", 30), ("gp", 16), ("cmaes", 30)])
def test_searchers_that_learn_come_closer_than_random_search(name: str, num: int, numbers: Space) -> None:
    best = []
    for sampler in (name, "random"):
        studies = [optuna.create_study() for _ in range(3)]
        for seed, study in enumerate(studies):
            run(study, numbers, settings(sampler, seed=seed), num)
        best.append(sorted(study.best_value for study in studies)[1])
    assert best[0] < best[1]


@pytest.mark.parametrize("name", ["random", "tpe", "nsgaii"])
def test_a_continued_study_does_not_draw_the_same_points_again(name: str, numbers: Space) -> None:
    study = optuna.create_study()
    before = run(study, numbers, settings(name), 5)
    after = run(study, numbers, settings(name), 5)
    assert not {str(job) for job in before} & {str(job) for job in after}


def test_a_quasi_random_sequence_continues_where_it_stopped(numbers: Space, tmp_path: Path) -> None:
    whole = run(optuna.create_study(), numbers, settings("qmc"), 9)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    parts = []
    for num in (4, 5):  # as with two commands
        study = optuna.create_study(study_name="a", storage=storage, load_if_exists=True)
        parts += run(study, numbers, settings("qmc"), num)
    assert parts == whole


def ask(study: optuna.Study, space: Space, name: str, num: int) -> list[float]:
    """Ask for a batch of trials, before any result is reported, and return their learning rates."""
    study.sampler = create_searcher(settings(name), space, len(study.trials))
    trials = [study.ask() for _ in range(num)]
    for trial in trials:
        space.suggest(trial)
    return [trial.params["optim.lr"] for trial in trials]


def test_a_batch_of_a_quasi_random_sequence_is_evenly_spread() -> None:
    space = read_space(["optim.lr=tag(log,interval(1e-4,1e-1))", "optim=adamw,sgd"], place_of(), [])
    study = optuna.create_study()
    rates = ask(study, space, "qmc", 16)
    assert len({math.floor((math.log10(rate) + 4) / 3 * 16) for rate in rates}) >= 14
    assert rates[0] != ask(optuna.create_study(), space, "random", 1)[0]
    study.enqueue_trial({"optim.lr": 0.001, "optim": "sgd"})  # a queued trial uses no point of the sequence
    more = ask(study, space, "qmc", 17)
    assert more[0] == 0.001
    assert [*rates, *more[1:]] == ask(optuna.create_study(), space, "qmc", 32)


def test_options_reach_optuna(numbers: Space) -> None:
    sampler = create_searcher(settings("tpe", sampler_options={"n_startup_trials": 3}), numbers, 0)
    study = optuna.create_study(sampler=sampler)
    assert sampler._n_startup_trials == 3
    default = create_searcher(settings("tpe"), numbers, 0)
    assert default._n_startup_trials == optuna.samplers.TPESampler()._n_startup_trials
    assert study.sampler is sampler


def test_experimental_options_give_no_warning(numbers: Space) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = create_searcher(settings("tpe", sampler_options={"multivariate": True, "group": True}), numbers, 0)
    assert found._multivariate
    assert found._group


@pytest.mark.parametrize("name", ["random", "tpe", "gp", "nsgaii", "qmc"])
def test_several_objectives(name: str, numbers: Space) -> None:
    given = settings(name, direction=["minimize", "maximize"])
    study = optuna.create_study(directions=given["direction"], sampler=create_searcher(given, numbers, 0))
    for _ in range(12):
        trial = study.ask()
        value = bowl(numbers.suggest(trial))
        study.tell(trial, [value, -value])
    assert len(study.best_trials) == 1


def test_settings_drawn_at_random_give_a_note(mixed: Space, numbers: Space) -> None:
    assert "technique" in notes("cmaes", mixed)[0]
    assert "technique.mixup.alpha" in notes("gp", mixed)[0]
    assert notes("tpe", mixed) == notes("cmaes", numbers) == []
    study = optuna.create_study(sampler=create_searcher(settings("cmaes"), mixed, 0))
    drawn = set()
    for _ in range(12):
        trial = study.ask()
        drawn.add(mixed.suggest(trial)[0])
        study.tell(trial, 0.0)
    assert drawn == {"technique=[]", "technique=[mixup]"}


REFUSED = [
    ({"sampler": "tpee"}, ["tpee", "tpe"]),
    ({"sampler": "cmaes"}, ["two numbers", "optim", "sampler=tpe"]),
    ({"sampler": "qmc"}, ["a number", "sampler=tpe"]),
    ({"sampler": "tpe", "sampler_options": {"startup": 3}}, ["startup", "n_startup_trials"]),
    ({"sampler": "cmaes", "direction": ["minimize", "minimize"]}, ["one objective", "nsgaii"]),
]


@pytest.mark.parametrize(("given", "words_in_message"), REFUSED)
def test_a_searcher_that_does_not_support_the_space_is_refused(
    words: Space, given: dict[str, Any], words_in_message: list[str]
) -> None:
    with pytest.raises(ValueError) as refusal:
        create_searcher(settings(given.pop("sampler"), **given), words, 0)
    assert all(word in str(refusal.value) for word in words_in_message)
