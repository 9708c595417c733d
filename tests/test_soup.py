"""job=soup: means of weights with statistics of their own, the greedy choice, a folder like that of a run; refusals."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY
from contract import make
from test_ensemble import evaluated, plus
from torch.optim.swa_utils import AveragedModel, update_bn

import mltricks
from mltricks.metrics import create_metrics
from mltricks.predicting import inputs_for_statistics
from mltricks.soup import Pot, cook, greedy
from mltricks.weights import load_weights

NET = [*TINY, "model=resnet9", "epochs=1", "optim=sgd"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three runs that go on from one."""
    folder = tmp_path_factory.mktemp("soup")
    mltricks.train(mltricks.compose([*NET, "optim.lr=0.05"]), folder / "start")
    again = [*NET, "init=checkpoint", f"init.checkpoint={folder / 'start'}"]
    for i, own in enumerate((["optim.lr=0.02"], ["optim.lr=0.05", "technique=ema"], ["optim.lr=1.0", "seed=3"])):
        mltricks.train(mltricks.compose([*again, *own]), folder / str(i))
    return [folder / str(i) for i in range(3)]


def cooked(runs: list[Path], folder: Path, *overrides: str) -> dict[str, Any]:
    given = [f"checkpoint={plus(runs)}", *overrides]
    return cook(mltricks.compose(["job=soup", *given]), folder, given)


def test_a_uniform_soup_is_torchs_average_with_update_bn(runs: list[Path], tmp_path: Path) -> None:
    found = cooked(runs[:2], tmp_path, "job.kind=uniform")
    assert found["ingredients"] == [str(run) for run in runs[:2]]
    run = make(*NET)
    module = copy.deepcopy(run.model.module)
    average = AveragedModel(module)
    for path in runs[:2]:
        weights, _ = load_weights(path)
        module.load_state_dict({n.partition(".")[2]: t for n, t in weights.items() if n[:7] in ("params.", "buffers")})
        average.update_parameters(module)
    data = run.data
    update_bn(list(inputs_for_statistics(data.train, data.info, 32, 0, 200)), average)
    x = next(data.val.batches([torch.arange(20)]))["x"]
    expected = average.eval()(data.info.normalize(x)).softmax(1).detach()
    torch.testing.assert_close(mltricks.load(tmp_path).predict(x), expected, rtol=1e-3, atol=1e-5)
    assert mltricks.load(tmp_path).module()(x).shape == (20, 10)


def test_the_folder_is_that_of_a_run(runs: list[Path], tmp_path: Path) -> None:
    found = cooked(runs, tmp_path / "soup")
    assert json.loads((tmp_path / "soup/soup.json").read_text()) == found
    again = evaluated(str(tmp_path / "soup"), tmp_path / "job")
    assert {split: again[split] for split in ("val", "test")} == {split: found[split] for split in ("val", "test")}
    summary = json.loads((tmp_path / "soup/summary.json").read_text())
    assert summary["objective"] == {
        "name": "val/accuracy",
        "value": found["val"]["accuracy"],
        "direction": "maximize",
    }
    best = max(one["val"]["accuracy"] for one in found["members"].values())
    assert found["val"]["accuracy"] >= best, "a greedy soup is never below the best run"


class Scores(Pot):
    """Scores of means by the names of the runs that are in them, in any order."""

    def __init__(self, table: dict[str, float]):
        self.table = table

    def mean(self, members: Any) -> Any:
        return "".join(sorted(members))

    def rank(self, model: Any) -> tuple[float, float]:
        return self.table[model], 0.0


def test_the_greedy_choice_is_recipe_1() -> None:
    members: Any = {name: name for name in "abcd"}
    table = {"a": 0.7, "b": 0.9, "c": 0.8, "d": 0.6, "bc": 0.85, "ab": 0.93, "abd": 0.93}
    assert greedy(members, Scores(table)) == ["b", "a"], "one that leaves the score equal is not added"
    assert greedy(members, Scores({**table, "abd": 0.94})) == ["b", "a", "d"]
    assert greedy(members, Scores({**table, "bc": 0.95, "abc": 0.99, "abcd": 0.99})) == ["b", "c", "a"]


def test_without_batches_the_statistics_are_averaged(runs: list[Path], tmp_path: Path) -> None:
    cooked(runs[:2], tmp_path, "job.kind=uniform", "job.statistics_batches=0")
    mine, first, second = (load_weights(path)[0] for path in (tmp_path, *runs[:2]))
    for name in (name for name in mine if name.endswith(("running_var", "weight"))):
        torch.testing.assert_close(mine[name], (first[name] + second[name]) / 2)


def test_runs_are_ranked_by_the_loss_that_chose_their_weights(tmp_path: Path) -> None:
    """With its class weights, which are facts of the data and not in the saved weights."""
    weighted = [*TINY, "model=mlp", "model.width=8", "epochs=1", "objective_metric=val/loss"]
    weighted += ["objective.class_weights=[9,1,0,0,0,0,0,0,0,0.5]"]
    paths = [tmp_path / str(seed) for seed in (0, 1)]
    losses = {}
    for seed, path in enumerate(paths):
        result = mltricks.train(mltricks.compose([*weighted, f"seed={seed}"]), path)
        losses[str(path)] = result.val["loss"]
    found = cooked(paths, tmp_path / "soup")
    assert {name: one["val"]["loss"] for name, one in found["members"].items()} == pytest.approx(losses)
    model = mltricks.load(paths[0])
    data = make(*weighted).data
    pot = Pot(data, model.cfg, 0, create_metrics([], model.info, model.objective), model.objective.fitted(data))
    assert pot.rank(model)[0] == pytest.approx(-losses[str(paths[0])])


def test_what_cannot_be_averaged_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is one run, and a soup has at least two"):
        cooked(runs[:1], tmp_path)
    with pytest.raises(ValueError, match=r"job=soup needs a trained model"):
        cook(mltricks.compose(["job=soup"]), tmp_path, [])
    with pytest.raises(ValueError, match=r"kind=best is not an option"):
        cooked(runs, tmp_path, "job.kind=best")
    mltricks.train(mltricks.compose([*NET, "model.width=8"]), tmp_path / "wide")
    with pytest.raises(ValueError, match=r"different models: \S+ is \(8,\) in the one and \(16,\)"):
        cooked([runs[0], tmp_path / "wide"], tmp_path / "job")
    mltricks.train(mltricks.compose([*NET, "data.split_seed=3"]), tmp_path / "other")
    with pytest.raises(ValueError, match="trained on inputs of other statistics"):
        cooked([runs[0], tmp_path / "other"], tmp_path / "job")
    assert not (tmp_path / "job").exists()
