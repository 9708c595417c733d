"""The rows of docs/few_labels.md: one command each."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

ROW = "this run"
"""The row of ``job=knn`` and ``job=probe`` for the run itself."""


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        table: name of the table.
        name: of the method and its data.
        columns: heads of the figures.
        stages: where each figure stands: the name of a stage, or empty for the run itself.
        overrides: of the command, without the seeds.
        published: the figure of the source, with its setting; ``-`` for none.
        key: a swept key whose values are the columns; empty if a run has all figures.
        baseline: of ``job=knn`` and ``job=probe``, the row to read.
    """

    table: str
    name: str
    columns: tuple[str, ...]
    stages: tuple[str, ...]
    overrides: tuple[str, ...]
    published: str = "-"
    key: str = ""
    baseline: str = ROW

    @property
    def folder(self) -> str:
        """The name of the folder of its sweep; baselines are measured in that of another row."""
        words = " ".join(self.overrides)
        return f"{re.sub(r'[^a-z0-9]+', '_', words.lower())[:80]}_{hashlib.sha256(words.encode()).hexdigest()[:8]}"


WITH_BASELINES = ("simclr", "mae")
"""Methods in whose runs the untrained network and the pixels are measured too, for rows of their own."""


def on_features(
    data: str, name: str, technique: str, published: str = "-", more: tuple[str, ...] = (), baseline: str = ROW
) -> Row:
    """Features learned without labels, judged by nearest neighbours and a linear probe on all labels of the part."""
    size = () if "model=vit" in more else ("model.width=16",)
    epochs = 5 if data == "mnist" else 10
    part = ("experiment=simclr_probe", f"data={data}", "data.limit=5000", f"epochs={epochs}", *size)
    chosen = () if technique == "simclr" else (f"stages.pretrain.technique={technique}",)
    chosen += ("stages.pretrain.optim.lr=3e-4",) if technique == "moco" else ()  # at 3e-3 all its keys become one
    flips = data == "cifar10" and technique in ("simclr", "moco", "barlow_twins", "simsiam")
    no_flips = data != "cifar10" and technique in ("moco", "barlow_twins", "simsiam")
    flip = (f"stages.pretrain.technique.{technique}.flip={str(flips).lower()}",) if flips or no_flips else ()
    once = technique not in WITH_BASELINES
    alone = ("stages.knn.job.baselines=false", "stages.probe.job.baselines=false") if once else ()
    columns = ("kNN", "linear probe")
    return Row(
        f"features of {data}",
        name,
        columns,
        ("knn", "probe"),
        (*part, *chosen, *flip, *more, *alone),
        published,
        "",
        baseline,
    )


VIT = (
    "model=vit",
    "model.norm=layer",
    "model.patch=4",
    "model.depth=3",
    "model.head_pool=mean",
    "stages.pretrain.optim.beta2=0.95",
)
METHODS: tuple[tuple[str, str, dict[str, str], tuple[str, ...]], ...] = (
    ("SimCLR", "simclr", {"cifar10": "91 linear, ResNet-18, 1000 epochs"}, ()),
    ("MoCo v2", "moco", {"cifar10": "82.6 kNN, ResNet-18, 200 epochs"}, ()),
    ("Barlow Twins", "barlow_twins", {"cifar10": "92.1 linear, ResNet-18, 1000 epochs"}, ()),
    ("SimSiam", "simsiam", {"cifar10": "91.8 linear, ResNet-18, 800 epochs"}, ()),
    ("denoising autoencoder", "denoising_autoencoder", {}, ()),
    ("SimMIM, small ViT", "masked_image_modeling", {}, VIT),
    ("MAE, small ViT", "mae", {}, VIT),
    ("Siamese, with labels", "siamese", {}, ()),
    ("supervised", "none", {}, ()),
    ("supervised, small ViT", "none", {}, VIT),
)
FEATURES = tuple(
    row
    for data in ("mnist", "cifar10")
    for row in (
        *(on_features(data, name, technique, p.get(data, "-"), more) for name, technique, p, more in METHODS),
        on_features(data, "untrained network", "simclr", baseline="untrained model"),
        on_features(data, "untrained small ViT", "mae", more=VIT, baseline="untrained model"),
        on_features(data, "pixels", "simclr", baseline="raw input"),
    )
)

LABELS = ("1", "4", "25")
OF_LABELS = tuple(
    Row(
        "labels of mnist",
        name,
        tuple(f"{n} a class" for n in LABELS),
        ("",) * len(LABELS),
        (*overrides, f"data.labels_per_class={','.join(LABELS)}"),
        published,
        "data.labels_per_class",
    )
    for name, overrides, published in (
        ("supervised", ("experiment=pseudo_label", "technique=none", "data.unlabeled_ratio=0"), "-"),
        ("pseudo-labels", ("experiment=pseudo_label",), "83.9 at 10 a class, 78.1 without (MLP)"),
        ("mean teacher", ("experiment=mean_teacher",), "CIFAR-10: 78.5 at 100 a class"),
        ("FixMatch", ("experiment=fixmatch",), "CIFAR-10: 86.2 at 4 a class"),
    )
)
CIFAR_40 = tuple(
    Row("labels of cifar10", name, ("4 a class",), ("",), overrides, published)
    for name, overrides, published in (
        (
            "supervised",
            ("experiment=pseudo_label", "data=cifar10", "technique=none", "data.unlabeled_ratio=0", "epochs=5"),
            "-",
        ),
        (
            "FixMatch",
            ("experiment=fixmatch", "data=cifar10", "technique.fixmatch.flip=true", "epochs=5"),
            "86.2 (WRN-28-2, 2^20 updates)",
        ),
    )
)

TAUGHT = ("data=mnist", "data.limit=1000")
DISTILLATION = tuple(
    Row("distillation", name, ("student",), (stage,), overrides, published)
    for name, stage, overrides, published in (
        ("teacher: ResNet-9", "teacher", ("experiment=distill", *TAUGHT), "99.45"),
        ("student alone", "student", ("experiment=distill", *TAUGHT, "stages.student.technique=none"), "98.1"),
        ("predictions", "student", ("experiment=distill", *TAUGHT), "99.35"),
        ("hints, then predictions (FitNets)", "student", ("experiment=fitnets", *TAUGHT), "99.49"),
        ("its own average", "student", ("experiment=distill", *TAUGHT, "stages.student.technique=distill_ema"), "-"),
        ("born again, first network", "teacher", ("experiment=born_again", *TAUGHT), "-"),
        ("born again, third generation", "third", ("experiment=born_again", *TAUGHT), "-"),
    )
)
TRANSFER = tuple(
    Row("unfreezing", name, ("5 to 9, 10 a class",), ("",), overrides, published)
    for name, overrides, published in (
        (
            "from scratch",
            (
                *("data=digits_5_9", "data.limit=50", "model=convnet", "scheduler=cosine"),
                *("batch_size=25", "epochs=200", "eval_every_epochs=20"),
            ),
            "90.1",
        ),
        ("fine-tuning", ("experiment=transfer_finetune",), "93.1"),
        ("gradual unfreezing", ("experiment=transfer_gradual",), "95.0"),
        ("frozen features", ("experiment=transfer_features",), "93.5"),
    )
)
ROWS = (*FEATURES, *OF_LABELS, *CIFAR_40, *DISTILLATION, *TRANSFER)
