"""Communication between processes: their number and rank, rows of all processes with gradient, sums
and means. Without a process group there is one process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PART = 64 << 20
"""Bytes of each process that `collect` exchanges at a time."""


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if _together() else 1


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if _together() else 0


def leave() -> None:
    """Leaves the process group, if there is one: a process that exits while gloo's threads still
    run is aborted by them."""
    if _together():
        dist.destroy_process_group()


def row_counts(x: Tensor) -> list[int]:
    """The number of rows that each process holds, in the order of ranks. On an accelerator, the
    call waits for the device."""
    if world_size() == 1:
        return [len(x)]
    counts = torch.empty(world_size(), dtype=torch.int64, device=x.device)
    dist.all_gather_into_tensor(counts, torch.tensor([len(x)], device=x.device))
    return [int(count) for count in counts.tolist()]


def gather(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    """The rows of all processes, in the order of ranks, with gradient to each of them.

    The gradient of a row is the sum of its gradients in all processes. So where each process
    computes a share of a joint loss, the shares' gradients are added up in the process that holds
    the sample (the gathering of SimCLR, arXiv 2002.05709, Section 2.2). Every process must call it,
    and run the backward pass through it.

    Args:
        x: [B, ...] of any dtype. B may differ between processes, the other dimensions and the dtype
            may not.
        sizes: the result of `row_counts`; None: computed here.

    Returns:
        [sum of B, ...]; `x` itself in a single process.
    """
    if world_size() == 1:
        return x
    gathered: Tensor = _Gather.apply(x, row_counts(x) if sizes is None else sizes)
    return gathered


def collect(rows: Tensor, device: Any) -> Tensor:
    """The rows of all processes, in the order of ranks, in the memory of the first process alone.
    They travel a part at a time, so that the device need not have room for them. Every process must
    call it.

    Args:
        rows: [B, ...] on the CPU, without gradient. B may differ between processes, the other
            dimensions and the dtype may not.
        device: over which they travel.

    Returns:
        [sum of B, ...] on the CPU; in the other processes [0, ...].
    """
    if world_size() == 1:
        return rows
    sizes = row_counts(torch.empty(len(rows), 0, device=device))
    first = rank() == 0
    collected = rows.new_empty((sum(sizes) if first else 0, *rows.shape[1:]))
    at_once = max(1, PART // max(1, rows.new_empty((1, *rows.shape[1:])).nbytes))
    for start in range(0, max(sizes), at_once):
        counts = [min(max(0, size - start), at_once) for size in sizes]
        part = gather(rows[start : start + at_once].to(device), counts)
        if first:
            for whole, some in zip(collected.split(sizes), part.split(counts), strict=True):
                whole[start : start + len(some)] = some
    return collected


def gather_objects(value: Any) -> list[Any]:
    """A small value of each process, of any kind that can be pickled, in the order of ranks. Every
    process must call it."""
    everyone = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(everyone, value)
    return everyone


def reduce_sum(x: Tensor) -> Tensor:
    """The sum over processes of a tensor that has the same shape in each, without gradient."""
    total = x.detach().clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def total(parts: Iterable[Tensor], count: int, device: Any) -> Tensor:
    """The sum of vectors [count] over an iterable and over processes, without gradient; the
    iterable of a process may be empty."""
    # Under `bf16-true` the default dtype is bfloat16, in which sums would stop growing.
    dtype = torch.promote_types(torch.get_default_dtype(), torch.float32)
    local_sum = torch.zeros(count, dtype=dtype, device=device)
    for part in parts:
        local_sum += part.detach()
    return reduce_sum(local_sum)


def reduce_mean(x: Tensor) -> Tensor:
    """The mean over processes of a tensor that has the same shape in each, without gradient."""
    return reduce_sum(x) / world_size() if world_size() > 1 else x.detach()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int]) -> Tensor:
        start = sum(sizes[: dist.get_rank()])
        ctx.local_rows = slice(start, start + len(x))
        most = max(sizes)
        padded = F.pad(x, (0, 0) * (x.ndim - 1) + (0, most - len(x))).contiguous()
        gathered = x.new_empty((len(sizes) * most, *x.shape[1:]))  # [W * most, ...]
        dist.all_gather_into_tensor(gathered, padded)
        if min(sizes) == most:
            return gathered
        return torch.cat([gathered[i * most : i * most + size] for i, size in enumerate(sizes)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        total = grad_output.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.local_rows], None
