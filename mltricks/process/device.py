"""Where a run is computed."""

from __future__ import annotations

import os

import torch


def choose_device(name: str) -> torch.device:
    """The device that ``device=`` names; ``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # streams and captures belong to the current device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} cannot be used: {reason}. Type device=auto or device=cpu.") from error
    return device


def set_determinism(deterministic: bool) -> None:
    """Refuse operations without a deterministic implementation on CUDA, or let cuDNN choose the fastest kernels.

    The CPU is deterministic either way. cuBLAS reads its setting when it starts, so this comes before any CUDA call.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if (
        deterministic != torch.are_deterministic_algorithms_enabled()
    ):  # only where needed: setting it imports the compiler, a second
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
