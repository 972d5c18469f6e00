"""Two real gloo processes, with different samples and different numbers of them, equal one process.

Run as a script this file is one of the two processes: `test_distributed.py FOLDER` with
LOCAL_RANK and WORLD_SIZE set.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from ssl_lightning import distributed
from ssl_lightning.distributed import all_leave, collect, gather, on_each, rank, reduce_mean, row_counts, world_size
from ssl_lightning.nn.losses.contrastive import nt_xent

COLLECTED = {"equal": (4, 4), "unequal": (7, 2), "none": (3, 0), "none at first": (0, 5)}
CASES = {"equal": (6, 6), "unequal": (3, 8), "lopsided": (1, 9)}


def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 8)).double()


def samples(count: int) -> Tensor:
    """Two views [2, B, 12]."""
    return torch.randn(2, count, 12, generator=torch.Generator().manual_seed(count), dtype=torch.float64)


def loss_and_gradient(network: nn.Module, x: Tensor, with_gradient: bool = True) -> dict[str, Any]:
    z1, z2 = network(x.flatten(0, 1)).chunk(2)
    sizes = row_counts(z1)
    all1, all2 = gather(z1, sizes), gather(z2, sizes)
    if not with_gradient:  # what gathering without gradient amounts to: only a process's own rows have one
        own = slice(sum(sizes[: rank()]), sum(sizes[: rank() + 1]))
        all1, all2 = all1.detach().clone(), all2.detach().clone()
        all1[own], all2[own] = z1, z2
    loss = nt_xent(all1, all2, 0.2, sizes, rank())
    loss.backward()
    return {"loss": reduce_mean(loss), "gradient": [parameter.grad for parameter in network.parameters()]}


def own_rows(x: Tensor) -> Tensor:
    """Rank 0 has two of the five rows, rank 1 three."""
    return x[:2] if rank() == 0 else x[2:]


def numbered(count: int) -> Tensor:
    return torch.arange(2.0 * count).view(count, 2)


def process(folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        f"file://{folder / 'meeting'}",
        rank=int(os.environ["LOCAL_RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
    )
    found: dict[str, Any] = {
        "world_size": world_size(),
        "rank": rank(),
        "row_counts": row_counts(torch.zeros(rank() + 3, 2)),
    }
    for name, sizes in CASES.items():
        x = samples(sum(sizes)).split(sizes, dim=1)[rank()]
        for with_gradient in (True, False):
            found[name, with_gradient] = loss_and_gradient(DistributedDataParallel(encoder()), x, with_gradient)
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.bfloat16, torch.float32):
        found[str(dtype)] = gather(own_rows(torch.arange(10).view(5, 2).to(dtype)))
    distributed.PART = 16  # two rows of two values
    for name, counts in COLLECTED.items():
        found[f"collected {name}"] = collect(numbered(sum(counts)).split(counts)[rank()], "cpu")
    found["vector"] = gather(own_rows(torch.arange(5)))
    found["reduce_mean"] = reduce_mean(torch.tensor([rank(), 10.0]))
    found["fail together"] = [all_leave(failed=True), all_leave(failed=not rank())]
    distributed.PATIENCE = 0.2
    if rank() == 0:
        dist.barrier()  # rank 1 has given up by then
    found["fails alone"] = all_leave(failed=rank() == 1)
    if rank() == 1:
        dist.barrier()
    found["alone"] = on_each(lambda: all_leave(failed=not rank()))
    torch.save(found, folder / f"{rank()}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(run: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("processes")
    ended = run(folder, script=[__file__, str(folder)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    return [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_have_the_loss_and_gradient_of_one(found: list[dict[Any, Any]], case: str) -> None:
    one = loss_and_gradient(encoder(), samples(sum(CASES[case])))
    for each in found:
        assert_close(each[case, True], one, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gathering_without_gradient_would_be_seen(found: list[dict[Any, Any]], case: str) -> None:
    one = loss_and_gradient(encoder(), samples(sum(CASES[case])))
    without = found[0][case, False]
    assert_close(without["loss"], one["loss"])
    error = sum((a - b).norm() for a, b in zip(without["gradient"], one["gradient"], strict=True))
    assert error > 0.01 * sum(b.norm() for b in one["gradient"])


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.bfloat16, torch.float32])
def test_rows_of_any_dtype_come_in_the_order_of_ranks(found: list[dict[Any, Any]], dtype: torch.dtype) -> None:
    for each in found:
        assert each[str(dtype)].dtype == dtype
        assert torch.equal(each[str(dtype)], torch.arange(10).view(5, 2).to(dtype))


def test_every_process_knows_itself_and_the_others(found: list[dict[Any, Any]]) -> None:
    for i, each in enumerate(found):
        assert (each["rank"], each["world_size"], each["row_counts"]) == (i, 2, [3, 4])
        assert torch.equal(each["vector"], torch.arange(5))
        assert torch.equal(each["reduce_mean"], torch.tensor([0.5, 10.0]))


@pytest.mark.parametrize("case", COLLECTED)
def test_rows_are_collected_part_by_part_in_the_first_process_alone(found: list[dict[Any, Any]], case: str) -> None:
    """Parts of at most two rows of each process."""
    assert torch.equal(found[0][f"collected {case}"], numbered(sum(COLLECTED[case])))
    assert found[1][f"collected {case}"].shape == (0, 2)


def test_who_fails_alone_knows_that_the_others_wait_for_it(found: list[dict[Any, Any]]) -> None:
    """Not where nobody can: in work that each process does by itself."""
    for i, each in enumerate(found):
        assert each["fail together"] == each["alone"] == [True, True]
        assert each["fails alone"] == (i == 0)


def test_without_a_process_group_there_is_one_process() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    assert (world_size(), rank(), row_counts(x)) == (1, 0, [3])
    assert gather(x) is x and collect(x, "cpu") is x
    assert torch.equal(reduce_mean(x), x) and not reduce_mean(x).requires_grad


if __name__ == "__main__":
    process(Path(sys.argv[1]))
