"""NT-Xent of very many samples: memory and time; and its gradient against the dense form's."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lightning import nt_xent

from .clock import DEVICE, FULL, bar, now, spread
from .sheet import Sheet

GIGABYTES, ERROR = 2.0, 1e-5
SAMPLES, DIM, FEW, ROUNDS = (65_536, 128, 2048, 5) if FULL else (512, 16, 64, 2)
TEMPERATURE = 0.2


def dense(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The formula as one matrix of all similarities."""
    z = F.normalize(torch.cat((z1, z2)), dim=1)  # [2B, D]
    s = ((z / temperature) @ z.T).fill_diagonal_(-torch.inf)  # [2B, 2B]
    return F.cross_entropy(s, torch.arange(len(z), device=z.device).roll(len(z1)))


def gradient(form: Callable[[Tensor, Tensor, float], Tensor], z: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(form(z[0], z[1], TEMPERATURE), z)
    return grad


def features(samples: int) -> Tensor:
    """Two views that resemble each other, [2, B, D]."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    centre, noise = torch.randn(3, samples, DIM, generator=generator, device=DEVICE).split((1, 2))
    return (centre + 0.5 * noise).requires_grad_()


def run(sheet: Sheet, names: list[str]) -> None:
    z = features(FEW)
    reference = gradient(dense, z.detach().double().requires_grad_())
    error = float((gradient(nt_xent, z).double() - reference).norm() / reference.norm())
    sheet.tell(
        f"NT-Xent of {FEW:,} samples: gradient against the dense form in float64",
        f"<= {ERROR}",
        f"relative error {error:.1e}",
        error <= ERROR,
        error=error,
    )
    del z, reference
    z, seconds = features(SAMPLES), []
    if FULL:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(ROUNDS + 1):
        began = now()
        gradient(nt_xent, z)
        seconds.append(now() - began)
    most = torch.cuda.max_memory_allocated() / 1e9 if FULL else 0.0
    sheet.tell(
        f"NT-Xent of {SAMPLES:,} samples of {DIM} features, forward and backward",
        f"<= {GIGABYTES:g} GB",
        f"{most:.2f} GB at most, features included; {spread(seconds[1:], '.3f')} s",
        bar(most <= GIGABYTES),
        gigabytes=most,
        seconds=statistics.median(seconds[1:]),
    )
