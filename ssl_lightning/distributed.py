"""Communication between processes: their number and rank, rows of all processes with gradient, sums
and means, and work of unequal length. Without a process group there is one process.

Three rules hold here. A tensor may be on any device: NCCL takes none of the CPU's, so that what it
does not take goes to the GPU for the exchange, and comes back. A collective waits 10 or 30 minutes
at most, then the run dies: work that may take longer is waited for outside of them (`meet`). Every
process must call a collective, with equal shapes: where the data, the files or the clock of one
process decide, rank 0 decides for all (`on_first`), or the processes exchange what they have.
"""

from __future__ import annotations

import pickle
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

PART = 64 << 20
"""Bytes of each process that `collect` exchanges at a time."""
T = TypeVar("T")
Key = TypeVar("Key")

ARRIVALS, BEATS, LEFT = "ssl_lightning/arrivals", "ssl_lightning/beats", "ssl_lightning/left"
"""Keys in the process group's store: how often processes arrived at a meeting; signs of life, which
each process of a run gives while it goes on (`run/stops/peers.py`); and who has left a stage."""
PAUSE = 0.5
"""Seconds between two looks at who has arrived, at most."""
_stages, _alone = count(), False
"""Numbers the stages; and whether this process works by itself, as others may not."""
_gone: Callable[[], bool] = bool
"""Whether rank 0 is gone; false where nobody knows. `watch_store` sets it."""
PATIENCE = 10.0
"""Seconds in which processes that fail together do so."""
SILENCE = 600.0
"""Seconds without any sign of life after which a missing process is given up: outside of a run,
where nobody watches over the others."""


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
    count = _taken(torch.tensor([len(x)], device=x.device))
    counts = count.new_empty(world_size())
    _all_gather(counts, count)
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
    if world_size() == 1:
        return x.detach().clone()
    total = _taken(x.detach().clone())
    dist.all_reduce(total)
    return total.to(x.device)


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


def reduce_means(values: Mapping[Key, Tensor]) -> dict[Key, Tensor]:
    """The means over processes of vectors [n] by name, without gradient.

    Where the processes differ in names or lengths, a name has the values of all processes that have
    it, one after the other; `mean()` is then their mean too.

    Args:
        values: float32, all on one device; n may differ from name to name.
    """
    if not _same(repr([(name, len(each)) for name, each in values.items()])):
        everyone = gather_objects({name: each.tolist() for name, each in values.items()})
        names = dict.fromkeys(name for each in everyone for name in each)
        device = next((each.device for each in values.values()), torch.device("cpu"))
        return {
            name: torch.tensor([value for each in everyone for value in each.get(name, [])], device=device)
            for name in names
        }
    if not values:
        return {}
    means = reduce_mean(torch.cat(list(values.values())))
    return dict(zip(values, means.split([len(each) for each in values.values()]), strict=True))


