"""job=sharpness: closed forms, the whole Hessian of small networks, and scipy's maximisation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from torch import Tensor, nn

import mltricks
from mltricks.functional.curvature import (
    Terms,
    gradient_of,
    hessian_product,
    largest_in_ball,
    largest_in_box,
    top_eigenvalue,
    value_of,
)
from mltricks.probes.sharpness import loss_of, sharpness
from mltricks.technique import Params


def quadratic(matrix: Tensor, linear: Tensor | None = None) -> Terms:
    """w^T A w / 2 + b^T w in two terms, for w in two parameters."""

    def terms(params: Params) -> Iterator[Tensor]:
        w = torch.cat([p.flatten() for p in params.values()])
        yield 0.25 * w @ matrix @ w
        yield 0.25 * w @ matrix @ w + (0 if linear is None else linear @ w)

    return terms


def point(*values: float) -> Params:
    w = torch.tensor(values, dtype=torch.float64)
    return {"a": w[:2], "b": w[2:]}


def symmetric(seed: int, size: int = 6) -> Tensor:
    a = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return a + a.T


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_top_eigenvalue_of_a_known_hessian(seed: int, sign: float) -> None:
    """Also where the eigenvalue of largest magnitude is negative: the sign of the matrix is turned."""
    matrix = sign * symmetric(seed)
    found = top_eigenvalue(quadratic(matrix), point(1, 2, 3, 4, 5, 6), 3000, 1e-12)
    values, vectors = torch.linalg.eigh(matrix)
    assert found.value == pytest.approx(float(values[-1]), rel=1e-6)
    assert abs(float(torch.cat(found.vector) @ vectors[:, -1])) == pytest.approx(1.0, abs=1e-4)
    assert found.residual < 1e-3


def test_a_negative_definite_hessian_and_a_linear_loss() -> None:
    matrix = torch.diag(torch.tensor([-1.0, -2.0, -7.0], dtype=torch.float64))
    assert top_eigenvalue(quadratic(matrix), point(1, 2, 3), 500, 1e-9).value == pytest.approx(-1.0, rel=1e-4)

    def line(params: Params) -> Iterator[Tensor]:
        yield 3 * params["a"].sum()

    found = top_eigenvalue(line, point(1, 2, 3), 5, 1e-3)
    assert (found.value, found.iterations) == (0.0, 1)


def test_the_iteration_ends_by_its_limit_and_by_its_tolerance() -> None:
    matrix = torch.diag(torch.tensor([1.0, 0.999, 0.5], dtype=torch.float64))
    assert top_eigenvalue(quadratic(matrix), point(1, 2, 3), 7, 1e-15).iterations == 7
    assert top_eigenvalue(quadratic(matrix), point(1, 2, 3), 1000, 1e-2).iterations < 20


def test_rises_of_linear_and_quadratic_losses_are_the_closed_forms() -> None:
    b = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    flat, w = quadratic(torch.zeros(3, 3, dtype=torch.float64), b), point(1, -3, 2)
    start = value_of(flat, w)
    box = sum(0.1 * (abs(x) + 1) * abs(g) for x, g in zip((1, -3, 2), b.tolist(), strict=True))
    assert largest_in_box(flat, w, 0.1, 1) - start == pytest.approx(box)
    assert largest_in_ball(flat, w, 0.1, 1) - start == pytest.approx(0.1 * float(b.norm()))
    curves = torch.tensor([4.0, 1.0, 9.0], dtype=torch.float64)
    bowl = quadratic(torch.diag(curves))
    corner = sum(0.5 * c * (abs(x) + 0.1 * (abs(x) + 1)) ** 2 for c, x in zip(curves.tolist(), (1, -3, 2), strict=True))
    assert largest_in_box(bowl, w, 0.1, 3) == pytest.approx(corner)
    round_bowl = quadratic(5 * torch.eye(3, dtype=torch.float64))
    assert largest_in_ball(round_bowl, w, 0.1, 3) == pytest.approx(2.5 * (math.sqrt(14) + 0.1) ** 2)


def test_more_steps_find_a_higher_point_of_the_ball() -> None:
    """From a point off the steepest axis, the gradient turns towards it."""
    bowl = quadratic(torch.diag(torch.tensor([1.0, 1.0, 100.0], dtype=torch.float64)))
    w = point(1, 0, 1e-4)
    one, many = (largest_in_ball(bowl, w, 1.0, steps) for steps in (1, 50))
    assert one < many <= 0.5 * 100 * (1e-4 + 1.0) ** 2 + 1
    assert many > 49


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3)).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def network() -> tuple[Params, Terms]:
    torch.manual_seed(0)
    net, x, y = Net(), torch.randn(40, 3, dtype=torch.float64), torch.randint(3, (40,))

    def terms(params: Params) -> Iterator[Tensor]:
        for piece in (slice(0, 25), slice(25, 40)):
            outputs = torch.func.functional_call(net, params, (x[piece],))
            yield nn.functional.cross_entropy(outputs, y[piece]) * (len(y[piece]) / 40)

    return {name: p.detach() * 2 for name, p in net.named_parameters()}, terms


def whole_hessian(params: Params, terms: Terms) -> Tensor:
    sizes = [p.numel() for p in params.values()]

    def loss(flat: Tensor) -> Tensor:
        parts = {n: t.view_as(p) for (n, p), t in zip(params.items(), flat.split(sizes), strict=True)}
        return sum(terms(parts))  # type: ignore[return-value]

    return torch.autograd.functional.hessian(loss, torch.cat([p.flatten() for p in params.values()]))


def test_products_and_top_eigenvalue_equal_those_of_the_whole_hessian() -> None:
    params, terms = network()
    matrix = whole_hessian(params, terms)
    vector = [torch.randn_like(p) for p in params.values()]
    product = torch.cat([t.flatten() for t in hessian_product(terms, params, vector)])
    torch.testing.assert_close(product, matrix @ torch.cat([v.flatten() for v in vector]))
    found = top_eigenvalue(terms, params, 2000, 1e-10)
    assert found.value == pytest.approx(float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-6)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1])
def test_the_box_is_searched_as_well_as_by_scipys_l_bfgs_b(epsilon: float) -> None:
    optimize = pytest.importorskip("scipy.optimize")
    params, terms = network()
    flat = torch.cat([p.flatten() for p in params.values()]).numpy()
    sizes = [p.numel() for p in params.values()]

    def minus(w: np.ndarray) -> tuple[float, np.ndarray]:
        parts = torch.from_numpy(w.copy()).split(sizes)
        at = {n: t.view_as(p) for (n, p), t in zip(params.items(), parts, strict=True)}
        value, gradient = gradient_of(terms, at)
        return -value, -torch.cat([g.flatten() for g in gradient]).numpy()

    reach = epsilon * (np.abs(flat) + 1)
    bounds = list(zip(flat - reach, flat + reach, strict=True))
    theirs = -optimize.minimize(minus, flat, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 10}).fun
    start = value_of(terms, params)
    assert largest_in_box(terms, params, epsilon, 10) - start > 0.99 * (theirs - start)


# The job


def run(folder: Path, *overrides: str) -> dict[str, Any]:
    given = ["job=sharpness", *overrides]
    value = sharpness(mltricks.compose(given), folder, list(overrides), "MULTIRUN")
    content = json.loads((folder / "sharpness.json").read_text())
    assert content["top_eigenvalue"] == value
    return content


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    mltricks.train(mltricks.compose([*TINY, "model=mlp", "model.width=2", "model.depth=1", "epochs=2"]), folder)
    return folder


def test_the_job_measures_the_weights_that_predict(trained: Path, tmp_path: Path) -> None:
    found = run(tmp_path, f"checkpoint={trained}", "job.tolerance=1e-7", "job.iterations=500", "eval_batch_size=100")
    model = mltricks.load(trained)
    split = mltricks.build.build({**model.cfg}).data.train  # type: ignore[attr-defined]
    batch = next(split.batches([torch.arange(len(split))]))
    p = model.predict(batch["x"])[torch.arange(len(batch["y"])), batch["y"]]
    assert found["loss"] == pytest.approx(-float(p.log().mean()), rel=1e-5)
    params, terms = loss_of(model, split, len(split), 512)
    top = float(torch.linalg.eigvalsh(whole_hessian(params, terms))[-1])
    assert found["top_eigenvalue"] == pytest.approx(top, rel=1e-3)
    assert found["slices"]["random"][10] == pytest.approx(found["loss"], rel=1e-6)
    assert found["ball_rise"] > 0
    assert found["box_sharpness"] > 0
    assert (tmp_path / "sharpness.png").stat().st_size > 1000
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["objective"] == {
        "name": "top_eigenvalue",
        "value": found["top_eigenvalue"],
        "direction": "minimize",
    }


def test_norms_and_attention_are_measured_in_evaluation_mode(tmp_path: Path) -> None:
    mltricks.train(mltricks.compose([*TINY, "model=resnet9", "technique=dropout", "epochs=1"]), tmp_path / "run")
    settings = [f"checkpoint={tmp_path / 'run'}", "job.num_samples=40", "job.iterations=3", "job.steps=2"]
    assert run(tmp_path / "first", *settings)["slices"] == run(tmp_path / "second", *settings)["slices"]
    path = tmp_path / "abc.txt"
    path.write_text("the cat sat on the mat. " * 60)
    text = ["data=text", f"data.path={path}", "data.length=16", "model=transformer", "model.width=8", "model.heads=2"]
    given = [*text, "objective=next_token", "batch_size=8", "max_steps=3", "plots=false", "progress=none"]
    mltricks.train(mltricks.compose(given), tmp_path / "text")
    assert run(tmp_path / "third", f"checkpoint={tmp_path / 'text'}", *settings[1:])["top_eigenvalue"] > 0


def test_the_loss_has_the_class_weights_of_the_run(tmp_path: Path) -> None:
    weights = "objective.class_weights=[9,1,0,0,0,0,0,0,0,0.5]"
    mltricks.train(mltricks.compose([*TINY, "model=mlp", "model.width=2", "epochs=1", weights]), tmp_path / "run")
    settings = ["job.num_samples=50", "job.iterations=2", "job.steps=2"]
    found = run(tmp_path / "job", f"checkpoint={tmp_path / 'run'}", *settings)
    model = mltricks.load(tmp_path / "run")
    data = mltricks.build.build({**model.cfg}).data  # type: ignore[attr-defined]
    params, terms = loss_of(replace(model, objective=model.objective.fitted(data)), data.train, 50, 512)
    assert found["loss"] == pytest.approx(value_of(terms, params), rel=1e-5)
    assert found["loss"] != pytest.approx(value_of(loss_of(model, data.train, 50, 512)[1], params), rel=0.1)
    assert found["settings"]["num_samples"] == 50
    assert found["settings"]["steps"] == 2


def test_what_cannot_be_measured_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="job=sharpness needs a trained model"):
        run(tmp_path)
    with pytest.raises(ValueError, match=r"epsilon=0 is out of range"):
        run(tmp_path, f"checkpoint={trained}", "job.epsilon=0")
    with pytest.raises(ValueError, match=r"optim\.lr=1 has no effect on job=sharpness"):
        run(tmp_path, f"checkpoint={trained}", "optim.lr=1")
    cycles = ["scheduler=cosine_restarts", "scheduler.growth=1", "scheduler.cycles=2", "epochs=2", "optim=sgd"]
    snapshot = ["technique=snapshot", "technique.snapshot.cycles=2", "technique.snapshot.members=2"]
    mltricks.train(mltricks.compose([*TINY, *cycles, *snapshot]), tmp_path / "several")
    for several in (tmp_path / "several", f"{trained}+{tmp_path / 'several'}"):
        with pytest.raises(ValueError, match="predicts with several sets of weights"):
            run(tmp_path / "job", f"checkpoint={several}")
