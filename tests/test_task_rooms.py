"""Inputs and objectives have their own rooms: no other code compares kinds, and a new kind needs only new files.

``data=digit_halves`` (pairs) and ``data=digit_masks`` (``objective=segment``) were added without changes elsewhere.
"""

from __future__ import annotations

import ast
import csv
import importlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import EXACT, Outcome
from contract import advance, assert_same, largest_difference
from sklearn.metrics import jaccard_score
from torch import Tensor, nn

import mltricks
from mltricks.build import Run, build
from mltricks.checkpoint import load, restore, save
from mltricks.compatibility.options import check_fit
from mltricks.config.compose import plain
from mltricks.data.info import Info
from mltricks.evaluate import Tally, measure_batch
from mltricks.functional_model import FunctionalModel
from mltricks.inputs.base import Input, restored, saved
from mltricks.inputs.image import Image
from mltricks.inputs.pair import Pair
from mltricks.inputs.tokens import Tokens
from mltricks.inputs.vector import Vector
from mltricks.objectives.base import Objective
from mltricks.objectives.classify import Classify
from mltricks.objectives.segment import Segment
from mltricks.stack.run import StackedRun
from mltricks.state import leaves
from mltricks.techniques.mixup import Mixup

PACKAGE = Path(mltricks.__file__).parent
KINDS = {"image", "tokens", "vector", "pair", "classes", "values", "mask", "similarity"}
ROOMS = ("inputs", "objectives", "data")
TASKS = {
    "pair": ["data=digit_halves", "model=two_towers", "model.width=8"],
    "mask": ["data=digit_masks", "model=fcn", "model.width=4", "objective=segment"],
}
TINY = ["data.limit=64", "epochs=2", "batch_size=16", "progress=none"]


