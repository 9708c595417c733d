"""A technique: a frozen dataclass of hyperparameters with ``setup`` and five verbs.

A verb is a method that changes one part of training: the data batch, the loss, the gradient, the weights after the
update, or the prediction. Every verb has a default that changes nothing; the step calls only those a technique defines.

Fields typed ``float`` (or an alias of ``mltricks.config.values`` for it) are leaves: inside a verb they are a Python
float or a 0-d tensor, depending on the engine, so a verb may compute with them but not branch on them. ``int``,
``bool`` and ``str`` fields are structure and may be branched on.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from torch import Tensor, nn

from mltricks.batch import Batch
from mltricks.config.values import check_fields, float_fields
from mltricks.functional_model import FunctionalModel

if TYPE_CHECKING:
    from mltricks.data.info import Info

Params = dict[str, Tensor]
Shape = tuple[int, ...]
Own = dict[str, Any]
Aux = dict[str, Any]
"""The second result of a loss: ``metrics`` (0-d tensors), and under a technique's name the values for its ``after``.

Those values must be detached. Over micro-batches, tensors with a sample axis are concatenated and 0-d tensors are
averaged.

The step adds ``grads`` (the final gradients), and ``previous`` (the parameters before the update) if a technique sets
``needs_previous``. A ``grads`` verb may set ``finite``, a 0-d bool tensor: where it is false, the step keeps the old
parameters and optimiser tensors.
"""


@dataclass
class Ctx:
    """The context passed to every verb. Legend: K outputs (classes).

    Attributes:
        model: the model as a function; use ``apply``.
        buffers: the model's buffers by name; ``apply`` in training mode stores the new ones here.
        all_own: every technique's own tensors; ``own`` is this technique's.
        step: 0-d int64, number of updates so far.
        progress: fraction of the run completed, in [0, 1); a float or 0-d tensor.
        num_outputs: K, the width of the model's output.
        train: whether ``apply`` runs the model in training mode.
        grad_scale: factor on the loss while its gradient is computed; ``None`` for no scaling.
        steps_per_epoch: updates an epoch; ``None`` where nobody counts epochs.
    """

    model: FunctionalModel
    buffers: dict[str, Tensor]
    all_own: dict[str, Own]
    step: Tensor
    progress: float | Tensor
    num_outputs: int
    train: bool = True
    grad_scale: Tensor | None = None
    own: Own = field(default_factory=dict)
    steps_per_epoch: int | None = None

    def apply(self, params: Params, x: Tensor, capture: Sequence[str] = (), train: bool | None = None) -> Any:
        """Run the model with ``params`` on ``x``.

        Args:
            params: at least the model's own parameters; others (``simclr/...``) are ignored.
            x: the input, shape (B, ...).
            capture: names of modules whose input and output to return as well.
            train: whether to use training mode; by default that of this context.

        Returns:
            The output; with ``capture`` a pair of the output and ``{name: (input, output)}``.
        """
        train = self.train if train is None else train
        output, buffers, captured = self.model(params, self.buffers, x, train, capture)
        if train:
            self.buffers.update(buffers)
        return (output, captured) if capture else output

    def scope(self, name: str) -> Ctx:
        """The same context for technique ``name``: ``own`` is that technique's."""
        other = copy.copy(self)
        other.own = self.all_own.get(name, {})
        return other

    def fork(self, buffers: Params | None = None, **changes: Any) -> Ctx:
        """The same context with its own copy of the buffers: updates by ``apply`` are lost unless copied back.

        Args:
            buffers: the buffers to start from; by default the present ones.
            changes: other attributes to replace.
        """
        return replace(self, buffers=dict(self.buffers if buffers is None else buffers), **changes)


LossFn = Callable[[Params, Batch, Ctx], tuple[Tensor, Aux]]
"""Maps parameters, a batch and a context to the loss (0-d) and its ``Aux``."""
GradFn = Callable[[Params, Batch, Ctx], tuple[Params, Aux]]
"""Maps parameters, a batch and a context to one gradient per parameter, and the ``Aux`` of the loss."""
PredFn = Callable[[Params, Tensor, Ctx], Tensor]
"""Maps parameters, inputs (B, ...) and a context to outputs (B, K)."""


