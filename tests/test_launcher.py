"""The launcher ``local``: every job runs as under Hydra's own launcher, and wrong settings are refused."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, TINY, Outcome, command_environment

import mltricks
from mltricks.config.compose import plain
from mltricks.launch.job import Job
from mltricks.launch.plan import alike, named, plan

SPY = '''
import json, os
from pathlib import Path
from hydra.experimental.callback import Callback

class Spy(Callback):
    """Writes down what Hydra tells it."""

    def note(self, **seen):
        with open(Path(os.environ["NOTES"]), "a") as file:
            file.write(json.dumps(seen) + "\\n")

    def on_job_start(self, config, *, task_function, **kwargs):
        self.note(at="start", num=config.hydra.job.num, seed=config.seed, task=task_function.__name__,
                  variable=os.environ.get("OWN"))

    def on_job_end(self, config, job_return, **kwargs):
        value = job_return._return_value
        self.note(at="end", num=config.hydra.job.num, status=job_return.status.name, overrides=job_return.overrides,
                  value=str(value) if isinstance(value, Exception) else value, lr=job_return.cfg.optim.lr,
                  id=job_return.hydra_cfg.hydra.job.id, keys=sorted(job_return.hydra_cfg),
                  has_hydra="hydra" in job_return.cfg, task=job_return.task_name,
                  where=Path(job_return.working_dir).name)
'''
APP = """
import json, os
import hydra
from hydra.core.hydra_config import HydraConfig

@hydra.main(config_path={conf!r}, config_name="config", execution_whitelist=["spy.*"])
def app(cfg):
    own = HydraConfig.get()
    seen = {{"num": own.job.num, "id": own.job.id, "name": own.job.name, "mode": own.mode.name,
             "overrides": list(own.overrides.task), "choices": own.runtime.choices["optim"],
             "folder": os.path.basename(own.runtime.output_dir), "cwd": os.path.basename(os.getcwd()),
             "variable": os.environ.get("OWN"), "seed": cfg.seed, "hydra": "hydra" in cfg}}
    with open(os.path.join(own.runtime.output_dir, "seen.json"), "w") as file:
        json.dump(seen, file)
    if cfg.seed == 1:
        raise RuntimeError("boom")
    return cfg.optim.lr

if __name__ == "__main__":
    app()
    from hydra.core.utils import JobRuntime
    assert not HydraConfig.initialized()
    assert "OWN" not in os.environ
"""


def content(path: Path, folder: Path) -> Any:
    """The content of a recorded file, without the parts that depend on the launcher or the time."""
    text = path.read_text().replace(str(folder), "FOLDER").replace(folder.name, "FOLDER")
    if path.suffix != ".yaml":
        return json.loads(text)
    tree = yaml.safe_load(text)
    if path.name == "hydra.yaml":
        tree["hydra"].pop("launcher")
        tree["hydra"]["runtime"]["choices"].pop("hydra/launcher")
        tree["hydra"]["overrides"].pop("hydra")
    return tree


@pytest.mark.parametrize("chdir", [False, True])
def test_jobs_run_as_with_hydras_own_launcher(chdir: bool, tmp_path: Path) -> None:
    (tmp_path / "spy.py").write_text(SPY)
    (tmp_path / "app.py").write_text(APP.format(conf=str(REPOSITORY / "conf")))
    found = {}
    for launcher in ("basic", "local"):
        folder = tmp_path / f"by_{launcher}"
        notes = tmp_path / f"{launcher}.jsonl"
        command = [sys.executable, "app.py", "-m", "hydra/sweeper=basic", f"hydra/launcher={launcher}",
                   "technique=[mixup,ema],[]", "seed=0,1", "optim.lr=3e-4", "+hydra.callbacks.spy._target_=spy.Spy",
                   f"hydra.sweep.dir={folder}", f"hydra.job.chdir={chdir}", "hydra.sweep.subdir=n${hydra.job.num}",
                   "+hydra.job.env_set.OWN=seed-${seed}", "~hydra.callbacks.sweep_page"]  # fmt: skip
        environment = command_environment(NOTES=str(notes), PYTHONPATH=str(tmp_path))
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert "boom" in done.stderr, done.stderr
        files = {str(p.relative_to(folder)): content(p, folder) for p in sorted(folder.rglob("*.[yj]*")) if p.is_file()}
        found[launcher] = (files, [json.loads(line) for line in notes.read_text().splitlines()])
    basic, local = found["basic"], found["local"]
    assert local[1] == basic[1]
    assert local[0].keys() == basic[0].keys()
    assert {f"n{num}/.hydra/{name}.yaml" for num in range(4) for name in ("config", "hydra", "overrides")} <= {
        *local[0]
    }
    for name in local[0].keys() - {"multirun.yaml"}:
        assert local[0][name] == basic[0][name], name


SCRIPT = """
import os, sys
from pathlib import Path
from hydra._internal.hydra import Hydra
from hydra._internal.callbacks import Callbacks
from hydra._internal.utils import create_config_search_path
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from mltricks.config.options import conf_dir
from mltricks.launch.compose import Composer
from mltricks.launch.run_job import run

