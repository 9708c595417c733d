"""job=knn, job=probe and metric=knn+linear_probe: on whose weights, of which samples, and what they leave untouched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY, Outcome
from contract import KINDS, assert_resumes_exactly, assert_same, make
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import mltricks
from mltricks import checkpoint
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.evaluate import steered_by
from mltricks.features.encoder import of_state
from mltricks.features.scores import check_features, scores_of_state
from mltricks.inference import load_splits
from mltricks.probes.knn import knn
from mltricks.probes.probe import between, probe
from mltricks.summary import Summary, read_summary

HERE = Path(__file__).parent
JOBS = {"knn": knn, "probe": probe}
OF_STAGE = {"knn": ["job.k=20"], "probe": ["job.l2=[0.1]"]}
BOTH = "metric=knn+linear_probe"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with EMA, whose averages predict."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    mltricks.train(mltricks.compose([*TINY, "epochs=2", "technique=ema+dropout", "technique.ema.decay=0.8"]), folder)
    return folder


def run_job(name: str, folder: Path, *overrides: str) -> dict[str, Any]:
    value = JOBS[name](mltricks.compose([f"job={name}", *overrides]), folder, list(overrides), "MULTIRUN")
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    summary = read_summary(folder / "summary.json")
    assert summary is not None
    assert summary.objective["value"] == value == content["rows"]["this run"]["val"][summary.objective["name"][4:]]
    assert (summary.status, summary.test) == ("completed", content["rows"]["this run"]["test"])
    return content


def by_hand(folder: Path, layer: str | None = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The features of every split of a run, by a hook on its plain module."""
    module = mltricks.load(folder).module()
    network = module.network
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    seen: list[Tensor] = []
    hooked = last if layer is None else network.get_submodule(layer)
    hooked.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0].detach()))
    data = build(mltricks.load(folder).cfg).data
    found = {}
    for name in ("train", "val", "test"):
        split = getattr(data, name)
        batch = next(split.batches([torch.arange(len(split))]))
        with torch.no_grad():
            module(batch["x"])
        x = seen.pop().cpu()
        found[name] = ((x if x.ndim == 2 else x.mean((2, 3))).numpy(), batch["y"].cpu().numpy())
    return found


def weigh(distances: np.ndarray) -> np.ndarray:
    return np.exp((1 - distances) / 0.1)


def cosine(k: int) -> KNeighborsClassifier:
    return KNeighborsClassifier(k, weights=weigh, metric="cosine", algorithm="brute")


@pytest.mark.parametrize("layer", [None, "features.4"])
def test_neighbours_are_those_of_the_weights_that_predict(trained: Path, tmp_path: Path, layer: str | None) -> None:
    given = [] if layer is None else [f"job.layer={layer}"]
    found = run_job("knn", tmp_path, f"checkpoint={trained}", "job.k=20", "eval_batch_size=100", *given)
    features = by_hand(trained, layer)
    model = cosine(20).fit(*features["train"])
    for name in ("val", "test"):
        assert found["rows"]["this run"][name]["accuracy"] == pytest.approx(model.score(*features[name]), abs=1e-6)
    assert found["rows"]["this run"]["num_features"] == features["train"][0].shape[1]
    assert found["samples"] == {"train": 320, "val": 144, "test": 360}


def test_baselines_are_the_pixels_and_the_model_before_training(trained: Path, tmp_path: Path) -> None:
    found = run_job("knn", tmp_path / "a", f"checkpoint={trained}", "job.k=20")
    assert list(found["rows"]) == ["this run", "untrained model", "raw input"]
    data = build(mltricks.load(trained).cfg).data
    raw = {}
    for name in ("train", "test"):
        split = getattr(data, name)
        batch = next(split.batches([torch.arange(len(split))]))
        raw[name] = (data.info.normalize(batch["x"]).flatten(1).cpu().numpy(), batch["y"].cpu().numpy())
    expected = cosine(20).fit(*raw["train"]).score(*raw["test"])
    assert found["rows"]["raw input"]["test"]["accuracy"] == pytest.approx(expected, abs=1e-6)
    torch.manual_seed(77)
    again = run_job("knn", tmp_path / "b", f"checkpoint={trained}", "job.k=20")
    assert again["rows"] == found["rows"], "the untrained model is that of the run's seed"
    alone = run_job("knn", tmp_path / "c", f"checkpoint={trained}", "job.k=20", "job.baselines=false")
    assert alone["rows"] == {"this run": found["rows"]["this run"]}


