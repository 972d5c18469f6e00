"""Ridge regression of numbers on one vector a sample.

Notation for shapes: M samples to learn from, Q samples that are judged, D features, T targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from ..protocol import standardised
from .base import Judgement, Needs, Protocol, Samples, scores
from .ranking import Ranking, explained, spearman

FLAT = 1e-10
"""Eigenvalues below this part of the largest are those of no direction."""


@dataclass(frozen=True, kw_only=True)
class Values(Protocol):
    """Ridge regression on standardised features, for each target with the penalty that has the
    smallest squared error of leaving one sample out, which has a closed form. `r2` is the
    coefficient of determination on the judged samples, `spearman` the correlation of ranks: of each
    target, and their mean.

    Args:
        strengths: penalties that are tried, in units of the number of samples: a feature alone is
            shrunk by 1 / (1 + strength).
    """

    name: ClassVar[str] = "values"
    needs: ClassVar[Needs] = Needs("vectors", "values")
    source: ClassVar[str] = "Hoerl and Kennard 1970; leaving one out: Golub, Heath and Wahba 1979, Section 1"
    percent: ClassVar[bool] = False
    strengths: tuple[float, ...] = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)

    def __post_init__(self) -> None:
        if not self.strengths or not all(isinstance(each, (int, float)) and each > 0 for each in self.strengths):
            raise ValueError(f"strengths={self.strengths} are not all positive numbers; give some, such as 0.1, 1.")

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        x, judged = (finite(part, each.x) for part, each in (("training", train), ("judged", test)))
        y, truth = train.target.double(), test.target.double()  # [M, T], [Q, T]
        names = train.names or tuple(f"target {number}" for number in range(y.shape[1]))
        constant = (truth == truth[:1]).all(dim=0)
        remarks = []
        if bool(constant.any()):
            listed = ", ".join(repr(names[each]) for each in constant.nonzero()[:, 0].tolist())
            remarks.append(f"Constant on the judged samples, so left out: {listed}.")
        kept = (~constant).nonzero()[:, 0].tolist()
        if not kept:
            raise ValueError(
                f"Every target is constant on the {len(truth):,} judged samples; there is nothing to explain."
            )
        standard, standard_judged = standardised(x.double(), judged.double())
        model = ridge(standard, y[:, kept], self.strengths)
        predicted, truth = standard_judged @ model.weight + model.bias, truth[:, kept]
        at_end = [names[column] for column, each in zip(kept, model.strength.tolist(), strict=True)
                  if len(self.strengths) > 1 and each in (min(self.strengths), max(self.strengths))]  # fmt: skip
        if at_end:
            remarks.append(f"The weakest or strongest penalty that is tried: {', '.join(map(repr, at_end))}.")
        orders = [(Ranking(truth[:, each]), Ranking(predicted[:, each])) for each in range(len(kept))]

        def statistic(weights: Tensor) -> dict[str, Tensor]:
            columns = {
                "r2": [explained(truth[:, each], predicted[:, each], weights) for each in range(len(kept))],
                "spearman": [spearman(*each, weights).nan_to_num(0.0) for each in orders],  # of equal predictions
            }
            means = {metric: torch.stack(each).nanmean(dim=0) for metric, each in columns.items()}
            return means | {
                f"{metric} {names[column]}": value
                for metric, each in columns.items()
                if len(kept) > 1
                for column, value in zip(kept, each, strict=True)
            }

        return Judgement(scores(statistic, len(truth)), tuple(remarks))


class Ridge(NamedTuple):
    """Weights [D, T], biases [T] and the strength [T] of each target."""

    weight: Tensor
    bias: Tensor
    strength: Tensor


def ridge(x: Tensor, y: Tensor, strengths: tuple[float, ...]) -> Ridge:
    """Minimises ||y - x w - b||^2 + M s ||w||^2 for each target, with that of the strengths s whose
    squared error of leaving one sample out is smallest.

    That error of a sample is its residual over 1 - h, h being its entry on the diagonal of the hat
    matrix (Golub, Heath and Wahba 1979, Section 1). The bias is not penalised.

    Args:
        x: [M, D] float64.
        y: [M, T] float64.
        strengths: to choose from.
    """
    count, mean, level = len(x), x.mean(dim=0), y.mean(dim=0)
    x, y = x - mean, y - level
    if x.shape[1] <= count:
        spread, basis = torch.linalg.eigh(x.T @ x / count)  # [R], [D, R]
    else:
        spread, left = torch.linalg.eigh(x @ x.T / count)
        kept = spread > FLAT * spread[-1].clamp(min=1e-300)
        spread = spread[kept]
        basis = x.T @ left[:, kept] / (count * spread).sqrt()
    spread = spread.clamp(min=0)
    z = x @ basis  # [M, R], uncorrelated
    joint = z.T @ y / count  # [R, T]
    errors = []
    for strength in strengths:
        shrunk = 1 / (spread + strength)
        hat = z.square() @ shrunk / count + 1 / count
        errors.append(((y - z @ (shrunk[:, None] * joint)) / (1 - hat).clamp(min=FLAT)[:, None]).square().mean(dim=0))
    best = torch.tensor(strengths, dtype=x.dtype)[torch.stack(errors).argmin(dim=0)]  # [T]
    weight = basis @ (joint / (spread[:, None] + best))
    return Ridge(weight, level - mean @ weight, best)


def finite(part: str, x: Tensor) -> Tensor:
    """Features [M, D] of a part.

    Raises:
        ValueError: one is not finite.
    """
    if broken := int((~x.isfinite()).any(dim=1).sum()):
        raise ValueError(f"{broken} of {len(x)} {part} features hold NaN or infinity; has the encoder diverged?")
    return x
