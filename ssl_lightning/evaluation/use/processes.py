"""Several processes that embed parts of one data set."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.multiprocessing import get_context

from ...data.cores import own_cores
from ...plugins.rebuild import rebuild
from ...plugins.record import config_of
from .embedding import Embedding, Show
from .samples import sources_of

PAUSE = 0.5
"""Seconds between two looks at what the processes have done."""


def device_named(name: str) -> torch.device:
    """The device of a name; `auto` is an accelerator where there is one.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise ValueError(f"There is no device {name!r} here: {reason}. Give cpu, cuda, cuda:1 or auto.") from error
    return device


def compute_all(embedding: Embedding, processes: int, show: Show) -> None:
    """Computes all parts that are missing, in this process or in several new ones, each on a device
    of its own where there are as many.

    Raises:
        ValueError: a process ended before its work was done.
    """
    everything = range(len(embedding.parts))
    if processes == 1:
        embedding.compute(everything, show)
        return
    context = get_context("spawn")
    given = (embedding.encoder, config_of(embedding.data), list(embedding.sources), embedding.wanted)
    others = [
        context.Process(
            target=_work, args=(given, embedding.out, embedding.facts, rank, processes), name=f"embed-{rank}"
        )
        for rank in range(processes)
    ]
    try:
        for each in others:
            each.start()
        while any(each.is_alive() for each in others):
            time.sleep(PAUSE)
            show(embedding.done, embedding.total)
            if failed := next((each for each in others if each.exitcode not in (None, 0)), None):
                raise ValueError(
                    f"The process {failed.name} ended with the code {failed.exitcode}. What is done is kept: start"
                    " again."
                )
    finally:
        for each in others:
            if each.pid is not None:
                each.kill()
                each.join()
    embedding.compute(everything, show)  # of processes that ended well nothing is left to do


def _work(given: tuple[Any, ...], out: Any, facts: dict[str, Any], rank: int, processes: int) -> None:
    encoder, config, splits, wanted = given
    torch.set_num_threads(max(1, own_cores() // processes))
    device = next(encoder.parameters()).device
    if device.type == "cuda":
        device = torch.device("cuda", rank % torch.cuda.device_count())
    data = rebuild(config, offline=False, where="The data")
    data.prepare_data()
    sources = {split: source for split, source in sources_of(data).items() if split in splits}
    embedding = Embedding(encoder.to(device), data, sources, wanted, out, facts)
    embedding.compute(range(rank, len(embedding.parts), processes), lambda done, total: None)