def test_inputs_that_are_too_many_are_no_baseline(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mltricks.probes.of_features.MOST_NUMBERS", 824 * 64 - 1)
    rows = run_job("knn", tmp_path, f"checkpoint={trained}")["rows"]
    assert list(rows) == ["this run", "untrained model"]
    said = "There is no row for the raw input: 824 samples of 64 numbers are too many."
    assert rows["this run"]["advice"] == [said]


def test_the_probe_is_scikit_learns_with_the_penalty_that_validates_best(trained: Path, tmp_path: Path) -> None:
    grid = ["job.l2=[1e-3,1e-1,10]", "job.refinements=1", "job.baselines=false", "job.max_iterations=2000"]
    row = run_job("probe", tmp_path, f"checkpoint={trained}", *grid)["rows"]["this run"]
    best = max(row["tried"], key=lambda tried: (tried["accuracy"], -tried["loss"]))
    assert row["used"]["l2"] == best["l2"]
    assert row["val"]["accuracy"] == best["accuracy"]
    assert {tried["l2"] for tried in row["tried"]} >= {1e-3, 1e-1, 10.0}
    assert len(row["tried"]) in (4, 5)
    features = by_hand(trained)
    scale = StandardScaler().fit(features["train"][0])
    model = LogisticRegression(C=1 / (best["l2"] * 320), tol=1e-8, max_iter=5000)
    model.fit(scale.transform(features["train"][0]), features["train"][1])
    x, y = features["test"]
    assert row["test"]["accuracy"] == pytest.approx(model.score(scale.transform(x), y), abs=1.1 / 360)
    p = model.predict_proba(scale.transform(x))[np.arange(360), y]
    assert row["test"]["loss"] == pytest.approx(-np.log(p).mean(), rel=0.02)


def test_penalties_between_are_geometric_means() -> None:
    assert between([1e-2, 1.0], 1.0) == [0.1]
    assert between([1.0], 1.0) == []


def test_jobs_print_a_table_and_are_trials_of_a_sweep(
    trained: Path, tmp_path: Path, run_cli: Callable[..., Outcome]
) -> None:
    before = sorted(trained.rglob("*"))
    done = run_cli("job=knn", f"checkpoint={trained}", "k=400", "hydra.run.dir=knn")
    assert done.status == 0, done.err
    assert "k=400 is more than the 320 training samples: all of them vote." in done.out
    assert "raw input: 64 features, k=320" in done.out
    assert "this run " in done.out
    shared = ["job=probe", f"checkpoint={trained}", "l2=[0.1]", "baselines=false"]
    done = run_cli("-m", *shared, "data.limit=40,80", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    for job, num in enumerate((40, 80)):
        summary = read_summary(tmp_path / f"sweep/{job}/summary.json")
        assert summary is not None
        assert summary.samples["train"] == num
        assert f"{summary.objective['value']:.4f}" in done.out
    assert sorted(trained.rglob("*")) == before


def other_digits() -> list[tuple[np.ndarray, int]]:
    """The digits in two classes, for ``data=custom``."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return [((image.reshape(8, 8) * 15).astype(np.uint8), int(label > 4)) for image, label in zip(x, y, strict=True)]


@pytest.mark.parametrize("name", JOBS)
def test_other_data_may_have_other_classes_but_no_other_inputs(trained: Path, tmp_path: Path, name: str) -> None:
    own = ["data=custom", f"data._target_={__name__}.other_digits", f"allow_modules=[{__name__}]"]
    found = run_job(name, tmp_path / "a", f"checkpoint={trained}", *own)
    assert found["rows"]["this run"]["test"]["accuracy"] > 0.8
    assert found["samples"]["train"] > 1000
    with pytest.raises(ValueError, match=r"do not fit the model.*their input is pair of"):
        run_job(name, tmp_path / "b", f"checkpoint={trained}", "data=digit_halves")


@pytest.mark.parametrize("name", JOBS)
def test_other_data_of_one_class_are_other_data(trained: Path, tmp_path: Path, name: str) -> None:
    """``data=digits_5_9`` is an option of the class of the run's ``data=digits``, and not the run's data."""
    given = [f"checkpoint={trained}", "job.baselines=false"]
    found = run_job(name, tmp_path / "a", *given, "data=digits_5_9")
    of_five = load_splits(mltricks.load(trained), plain(mltricks.compose(["data=digits_5_9"])), ("input",))
    assert found["samples"] == {part: len(getattr(of_five, part)) for part in ("train", "val", "test")}
    same = run_job(name, tmp_path / "b", *given, "data=digits")
    assert same["samples"] == run_job(name, tmp_path / "c", *given)["samples"] != found["samples"]


def test_a_users_options_of_one_class_are_told_apart(
    trained: Path, tmp_path: Path, run_cli: Callable[..., Outcome]
) -> None:
    (tmp_path / "own" / "data").mkdir(parents=True)
    (tmp_path / "own" / "data" / "ones.yaml").write_text("# Two digits\ndefaults: [digits]\nclasses: [1, 7]\n")
    given = ["--config-dir", f"{tmp_path}/own", f"checkpoint={trained}", "data=ones", f"hydra.run.dir={tmp_path}/out"]
    done = run_cli("job=knn", "job.baselines=false", *given)
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "out" / "knn.json").read_text())["samples"]["train"] < 300
    done = run_cli("job=evaluate", *given)
    assert "these data do not fit the model" in done.err
    assert "their num_outputs is 2, it was 10" in done.err


def test_values_and_tokens(tmp_path: Path) -> None:
    slope = [override.format(here=HERE) for override in KINDS["values"]]
    mltricks.train(mltricks.compose([*slope, "epochs=1", "plots=false", "progress=none", BOTH]), tmp_path / "values")
    at = [f"checkpoint={tmp_path / 'values'}", "allow_modules=[contract_data]"]
    found = run_job("probe", tmp_path / "probe", *at)
    assert found["rows"]["raw input"]["test"]["r2"] > 0.98, "the target is linear in the inputs"
    assert found["rows"]["this run"]["val"].keys() == {"loss", "mae", "r2"}
    assert 0 < run_job("knn", tmp_path / "knn", *at, "job.k=5")["rows"]["this run"]["test"]["r2"] < 1
    summary = read_summary(tmp_path / "values/summary.json")
    assert summary is not None
    assert summary.val["linear_probe"] > 0.9


def test_jobs_are_stages(tmp_path: Path) -> None:
    """Of what all stages share, the run that is measured has had its part."""
    (tmp_path / "own/experiment").mkdir(parents=True)
    (tmp_path / "own/experiment/judged.yaml").write_text(
        "# @package _global_\n# A run and what its features are worth\nstages:\n"
        '  learn: [epochs=1, technique=ema]\n  knn: [job=knn, "checkpoint=${stage:learn}", job.k=20]\n'
        '  probe: [job=probe, "checkpoint=${stage:learn}", "job.l2=[0.1]"]\n'
    )
    cfg = mltricks.compose(["experiment=judged", "seed=3", *TINY], str(tmp_path / "own"))
    whole = mltricks.train(cfg, tmp_path / "run")
    parts = {name: read_summary(tmp_path / f"run/{name}/summary.json") for name in ("learn", "knn", "probe")}
    assert parts["learn"] is not None
    assert parts["learn"].samples["train"] == 320
    for name in ("knn", "probe"):
        again = run_job(name, tmp_path / name, f"checkpoint={tmp_path / 'run/learn'}", *OF_STAGE[name])
        part = parts[name]
        assert part is not None
        assert part.val == again["rows"]["this run"]["val"]
    assert parts["probe"] is not None
    assert (whole.objective, whole.test) == (parts["probe"].objective, parts["probe"].test)


# At each validation


def test_metrics_of_features_are_recorded_steer_and_are_measured_again(
    tmp_path: Path, train_digits: Callable[..., Summary]
) -> None:
    from mltricks.inference import evaluate_checkpoint

    result = train_digits(BOTH, "objective_metric=val/knn", "technique=ema", "technique.ema.decay=0.8")
    assert result.objective == {"name": "val/knn", "value": result.val["knn"], "direction": "maximize"}
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert max(line["knn"] for line in lines if line["split"] == "val") == result.val["knn"]
    at = f"checkpoint={tmp_path / 'run'}"
    found = run_job("knn", tmp_path / "knn", at, "job.baselines=false")["rows"]["this run"]
    assert (found["val"]["accuracy"], found["test"]["accuracy"]) == (result.val["knn"], result.test["knn"])
    penalty = ["job.l2=[1e-3]", "job.refinements=0", "job.baselines=false", "job.max_iterations=100"]
    found = run_job("probe", tmp_path / "probe", at, *penalty)["rows"]["this run"]
    assert found["test"]["accuracy"] == pytest.approx(result.test["linear_probe"], abs=1e-6)
    again = evaluate_checkpoint(mltricks.compose(["job=evaluate", at]), tmp_path, [])
    assert again["val"] == pytest.approx(result.val)
    assert again["test"] == pytest.approx(result.test)


def test_arguments_of_the_metrics() -> None:
    run = make("metric=[{name: knn, k: 1, temperature: 0.5},{name: linear_probe, l2: 10.0}]")
    found, usual = scores_of_state(run, run.state, run.data.val), make(BOTH)
    assert found != scores_of_state(usual, usual.state, usual.data.val)
    assert run.metrics.of_features["knn"].k == 1
    x = next(run.data.val.batches([torch.arange(9)]))["x"]
    assert of_state(run, run.state)(x).shape == (9, run.model.module.get_submodule("head").in_features)


def test_the_state_is_that_of_a_run_without_them(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    """Dropout and mixup draw random numbers at every step: a draw by the metrics would change them."""
    shared = ["technique=dropout+mixup", "plots=false"]
    train_digits(*shared, folder=tmp_path / "without")
    train_digits(*shared, BOTH, folder=tmp_path / "with")
    states = [checkpoint.load(tmp_path / name)["state"] for name in ("without", "with")]
    for state in states:
        state.pop("host")
    assert_same(*states)


def test_a_stopped_run_resumes_bit_for_bit(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    assert_resumes_exactly([BOTH, "technique=dropout"], 2, 4, tmp_path / "last.pt")
    whole = train_digits(BOTH, "objective_metric=val/linear_probe", "epochs=3", folder=tmp_path / "whole")
    train_digits(BOTH, "objective_metric=val/linear_probe", "epochs=2", folder=tmp_path / "part")
    resumed = mltricks.train(
        mltricks.compose([*TINY, BOTH, "objective_metric=val/linear_probe", "epochs=3"]), tmp_path / "part", resume=True
    )
    assert (resumed.val, resumed.test) == (whole.val, whole.test)


def test_in_a_stack_every_trial_has_its_own(tmp_path: Path, run_cli: Callable[..., Outcome]) -> None:
    shared = ["data.limit=320", "epochs=1", "plots=false", "device=cpu", BOTH, "objective_metric=val/linear_probe"]
    done = run_cli("-m", "seed=0,1", *shared, "hydra.launcher.fuse=true", "hydra.sweep.dir=sweep")
    assert done.status == 0, done.err
    for seed in range(2):
        stacked = read_summary(tmp_path / f"sweep/{seed}/summary.json")
        alone = mltricks.train(mltricks.compose([*shared, f"seed={seed}", "progress=none"]), tmp_path / f"alone{seed}")
        assert stacked is not None
        assert stacked.fused == {"trials": 2}
        for name in ("knn", "linear_probe"):
            assert stacked.val[name] == pytest.approx(alone.val[name], abs=0.01)
            assert stacked.test[name] == pytest.approx(alone.test[name], abs=0.01)


def test_under_another_engine_they_are_the_same(tmp_path: Path, train_digits: Callable[..., Summary]) -> None:
    eager, traced = (train_digits(BOTH, f"engine={name}", folder=tmp_path / name) for name in ("eager", "traced"))
    assert traced.val["knn"] == pytest.approx(eager.val["knn"], abs=0.01)
    assert traced.test["linear_probe"] == pytest.approx(eager.test["linear_probe"], abs=0.01)


class Twice(nn.Module):
    """The head of this model runs twice, so that its input is no feature vector of the sample."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 8), nn.Linear(8, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        found = self.body(x.flatten(1))
        return self.head(found) + self.head(found.relu())


class NoLinear(nn.Module):
    """A model that ends in a convolution over the whole image."""

    def __init__(self, in_shape: tuple[int, ...], num_outputs: int) -> None:
        super().__init__()
        self.whole = nn.Conv2d(1, num_outputs, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.whole(x).flatten(1)


def own_model(name: str) -> list[str]:
    return ["model=custom", f"model._target_={__name__}.{name}", f"allow_modules=[{__name__}]"]


SNAPSHOT = [
    *("scheduler=cosine_restarts", "scheduler.growth=1", "scheduler.cycles=2", "epochs=2", "optim=sgd"),
    *("technique=snapshot", "technique.snapshot.cycles=2", "technique.snapshot.members=2"),
]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["metric=knm"], "Did you mean knn"),
        (["metric=knn+knn"], "given twice"),
        (["metric=[{name: knn, neighbours: 3}]"], "metric=knn has no argument neighbours"),
        (["metric=[{name: knn, k: 0}]"], "metric.knn.k=0 is out of range"),
        (["metric=[{name: linear_probe, l2: -1.0}]"], "metric.linear_probe.l2=-1"),
        ([*KINDS["labels"], "metric=knn"], "these targets are labels"),
        ([*KINDS["tokens"], "metric=linear_probe"], "these targets are tokens"),
        ([*KINDS["mask"], "metric=knn"], "these targets are"),
        ([*own_model("Twice"), "metric=knn"], "layer=head is called 2 times in one pass"),
        ([*own_model("NoLinear"), "metric=knn"], "the input of the last linear layer, and NoLinear has none"),
    ],
)
def test_what_has_no_features_is_refused(overrides: list[str], said: str) -> None:
    def begin() -> None:
        run = make(*(override.replace("{here}", str(HERE)) for override in overrides))
        steered_by(run)
        check_features(run)

    with pytest.raises(ValueError) as error:
        begin()
    assert said in str(error.value)


