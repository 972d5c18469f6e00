"""`ssl-lightning replay`: takes a step that was not finite again, and shows where it arises."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from ..run.replay import Replay, Retaken, retake


def main(options: argparse.Namespace) -> int:
    """`ssl-lightning replay`."""
    text, reproduced = replay(options.bundle)
    print(text)
    return int(not reproduced)


def replay(folder: str | Path) -> tuple[str, bool]:
    """Describes the step of a bundle in lines; and whether it is not finite again.

    Raises:
        FileNotFoundError, ValueError: as in `run.replay.retake`.
    """
    taken = retake(folder)
    return "\n".join(_lines(taken)), taken.reproduced


def _lines(taken: Replay) -> Iterator[str]:
    facts = taken.facts
    yield f"recorded     {facts.line}"
    yield f"step         {facts.step}, precision {facts.precision}, on {facts.device}, learning rate {facts.lr:.3g}"
    yield "weights      largest: " + ", ".join(f"{name} {size:.4g}" for name, size in taken.weights)
    if taken.couples:
        yield f"             rank by rank the losses differ from the run's: {taken.couples}"
    for number, rank in enumerate(taken.ranks):
        if len(taken.ranks) > 1:
            yield f"rank {number}"
        yield from _rank(rank)
        recorded = facts.processes[number]
        if rank.samples != recorded["samples"]:
            yield "             these are not the samples of the run"
        equal = "the run's, bit for bit" if rank.equals(recorded) else f"the run had {_numbers(recorded['losses'])}"
        yield f"loss         {_numbers(rank.losses)} ({equal})"
    yield (
        "Reproduced: the step is not finite."
        if taken.reproduced
        else ("Not reproduced: here the step is finite. The device, its kernels or its precision may be the cause.")
    )


def _rank(rank: Retaken) -> Iterator[str]:
    several = ", ".join(f"sample {index} ({views})" for index, views in rank.bad_samples.items())
    views = f"NaN or infinity in {several}" if several else "finite"
    yield f"views        {views}; else at most {rank.largest_input:.4g}"
    yield f"modules      {f'first not finite: {rank.module}' if rank.module else 'all outputs are finite'}"
    bad = rank.bad_gradients
    shown = ", ".join(bad[:5]) + ", ..." * (len(bad) > 5)
    yield f"gradients    {f'not finite in {len(bad)} of {rank.parameters}: {shown}' if bad else 'finite'}; norm " + (
        f"{rank.gradient_norm:.4g}"
    )


def _numbers(losses: list[float]) -> str:
    return ", ".join(f"{loss:.9g}" for loss in losses)
