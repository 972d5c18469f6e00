"""The precisions of a run: the one that `auto` stands for, and those that are refused."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Literal

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

Precision = Literal[
    "auto", "32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true", "transformer-engine",
    "transformer-engine-float16", "16", "bf16", "32", "64", 16, 32, 64,
]  # fmt: skip


def best_precision(accelerator: Any = "auto") -> Literal["bf16-mixed", "32-true"]:
    """The precision that `auto` stands for: bf16-mixed if the hardware computes in bfloat16
    natively, else float32.

    On a CPU with AVX512-BF16 or AMX, bf16-mixed doubles the speed of a ResNet-18; emulated bfloat16
    would halve it. CUDA is not initialised, where NVIDIA's management library answers: processes
    that are forked later could not use it (`ddp_fork`, `ddp_notebook`).
    """
    name = (
        accelerator if isinstance(accelerator, str) else type(accelerator).__name__.lower().removesuffix("accelerator")
    )
    if name in ("auto", "gpu", "cuda") and torch.cuda.is_available():  # Lightning has it ask that library too
        return "bf16-mixed" if _gpus_have_bfloat16() else "32-true"
    if name in ("auto", "cpu"):
        return "bf16-mixed" if {"avx512_bf16", "amx_bf16"} & _cpu_flags() else "32-true"
    return "32-true"


def check_precision(trainer: Any, stage: str) -> None:
    """Refuses precisions in which a run would fail, or learn badly.

    Args:
        trainer: Lightning's Trainer.
        stage: as in `LightningModule.setup`.

    Raises:
        MisconfigurationException: the message says why, and what to use.
    """
    precision, device = str(trainer.precision), trainer.strategy.root_device.type
    check_choice(precision)
    if precision == "64-true" and device == "mps":
        raise MisconfigurationException(
            "precision=64-true: Apple's GPUs have no float64. Use 32-true, or the CPU: --trainer.accelerator cpu."
        )
    if precision == "16-true" and stage == "fit":
        raise MisconfigurationException(
            "precision=16-true trains weights in float16, which rounds Adam's second moments of gradients below 0.005"
            " to 0, so that its steps are many times too large, or infinite. Train with 16-mixed or bf16-mixed;"
            " validate, test and predict take 16-true."
        )


def check_choice(precision: Any) -> None:
    """Refuses precisions that no run takes.

    Raises:
        MisconfigurationException: the message says why, and what to use.
    """
    if str(precision).startswith("transformer-engine"):
        raise MisconfigurationException(
            f"precision={precision} replaces layers, so that encoders and checkpoints no longer hold what their configs"
            " describe. Use bf16-mixed."
        )


def _gpus_have_bfloat16() -> bool:
    """Whether the GPUs compute in bfloat16: NVIDIA's do from compute capability 8 on. Of GPUs that
    differ, CUDA tells which one is used, and is initialised by that."""
    if torch.version.hip is None and len(native := {major >= 8 for major in gpu_generations()}) == 1:
        return native.pop()
    return torch.cuda.is_bf16_supported(including_emulation=False)


def gpu_generations() -> list[int]:
    """The major compute capability of each of the machine's NVIDIA GPUs, by NVIDIA's management
    library; empty where it does not answer."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count, major, minor, handle = ctypes.c_uint(), ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    generations = []
    for index in range(count.value):
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            return []
        if nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor)):
            return []
        generations.append(major.value)
    return generations


def _cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    line = (
        next((line for line in path.read_text().splitlines() if line.startswith("flags")), "") if path.is_file() else ""
    )
    return set(line.split())
