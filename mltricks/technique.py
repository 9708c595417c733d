"""A technique: a frozen dataclass of hyperparameters with ``setup`` and five verbs.

A step has a data batch, a loss, a gradient, weights and a prediction, and nothing else; so a technique changes one or
more of these. Every verb has a default that changes nothing, and the step calls only those a technique defines.

Fields typed ``float`` (or an alias of ``mltricks.config.values`` for it) are leaves: inside a verb they are a Python
float or a 0-d tensor, whichever the engine feeds, so a verb may compute with them but not branch on them. ``int``,
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
"""What a loss says besides its value: ``metrics`` (0-d tensors), and what ``after`` needs, under the technique's name.

What a technique hands over from its loss to its ``after`` must carry no gradient. Tensors with an axis of samples are
put together again from micro-batches, and 0-d ones are averaged.

The step adds ``grads`` (the final gradients), and ``previous`` (the parameters before the update) where a technique
asks for it by ``needs_previous``. A ``grads`` verb may set ``finite``, a 0-d bool tensor: where false, the step leaves
parameters and optimiser as they were.
"""


@dataclass
class Ctx:
    """All a verb may see. Legend: K outputs (classes).

    Attributes:
        model: the model as a function; use ``apply``.
        buffers: the model's buffers by name; ``apply`` in training mode puts the new ones in here.
        all_own: every technique's own tensors; ``own`` is this technique's.
        step: 0-d int64, updates made so far.
        progress: share of the run that is done, in [0, 1); a float or 0-d tensor.
        num_outputs: K, the width of the model's output.
        train: whether ``apply`` runs the model in training mode.
        grad_scale: what the loss is multiplied with before its gradient is taken; ``None`` for nothing.
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

    def apply(self, params: Params, x: Tensor, capture: Sequence[str] = (), train: bool | None = None) -> Any:
        """Run the model with ``params`` on ``x``.

        Args:
            params: at least the model's own parameters; others (``simclr/...``) are ignored.
            x: the input, shape (B, ...).
            capture: names of modules whose input and output are wanted as well.
            train: training mode or not; by default that of the step or of the evaluation this belongs to.

        Returns:
            The output; with ``capture`` a pair of the output and ``{name: (input, output)}``.
        """
        train = self.train if train is None else train
        output, buffers, captured = self.model(params, self.buffers, x, train, capture)
        if train:
            self.buffers.update(buffers)
        return (output, captured) if capture else output

    def scope(self, name: str) -> Ctx:
        """The same context as the technique ``name`` sees it."""
        other = copy.copy(self)
        other.own = self.all_own.get(name, {})
        return other

    def fork(self, buffers: Params | None = None, **changes: Any) -> Ctx:
        """The same context with buffers of its own: what ``apply`` writes there is lost unless it is taken over.

        Args:
            buffers: what these are; by default the present ones.
            changes: other attributes.
        """
        return replace(self, buffers=dict(self.buffers if buffers is None else buffers), **changes)


LossFn = Callable[[Params, Batch, Ctx], tuple[Tensor, Aux]]
"""Parameters, a batch and a context to the loss (0-d) and its ``Aux``."""
GradFn = Callable[[Params, Batch, Ctx], tuple[Params, Aux]]
"""Parameters, a batch and a context to the gradients, one a parameter, and the ``Aux`` of the loss."""
PredFn = Callable[[Params, Tensor, Ctx], Tensor]
"""Parameters, inputs (B, ...) and a context to outputs (B, K)."""


@dataclass(frozen=True)
class Technique:
    """The base of every technique: checks its fields and changes nothing."""

    on_raw: ClassVar[bool] = False
    """Whether ``batch`` works on raw uint8 pixels too; the step normalises before the first technique that does not."""
    needs_raw: ClassVar[bool] = False
    """Whether ``batch`` is right for raw uint8 pixels alone (posterize, solarize, equalize); implies ``on_raw``."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Keys of the batch without which the technique has no effect."""
    kinds: ClassVar[tuple[str, ...]] = ()
    """Kinds of input (``image``, ``tokens``, ``vector``) it is right for; empty for all."""
    targets: ClassVar[tuple[str, ...]] = ()
    """Kinds of target (``classes``, ``tokens``, ``values``) it is right for; empty for all."""
    needs_one_target: ClassVar[bool] = False
    """Whether it moves or mixes parts of a sample, so that ``y`` must be of the sample as a whole."""
    needs_one_output: ClassVar[bool] = False
    """Whether it works on the model's outputs as one tensor, so that a model with several is refused."""
    needs_whole_batch: ClassVar[bool] = False
    """Whether its loss compares the samples of a batch, so that micro-batches would change what it means."""
    needs_previous: ClassVar[bool] = False
    """Whether ``after`` wants ``aux["previous"]``, the parameters before the update."""
    after_changes: ClassVar[Literal["update", "weights", "own"]] = "weights"
    """What ``after`` changes, which decides when it runs: it scales the ``update`` that was just made (a learning rate
    for every layer), or sets the ``weights`` (a pruning mask, Lookahead), or only reads the weights that the step ends
    with and keeps tensors of its ``own`` (an average, a teacher, a queue)."""

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self, info: Info) -> None:
        """Run once, before ``setup``: refuse data that the technique cannot be right for.

        Args:
            info: what the data are: classes, shapes, statistics.

        Raises:
            ValueError: the technique cannot be right for these data.
        """

    def setup(self, model: nn.Module, params: Params, batch: Batch, seed: int) -> tuple[Params, Own]:
        """Run once before the first step: change the model, add parameters, make the technique's own tensors.

        Args:
            model: the module; hooks and buffers may be added to it, parameters may not be renamed.
            params: the parameters so far, by name.
            batch: one normalised training batch, as the verbs see it.
            seed: for whatever is drawn; the global random state has been set from it.

        Returns:
            The parameters, changed or added to (under names that begin with the technique's and a slash), and its own
            tensors.

        Raises:
            ValueError: the technique cannot be right for this model or batch.
        """
        return params, {}

    def frozen(self, params: Params) -> Collection[str]:
        """Run once, after every ``setup``: which parameters never move.

        They are constants of the gradient, so that it costs nothing below the lowest of the others, and no optimiser
        sees them. A normalisation layer all of whose parameters are frozen keeps its statistics too.

        Args:
            params: all parameters, by name; ``mltricks.optim.base.matching`` finds names by patterns.
        """
        return ()

    def shapes(self, in_shape: Shape) -> Sequence[tuple[float, Shape]]:
        """Declare that samples change their shape in the course of the run.

        Args:
            in_shape: shape of one ``x`` as the data have it.

        Returns:
            Pairs of a share of the run and the shape of one ``x`` from there on; the first share is 0, and they rise.
            Empty: the shape never changes.
        """
        return ()

    def reshape(self, batch: Batch, shape: Shape) -> Batch:
        """Bring a batch to a declared shape: on the device, before the step, each sample by itself, drawing nothing.

        Args:
            batch: as the source gives it, so images are in raw units; ``x_unlabeled``, where there is one, goes along.
            shape: of one ``x``, never that of the data.
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
    """A copy of a dataclass with some of its float fields replaced by what the engine feeds, without checking again."""
    if not floats:
        return owner
    bound = object.__new__(type(owner))
    bound.__dict__.update(owner.__dict__)
    bound.__dict__.update(floats)
    return bound


def floats_of(owner: Any) -> dict[str, float]:
    """The float hyperparameters of a dataclass, by name; those that are ``None`` are left out."""
    found = {name: getattr(owner, name) for name in float_fields(type(owner))}
    return {name: value for name, value in found.items() if value is not None}