def meet() -> None:
    """Waits until every process is here, for as long as a run takes (it ends all when one dies):
    the limit of a collective does not count.

    Raises:
        RuntimeError: a process is missing, and there was no sign of life for `SILENCE` seconds.
    """
    if world_size() == 1:
        return
    pause = 0.001
    arrived, heard, since = _count(ARRIVALS, 1), -1, time.monotonic()
    everyone = -(-arrived // world_size()) * world_size()
    while arrived < everyone:
        time.sleep(pause)
        pause = min(2 * pause, PAUSE)
        arrived, before = _count(ARRIVALS, 0), heard
        heard = arrived + _count(BEATS, 0)
        since = since if heard == before else time.monotonic()
        if arrived < everyone and time.monotonic() - since > SILENCE:
            raise RuntimeError(
                f"{everyone - arrived} of {world_size()} processes have not come, and gave no sign of life for"
                f" {SILENCE:,.0f} seconds: they have died; see their output."
            )
    int(reduce_sum(torch.ones(())))  # rank 0 holds the store, and may end once all have looked


def watch_store(gone: Callable[[], bool]) -> None:
    """Tells how to know whether rank 0, which holds the store, is gone: from the watch over a run's
    processes, which then ends this one."""
    global _gone
    _gone = gone


def _count(key: str, amount: int) -> int:
    """Adds to a number in the store; without rank 0 there is none, as torch would say at length."""
    until = time.monotonic() + 60 * PAUSE
    while _gone():
        if time.monotonic() > until:
            raise RuntimeError("Process 0, which the others meet by, has died; see its output.")
        time.sleep(PAUSE)
    return int(default_store().add(key, amount))


def on_first(work: Callable[[], T]) -> T:
    """Rank 0 does some work, for as long as it takes; every process gets its result, or its error.

    Args:
        work: called on rank 0 alone; it must not communicate, and what it returns can be pickled.

    Raises:
        Exception: what the work raised, on every process.
    """
    if world_size() == 1:
        return work()
    result, error = _outcome(work) if rank() == 0 else (None, None)
    meet()
    outcome = [(result, _sent(error))]
    dist.broadcast_object_list(outcome, src=0)
    value: Any
    value, sent = outcome[0]
    _raise_first(error, sent)
    first: T = value
    return first


def on_each(work: Callable[[], T]) -> list[T]:
    """Each process does some work of its own, for as long as it takes, and gets the results of all,
    in the order of ranks.

    Args:
        work: must not communicate; what it returns is small and can be pickled.

    Raises:
        Exception: what the work of a process raised, on every process.
    """
    if world_size() == 1:
        return [work()]
    result, error = _outcome(work)
    meet()
    outcomes = gather_objects((result, _sent(error)))
    _raise_first(error, *(sent for _, sent in outcomes))
    return [each for each, _ in outcomes]


def all_or_none(work: Callable[[], T]) -> T:
    """Each process does some work of its own, for as long as it takes, and keeps the result; where
    one of them fails, all do. So none waits in a collective for a process that never comes.

    Raises:
        Exception: what the work of a process raised, on every process.
    """
    results: list[T] = []
    on_each(lambda: results.append(work()))
    return results[0]


def all_leave(failed: bool) -> bool:
    """Whether the processes leave a stage together, within which they communicate; each calls it as
    it leaves. Where one fails by itself, the others wait for it in a collective, and it must not go
    on to the next.

    Args:
        failed: whether this process leaves by an error; else it waits for nobody.
    """
    if world_size() == 1 or _alone:
        return True
    key, until = f"{LEFT}/{next(_stages)}", time.monotonic() + PATIENCE
    left = _count(key, 1)
    while failed and left < world_size() and time.monotonic() < until:
        time.sleep(PAUSE / 10)
        left = _count(key, 0)
    return not failed or left == world_size()


def _raise_first(*errors: Exception | None) -> None:
    for error in errors:
        if error is not None:
            raise error


def _outcome(work: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What some work of this process alone returned or raised."""
    global _alone
    before, _alone = _alone, True
    try:
        return work(), None
    except Exception as raised:
        return None, raised
    finally:
        _alone = before


def default_store() -> Any:
    """The store by which the processes of the group found each other; torch has no public name for
    it."""
    store: Any = dist.distributed_c10d._get_default_store()
    return store


def _sent(error: Exception | None) -> Exception | None:
    """An error in a form that reaches other processes: not every class can be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"Rank {rank()} failed with {type(error).__name__}: {error}")
    return error


def _same(text: str) -> bool:
    """Whether all processes hold the same text."""
    if world_size() == 1:
        return True
    code = zlib.crc32(text.encode())
    extremes = _taken(torch.tensor([code, -code]))
    dist.all_reduce(extremes, dist.ReduceOp.MAX)
    return not int(extremes.sum())


def _taken(x: Tensor) -> Tensor:
    """The tensor on a device whose tensors the process group exchanges: itself, where it is on
    one."""
    devices = _devices()
    return x if x.device.type in devices else x.to(devices[0])


def _devices() -> list[str]:
    """The kinds of device whose tensors the process group exchanges: of `cpu:gloo,cuda:gloo` both,
    of `cuda:nccl` one; of that the process uses the current one."""
    return [pair.partition(":")[0] for pair in dist.get_backend_config().split(",")]


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()


def _all_gather(gathered: Tensor, x: Tensor) -> None:
    """Torch's function, under its new name where it has one: the old one warns."""
    (dist.all_gather_single if hasattr(dist, "all_gather_single") else dist.all_gather_into_tensor)(gathered, x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: Sequence[int]) -> Tensor:
        start = sum(sizes[: dist.get_rank()])
        ctx.local_rows = slice(start, start + len(x))
        most = max(sizes)
        padded = _taken(F.pad(x, (0, 0) * (x.ndim - 1) + (0, most - len(x))).contiguous())
        gathered = padded.new_empty((len(sizes) * most, *x.shape[1:]))  # [W * most, ...]
        _all_gather(gathered, padded)
        if min(sizes) < most:
            gathered = torch.cat([gathered[i * most : i * most + size] for i, size in enumerate(sizes)])
        return gathered.to(x.device)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        total = _taken(grad_output.clone(memory_format=torch.contiguous_format))
        dist.all_reduce(total)
        return total[ctx.local_rows].to(grad_output.device), None