class Ends(Callbacks):
    def on_job_end(self, config, job_return, **kwargs):
        print("end", job_return.status.name, type(job_return._return_value).__name__, os.environ["OWN"])

hydra = Hydra.create_main_hydra2("t", create_config_search_path(str(conf_dir())))
more = ["hydra.mode=MULTIRUN", "hydra.sweep.dir=s", "+hydra.job.env_set.OWN=1", "hydra.job.chdir=true"]
cfg = hydra.compose_config("config", more, RunMode.MULTIRUN)
HydraConfig.instance().set_config(cfg)
before, here = HydraConfig.instance().cfg, os.getcwd()
job = Composer(hydra.config_loader, cfg).job(3, ["seed=1"])
for kind in (KeyboardInterrupt, SystemExit):
    def task(cfg):
        raise kind
    try:
        run(job, task, Ends())
    except BaseException as error:
        print("raised", type(error).__name__)
    assert HydraConfig.instance().cfg is before and "OWN" not in os.environ and os.getcwd() == here
"""


def test_keyboard_interrupt_and_system_exit_pass_through_and_state_is_restored(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=command_environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "end FAILED KeyboardInterrupt 1",
        "raised KeyboardInterrupt",
        "end FAILED SystemExit 1",
        "raised SystemExit",
    ]


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (["optim.lrr=1,2"], ["optim.lrr", "lr"]),
        (["technique=mixup,cutmix", "technique.mixup.alpha=0.2"], ["technique.mixup.alpha"]),
        (["seed=0,1", "data=image_folder"], ["data.path is missing"]),
        (["seed=0,1", "hydra.launcher.fuse=maybe"], ["fuse=maybe", "auto, true or false"]),
        (["seed=0,1", "hydra.launcher.workers=0"], ["workers=0", "1 or more"]),
        (["seed=0,1", "+hydra.launcher.wrokers=2"], ["wrokers", "workers"]),
        (["optim.lr=interval(0,1)"], ["optim.lr", "hydra/sweeper=study"]),
    ],
)
def test_wrong_settings_are_refused_before_the_first_job(
    typed: list[str], words: list[str], run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    done = run_cli("-m", *TINY, *typed)
    assert done.status == 1
    assert all(word in done.err for word in words), done.err
    assert "Traceback" not in done.err
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def jobs(*overrides: list[str]) -> list[Job]:
    """Jobs of a training sweep."""

    class Patch:
        changes_folder, variables = False, ()

    cfgs = [plain(mltricks.compose([*TINY, *typed])) for typed in overrides]
    return [Job(n, [], cfg, Path(str(n)), Patch()) for n, cfg in enumerate(cfgs)]


def test_only_jobs_that_differ_in_floats_and_seeds_can_be_stacked() -> None:
    sweep = jobs(
        ["seed=0", "optim.lr=0.1"],
        ["seed=0", "optim.lr=0.2", "model.width=8"],
        ["seed=1", "optim.lr=0.3"],
        ["seed=1", "show=true"],
        ["seed=1", "job=evaluate"],
    )
    assert [[job.num for job in group] for group in alike(sweep)] == [[0, 2], [1], [3], [4]]


def test_fuse_says_whether_jobs_are_stacked() -> None:
    sweep = jobs(*([f"seed={n}"] for n in range(3)))
    made = plan(sweep, True, 1, trains=True)
    assert [[job.num for job in unit] for unit in made.units] == [[0, 1, 2]]
    assert made.notes == ["jobs 0 to 2 train together, in one stack of 3"]
    assert [len(unit) for unit in plan(sweep, False, 1, trains=True).units] == [1, 1, 1]
    assert [len(unit) for unit in plan(sweep, True, 1, trains=False).units] == [
        1,
        1,
        1,
    ]  # the function of another application


def test_very_short_trials_are_not_stacked_unless_asked_for() -> None:
    made = plan(jobs(*([f"seed={n}", "max_steps=2"] for n in range(3))), "auto", "auto", trains=True)
    assert [len(unit) for unit in made.units] == [1, 1, 1]
    assert not made.slots, "no worker is started for them"
    assert not made.notes, "that they run one by one is what anybody expects"


def test_fuse_true_is_refused_for_jobs_that_cannot_be_stacked() -> None:
    sweep = jobs(*([f"seed={n}", "optim=torch", "optim.name=RMSprop"] for n in range(2)))
    with pytest.raises(ValueError, match=r"fuse=true: jobs 0 to 1 cannot be stacked: optim=torch"):
        plan(sweep, True, 1, trains=True)


def test_jobs_are_named_by_their_numbers() -> None:
    numbers = [Job(n, [], {}, Path(), None) for n in (0, 1, 2, 5, 7, 8)]
    assert named(numbers) == "jobs 0 to 2, 5 and 7 to 8"
    assert named(numbers[:1]) == "job 0"


def test_workers_give_the_results_of_one_process(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    results = {}
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        options = [f"hydra.launcher.workers={workers}", "hydra.launcher.fuse=false", f"hydra.sweep.dir={folder}"]
        done = run_cli("-m", *[o for o in TINY if not o.startswith("progress")], "epochs=1", "seed=0,1", *options)
        assert done.status == 0, done.err
        assert len(re.findall(r"^#\d +val/accuracy 0\.\d+", done.out, re.MULTILINE)) == 2
        assert "lr" not in done.out, "one line per trial, without its epochs"
        found = [json.loads((folder / str(n) / "summary.json").read_text()) for n in range(2)]
        results[workers] = [(s["val"], s["test"], s["steps"]) for s in found]
        assert all((folder / str(n) / ".hydra" / "hydra.yaml").exists() for n in range(2))
    assert results[1] == results[2]


@pytest.mark.slow
def test_a_stack_gives_every_job_its_folder(run_cli: Callable[..., Outcome], tmp_path: Path) -> None:
    found = {}
    for fuse in ("true", "false"):
        folder = tmp_path / fuse
        options = [f"hydra.launcher.fuse={fuse}", f"hydra.sweep.dir={folder}", "optim.lr=1e-3,1e-2"]
        done = run_cli("-m", *TINY, "epochs=1", *options)
        assert done.status == 0, done.err
        found[fuse] = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
        summaries = [json.loads((folder / str(n) / "summary.json").read_text()) for n in range(2)]
        assert [s["fused"] is not None for s in summaries] == [fuse == "true"] * 2
        assert [s["overrides"][-1] for s in summaries] == ["optim.lr=0.001", "optim.lr=0.01"]
    assert found["true"] == found["false"]
    assert os.listdir(tmp_path / "true" / "0" / ".hydra")


@pytest.mark.parametrize("fuse", ["true", "false"])
def test_variables_are_set_for_every_job_and_every_stack(
    fuse: str, run_cli: Callable[..., Outcome], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nfrom torch import nn\n\n\nclass Net(nn.Sequential):\n"
        "    def __init__(self, num_outputs):\n        print('FOO is', os.environ.get('FOO'))\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, num_outputs))\n"
    )
    own = ["model=custom", "model._target_=mine.Net", "allow_modules=[mine]", "+hydra.job.env_set.FOO=bar"]
    tiny = [o for o in TINY if not o.startswith("model")]
    options = ["epochs=1", "seed=0,1", f"hydra.launcher.fuse={fuse}", "hydra.launcher.workers=1"]
    done = run_cli("-m", *tiny, *own, *options)
    assert done.status == 0, done.err
    assert done.out.count("FOO is bar") == 2
    assert "FOO is None" not in done.out


def test_a_mistyped_setting_of_the_launcher_gets_the_nearest_name(run_cli: Callable[..., Outcome]) -> None:
    done = run_cli(*TINY, "hydra.launcher.workrs=2")
    assert done.status == 1
    assert "hydra.launcher.workrs is no setting. Did you mean workers?" in done.err
