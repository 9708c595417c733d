"""Time of a training step, compared with a hand-written loop, Lightning and Fabric: python benchmarks/step_overhead.py

All programs train the same model on the same digits in the same process, in turn, on one thread, with a cosine learning
rate, and keep loss and accuracy at every step. The other programs index data that were normalised beforehand, which is
the fastest way for them; mltricks normalises in the step. Times are CPU seconds of the process, which has one thread.
Needs: pip install -e '.[bench]'
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from harness import environment, race, report
from torch import Tensor, nn

import mltricks
from mltricks.build import build
from mltricks.config.compose import plain
from mltricks.state import reseed_step

LR, TOTAL = 1e-3, 1_000_000


def overrides(model: str, optim: str, batch_size: int, engine: str) -> list[str]:
    width = {"mlp": 32, "convnet": 16}[model]
    settings = [
        f"model={model}",
        f"model.width={width}",
        f"optim={optim}",
        f"batch_size={batch_size}",
        f"engine={engine}",
    ]
    return [*settings, f"optim.lr={LR}", "scheduler=cosine", f"max_steps={TOTAL}", f"epochs={TOTAL}"]


def ours(model: str, optim: str, batch_size: int, engine: str, steps: int) -> Callable[[], None]:
    """The loop of mltricks: reseeding, schedule, stream, step and metrics, as in ``mltricks.train``."""
    run = build(plain(mltricks.compose(overrides(model, optim, batch_size, engine))))

    def train() -> None:
        window = []
        for step, batch in enumerate(islice(run.source.stream(0), steps)):
            reseed_step(run.cfg["seed"], step)
            run.state, metrics = run.step(run.state, batch, run.hypers.at(step))
            window.append(metrics)
        assert torch.stack([m["loss"] for m in window]).isfinite().all()

    return train


class Bare:
    """Model and data of the other programs: normalised once, in memory."""

    def __init__(self, model: str, optim: str, batch_size: int):
        run = build(plain(mltricks.compose(overrides(model, optim, batch_size, "eager"))))
        split, info = run.data.train, run.data.info
        self.x = info.normalize(split.x.permute(0, 3, 1, 2).contiguous())
        self.y, self.batch_size = split.y, batch_size
        self.module: nn.Module = run.model.module.train()
        self.optim_name = optim

    def optimizer(self, **options: Any) -> torch.optim.Optimizer:
        if self.optim_name == "sgd":
            return torch.optim.SGD(self.module.parameters(), LR, momentum=0.9, **options)
        return torch.optim.AdamW(self.module.parameters(), LR, weight_decay=0.01, **options)

    def schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL)

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            order = torch.randperm(len(self.x))
            for i in range(len(self.x) // self.batch_size):
                index = order[i * self.batch_size : (i + 1) * self.batch_size]
                yield self.x[index], self.y[index]


def judge(logits: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return F.cross_entropy(logits, y), (logits.detach().argmax(1) == y).float().mean()


def loop(bare: Bare, module: Any, optimizer: Any, schedule: Any, backward: Any, steps: int) -> Callable[[], None]:
    """The loop of the hand-written programs and of Fabric, which differ only in how the gradient is computed."""

    def train() -> None:
        losses, accuracies = [], []
        for x, y in islice(bare.batches(), steps):
            loss, accuracy = judge(module(x), y)
            optimizer.zero_grad()
            backward(loss)
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
            accuracies.append(accuracy)
        assert torch.stack(losses).isfinite().all()

    return train


def hand_written(model: str, optim: str, batch_size: int, steps: int, **options: Any) -> Callable[[], None]:
    bare = Bare(model, optim, batch_size)
    optimizer = bare.optimizer(**options)
    return loop(bare, bare.module, optimizer, bare.schedule(optimizer), Tensor.backward, steps)


def fabric(model: str, optim: str, batch_size: int, steps: int) -> Callable[[], None]:
    from lightning.fabric import Fabric

    bare, runner = Bare(model, optim, batch_size), Fabric(accelerator="cpu", devices=1)
    runner.launch()
    plain_optimizer = bare.optimizer()
    schedule = bare.schedule(plain_optimizer)
    module, optimizer = runner.setup(bare.module, plain_optimizer)
    return loop(bare, module, optimizer, schedule, runner.backward, steps)


def lightning(model: str, optim: str, batch_size: int, steps: int) -> Callable[[], None]:
    import lightning

    bare = Bare(model, optim, batch_size)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = bare.module

        def training_step(self, batch: Any, index: int) -> Tensor:
            loss, accuracy = judge(self.net(batch[0]), batch[1])
            self.log("loss", loss)
            self.log("accuracy", accuracy)
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = bare.optimizer()
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": bare.schedule(optimizer), "interval": "step"}}

    class Loader:
        def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
            return islice(bare.batches(), steps)

        def __len__(self) -> int:
            return steps

    module = Module()

    def train() -> None:
        trainer = lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, Loader())

    return train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--no-lightning", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    packages = [] if options.no_lightning else ["lightning"]
    print(environment(*packages))
    for model, optim, batch_size in (
        ("mlp", "sgd", 64),
        ("mlp", "adamw", 64),
        ("convnet", "sgd", 32),
        ("convnet", "adamw", 32),
    ):
        case = (model, optim, batch_size)
        contestants = {
            "mltricks eager": ours(*case, "eager", options.steps),
            "mltricks traced": ours(*case, "traced", options.steps),
            "hand-written": hand_written(*case, options.steps),
            "hand-written fused": hand_written(*case, options.steps, fused=True),
        }
        if not options.no_lightning:
            contestants |= {"Fabric": fabric(*case, options.steps), "Lightning": lightning(*case, options.steps)}
        times = race(contestants, options.rounds, time.process_time)
        report(
            f"{model}, {optim}, batch {batch_size}: microseconds a step",
            times,
            ["mltricks eager", "mltricks traced"],
            1e6 / options.steps,
        )


if __name__ == "__main__":
    main()
