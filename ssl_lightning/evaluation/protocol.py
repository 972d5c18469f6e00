"""The evaluation protocol of a run's closing table, the same for raw, untrained and pretrained
features: kNN and logistic regression.

Notation for shapes: M labelled samples, Q queries, D features, K classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..data.sources import Integers, labelled_draw
from .measures import Outcome, balanced, class_weights, judged, outcome
from .regression import Fits, OutOfTime, eigenbasis, fit
from .table import Cell, Show, column_title, silent

SIMILARITIES_AT_ONCE = 2**22
"""Most similarities that `knn_predict` holds in memory at a time (16 MiB in float32)."""

STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
"""Values of C that cross-validation tries first, C being the inverse strength of the L2 penalty.
While the best is at an end, ten times more, or less, is tried too."""

SMALLEST, LARGEST = 1e-7, 1e5
"""No other values of C are tried."""

GAIN = 1e-3
"""A C at an end that is better by no more than this mean log-likelihood is not followed further:
where classes can be separated, more is always a little better."""

FOLD_SAMPLES, HOLD_OUT_SAMPLES = 2_000, 5_000
"""Up to `FOLD_SAMPLES` labelled samples C is chosen by 5-fold cross-validation; above, by holding
out a fifth of `HOLD_OUT_SAMPLES` samples once."""

ONE_THREAD = 2**24
"""Below this many feature values (samples x dimensions) the fits run on one thread: on a busy
machine, threads that wait for each other take 20 times as long."""

Floats = NDArray[np.floating[Any]]


def knn_predict(
    bank: Tensor, labels: Tensor, queries: Tensor, num_classes: int, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Each query's k nearest neighbours by cosine similarity vote for their class with weight
    exp(similarity / temperature).

    Wu et al. 2018, "Unsupervised Feature Learning via Non-Parametric Instance Discrimination"
    (arXiv 1805.01978, Section 3.4, tau = 0.07; k = 200 there for a bank of 1.3 million, 20 here for
    banks of thousands).

    Args:
        bank: [M, D] features of labelled samples.
        labels: [M] their classes, 0 to num_classes - 1.
        queries: [Q, D] features to classify, on the same device.
        num_classes: number of classes, K.
        k: number of neighbours that vote; M where the bank is smaller.
        temperature: the smaller it is, the more weight the nearest neighbours have.

    Returns:
        [Q, K] each class's share of the votes; a row sums to 1.

    Raises:
        ValueError: the bank is empty, its labels do not match it, or k or temperature is not
            positive.
    """
    if len(bank) == 0 or len(labels) != len(bank):
        raise ValueError(
            f"knn_predict got {len(bank)} bank features and {len(labels)} labels; give at least one feature, and one"
            " label for each."
        )
    if k < 1 or temperature <= 0:
        raise ValueError(f"knn_predict got k={k} and temperature={temperature}; give k >= 1 and temperature > 0.")
    k = min(k, len(bank))
    bank, labels = F.normalize(bank.float(), dim=1), labels.long()
    scores = torch.zeros(len(queries), num_classes, device=bank.device)
    rows = max(1, SIMILARITIES_AT_ONCE // len(bank))
    for start in range(0, len(queries), rows):
        similarity = F.normalize(queries[start : start + rows].float(), dim=1) @ bank.T  # [rows, M]
        nearest, position = similarity.topk(k, dim=1)  # [rows, k]
        weight = (nearest / temperature).softmax(dim=1)  # exp(s / T) over their sum: no overflow at a small temperature
        scores[start : start + rows].scatter_add_(1, labels[position], weight)
    return scores


class Classifier(NamedTuple):
    """What `logistic_regression` learned: weights [D, K] and biases [K] (of a class that the labels
    lack, 0 and -inf), C, whether C is at an end of what is tried, and whether the fit has
    converged."""

    weight: Tensor
    bias: Tensor
    strength: float
    at_end: bool
    converged: bool

    def scores(self, x: Tensor) -> Tensor:
        """Features [Q, D] -> logits [Q, K], float64."""
        return x.double() @ self.weight + self.bias


def logistic_regression(x: Tensor, y: Tensor, deadline: float = math.inf) -> Classifier:
    """L2-penalised logistic regression, whose C is chosen by cross-validation on these samples
    alone. All classes count alike, however unequal they are.

    C is a power of ten, that with the highest mean log-likelihood on held-out samples; the last fit
    is on all samples. Up to 2,000 samples are split into 5 stratified folds (fewer where a class
    has fewer samples). Of a larger set at most 5,000 samples, equally many of each class, are used,
    with a fifth held out once. The features are not standardised here; the caller does that.

    Args:
        x: [M, D] features.
        y: [M] classes, at least two.
        deadline: the time on the monotonic clock at which the result is to be there.

    Raises:
        OutOfTime: the deadline has passed.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if x.numel() < ONE_THREAD else None):
        classes, number = y.unique(return_inverse=True)
        basis = eigenbasis(x)
        strength, at_end, start = _cross_validated(x, number, deadline, basis)
        share = class_weights(number)[number]
        fits = fit(x, number, share[None], torch.tensor([strength]), deadline, basis=basis, start=start)
    weight = torch.zeros(x.shape[1], int(classes[-1]) + 1, dtype=torch.float64)
    bias = torch.full((weight.shape[1],), -math.inf, dtype=torch.float64)
    weight[:, classes], bias[classes] = fits.weight[0], fits.bias[0]
    return Classifier(weight, bias, strength, at_end, bool(fits.converged.all()))


def linear_accuracy(
    train_x: Floats, train_y: Integers, test_x: Floats, test_y: Integers, deadline: float = math.inf
) -> float:
    """Balanced test accuracy of `logistic_regression`, as a fraction.

    Args:
        train_x: [M, D] features.
        train_y: [M] classes, at least two.
        test_x: [Q, D] features.
        test_y: [Q] classes.
        deadline: as in `logistic_regression`.
    """
    model = logistic_regression(torch.as_tensor(train_x), torch.as_tensor(train_y), deadline)
    answers = torch.as_tensor(test_y)
    return balanced(model.scores(torch.as_tensor(test_x)).argmax(dim=1) == answers, answers)


def closing_row(
    train_x: Tensor | Floats,
    train_y: Tensor | Integers,
    test_x: Tensor | Floats,
    test_y: Tensor | Integers,
    *,
    labels_per_class: int = 10,
    draws: int = 5,
    seed: int = 0,
    deadline: float = math.inf,
    show: Show = silent,
) -> dict[str, Cell]:
    """One row of the closing table: the balanced accuracy of kNN and of logistic regression on
    these features, in which every class counts alike.

    kNN reads the features as they are; for logistic regression they are standardised by the mean
    and standard deviation of the whole training part, which needs no labels. With few labels, both
    use the same `draws` stratified samples of the training part. The votes of kNN are divided by
    the share of each class in its bank.

    Args:
        train_x: [M, D] features of the training part.
        train_y: [M] its classes, integers from 0.
        test_x: [Q, D] features of the test part.
        test_y: [Q] its classes.
        labels_per_class: number of labels per class in `knn_10` and `linear_10`; a class with fewer
            samples contributes all of them.
        draws: number of draws of labels.
        seed: fixes the draws, the same for every row of a table.
        deadline: the time on the monotonic clock after which no further cell is computed; it is
            missing then.
        show: called with the title of each cell before it is computed.

    Returns:
        `knn`, `knn_10`, `linear`, `linear_10` (the number is `labels_per_class`; without it: all
        labels), each a `Cell`: the accuracy as a fraction, its sample standard deviation over n
        draws (divisor n - 1; 0 for a single draw), and what it was computed from.

    Raises:
        ValueError: shapes do not match, a feature is not finite, a label is negative, or there are
            fewer than two classes.
    """
    if labels_per_class < 1 or draws < 1:
        raise ValueError(
            f"closing_row got labels_per_class={labels_per_class} and draws={draws}; give at least 1 for each."
        )
    x, y = checked("training", train_x, train_y)
    test, answers = checked("test", test_x, test_y)
    if x.shape[1] != test.shape[1]:
        raise ValueError(
            f"Training features have {x.shape[1]} dimensions and test features {test.shape[1]}; use one encoder for"
            " both."
        )
    check_labels(y, answers)
    standard, standard_test = standardised(x, test)

    def knn(labelled: Tensor) -> Outcome:
        votes = knn_predict(x[labelled], y[labelled], test, int(y.max()) + 1)
        return outcome(votes * class_weights(y[labelled]), answers)

    def linear(labelled: Tensor) -> Outcome:
        return regressed(standard[labelled], y[labelled], standard_test, answers, deadline)

    few = [torch.from_numpy(labelled_draw(y.numpy(), labels_per_class, seed, draw)) for draw in range(draws)]
    every = [torch.arange(len(y))]
    return in_time(
        {
            "knn": (knn, every),
            f"knn_{labels_per_class}": (knn, few),
            f"linear_{labels_per_class}": (linear, few),
            "linear": (linear, every),  # the last: it takes longest
        },
        answers,
        deadline,
        show,
    )


def standardised(x: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors standardised by the mean and standard deviation of the first, over its samples;
    constant features become 0."""
    std, mean = torch.std_mean(x, dim=0, correction=0)
    scale = torch.where(std > 1e-7 * mean.abs(), std, math.inf)
    return (x - mean) / scale, (test - mean) / scale


def regressed(x: Tensor, y: Tensor, test: Tensor, answers: Tensor, deadline: float = math.inf) -> Outcome:
    """What logistic regression on features [M, D] with labels [M] says of others [Q, D] with labels
    [Q]."""
    model = logistic_regression(x, y, deadline)
    result = outcome(model.scores(test), answers)
    return result._replace(at_end=model.at_end, converged=model.converged)


def check_labels(train: Tensor, test: Tensor, judged: str = "test") -> None:
    """Refuses labels that no classifier can learn from, or be judged by.

    Args:
        train: [M] classes of the training part.
        test: [Q] classes of the part that is judged.
        judged: the name of that part.

    Raises:
        ValueError: a label is negative, or the training part has fewer than two classes.
    """
    for part, labels in {"training": train, judged: test}.items():
        if len(labels) and int(labels.min()) < 0:
            raise ValueError(
                f"The {part} labels hold {int(labels.min())}; number the classes from 0, and leave out unlabelled"
                " samples."
            )
    if len(train.unique()) < 2:
        raise ValueError(f"The training labels hold a single class ({int(train[0])}); a classifier needs at least two.")


def in_time(
    cells: Mapping[str, tuple[Callable[[Tensor], Outcome], list[Tensor]]],
    answers: Tensor,
    deadline: float,
    show: Show = silent,
) -> dict[str, Cell]:
    """Those cells of a row that can be computed before a deadline, by column.

    Args:
        cells: what computes the outcome of labels at some positions, and the positions of each
            draw, in the order of computation.
        answers: [Q] the classes of the samples that are classified.
        deadline: a time on the monotonic clock.
        show: called with the title of each cell before it is computed.
    """
    row: dict[str, Cell] = {}
    for column, (compute, draws) in cells.items():
        if time.monotonic() < deadline:
            show(column_title(column))
            with suppress(OutOfTime):
                row[column] = judged([compute(labelled) for labelled in draws], answers, len(draws[0]))
    return dict(sorted(row.items()))


def checked(part: str, features: Tensor | Floats, labels: Tensor | Integers) -> tuple[Tensor, Tensor]:
    """Features as float32 [M, D] and labels as int64 [M], on the CPU.

    Raises:
        ValueError: their shapes do not match, there are none, or a feature is not finite.
    """
    x = torch.as_tensor(features).detach().to("cpu", torch.float32).flatten(1)
    y = torch.as_tensor(labels).detach().to("cpu", torch.int64)
    if len(x) == 0 or y.shape != (len(x),):
        raise ValueError(
            f"The {part} features have the shape {tuple(x.shape)} and the labels {tuple(y.shape)}; give at least one"
            " feature, and one label for each."
        )
    broken = int((~x.isfinite()).any(dim=1).sum())
    if broken:
        raise ValueError(f"{broken} of {len(x)} {part} features hold NaN or infinity; has the encoder diverged?")
    return x, y


def _cross_validated(
    x: Tensor, y: Tensor, deadline: float = math.inf, basis: Tensor | None = None
) -> tuple[float, bool, Fits | None]:
    """The C whose fits give the held-out samples the highest mean log-likelihood, whether it is at
    an end of what is tried, and the mean of these fits, to begin the last one with; None: there
    are none of all classes.

    Raises:
        OutOfTime: the deadline has passed.
    """
    # Imported here: scikit-learn takes a second to import, and kNN does not need it.
    from sklearn.model_selection import StratifiedKFold

    per_class = len(y) if len(y) <= FOLD_SAMPLES else max(2, HOLD_OUT_SAMPLES // len(y.unique()))
    kept = torch.from_numpy(labelled_draw(y.numpy(), per_class, seed=0, draw=0))
    kept = kept[y.bincount()[y[kept]] >= 2]  # from a class of one sample, none can be held out
    every = len(y.unique())
    x, (classes, y) = x[kept], y[kept].unique(return_inverse=True)
    if len(classes) < 2:
        return 1.0, False, None  # nothing to choose by: scikit-learn's default
    folds = StratifiedKFold(min(5, int(y.bincount().min())), shuffle=True, random_state=0)
    splits = list(folds.split(y, y))[: None if len(y) <= FOLD_SAMPLES else 1]
    share, held_out = class_weights(y)[y], torch.zeros(len(splits), len(y))
    for number, (_, out) in enumerate(splits):
        held_out[number, torch.from_numpy(out)] = 1.0
    solved: dict[float, Fits] = {}

    def likelihoods(strengths: Sequence[float], start: Fits | None = None) -> dict[float, float]:
        each = torch.tensor(strengths).repeat_interleave(len(splits))
        shares = ((1 - held_out) * share).repeat(len(strengths), 1)
        fits = fit(x, y, shares, each, deadline, exact=False, basis=basis, start=start)
        results = torch.zeros(len(each))
        for number, out in enumerate(held_out.bool().repeat(len(strengths), 1)):
            log_p = (x[out].float() @ fits.weight[number] + fits.bias[number]).log_softmax(dim=1)  # [held out, K]
            results[number] = (share[out] * log_p.gather(1, y[out, None])[:, 0]).mean()
        for number, strength in enumerate(strengths):
            part = slice(number * len(splits), (number + 1) * len(splits))
            solved[strength] = fits._replace(weight=fits.weight[part], bias=fits.bias[part])
        return dict(zip(strengths, results.view(len(strengths), -1).mean(1).tolist(), strict=True))

    def chosen(strength: float, at_end: bool) -> tuple[float, bool, Fits | None]:
        fits = solved[strength]
        mean = fits._replace(weight=fits.weight.mean(0, keepdim=True), bias=fits.bias.mean(0, keepdim=True))
        return strength, at_end, mean if len(classes) == every else None

    known = likelihoods(STRENGTHS)
    while True:
        order = sorted(known)
        best = order.index(max(known, key=known.__getitem__))
        if best not in (0, len(order) - 1):
            return chosen(order[best], False)
        if len(order) > 1 and known[order[best]] - known[order[1 if best == 0 else best - 1]] < GAIN:
            return chosen(order[best], False)
        further = order[best] / 10 if best == 0 else 10 * order[best]
        if not 0.99 * SMALLEST < further < 1.01 * LARGEST:
            return chosen(order[best], True)
        known |= likelihoods([further], solved[order[best]])
