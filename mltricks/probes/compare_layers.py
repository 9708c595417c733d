"""Compare the intermediate outputs of two runs, layer by layer, by linear CKA.

Source: Kornblith, Norouzi, Lee, Hinton, "Similarity of Neural Network Representations Revisited", 2019,
arXiv:1905.00414. Features are the outputs of modules on validation samples, in evaluation mode, with the weights that
predict; maps and sequences are flattened, as in the source.
Cost: a forward pass of both models, with the outputs of all compared layers of one model in memory, in float32:
``num_samples`` times their number; then a product of ``num_samples`` x ``num_samples`` a layer.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from mltricks.config.compose import plain
from mltricks.config.values import Range, check_value
from mltricks.data.splits import Split
from mltricks.figures.probes import layer_similarity
from mltricks.functional.cka import aligned, centred_gram
from mltricks.functional.feature_maps import first_tensor
from mltricks.functional.layers import weighted_layers
from mltricks.functional.paired_layers import layers_of, named_layers
from mltricks.inference import load_checkpoint, load_splits, members_of
from mltricks.predictor import Predictor
from mltricks.probes.keep import write
from mltricks.state import PROBE, fold, map_state
from mltricks.weights import BUFFER, PARAM, RAW

FEWEST = 3
"""Samples of a comparison: of two, all layers would have a similarity of 1."""


def compare_layers(cfg: Any, folder: Path, overrides: list[str], mode: str) -> None:
    """Measure the similarity of every layer of one run to every layer of another, or of one run to itself.

    Raises:
        ValueError: the checkpoint is missing or names more than two runs, a run predicts with several sets of weights,
            no layer has the given name, or the data do not fit the models.
    """
    settings, start = plain(cfg)["job"], time.perf_counter()
    check_value("job.num_samples", settings["num_samples"], Annotated[int, Range(FEWEST)])
    predictor, cfg = load_checkpoint(cfg, overrides, "compare_layers")
    runs = members_of(predictor) or {str(cfg["checkpoint"]): predictor}
    if len(runs) > 2:
        raise ValueError(f"checkpoint={cfg['checkpoint']} names {len(runs)} runs. Type checkpoint=RUN+RUN, or one run.")
    if len(runs) == 1 and settings["other_layers"] is not None:
        raise ValueError("job.other_layers has no effect on one run. Type job.layers, or checkpoint=RUN+RUN.")
    split = load_splits(predictor, cfg).val
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(fold(0, PROBE)))
    order = order[: settings["num_samples"]]
    if len(order) < FEWEST:
        raise ValueError(f"job=compare_layers needs {FEWEST} validation samples, and these data have {len(order)}.")
    grams = [
        grams_of(name, run, split, order, cfg["eval_batch_size"], (key, settings[key]))
        for (name, run), key in zip(runs.items(), ("layers", "other_layers"), strict=False)
    ]
    similarity = [[float(aligned(a, b)) for b in grams[-1].values()] for a in grams[0].values()]
    found = {"runs": list(runs), "layers": [list(grams[0]), list(grams[-1])], "similarity": similarity}
    content = {
        **found,
        "num_samples": len(order),
        "verdict": "measured",
        "reason": words(found),
        "advice": [],
        "checkpoint": str(cfg["checkpoint"]),
        "steps": 0,
        "seconds": round(time.perf_counter() - start, 3),
    }
    device = str(predictor.device)
    write("compare_layers", content, device, layer_similarity, folder, overrides, mode == "MULTIRUN")


def grams_of(
    name: str, run: Predictor, split: Split, order: Tensor, batch_size: int, setting: tuple[str, list[str] | None]
) -> dict[str, Tensor]:
    """The centred Gram matrices of a model's layers, by name, in the order of their calls.

    Args:
        name: of the run, for messages.
        run: its model.
        split, order: the samples, by their places.
        batch_size: samples a forward pass.
        setting: its name, and the patterns of names of modules in it; ``None`` for the layers with weights.

    Raises:
        ValueError: the run predicts with several sets of weights, or a pattern matches no layer.
    """
    if any(key.startswith(RAW) for key in run.weights):
        raise ValueError(
            f"checkpoint={name} predicts with several sets of weights, and layers are those of one. Give the folder of "
            "a run without technique=snapshot."
        )
    held = {key: t.to(run.device) for key, t in run.weights.items()}
    params = {key: held[PARAM + key] for key, _ in run.model.params}
    buffers = {key: held[BUFFER + key] for key, _ in run.model.buffers}
    batches = [run.info.normalize(batch["x"]) for batch in split.batches(order.split(batch_size))]
    layers = layers_of(run.model.module, map_state(lambda t: t[:2], batches[0]))
    weighted = weighted_layers(run.model.module)
    names = [layer.name for layer in layers if layer.name in weighted]
    key, patterns = setting
    if patterns is not None:
        names = [layer.name for layer in named_layers(layers, patterns, f"job.{key}")]
    seen: dict[str, list[Tensor]] = {key: [] for key in names}
    with torch.no_grad():
        for x in batches:
            _, _, captured = run.model(params, buffers, x, False, names)
            for key in names:
                seen[key].append(first_tensor(captured[key][1]).float().flatten(1))
    return {key: centred_gram(torch.cat(seen.pop(key))) for key in names}


def words(found: dict[str, Any]) -> str:
    """The layer of the second run that is most alike to each of the first, in one sentence."""
    first, second = found["layers"]
    nearest = [
        f"{name} is nearest {second[max(range(len(row)), key=row.__getitem__)]} ({max(row):.2f})"
        for name, row in zip(first, found["similarity"], strict=True)
    ]
    return f"Linear CKA of {len(first)} with {len(second)} layers: {', '.join(nearest)}."