def test_several_sets_of_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="predicts with several sets of weights"):
        mltricks.train(mltricks.compose([*TINY, *SNAPSHOT, BOTH]), tmp_path / "refused")
    mltricks.train(mltricks.compose([*TINY, *SNAPSHOT]), tmp_path / "several")
    with pytest.raises(ValueError, match="predicts with several sets of weights"):
        run_job("knn", tmp_path / "job", f"checkpoint={tmp_path / 'several'}")
    with pytest.raises(ValueError, match="is several runs, and features are those of one"):
        run_job("knn", tmp_path / "job", f"checkpoint={trained}+{tmp_path / 'several'}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["job.layer=fc"], "layer=fc is no module of ConvNet"),
        (["job.k=0"], "k=0 is out of range"),
        (["optim.lr=1"], "optim.lr=1 has no effect on job=knn"),
        (["metric=knn"], "metric=knn has no effect on job=knn"),
        (["data.drop_last=false"], "data.drop_last=false has no effect on job=knn"),
        (["job.layer=features.1.foo"], "is no module of"),
    ],
)
def test_what_the_job_does_not_take_is_refused(trained: Path, tmp_path: Path, given: list[str], said: str) -> None:
    with pytest.raises(ValueError) as error:
        run_job("knn", tmp_path, f"checkpoint={trained}", *given)
    assert said in str(error.value)


def test_penalties_are_checked(trained: Path, tmp_path: Path) -> None:
    for given, said in (("[]", "names no penalty"), ("[0.0]", r"l2\[0\]=0.0 is out of range")):
        with pytest.raises(ValueError, match=said):
            run_job("probe", tmp_path, f"checkpoint={trained}", f"job.l2={given}")
    with pytest.raises(ValueError, match="job=probe needs a trained model"):
        run_job("probe", tmp_path)
