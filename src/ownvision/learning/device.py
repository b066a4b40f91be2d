"""What computations run on: how many threads, which device, which numbers. Nothing else decides these.

A GPU is used where there is one: by onnxruntime where its CUDA build (onnxruntime-gpu) is installed, by torch where it
sees one. Training there computes in bfloat16 or float32, whichever a probe of three steps finds better.
"""

import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import onnxruntime
    import torch

Precision = Literal["bf16", "fp32"]

# Beyond, the small maps of these networks only wait for each other; who has more cores says so in the settings.
MOST_THREADS = 8
PROBE_STEPS = 3
# bfloat16 keeps 8 bits: a loss of a few steps that is further off than this is another training.
_CLOSE = 0.05
_CGROUP = Path("/sys/fs/cgroup")


def threads(wanted: int = 0) -> int:
    """How many threads a computation gets.

    Args:
        wanted: By the person; 0: as many as the cores that this process may use, `MOST_THREADS` at most.
    """
    if wanted > 0:
        return wanted
    quota = _quota(_CGROUP)
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(mine, MOST_THREADS, mine if quota is None else math.ceil(quota)))


def _quota(root: Path) -> float | None:
    """Cores' worth of time that a container may use (cgroup v2, then v1); None where nothing limits it."""
    try:
        given, period = (root / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            given = (root / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota = int(given) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return quota if quota > 0 else None


def session(model: bytes, wanted: int = 0) -> "onnxruntime.InferenceSession":
    """A model in onnxruntime.

    Args:
        model: ONNX.
        wanted: Threads of one run, as of `threads`.
    """
    import onnxruntime  # 40 MB that a service without a model in use need not hold

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads(wanted)
    # Cores are shared with the rest of the service, and with torch: idle threads must sleep, not spin.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=providers(onnxruntime.get_available_providers()))


def providers(available: list[str]) -> list[str | tuple[str, dict[str, str]]]:
    """What onnxruntime is to compute with, best first."""
    cpu = "CPUExecutionProvider"
    # TF32 would round every factor to 10 bits: what is served must be what was measured and what is exported.
    cuda = ("CUDAExecutionProvider", {"use_tf32": "0"})
    return [cuda, cpu] if cuda[0] in available else [cpu]


def training_device() -> "torch.device":
    """Where torch trains."""
    import torch

    # Read when a GPU's library is first used: without it sums there are added up in any order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision(
    device: "torch.device",
    trial: Callable[[Precision], Callable[[], float]],
    clock: Callable[[], float] = time.perf_counter,
) -> Precision:
    """Which numbers to train in: float32 on a CPU, where bfloat16 was slower, and on a GPU what `probe` finds."""
    return "fp32" if device.type == "cpu" else probe(trial, clock)


def probe(trial: Callable[[Precision], Callable[[], float]], clock: Callable[[], float]) -> Precision:
    """Three training steps in each precision: bfloat16 where it is faster, finite and close in loss.

    Args:
        trial: Gives for a precision a function that takes one step, on a copy of the training that always starts at
            the same place, waits for it to end and returns its loss.
        clock: Seconds.
    """
    losses: dict[Precision, list[float]] = {}
    seconds: dict[Precision, float] = {}
    for kind in ("fp32", "bf16"):
        step = trial(kind)
        said, times = [], []
        for _ in range(PROBE_STEPS):
            begun = clock()
            said.append(step())
            times.append(clock() - begun)
        # The first steps of a kind choose kernels and take memory.
        losses[kind], seconds[kind] = said, min(times)
    close = all(
        math.isfinite(ours) and abs(ours - theirs) <= _CLOSE * abs(theirs) + 1e-6
        for ours, theirs in zip(losses["bf16"], losses["fp32"], strict=True)
    )
    return "bf16" if close and seconds["bf16"] < seconds["fp32"] else "fp32"
