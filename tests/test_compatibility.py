"""Combinations that cannot work are refused with the reason."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from contract import advance, make

import mltricks
from mltricks.batch import Batch
from mltricks.build import compose_step
from mltricks.engine import Graph
from mltricks.optim.base import matching
from mltricks.resume import saved_config, trust
from mltricks.stack.run import StackedRun
from mltricks.stack.structure import structure
from mltricks.technique import Ctx, Technique


def test_half_precision_without_loss_scaling_is_refused() -> None:
    with pytest.raises(ValueError, match="precision=fp16"):
        make("precision.dtype=fp16")


def test_a_start_of_the_warmup_without_a_warmup_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scheduler\.warmup_frac=0\.05"):
        make("scheduler=cosine", "scheduler.warmup_start=0.5")


def test_a_graph_that_never_warms_up_is_refused() -> None:
    with pytest.raises(ValueError, match=r"engine\.warmup_steps=0"):
        Graph(warmup_steps=0)


def test_a_folder_cannot_allow_modules_through_a_technique() -> None:
    saved = {"allow_modules": [], "technique": {"distill": {"allow_modules": ["strange"]}}}
    with pytest.raises(ValueError, match=r"allow_modules=strange"):
        trust(saved, [], "the run")
    trust(saved, ["strange"], "the run")


@dataclass(frozen=True)
class Posterize(Technique):
    """Keeps the upper four bits of every grey level."""

    needs_raw = True

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        assert batch["x"].dtype == torch.uint8
        return {**batch, "x": batch["x"] & 0xF0}


def test_raw_pixel_techniques_come_before_those_on_normalised_images() -> None:
    own = [f"+technique.posterize._target_={__name__}.Posterize", f"allow_modules=[{__name__}]"]
    with pytest.raises(
        ValueError, match=r"technique=posterize works on raw pixels, and technique=mixup in front of it"
    ):
        make("technique=[mixup]", *own)
    run = make(*own)
    run.techniques = {**run.techniques, **make("technique=[flip,mixup]").techniques}
    run.state["own"] = {name: {} for name in run.techniques}
    run.step = compose_step(run)
    advance(run, 1)


def test_trials_with_different_floats_of_the_model_cannot_be_stacked() -> None:
    assert "model.logit_scale" in structure({"model": {"logit_scale": 0.5}})
    with pytest.raises(ValueError, match=r"model\.logit_scale is 0\.125 in the first and 5\.0 in number 1"):
        StackedRun([make("model=resnet9"), make("model=resnet9", "model.logit_scale=5.0")])


def test_the_patterns_embedding_and_head_match_the_transformers_parameters() -> None:
    names = ["token_embedding.weight", "position_embedding.weight", "perceptron.branch.out.weight"]
    params = {name: torch.zeros(2, 2) for name in names}
    assert matching(["embedding"], params) == set(names[:2])
    assert matching(["head"], params) == set()
    assert matching(["head"], {**params, "head.weight": torch.zeros(2, 2)}) == {"head.weight"}


@pytest.mark.parametrize(
    ("overrides", "advice"),
    [
        (["model=resnet9", "batch_size=1"], r"Type another batch_size\.$"),
        (["technique=simclr", "batch_size=319"], r"Type another batch_size, or data\.drop_last=true\.$"),
    ],
)
def test_a_batch_of_one_sample_is_refused_by_batch_norm_and_simclr(overrides: list[str], advice: str) -> None:
    with pytest.raises(ValueError, match=f"one sample.*{advice}"):
        make("data.drop_last=false", *overrides)


def test_mixing_a_batch_of_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match=r"technique=mixup mixes.*no effect with batch_size=1.*leave mixup out"):
        make("technique=mixup", "batch_size=1")
    make("technique=mixup", "batch_size=319", "data.drop_last=false")  # a smaller last batch does no harm


def test_an_option_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="twice"):
        make("technique=[mixup,mixup]")


def test_augmentation_settings_scale_with_the_size_of_the_image() -> None:
    padded = make("technique=crop", "technique.crop.padding=1")
    assert advance(make("technique=crop"), 3) == advance(padded, 3)
    assert advance(make("technique=cutout"), 3) == advance(make("technique=cutout", "technique.cutout.size=2"), 3)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    for name, lr in (("mine", 0.01), ("other", 0.02)):
        cfg = mltricks.compose(["epochs=1", f"optim.lr={lr}", "plots=false", "progress=none"])
        mltricks.train(cfg, tmp_path / name)
    last = "checkpoints/last.pt"
    shutil.copy(tmp_path / "other" / last, tmp_path / "mine" / last)
    with pytest.raises(ValueError, match=r"another run: optim\.lr is 0\.02"):
        saved_config(tmp_path / "mine")


@pytest.mark.parametrize("objective", ["bce", "mse", "focal objective.form=sigmoid"])
def test_a_mean_of_softmax_probabilities_is_refused_where_an_objective_predicts_others(objective: str) -> None:
    given = [*f"objective={objective}".split(), "technique=tta"]
    with pytest.raises(ValueError, match=r"technique\.tta\.average=probabilities is for classes.*average=logits"):
        make(*given, "technique.tta.average=probabilities")
    make(*given)


@pytest.mark.parametrize(
    "technique", ["augmix", "r_drop regularizer=dropout", "fixmatch data.unlabeled_ratio=2 data.fraction=0.5"]
)
def test_a_technique_that_takes_a_softmax_is_refused_where_an_objective_takes_none(technique: str) -> None:
    given = f"technique={technique}".split()
    with pytest.raises(ValueError, match=r"is for classes predicted by a softmax, and objective=mse"):
        make(*given, "objective=mse")
    make(*given, "objective=focal")
