"""What became of all that a data set was given: what it is used for, what is left out and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..plugins.messages import counted


class LeftOut(NamedTuple):
    """What was found and is not used, for one reason.

    Args:
        reason: words that follow the number: `end in .txt`, `are empty`.
        count: how many.
        example: one of them, by path or line.
        option: what would change it, as a user would type it; empty where nothing does.
    """

    reason: str
    count: int  # type: ignore[assignment]  # `tuple.count` is not needed here
    example: str = ""
    option: str = ""

    def __str__(self) -> str:
        remarks = [f"such as {self.example}"] * bool(self.example) + [self.option] * bool(self.option)
        return f"{self.count:,} {self.reason}" + f" ({'; '.join(remarks)})" * bool(remarks)


@dataclass(frozen=True)
class Tally:
    """What was found of one split. Each thing that is found is used for one end, or left out for
    one reason.

    Args:
        split: `train`, `val`, `test`, `pretrain`; another word for what belongs to no split.
        unit: what is counted: `files`, `rows`, `documents`, `samples`. A folder that is left out
            whole counts as one file.
        used: how many for what: `pretraining`, `probes`, `validation`, `test`.
        left_out: the others.
        labels: a remark on the labels; empty without any.
        remarks: further ones, on what is used in another form than it was found.
    """

    split: str
    unit: str
    used: Mapping[str, int] = field(default_factory=dict)
    left_out: Sequence[LeftOut] = ()
    labels: str = ""
    remarks: Sequence[str] = ()

    @property
    def found(self) -> int:
        return sum(self.used.values()) + sum(each.count for each in self.left_out)

    def __str__(self) -> str:
        left = sum(each.count for each in self.left_out)
        uses = "".join(f", {count:,} for {use}" for use, count in self.used.items())
        if len(self.used) == 1 and not left:
            uses = f" for {next(iter(self.used))}"
        remarks = [*([self.labels] if self.labels else []), *self.remarks]
        line = f"{self.split}: {counted(self.found, self.unit)}{uses}" + f" ({'; '.join(remarks)})" * bool(remarks)
        return f"{line}, left out {left:,}: {'; '.join(map(str, self.left_out))}." if left else f"{line}."

    def as_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "unit": self.unit,
            "found": self.found,
            "used": dict(self.used),
            "labels": self.labels,
            "remarks": list(self.remarks),
            "left_out": [each._asdict() for each in self.left_out],
        }
