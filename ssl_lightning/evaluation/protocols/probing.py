"""Protocols on the features of a run's encoder and of its baselines, each result kept as soon as it
is known."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data.datamodule import SSLDataModule
from ...data.files.atomic import write_text
from ...data.peek import features_here
from ...data.sources import Source
from ...encoders.base import Encoder
from ...plugins.messages import printable
from ..table import CURVE_ROWS as TITLES
from .base import Protocol, Samples, Target
from .known import OF_TOKENS
from .parts import Part, Task, described, task_of
from .result import Difference, Result, difference
from .stamp import Stamp, differences
from .targets import Targets
from .token_store import TokenStore, store_of, with_tokens
from .token_tasks import TokenFiles, check_tokens, token_task

MAIN = "pretrained"
"""The row that the others are compared with."""
Show = Callable[[str], object]


class Probing:
    """The results of protocols on rows of features. Features are computed once for all protocols;
    each result is written as soon as it is known, so that a second start goes on.

    Args:
        data: whose test transform makes the views, and whose labels serve as classes.
        networks: the encoders by row, on the CPU; None: raw features.
        protocols: what is computed, in order.
        targets: of a file, for protocols that need others than classes.
        file: the json that is kept.
        facts: what the results depend on besides data and protocols: the weights.
        most: samples to learn from, and to judge on.
        seed: of draws of labels, and of all else that is random.
        device: where the encoders compute.
        files: of the targets of single tokens.

    Raises:
        ValueError: the data has no samples of some kind, no encoder has the tokens that a protocol
            needs, or the file is another one.
    """

    def __init__(
        self,
        data: SSLDataModule,
        networks: dict[str, Encoder | None],
        protocols: Sequence[Protocol],
        targets: Targets | None,
        file: Path,
        facts: dict[str, Any],
        most: tuple[int, int] = (60_000, 20_000),
        seed: int = 0,
        device: torch.device | str = "cpu",
        files: TokenFiles | None = None,
    ) -> None:
        self.data, self.networks, self.protocols = data, networks, list(protocols)
        self.file, self.facts, self.seed, self.device = file, facts, seed, device
        self.with_tokens = {row: with_tokens(network) for row, network in networks.items()}
        without = self._without_tokens()
        kinds: list[Target | None] = list(dict.fromkeys(each.needs.target for each in self.protocols))
        self.tasks: dict[Target | None, Task] = {
            kind: token_task(data, kind, files or TokenFiles(), most)
            if kind is not None and kind in OF_TOKENS
            else task_of(data, kind, targets, most)
            for kind in kinds
        }
        self.remarks = [*(targets.remarks if targets is not None else ()), *self._left_out(), *without]
        transform = described(data.transform("none"))
        self.stamps = {each.name: self._stamp(each, transform) for each in self.protocols}
        self.results: dict[tuple[str, str], Result] = {}
        """By row and protocol."""
        self.others: list[Any] = []
        """Results that the file holds of protocols and rows that were not asked for."""
        self._restore()

    def _left_out(self) -> list[str]:
        return list(dict.fromkeys(line for task in self.tasks.values() for line in task.remarks))

    def _without_tokens(self) -> list[str]:
        """Lines on rows that have no tokens, where a protocol needs them.

        Raises:
            ValueError: no row has, or its tokens are not such as a protocol needs.
        """
        for protocol, encoder in product(self.protocols, self.with_tokens.values()):
            if encoder is not None:
                check_tokens(protocol.needs.target, encoder)
        needy = [each.name for each in self.protocols if each.needs.features == "tokens"]
        lacking = [row for row, encoder in self.with_tokens.items() if encoder is None]
        if not needy or not lacking:
            return []
        if len(lacking) == len(self.networks):
            kinds = sorted({"raw features" if each is None else type(each).__name__ for each in self.networks.values()})
            raise ValueError(
                f"--by {needy[0]} needs tokens, and {' and '.join(kinds)} {'have' if len(kinds) > 1 else 'has'} one"
                " vector a sample; leave it out, or give an encoder of tokens."
            )
        return [
            f"{', '.join(needy)}: without the row {', '.join(TITLES[row] for row in lacking)}, which has no tokens."
        ]

    def _stamp(self, protocol: Protocol, transform: Any) -> Stamp:
        task = self.tasks[protocol.needs.target]
        plain = json.loads(json.dumps(protocol.settings))
        return Stamp(
            protocol=protocol.name, settings=plain, transform=json.loads(json.dumps(transform)), data=task.digest,
            split=task.split, train=len(task.train.index), judged=len(task.judged.index), seed=self.seed,
        )  # fmt: skip

    def _restore(self) -> None:
        """Reads the results of an earlier start, as far as they still hold.

        Raises:
            ValueError: the file is another one.
        """
        if not self.file.exists():
            return
        kept: Any = None
        with suppress(ValueError):
            kept = json.loads(self.file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or not isinstance(kept.get("results"), list) or "facts" not in kept:
            raise ValueError(
                f"{printable(self.file)!r} is there and holds no results of protocols; choose another --to."
            )
        if kept["facts"] != json.loads(json.dumps(self.facts)):
            _say(f"{printable(self.file)!r} holds results of other weights: starting anew.")
            return
        replaced: dict[str, str] = {}
        for each in kept["results"]:
            with suppress(KeyError, TypeError, AttributeError):
                result = Result.from_json(each)
                name = result.stamp.protocol
                if name not in self.stamps or result.row not in self.networks:
                    self.others.append(each)
                elif result.stamp == self.stamps[name]:
                    self.results[result.row, name] = result
                else:
                    replaced[name] = changes(result.stamp, self.stamps[name])
        for name, what in replaced.items():
            _say(f"Earlier results of {name} are replaced: {what}.")

    def compute(self, show: Show) -> None:
        """Computes what is missing, row by row."""
        for row in self.networks:
            missing = [each for each in self.protocols if (row, each.name) not in self.results]
            if self.with_tokens[row] is None:
                missing = [each for each in missing if each.needs.features == "vectors"]
            if not missing:
                continue
            show(f"{TITLES[row]}: features")
            tasks = [self.tasks[each.needs.target] for each in missing if each.needs.features == "vectors"]
            vectors = self._vectors(row, tasks)
            for protocol in missing:
                show(f"{TITLES[row]}: {protocol.name}")
                task = self.tasks[protocol.needs.target]
                features = vectors if protocol.needs.features == "vectors" else partial(self._tokens, row)
                train, judged = (Samples(features(part), part.target, task.names) for part in (task.train, task.judged))
                judgement = protocol.judge(train, judged, self.seed)
                self.results[row, protocol.name] = Result(row, judgement, self.stamps[protocol.name])
                write_text(self.file, json.dumps(self.as_json(), indent=1))

    def _vectors(self, row: str, tasks: Sequence[Task]) -> Callable[[Part], Tensor]:
        """What gives the features [M, D] of a part, each sample's computed once."""
        parts = [part for task in tasks for part in (task.train, task.judged)]
        sources: dict[int, Source] = {id(part.source): part.source for part in parts}
        needed = {key: torch.cat([part.index for part in parts if id(part.source) == key]).unique() for key in sources}
        x = {
            key: features_here(self.networks[row], self.data, source, needed[key], self.device)
            for key, source in sources.items()
        }
        return lambda part: x[id(part.source)][torch.searchsorted(needed[id(part.source)], part.index)]

    def _tokens(self, row: str, part: Part) -> TokenStore:
        """The tokens of a part."""
        encoder = self.with_tokens[row]
        assert encoder is not None, f"{row} has no tokens"
        return store_of(encoder, self.data, part.source, part.index, self.device)

    # What it says.

    def compared(self, protocol: str) -> dict[str, dict[str, Difference]]:
        """The paired differences of the pretrained encoder from other rows, by row and metric."""
        if (main := self.results.get((MAIN, protocol))) is None:
            return {}
        return {
            row: {
                metric: difference(score, other.judgement.scores[metric])
                for metric, score in main.judgement.scores.items()
                if metric in other.judgement.scores
            }
            for row in self.networks
            if row != MAIN and (other := self.results.get((row, protocol))) is not None
        }

    def as_json(self) -> dict[str, Any]:
        """The results in plain values."""
        return {
            "facts": self.facts,
            "remarks": self.remarks,
            "differences": [
                {"protocol": each.name, "row": MAIN, "from": row, "metric": metric, **gain._asdict()}
                for each in self.protocols
                for row, gains in self.compared(each.name).items()
                for metric, gain in gains.items()
            ],
            "results": [*(each.as_json() for each in self.results.values()), *self.others],
        }


def changes(old: Stamp, new: Stamp) -> str:
    """What has changed from one stamp to another, in words."""
    changed = differences(old.as_json(), new.as_json())
    return "; ".join(f"{key} was {was}, is {now}" for key, (was, now) in changed.items()) or "other versions"


def _say(line: str) -> None:
    print(line, file=sys.stderr)
