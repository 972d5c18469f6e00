"""What one process knows, all hear at the same step, in a single process at once.

Run as a script this file is one of the processes: `test_votes.py FOLDER STEPS`; it also measures
what a step's votes cost.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from ssl_lightning.distributed import leave, rank
from ssl_lightning.run.stops.votes import Votes


class Voter(pl.Callback):
    """Votes 100 * rank + step at two steps."""

    heard = 0

    def vote(self, trainer: Any) -> int:
        return 100 * (rank() + 1) + trainer.global_step if trainer.global_step in (2, 5) else 0


def heard(steps: int) -> tuple[list[int], float]:
    """What is heard at the end of each step and of the run, and the seconds that a step's votes
    take."""
    voter, votes, seconds = Voter(), Votes(), list[float]()
    loop = SimpleNamespace(_should_accumulate=lambda: False)
    trainer: Any = SimpleNamespace(callbacks=[voter, votes], global_step=0, fit_loop=loop)
    votes.on_train_start(trainer, None)
    all_heard = []
    for step in range(1, steps + 1):
        trainer.global_step = step
        dist.is_initialized() and dist.all_reduce(torch.ones(10_000))  # as a step's gradients
        started = time.perf_counter()
        votes.on_train_batch_end(trainer, None, None, None, step)
        seconds.append(time.perf_counter() - started)
        all_heard.append(voter.heard)
    votes.on_train_end(trainer, None)
    return [*all_heard, voter.heard], sorted(seconds)[len(seconds) // 2]


def test_a_single_process_hears_at_once() -> None:
    assert heard(6)[0] == [0, 102, 0, 0, 105, 0, 0]


def test_several_hear_the_highest_vote_a_step_later_and_the_last_at_the_end(run: Any, tmp_path: Path) -> None:
    for steps, expected in ((6, [0, 0, 202, 0, 0, 205, 0]), (5, [0, 0, 202, 0, 0, 205])):
        ended = run(tmp_path, script=[__file__, str(tmp_path), str(steps)], processes=2)
        assert ended["code"] == 0, ended["log"][-3000:]
        assert [json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2)] == [expected] * 2


if __name__ == "__main__":
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=int(os.environ["LOCAL_RANK"]), world_size=int(os.environ["WORLD_SIZE"]))
    values, median = heard(int(sys.argv[2]))
    (Path(sys.argv[1]) / f"{rank()}.json").write_text(json.dumps(values))
    print(f"{1e6 * median:.0f} us a step")
    leave()
