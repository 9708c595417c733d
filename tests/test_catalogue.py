"""The catalogue is complete: every name that the field's sources give a technique is an option."""

from __future__ import annotations

import pytest

from mltricks.config.options import conf_dir

OWED = {
    "model": "mlp convnet resnet9 davidnet resnet18 airbench inception vit torchvision timm transformer",
    "init": "default normal xavier_uniform xavier_normal kaiming_uniform kaiming_normal orthogonal lsuv zero_residual "
    "dirac whitening checkpoint",
    "optim": "sgd adam adamw rmsprop adagrad radam nadam lion lamb lars muon schedule_free torch timm",
    "scheduler": "constant step multistep exponential linear polynomial cosine cosine_restarts onecycle flat_cosine "
    "slanted_triangular triangular inverse_sqrt cyclic warmup_stable_decay plateau",
    "sampler": "shuffle sequential weighted balanced curriculum self_paced importance repeated",
    "augment": "crop flip alternating_flip random_resized_crop affine color_jitter cutout random_erasing augmix "
    "randaugment autoaugment trivialaugment progressive_resizing torchvision",
    "regularizer": "l1 l2 elastic_net weight_decay dropout dropconnect stochastic_depth dropblock progressive_dropout "
    "label_smoothing activation_reg temporal_activation_reg weight_drop frozen_bn_scale ghost_batch_norm "
    "gradient_noise r_drop early_stopping",
    "technique": "mixup cutmix tta accumulate clip_norm clip_value adaptive_clip centralize lookahead sam loss_scale "
    "checkpointing ema swa snapshot layerwise_lr squeeze_excite "
    "freeze freeze_then_unfreeze gradual_unfreezing "
    "simclr moco barlow_twins simsiam siamese denoising_autoencoder masked_image_modeling mae "
    "pseudo_label mean_teacher fixmatch distill distill_features distill_attention distill_ema",
    "objective": "classify regress mse bce soft_f1 focal contrastive next_token",
    "job": "evaluate soup sharpness probe knn compare_layers",
    "experiment": "simclr_finetune simclr_probe mae_finetune simmim_finetune transfer_features transfer_finetune "
    "transfer_gradual fixmatch mean_teacher pseudo_label curriculum_labeling distill fitnets born_again curriculum "
    "self_paced progressive_dropout",
}


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, names in OWED.items() for name in names.split()])
def test_an_option_that_is_owed_is_there(group: str, name: str) -> None:
    assert (conf_dir() / group / f"{name}.yaml").is_file()


@pytest.mark.parametrize("group", ["augment", "regularizer"])
def test_an_augmentation_or_regulariser_is_a_technique_too(group: str) -> None:
    techniques = {path.stem for path in (conf_dir() / "technique").glob("[a-z]*.yaml")}
    assert set(OWED[group].split()) - {"early_stopping"} <= techniques
