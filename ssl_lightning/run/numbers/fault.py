"""A step that is not finite, in words: where it begins, as far as the run itself can see."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ...optim.finite import not_finite

REMEDY = "Try a lower learning rate, a longer warm-up, --trainer.gradient_clip_val 1.0 or --trainer.precision 32-true."


@dataclass
class Batches:
    """What is remembered of the batches of an optimizer step, until it is known to be finite."""

    step: int
    numbers: list[int] = field(default_factory=list)
    """Of the batches, counted over the whole run."""
    losses: list[Tensor] = field(default_factory=list)
    samples: list[Tensor | None] = field(default_factory=list)
    """[S] indices of the samples of each batch."""
    views: list[Any] = field(default_factory=list)
    """Of the last batch, where the host looks at each step."""


def facts_of(module: Any, batches: Batches) -> dict[str, Any]:
    """What this process knows of a step, in plain values."""
    samples = batches.samples[-1] if batches.samples else None
    rows = [row for view in batches.views for row in rows_not_finite(view)]
    named = [(name, each.grad) for name, each in module.named_parameters() if each.grad is not None]
    return {
        "batches": batches.numbers,
        "losses": [float(loss) for loss in batches.losses],
        "samples": [None if each is None else each.tolist() for each in batches.samples],
        "bad_samples": sorted({int(samples[row]) for row in rows}) if samples is not None else [],
        "bad_gradients": [name for name, gradient in named if broken(gradient)],
        "bad_weight": next((name for name, weight in module.named_parameters() if broken(weight)), ""),
    }


def said(everyone: list[dict[str, Any]]) -> str:
    """The sentences that name what is not finite, and the remedy.

    Args:
        everyone: the facts of each process, in the order of ranks.
    """
    worst = max(range(len(everyone)), key=lambda each: _certainty(everyone[each]))
    facts = everyone[worst]
    where = f" on rank {worst}" if len(everyone) > 1 else ""
    losses = [loss for loss in facts["losses"] if not math.isfinite(loss)]
    loss = (losses or facts["losses"] or [math.nan])[0]
    if facts["bad_samples"]:
        few = ", ".join(map(str, facts["bad_samples"][:5])) + ", ..." * (len(facts["bad_samples"]) > 5)
        return (
            f"the loss is {loss:.5g}{where}, since the views of sample {few} hold NaN or infinity. Mend or remove it."
        )
    if losses:
        return f"the loss is {loss:.5g}{where}. {REMEDY}"
    name = (facts["bad_gradients"] or ["some weight"])[0]
    return f"the loss is {loss:.5g}, but the gradient of {name} is not finite{where}. {REMEDY}"


def _certainty(facts: dict[str, Any]) -> tuple[bool, ...]:
    unbounded = any(not math.isfinite(loss) for loss in facts["losses"])
    return bool(facts["bad_samples"]), unbounded, bool(facts["bad_gradients"])


def rows_not_finite(view: Any) -> Iterable[int]:
    """The rows of a view that hold NaN or infinity, where a row is a sample."""
    x = view.x
    if not floats(x) or view.samples is not None:
        return []
    return [int(row) for row in (~x.detach().flatten(1).isfinite().all(dim=1)).nonzero().flatten()]


def floats(value: Any) -> bool:
    """Whether a value is a tensor of floating-point numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def broken(value: Any) -> bool:
    """Whether a tensor is not finite, as `not_finite` has it; the host waits to know."""
    return floats(value) and bool(not_finite([value], value.device))
