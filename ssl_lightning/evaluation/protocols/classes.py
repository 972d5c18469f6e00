"""kNN and logistic regression on one vector a sample: the columns of the closing table.

Notation for shapes: M samples to learn from, Q samples that are judged, D features, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ...data.sources import labelled_draw
from ..measures import Outcome, class_weights, outcome
from ..protocol import (
    FOLD_SAMPLES,
    GAIN,
    HOLD_OUT_SAMPLES,
    STRENGTHS,
    check_labels,
    checked,
    knn_predict,
    regressed,
    standardised,
)
from .base import Judgement, Needs, Protocol, Samples, Score, mean_of, score

SOLVER: dict[str, Any] = {
    "features": "standardised by the samples to learn from",
    "penalty": "L2",
    "strengths": list(STRENGTHS),
    "gain": GAIN,
    "fold_samples": FOLD_SAMPLES,
    "hold_out_samples": HOLD_OUT_SAMPLES,
}
"""What the strength of a regression is chosen by, for the stamp."""


@dataclass(frozen=True, kw_only=True)
class _Classes(Protocol):
    """What kNN and logistic regression share: all labels, and a few of each class.

    Args:
        labels_per_class: labels of each class in the score of few labels; 0: none is computed.
        draws: of these labels.
    """

    needs: ClassVar[Needs] = Needs("vectors", "classes")
    labels_per_class: int = 10
    draws: int = 5

    def judge(self, train: Samples, test: Samples, seed: int = 0) -> Judgement:
        x, y = checked("training", train.x, train.target)
        judged, answers = checked("judged", test.x, test.target)
        check_labels(y, answers)
        learned = self.learner(x, y, judged, answers)
        few = [torch.from_numpy(labelled_draw(y.numpy(), self.labels_per_class, seed, each))
               for each in range(self.draws if self.labels_per_class else 0)]  # fmt: skip
        columns = {"accuracy": [torch.arange(len(y))], f"accuracy_{self.labels_per_class}": few}
        outcomes = {name: [learned(index) for index in draws] for name, draws in columns.items() if draws}
        every = [each for column in outcomes.values() for each in column]
        remarks = []
        if unconverged := sum(not each.converged for each in every):
            remarks.append(f"{unconverged} of {len(every)} regressions stopped before they converged.")
        if at_end := sum(each.at_end for each in every):
            remarks.append(f"{at_end} of {len(every)} regressions have the weakest or strongest penalty that is tried.")
        return Judgement({name: balanced_score(column, answers) for name, column in outcomes.items()}, tuple(remarks))

    @abstractmethod
    def learner(self, x: Tensor, y: Tensor, judged: Tensor, answers: Tensor) -> Callable[[Tensor], Outcome]:
        """What computes the outcome of the labels at some positions [m]."""


@dataclass(frozen=True, kw_only=True)
class KNN(_Classes):
    """The k nearest neighbours vote, by cosine similarity (`knn_predict`); every class counts
    alike.

    Args:
        k: number of neighbours.
        temperature: of their votes.
    """

    name: ClassVar[str] = "knn"
    source: ClassVar[str] = "Wu et al. 2018 (1805.01978), Section 3.4; k = 20 as in DINO (2104.14294)"
    k: int = 20
    temperature: float = 0.07

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, "metric": "cosine"}

    def learner(self, x: Tensor, y: Tensor, judged: Tensor, answers: Tensor) -> Callable[[Tensor], Outcome]:
        def learned(index: Tensor) -> Outcome:
            votes = knn_predict(x[index], y[index], judged, int(y.max()) + 1, self.k, self.temperature)
            return outcome(votes * class_weights(y[index], votes.shape[1]), answers)

        return learned


@dataclass(frozen=True, kw_only=True)
class Linear(_Classes):
    """L2-penalised logistic regression on standardised features, its strength chosen by
    cross-validation on the samples to learn from (`logistic_regression`)."""

    name: ClassVar[str] = "linear"
    source: ClassVar[str] = "Kornblith et al. 2019 (1805.08974), Section 3: logistic regression by L-BFGS"

    @property
    def settings(self) -> dict[str, Any]:
        return {**super().settings, **SOLVER}

    def learner(self, x: Tensor, y: Tensor, judged: Tensor, answers: Tensor) -> Callable[[Tensor], Outcome]:
        standard, standard_judged = standardised(x, judged)
        return lambda index: regressed(standard[index], y[index], standard_judged, answers)


def balanced_score(outcomes: list[Outcome], answers: Tensor) -> Score:
    """The balanced accuracy of each draw, resampled within each class.

    Args:
        outcomes: of each draw of labels.
        answers: [Q] classes.
    """
    number, counts = answers.unique(return_inverse=True, return_counts=True)[1:]
    shares = 1 / (len(counts) * counts[number].double())
    return score([mean_of(each.hits * shares) for each in outcomes], len(answers), number)
