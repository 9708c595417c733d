"""Where a run is computed."""

from __future__ import annotations

import os
import warnings

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
    except RuntimeError as error:
        raise ValueError(f"device={name} is unknown. Allowed: auto, cpu, cuda, cuda:0, cuda:1, ..., mps.") from error
    try:
        if device.type == "meta" or (device.type == "cpu" and device.index is not None):
            raise ValueError(
                f"device={name} cannot be used: nothing is computed there. Type device=auto or device=cpu."
            )
        torch.empty(0, device=device)
        if device.index is not None and device.type == "cuda":
            torch.cuda.set_device(device)  # streams and captures belong to the current device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} cannot be used: {reason}. Type device=auto or device=cpu.") from error
    return device


def set_threads(threads: int | None) -> list[str]:
    """Set how many threads an operation on the CPU may use.

    Small steps suffer where other processes keep the cores busy: a thread that has done its share waits for one that
    has not been given a core. A step of 12 ms then takes four times as long with two threads, and a quarter longer
    with one. The number is not chosen by the load: the rounding of sums depends on it.

    Args:
        threads: their number; ``None`` leaves it to torch, one for each core.

    Raises:
        ValueError: there are more threads than cores.

    Returns:
        Advice, where the cores are busy and the number was left to torch.
    """
    cores = os.cpu_count() or 1
    if threads is not None:
        if threads > cores:
            raise ValueError(f"threads={threads} must be 1 to {cores}, the cores of this machine.")
        torch.set_num_threads(threads)
        return []
    if not hasattr(os, "getloadavg") or torch.get_num_threads() == 1 or os.getloadavg()[0] < 0.75 * cores:
        return []
    return [
        f"note: other processes keep {os.getloadavg()[0]:.1f} of {cores} cores busy, and operations use "
        f"{torch.get_num_threads()} threads. threads=1 is often faster then."
    ]


def set_arithmetic(deterministic: bool, tf32: bool | str) -> None:
    """Decide how CUDA computes from now on; this comes before any CUDA call, as cuBLAS reads its setting at its start.

    The CPU is deterministic either way, and its arithmetic stays as it is.

    Args:
        deterministic: refuse operations without a deterministic implementation, and let cuDNN choose kernels by rule
            and not by timing them.
        tf32: ``precision.tf32``, see ``allows_tf32``.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if (
        deterministic != torch.are_deterministic_algorithms_enabled()
    ):  # only where needed: setting it imports the compiler, a second
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = not deterministic
    allowed = allows_tf32(deterministic, tf32)
    with warnings.catch_warnings():  # Inductor reads these two names and fails where the newer ones are set
        warnings.filterwarnings("ignore", "Please use the new API settings to control TF32", UserWarning)
        torch.backends.cuda.matmul.allow_tf32 = allowed
        torch.backends.cudnn.allow_tf32 = allowed


def allows_tf32(deterministic: bool, tf32: bool | str) -> bool:
    """Whether CUDA may round the factors of float32 products, of matrices and convolutions, to TF32's 10 bits.

    ``auto`` allows it unless the run is to be deterministic: TF32 is as repeatable, but other kernels (an engine's, a
    stack's) then agree to 3 digits instead of 7.
    """
    return not deterministic if tf32 == "auto" else bool(tf32)
