"""NT-Xent in chunks against the dense form: memory, time, gradient.

    python benchmarks/nt_xent.py

Each round times both forms one after the other; the table has the medians. Peak memory is what one
process needs above what it held before, each form in a process of its own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_lightning.nn.losses.contrastive import nt_xent


def dense(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The formula as one matrix of all similarities."""
    z = F.normalize(torch.cat((z1, z2)), dim=1)  # [2B, D]
    s = ((z / temperature) @ z.T).fill_diagonal_(-torch.inf)  # [2B, 2B]
    return F.cross_entropy(s, torch.arange(len(z)).roll(len(z1)))


FORMS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {"dense": dense, "nt_xent": nt_xent}


def features(args: argparse.Namespace, dtype: torch.dtype = torch.float32) -> Tensor:
    """Two views that resemble each other, [2, B, D]."""
    generator = torch.Generator().manual_seed(0)
    centre, noise = torch.randn(3, args.batch, args.dim, generator=generator).split((1, 2))
    return (centre + 0.5 * noise).to(dtype).requires_grad_()


def step(form: str, z: Tensor, temperature: float) -> Tensor:
    (grad,) = torch.autograd.grad(FORMS[form](z[0], z[1], temperature), z)
    return grad


def timed(form: str, z: Tensor, temperature: float) -> float:
    start = time.perf_counter()
    step(form, z, temperature)
    return time.perf_counter() - start


def status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    return next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith(key)
    )


def peak_memory(form: str, args: argparse.Namespace) -> int:
    """Bytes that one forward and backward pass needs at most (Linux)."""
    warm = features(argparse.Namespace(batch=64, dim=args.dim))
    step(form, warm, args.temperature)
    z = features(args)
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    before = status("VmRSS")
    step(form, z, args.temperature)
    return status("VmHWM") - before


def relative_error(gradient: Tensor, reference: Tensor) -> float:
    return ((gradient.double() - reference.double()).norm() / reference.double().norm()).item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8192, help="samples, half of the 2B features")
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak-memory-of", choices=FORMS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_memory_of:
        print(peak_memory(args.peak_memory_of, args))
        return

    memory = {
        form: int(
            subprocess.run(
                [sys.executable, *sys.argv, "--peak-memory-of", form], check=True, stdout=subprocess.PIPE
            ).stdout
        )
        for form in FORMS
    }
    reference = step("dense", features(args, torch.float64), args.temperature)
    z = features(args)
    errors = {form: relative_error(step(form, z, args.temperature), reference) for form in FORMS}
    errors_to_dense = relative_error(step("nt_xent", z, args.temperature), step("dense", z, args.temperature))
    rounds = [{form: timed(form, z, args.temperature) for form in FORMS} for _ in range(args.rounds)]
    seconds = {form: statistics.median(times[form] for times in rounds) for form in FORMS}

    print(
        f"NT-Xent, forward and backward, 2B = {2 * args.batch}, D = {args.dim}, float32, {args.threads} threads,"
        f" {args.rounds} rounds"
    )
    print("| form | peak MiB | seconds | gradient error (against float64) |")
    print("| --- | --- | --- | --- |")
    for form in FORMS:
        print(f"| {form} | {memory[form] / 2**20:.0f} | {seconds[form]:.2f} | {errors[form]:.1e} |")
    print(
        f"| ratio | 1/{memory['dense'] / memory['nt_xent']:.0f} | {seconds['nt_xent'] / seconds['dense']:.2f} |"
        f" {errors_to_dense:.1e} (dense) |"
    )


if __name__ == "__main__":
    main()
