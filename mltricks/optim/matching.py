"""Parameters by patterns of their names, and by words for the usual kinds of parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from mltricks.config.values import suggest
from mltricks.functional.depths import depths, layers
from mltricks.technique import Params


def matching(patterns: Sequence[str], params: Mapping[str, Tensor]) -> set[str]:
    """The names of the parameters that match any of the patterns.

    Args:
        patterns: names with ``* ? [ ]``, or one of these words: ``norm_and_bias``, every parameter of one dimension or
            none; ``bias``, those of them whose last name contains ``bias``; ``norm``, scale and bias of every layer
            whose ``weight`` has one dimension and is trained; ``linear`` and ``convolution``, weights of two and of
            more dimensions outside of embeddings; ``embedding``, those whose name contains ``emb``; ``first`` and
            ``head``, the first and the last of the model's parameters with two dimensions or more, in the order of
            declaration; ``last_layer``, weight and bias of the last layer, as ``depths`` counts layers. In a model with
            embeddings and no ``head`` the two are tied: ``embedding`` is both, and ``last_layer`` the last block.
        params: parameters by name; those of techniques (their names have a slash) are neither ``first`` nor ``head``
            nor of ``last_layer``.

    >>> import torch
    >>> params = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2), "b.bias": torch.ones(2)}
    >>> sorted(matching(["head", "norm_and_bias"], params))
    ['b.bias', 'b.weight']
    """
    found: set[str] = set()
    for pattern in patterns:
        word = WORDS.get(pattern)
        found.update(word(dict(params)) if word else (name for name in params if fnmatchcase(name, pattern)))
    return found


def check_patterns(key: str, patterns: Sequence[str], params: Params) -> None:
    """Refuse a pattern that matches no parameter, because it has no effect; special words may match none.

    Raises:
        ValueError: names the pattern and the nearest parameters.
    """
    for pattern in patterns:
        if pattern not in WORDS and not matching([pattern], params):
            near = suggest(pattern, [*params, *WORDS])
            known = f"The layers are {', '.join(layers(dict(params)))}; there are the words {', '.join(WORDS)}."
            raise ValueError(
                f"{key} has {pattern}, which matches no parameter. {known if near.startswith('Known') else near}"
            )


def _matrices(params: Params) -> list[str]:
    return [name for name, p in params.items() if p.ndim >= 2 and "/" not in name]


def _tied(params: Params) -> bool:
    """Whether the output layer shares the embedding's weight; the last matrix is then in a hidden layer."""
    matrices = _matrices(params)
    return any("emb" in name for name in matrices) and "head" not in matrices[-1]


def _vectors(params: Params) -> list[str]:
    return [name for name, p in params.items() if p.ndim <= 1]


def _weights(params: Params, num_dims: Callable[[int], bool]) -> list[str]:
    return [n for n, p in params.items() if num_dims(p.ndim) and "weight" in n.rpartition(".")[2] and "emb" not in n]


def _of_norms(params: Params) -> list[str]:
    """The parameters of the layers whose ``weight`` has one dimension."""
    layers = {name.removesuffix("weight") for name in _vectors(params) if name.rpartition(".")[2] == "weight"}
    return [name for name in _vectors(params) if name[: len(name) - len(name.rpartition(".")[2])] in layers]


WORDS: dict[str, Callable[[Params], list[str]]] = {
    "norm_and_bias": _vectors,
    "bias": lambda params: [name for name in _vectors(params) if "bias" in name.rpartition(".")[2]],
    "norm": _of_norms,
    "linear": lambda params: _weights(params, lambda ndim: ndim == 2),
    "convolution": lambda params: _weights(params, lambda ndim: ndim > 2),
    "embedding": lambda params: [name for name in params if "emb" in name],
    "first": lambda params: _matrices(params)[:1],
    "head": lambda params: [] if _tied(params) else _matrices(params)[-1:],
    "last_layer": lambda params: [name for name, k in depths(params).items() if k == 0 and "/" not in name],
}
