"""The tasks on which ``evidence.py`` measures options: data with a model, small enough for hundreds of runs each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A data set with a model.

    Attributes:
        title: in a few words.
        overrides: of the baseline, besides ``PLAIN``.
        layers: settings of the model whose values are compared, the baseline's first.
        rates: learning rates tried for each side besides the configured one.
        tuning_seeds: runs of each of them; their mean decides.
        options: those that are measured; all, if empty.
    """

    title: str
    overrides: tuple[str, ...]
    layers: tuple[str, ...]
    rates: int = 5
    tuning_seeds: int = 1
    options: tuple[str, ...] = ()


ACTIVATIONS = "model.activation=relu,relu_shifted,gelu,swish,mish,celu,glu"
NORMS = "model.norm=none,batch,layer,group,ghost_batch"
POOLS = ("model.pool=max,mean,fractional", "model.squeeze_excite=null,4", "model.coord_conv=none,first")
CONVNET = (ACTIVATIONS, NORMS, *POOLS, "model.head_pool=flatten,max,mean,both")
RESNET = (
    ACTIVATIONS,
    "model.norm=batch,none,layer,group,ghost_batch",
    "model.order=conv-norm-act-pool,conv-pool-norm-act,conv-act-norm-pool",
    *POOLS,
    "model.head_pool=max,mean,both,flatten",
    "model.residual=true,false",
)
RESIDUAL = (
    *(f"technique={name}" for name in ("checkpointing", "frozen_bn_scale", "ghost_batch_norm", "stochastic_depth")),
    *("init=whitening", "init=zero_residual"),
)
"""Options for models with residual branches and batch norm."""
SMALL_VAL, LARGE_VAL = "data.val_frac=0.02", "data.val_frac=0.4"
"""As many validation samples as choose an epoch and a learning rate, about 600 to 1,200: with fewer the choice is luck,
and with more their evaluation would take longer than the training."""
TASKS = {
    "digits_mlp": Task(
        "digits, MLP", ("data=digits", LARGE_VAL, "model=mlp", "epochs=20"), (ACTIVATIONS, NORMS), tuning_seeds=2
    ),
    "digits_convnet": Task(
        "digits, convnet",
        ("data=digits", LARGE_VAL, "model=convnet", "model.width=8", "epochs=10"),
        CONVNET,
        tuning_seeds=2,
    ),
    "digits_resnet9": Task(
        "digits, resnet9",
        ("data=digits", LARGE_VAL, "model=resnet9", "model.width=8", "epochs=6"),
        (),
        tuning_seeds=2,
        options=RESIDUAL,
    ),
    "mnist_tenth": Task(
        "a tenth of MNIST, convnet",
        ("data=mnist", "data.fraction=0.1", SMALL_VAL, "model=convnet", "model.width=8", "epochs=3", "batch_size=64"),
        CONVNET,
    ),
    "cifar_4000": Task(
        "4,000 images of CIFAR-10, resnet9",
        ("data=cifar10", "data.limit=4000", SMALL_VAL, "model=resnet9", "model.width=8", "epochs=5", "batch_size=64"),
        RESNET,
        rates=3,
    ),
}