def compared(tree: ast.AST) -> list[str]:
    """The kinds and targets in a file's comparisons, matches and tables, and the modules of kinds that it imports."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            found += [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and n.value in KINDS]
        elif isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant) and key.value in KINDS]
            found += keys if len(keys) > 1 else []
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("mltricks.inputs", "mltricks.objectives")
        ):
            found += [str(node.module)] if not str(node.module).endswith((".base", ".of_targets")) else []
    return found


def test_no_other_code_compares_kinds() -> None:
    found = {
        str(path.relative_to(PACKAGE)): kinds
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ROOMS and (kinds := compared(ast.parse(path.read_text())))
    }
    assert not found


@pytest.mark.parametrize(
    "code",
    [
        "if info.input.kind == 'image': pass",
        "kind = info.input.kind\nif kind in ('tokens', 'vector'): pass",
        "fits = {'image': 'resnet9', 'tokens': 'transformer'}[info.input.kind]",
        "match info.target:\n    case 'classes': pass",
        "from mltricks.inputs.image import Image",
    ],
)
def test_the_check_finds_a_comparison(code: str) -> None:
    assert compared(ast.parse(code))


def make(*overrides: str) -> Run:
    return build(plain(mltricks.compose([*EXACT, *TINY, *overrides])))


@pytest.mark.parametrize("task", TASKS)
def test_a_stopped_run_resumes_bit_for_bit(task: str, tmp_path: Path) -> None:
    """Resume from a file, in mid-epoch, with techniques that split the batch and average the weights."""
    overrides = [*TASKS[task], "technique=[ema,accumulate]", "optim=adamw"]
    whole, first, second = (make(*overrides) for _ in range(3))
    advance(whole, 6)
    advance(first, 3)
    save(tmp_path / "last.pt", first.state, first.cfg)
    second.state = restore(load(tmp_path / "last.pt")["state"], second.state, tmp_path / "last.pt")
    advance(second, 3, start=3)
    assert_same(whole.state, second.state)


@pytest.mark.parametrize("task", TASKS)
def test_engines_and_stacks_agree(task: str) -> None:
    overrides = [*TASKS[task], "technique=[clip_norm]", "optim=sgd"]
    eager, traced = make(*overrides), make(*overrides, "engine=traced")
    assert advance(eager, 5) == pytest.approx(advance(traced, 5), rel=1e-5)
    both = [[*overrides, f"seed={seed}", f"optim.lr={lr}"] for seed, lr in ((0, 0.01), (7, 0.003))]
    stacked = StackedRun([make(*o) for o in both])
    losses = stacked.advance(5)["loss"]
    for k, o in enumerate(both):
        alone = make(*o)
        assert losses[k].tolist() == pytest.approx(advance(alone, 5), rel=1e-5)
        assert largest_difference(stacked.row(k), alone.state) < 1e-5


@pytest.mark.parametrize("task", TASKS)
def test_the_command_trains_sweeps_loads_and_predicts(
    task: str, run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    shared = [*TASKS[task], *TINY, "optim=adamw", "epochs=3"]
    assert run_cli(*shared, "optim.lr=0.01", "hydra.run.dir=run", "plots=true").status == 0
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["status"] == "completed"
    assert "the weakest first" in (tmp_path / "run/report.html").read_text()
    assert run_cli("job=predict", "checkpoint=run", "hydra.run.dir=predicted").status == 0
    with (tmp_path / "predicted/predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 360
    assert run_cli("job=evaluate", "checkpoint=run", "hydra.run.dir=run").status == 0
    again = json.loads((tmp_path / "run/evaluation.json").read_text())["test"]
    assert again == pytest.approx(summary["test"], rel=1e-6)
    assert run_cli("-m", *shared, "optim.lr=0.01,0.02", "hydra.sweep.dir=sweep", "hydra.launcher.fuse=true").status == 0
    alone = json.loads((tmp_path / "sweep/0/summary.json").read_text())
    assert alone["fused"]["trials"] == 2
    assert alone["val"]["loss"] == pytest.approx(summary["val"]["loss"], abs=1e-5)


@pytest.mark.parametrize("task", TASKS)
def test_a_loaded_model_predicts_the_same_as_the_run(task: str, tmp_path: Path) -> None:
    mltricks.train(mltricks.compose([*TASKS[task], *TINY, "plots=false"]), tmp_path / "run")
    model, data = mltricks.load(tmp_path / "run"), make(*TASKS[task]).data
    x = next(data.test.batches([torch.arange(5)]))["x"]
    assert torch.equal(model.predict(x), model.objective.predict(model.forward(x)).cpu())
    one = {name: part[0] for name, part in x.items()} if isinstance(x, dict) else x[0]
    torch.testing.assert_close(model.predict(one), model.predict(x)[:1])
    with pytest.raises(ValueError, match=r"inputs (are pairs|have shape)"):
        model.predict(torch.zeros(2, 3))


def test_segmentation_metrics_equal_the_reference() -> None:
    g = torch.Generator().manual_seed(0)
    logits, y = torch.randn(6, 4, 5, 5, generator=g), torch.randint(4, (6, 5, 5), generator=g)
    objective = Segment()
    torch.testing.assert_close(objective.mean(logits, y), F.cross_entropy(logits, y))
    torch.testing.assert_close(objective.per_sample(logits, y).mean(), F.cross_entropy(logits, y))
    tally = Tally(objective)
    for rows in (slice(0, 2), slice(2, 6)):
        tally.add(measure_batch(objective, logits[rows], y[rows]), len(y[rows]))
    expected = jaccard_score(y.flatten(), logits.argmax(1).flatten(), average="macro")
    assert float(tally.means()["iou"]) == pytest.approx(expected)


KINDS_OF_ALL_SORTS = [
    Image((3, 4, 4), torch.rand(3, 1, 1), torch.rand(3, 1, 1)),
    Tokens((7,), 11),
    Vector((5,)),
    Pair(Image((1, 4, 4), torch.rand(1, 1, 1), torch.rand(1, 1, 1)), Tokens((7,), 11)),
]


@pytest.mark.parametrize("kind", KINDS_OF_ALL_SORTS, ids=str)
def test_an_input_kind_is_saved_and_restored(kind: Input) -> None:
    node, tensors = saved(kind)
    again = restored(json.loads(json.dumps(node)), tensors, [])
    assert str(again) == str(kind)
    assert_same(saved(again)[1], tensors)
    x = kind.noise(3, torch.device("cpu"))
    assert_same({"x": again.normalize(x)}, {"x": kind.normalize(x)})
    assert [t.shape for t in leaves(kind.zeros(3))] == [t.shape for t in leaves(x)]


def test_integers_that_do_not_fit_are_refused() -> None:
    for value in (40_000, -40_000, 2**40):
        with pytest.raises(ValueError, match=r"go from -?\d+ to -?\d+, beyond torch\.int16"):
            Vector((3,)).prepare(torch.full((2, 3), value), torch.int16)
    assert Vector((3,)).prepare([[1, 2, 3]], torch.int16).dtype == torch.int16


def test_a_kind_that_is_also_another_accepts_its_techniques() -> None:
    @dataclass(frozen=True)
    class Signal(Vector):
        also = ("vector",)

    data = make("data=digit_halves", "model=two_towers").data
    for kind, accepted in ((Signal((3,)), True), (Tokens((7,), 11), False)):
        there = replace(data, info=replace(data.info, input=kind))
        techniques: dict[str, Any] = {"mixup": Mixup(0.2)}
        with nullcontext() if accepted else pytest.raises(ValueError, match="mixup works on image or vector data"):
            check_fit(Classify(), techniques, there, {"precision": {"dtype": "fp32"}})


def test_a_kind_with_the_name_of_one_of_ours_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_kinds").mkdir()
    (tmp_path / "my_kinds/image.py").write_text(
        "from mltricks.inputs.base import Input\nclass Photo(Input):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_kinds/base.py").write_text("from mltricks.inputs.base import Input\nclass Mine(Input):\n    pass\n")
    assert importlib.import_module("my_kinds.base").Mine
    with pytest.raises(ValueError, match=r"my_kinds\.image is named as an input kind of mltricks, image"):
        importlib.import_module("my_kinds.image")


def test_a_saved_kind_may_name_no_other_class() -> None:
    for target in ("mltricks.data.info.Info", "mltricks.inputs.base.read_array", "os.system"):
        with pytest.raises(ValueError, match="is refused"):
            restored({"_target_": target, "shape": [1]}, {}, [])


@dataclass(frozen=True)
class Both(Objective):
    """The mean of the two cross-entropies of a model with two outputs."""

    def per_sample(self, outputs: dict[str, Tensor], y: Tensor) -> Tensor:
        return sum(F.cross_entropy(part, y, reduction="none") for part in outputs.values()) / 2  # type: ignore[return-value]

    def output_shape(self, info: Info) -> None:
        return None


def test_a_model_may_return_several_outputs() -> None:
    """In half precision too: every output comes back in single precision."""
    net = nn.ModuleDict({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})
    net.forward = lambda x: {name: part(x) for name, part in net.items()}  # type: ignore[method-assign]
    for dtype in (None, torch.bfloat16):
        outputs, *_ = FunctionalModel(net, dtype)(dict(net.named_parameters()), {}, torch.randn(4, 3), True)
        assert {part.dtype for part in outputs.values()} == {torch.float32}
        loss, aux = Both().judge(outputs, torch.tensor([0, 1, 1, 0]))
        assert torch.equal(loss, aux["metrics"]["loss"])
        assert [float(part.sum()) for part in Both().ignorant(outputs, torch.zeros(4))[0].values()] == [0, 0]
