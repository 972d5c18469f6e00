"""How well predictions agree with labels where classes are unequal: every class counts alike.

Notation for shapes: M labelled samples, Q samples to evaluate on, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .table import Cell


class Outcome(NamedTuple):
    """What one set of labels gives: whether each sample is classified correctly, [Q] bool; of two
    classes the area under the ROC curve (NaN of more); of a regression whether its strength is at
    an end of what is tried, and whether it has converged."""

    hits: Tensor
    auroc: float = math.nan
    at_end: bool = False
    converged: bool = True


def class_weights(labels: Tensor, num_classes: int = 0) -> Tensor:
    """The weight of each class [K] in a loss, so that all classes of the labels [M] count alike:
    1 where they are equally many; scikit-learn's "balanced". K is at least `num_classes`."""
    counts = labels.bincount(minlength=num_classes)
    return len(labels) / ((counts > 0).sum() * counts.clamp(min=1))


def balanced(hits: Tensor, labels: Tensor) -> float:
    """The balanced accuracy: the mean over the classes of the labels [Q] of the fraction of hits
    [Q] in each. Without knowledge it is 1 / K, however unequal the classes are."""
    return float(_by_class(hits, labels)[0].mean())


def outcome(scores: Tensor, labels: Tensor) -> Outcome:
    """Compares scores [Q, K] with labels [Q]."""
    from sklearn.metrics import roc_auc_score

    auroc = math.nan
    if scores.shape[1] == 2 and len(labels.unique()) == 2 and bool(scores.isfinite().all()):
        auroc = float(roc_auc_score(labels.numpy(), (scores[:, 1] - scores[:, 0]).double().numpy()))
    return Outcome(scores.argmax(dim=1) == labels, auroc)


def judged(outcomes: Sequence[Outcome], answers: Tensor, labels: int) -> Cell:
    """A cell of the closing table.

    Args:
        outcomes: those of each draw of labels.
        answers: [Q] the classes of the samples that were classified.
        labels: number of labels that each draw has.
    """
    hits = torch.stack([each.hits.double() for each in outcomes]).mean(0)
    (mean, counts), (square, _) = _by_class(hits, answers), _by_class(hits.square(), answers)
    shares = 1 / (len(counts) * counts[answers.unique(return_inverse=True)[1]].double())
    # One more hit and one more miss in each class: one of few samples is not certain to be right.
    more = (square * counts + 1) / (counts + 2) - ((mean * counts + 1) / (counts + 2)).square()
    error = math.sqrt(float((more / counts).sum())) / len(counts)
    cell = cell_of([balanced(each.hits, answers) for each in outcomes])
    cell |= {"error": error, "labels": labels, "samples": len(answers), "classes": len(counts)}
    cell["parts"] = [(each.hits * shares).tolist() for each in outcomes]
    if not math.isnan(outcomes[0].auroc):
        cell["auroc"] = [each.auroc for each in outcomes]
    if at_end := sum(each.at_end for each in outcomes):
        cell["at_end"] = at_end
    if unconverged := sum(not each.converged for each in outcomes):
        cell["unconverged"] = unconverged
    return cell


def cell_of(accuracies: Sequence[float]) -> Cell:
    """Mean and sample standard deviation (divisor n - 1; 0 for a single draw) of the accuracies of
    n draws of labels."""
    values = torch.tensor(accuracies, dtype=torch.float64)
    std = float(values.std()) if len(accuracies) > 1 else 0.0
    return {"mean": float(values.mean()), "std": std, "n": len(accuracies), "draws": list(accuracies)}


def _by_class(values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of values [Q] in each class that the labels [Q] hold, and its number of samples."""
    number, counts = labels.unique(return_inverse=True, return_counts=True)[1:]
    return torch.zeros(len(counts), dtype=torch.float64).index_add_(0, number, values.double()) / counts, counts
