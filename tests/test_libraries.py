"""Torch's libraries are loaded ahead for sweeps, unless a job could be affected (``OMP_NUM_THREADS``)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import command_environment

LOADED = """
import sys, threading
from mltricks.process.libraries import load_ahead

load_ahead(sys.argv[1:])
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join()
print("libtorch_python" in open("/proc/self/maps").read(), "torch" in sys.modules)
import torch
assert torch.ones(2).sum() == 2
"""


@pytest.mark.skipif(sys.platform != "linux", reason="done on Linux only")
@pytest.mark.parametrize(
    ("typed", "loaded"),
    [
        (["-m", "seed=0,1"], True),
        (["--multirun", "seed=0,1"], True),
        (["seed=0"], False),
        (["-m", "seed=0,1", "hydra/launcher=basic"], False),
        (["-m", "seed=0,1", "+hydra.job.env_set.OMP_NUM_THREADS=1"], False),
    ],
)
def test_the_libraries_loaded_ahead(typed: list[str], loaded: bool) -> None:
    command = [sys.executable, "-c", LOADED, *typed]
    done = subprocess.run(command, env=command_environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(loaded), "False"]