@dataclass(frozen=True)
class Technique:
    """The base class of techniques. It checks the fields; its verbs change nothing."""

    on_raw: ClassVar[bool] = False
    """Whether ``batch`` also accepts raw uint8 pixels; the step normalises before the first technique that does not."""
    needs_raw: ClassVar[bool] = False
    """Whether ``batch`` requires raw uint8 pixels (posterize, solarize, equalize); implies ``on_raw``."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Batch keys that the technique needs to have an effect."""
    kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of input that it supports (``image``, ``tokens``, ``vector``); empty for all."""
    targets: ClassVar[tuple[str, ...]] = ()
    """Kinds of target that it supports (``classes``, ``tokens``, ``values``); empty for all."""
    needs_one_target: ClassVar[bool] = False
    """Whether it moves or mixes parts of a sample, which is only correct if ``y`` has one target per sample."""
    needs_one_output: ClassVar[bool] = False
    """Whether it requires a model with a single output tensor."""
    mixes: ClassVar[bool] = False
    """Whether ``batch`` mixes each sample with others (mixup, cutmix)."""
    needs_softmax: ClassVar[bool] = False
    """Whether it takes the softmax of the outputs for the predictions, which is wrong with objectives such as bce."""
    mirrors: ClassVar[bool] = False
    """Whether ``batch`` mirrors some images. One technique of a run may: a second one would undo what it chose."""
    needs_unmixed: ClassVar[bool] = False
    """Whether it compares several versions of each sample, which mixing would make versions of different ones."""
    needs_whole_batch: ClassVar[bool] = False
    """Whether its loss compares the samples of a batch, so that micro-batches would change the loss."""
    traceable: ClassVar[bool] = True
    """Whether engines and stacks may record the step as a graph with it."""
    joined_by: ClassVar[str] = ""
    """Name of a bool setting without which its loss leaves out the objective and the techniques behind it."""
    needs_random_passes: ClassVar[bool] = False
    """Whether its loss compares two passes of the rest of the techniques, which must differ in what they draw."""
    needs_augmentation: ClassVar[bool] = False
    """Whether it trains on its own predictions, which confirm their errors where labelled samples are not augmented."""
    needs_previous: ClassVar[bool] = False
    """Whether ``after`` reads ``aux["previous"]``, the parameters before the update."""
    after_changes: ClassVar[Literal["update", "weights", "own"]] = "weights"
    """What ``after`` changes, which decides when it runs: first those that scale the ``update`` (layer-wise learning
    rates), then those that set the ``weights`` (a pruning mask, Lookahead), then those that only read the final weights
    and change their ``own`` tensors (an average, a teacher, a queue)."""

    replaces_weights: ClassVar[bool] = False
    """Whether ``evaluate`` predicts with weights of its own instead of the current ones. One technique of a run may."""

    holds_statistics: ClassVar[bool] = True
    """Whether a normalisation layer whose parameters are all in ``frozen`` keeps its statistics too."""

    needs_restarts: ClassVar[bool] = False
    """Whether the learning rate has to restart at equal shares of the run; the field ``cycles`` is their number."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def notes(self) -> Sequence[str]:
        """What ``setup`` chose where the settings left it open, as lines for the user."""
        return ()

    def check(self, info: Info) -> None:
        """Run once, before ``setup``: refuse data that the technique does not support.

        Args:
            info: describes the data: classes, shapes, statistics.

        Raises:
            ValueError: the technique does not support these data.
        """

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        """Run once before the first step: change the model, add parameters, create the technique's own tensors.

        Args:
            model: the module; hooks and buffers may be added to it, parameters may not be renamed.
            params: the parameters so far, by name. Techniques that come later may add parameters and buffers, so a
                copy made here may lack some of those that a verb receives.
            batch: one normalised training batch, as the verbs see it.
            seed: for random draws; the global generators are already seeded with it.

        Returns:
            The parameters, possibly changed or with new ones (named ``TECHNIQUE/...``), and its own tensors.

        Raises:
            ValueError: the technique does not support this model or batch.
        """
        return params, {}

    def frozen(self, params: Params) -> Collection[str]:
        """Run once, after every ``setup``: name the frozen parameters.

        Frozen parameters are constants to autograd, so the backward pass stops at the lowest trained layer, and the
        optimiser never sees them. A normalisation layer whose parameters are all frozen also keeps its statistics,
        unless ``holds_statistics`` is false.

        Args:
            params: all parameters, by name; ``mltricks.optim.matching.matching`` selects names by patterns.
        """
        return ()

    def shapes(self, in_shape: Shape) -> Sequence[tuple[float, Shape]]:
        """Declare that samples change their shape during the run.

        Args:
            in_shape: shape of one ``x`` in the data.

        Returns:
            Pairs (start as a fraction of the run, shape of one ``x``), ascending, the first from 0. Empty: the shape
            never changes.
        """
        return ()

    def reshape(self, batch: Batch, shape: Shape) -> Batch:
        """Convert a batch to a declared shape: on the device, before the step, sample by sample, without randomness.

        Args:
            batch: from the source, so images are in raw units; ``x_unlabeled``, if present, is converted too.
            shape: of one ``x``, never the data's own shape.
        """
        return batch

    def on_host(self, batch: Batch) -> Batch:
        """Change a batch before the step, outside of what an engine traces: for code that no engine can trace.

        It runs before the ``batch`` of every technique, on one trial's batch in raw units. It may draw random numbers:
        the generators are seeded from seed and step. Float fields are plain numbers here, so they cannot be scheduled.

        Args:
            batch: from the source; shapes and dtypes must be kept.
        """
        return batch

    def batch(self, batch: Batch, ctx: Ctx) -> Batch:
        """Change the data."""
        return batch

    def loss(self, inner: LossFn) -> LossFn:
        """Change the loss; ``inner`` is the rest of the techniques and, innermost, the objective."""
        return inner

    def grads(self, inner: GradFn) -> GradFn:
        """Change the gradient; ``inner`` is the rest of the techniques and, innermost, automatic differentiation."""
        return inner

    def after(self, params: Params, ctx: Ctx, aux: Aux) -> tuple[Params, Own]:
        """Change the weights after the update, and the technique's own tensors."""
        return params, ctx.own

    def evaluate(self, inner: PredFn) -> PredFn:
        """Change the prediction; ``inner`` is the rest of the techniques and, innermost, the model."""
        return inner


def defines(technique: Technique, verb: str) -> bool:
    """Whether a technique overrides a verb."""
    return getattr(type(technique), verb) is not getattr(Technique, verb)


def bind(owner: Any, floats: dict[str, Any]) -> Any:
    """A copy of a dataclass with some float fields replaced by the engine's values, which are not checked again."""
    if not floats:
        return owner
    bound = object.__new__(type(owner))
    bound.__dict__.update(owner.__dict__)
    bound.__dict__.update(floats)
    return bound


def floats_of(owner: Any) -> dict[str, float]:
    """The float hyperparameters of a dataclass, by name, without those that are ``None``."""
    found = {name: getattr(owner, name) for name in float_fields(type(owner))}
    return {name: value for name, value in found.items() if value is not None}
