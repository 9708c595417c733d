"""A trial in a stack draws the same random numbers as alone, for tensors of any memory layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import EXACT
from contract import advance, largest_difference
from contract_models import MODELS, overrides
from test_fused import fuse
from torch import Tensor

import mltricks
from mltricks.build import Run, build
from mltricks.config.compose import plain
from mltricks.stack.layout import in_layout, stack_rows
from mltricks.stack.run import StackedRun, build_all
from mltricks.step import normalized

STEPS = 5
SHORT = ["batch_size=32", "epochs=4", "optim=sgd", "optim.lr=0.05", *EXACT]


def configurations(*shared: str, seeds: tuple[int, ...] = (0, 3)) -> list[dict]:
    own = [[f"seed={seed}", f"optim.momentum={0.1 * k}"] for k, seed in enumerate(seeds)]
    return [plain(mltricks.compose([*SHORT, *shared, *o])) for o in own]


def assert_rows_are_alone(cfgs: list[dict], tolerance: float) -> None:
    stacked = StackedRun(build_all(cfgs))
    losses = stacked.advance(STEPS)["loss"]
    for k, cfg in enumerate(cfgs):
        alone = build(cfg)
        assert losses[k].tolist() == pytest.approx(advance(alone, STEPS), rel=1e-6)
        assert largest_difference(stacked.row(k), alone.state) < tolerance


@pytest.mark.parametrize("name", MODELS)
def test_a_row_equals_the_run_alone(name: str) -> None:
    assert_rows_are_alone(configurations(*overrides(name)), tolerance=1e-6)


@pytest.mark.parametrize("name", ["DropoutAfterConvolution", "DropoutInChannelsLast", "NoiseWithValues"])
def test_a_row_of_a_stack_of_one_seed_equals_the_run_alone(name: str) -> None:
    assert_rows_are_alone(configurations(*overrides(name), seeds=(2, 2)), tolerance=1e-6)


def test_a_kernel_that_draws_inside_is_refused() -> None:
    stacked = StackedRun(build_all(configurations(*overrides("RandomLeaks"))))
    with pytest.raises(ValueError, match=r"cannot be stacked: aten\.rrelu_with_noise.* draws inside its kernel"):
        stacked.advance(1)


def test_jobs_with_such_a_kernel_run_one_by_one_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = fuse(tmp_path, [*SHORT, *overrides("RandomLeaks"), "max_steps=2"], [["seed=0"], ["seed=1"]])
    assert [(summary.status, summary.fused) for _, summary in told] == [("completed", None)] * 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "a stack" in line]
    assert "start again one by one: the step cannot be stacked: aten.rrelu_with_noise" in said


@pytest.mark.parametrize("technique", ["dropout", "cutout", "stochastic_depth", "[mixup,dropout]"])
def test_techniques_draw_the_same_numbers_in_a_stack_and_alone(technique: str) -> None:
    more = ["model=resnet9", "model.width=2", "model.pool=mean"] if technique == "stochastic_depth" else []
    if "dropout" in technique:
        more = ["technique.dropout.layers=['*']"]
    options = ["data.limit=128", "augment=standard", f"technique={technique}", *more]
    assert_rows_are_alone(configurations(*options), tolerance=1e-5)


def layouts(run: Run) -> list[tuple[int, ...]]:
    batch = normalized(next(run.batches()), run.data.info.normalize)
    return [batch[key].stride() for key in sorted(batch)]


@pytest.mark.parametrize("name", ["DropoutAfterConvolution", "DropoutInChannelsLast"])
@pytest.mark.parametrize("seeds", [(0, 3), (2, 2)], ids=["own seeds", "one seed"])
def test_inputs_and_weights_have_the_strides_of_the_run_alone(name: str, seeds: tuple[int, int]) -> None:
    runs = build_all(configurations(*overrides(name), seeds=seeds))
    stacked = StackedRun(runs)
    batch = stacked.feed.at(0)[0]
    one = {key: value if stacked.feed.one_seed else value[0] for key, value in batch.items()}
    assert [one[key].stride() for key in sorted(one)] == layouts(runs[0])
    for name, weight in runs[0].state["params"].items():
        assert stacked.state["params"][name][1].stride() == weight.stride()


ODD: dict[str, Tensor] = {
    "transposed": torch.arange(24.0).view(2, 3, 4).transpose(0, 2),
    "channels-last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "one channel": torch.rand(2, 4, 5, 1).permute(0, 3, 1, 2),
    "with gaps": torch.rand(4, 6)[:, ::2],
    "expanded": torch.rand(4, 1).expand(4, 3),
    "a number": torch.tensor(3.0),
    "nothing": torch.empty(0, 3),
}


@pytest.mark.parametrize("t", ODD.values(), ids=ODD)
def test_stacked_rows_keep_values_and_the_strides_of_dense_tensors(t: Tensor) -> None:
    stacked = stack_rows([t, t + 1])
    assert torch.equal(stacked, torch.stack([t, t + 1]))
    dense = t.clone().stride() == t.stride() and t.numel()
    assert not dense or stacked[1].stride() == t.stride()


@pytest.mark.parametrize("t", ODD.values(), ids=ODD)
def test_a_change_of_layout_keeps_all_values(t: Tensor) -> None:
    strides = torch.empty_like(t, memory_format=torch.contiguous_format).stride()
    found = in_layout(t, strides)
    assert torch.equal(found, t)
    assert found.stride() == strides
