"""The evaluation protocol of a run's closing table, the same for raw, untrained and pretrained
features: kNN and logistic regression.

Notation for shapes: M labelled samples, Q queries, D features, K classes.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..data.sources import Integers, labelled_draw
from .table import Cell, Show, column_title, silent

SIMILARITIES_AT_ONCE = 2**22
"""Most similarities that `knn_predict` holds in memory at a time (16 MiB in float32)."""

STRENGTHS = tuple(10.0**power for power in range(-4, 3))
"""Values of C that cross-validation chooses from; C is the inverse strength of the L2 penalty."""

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


class OutOfTime(Exception):
    """A fit would end after the time that there is."""


def linear_accuracy(
    train_x: Floats, train_y: Integers, test_x: Floats, test_y: Integers, deadline: float = math.inf
) -> float:
    """Test accuracy of L2-penalised logistic regression, whose C is chosen by cross-validation on
    the training samples alone.

    C is the value of `STRENGTHS` with the highest mean log-likelihood on held-out samples; the last
    fit is on all samples. Up to 2,000 samples are split into 5 stratified folds (fewer where a
    class has fewer samples). Of a larger set at most 5,000 samples, equally many of each class, are
    used, with a fifth held out once, so that 60,000 samples cost little more than their last fit.
    The features are not standardised here; the caller does that.

    Args:
        train_x: [M, D] features.
        train_y: [M] classes, at least two.
        test_x: [Q, D] features.
        test_y: [Q] classes.
        deadline: the time on the monotonic clock at which the result is to be there.

    Returns:
        Accuracy as a fraction.

    Raises:
        OutOfTime: the time that the fits of cross-validation take says that the last one would end
            later.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1 if train_x.size < ONE_THREAD else None):
        started = time.monotonic()
        model = _regression(_cross_validated(train_x, train_y, deadline))
        chosen = time.monotonic()
        fits = len(STRENGTHS) * min(len(train_y), HOLD_OUT_SAMPLES)  # samples in all of them, at least about
        if chosen + (chosen - started) * len(train_y) / fits > deadline:
            raise OutOfTime
        _fit(model, train_x, train_y)
        return float(np.mean(model.predict(test_x) == test_y))


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
    """One row of the closing table: the accuracy of kNN and of logistic regression on these
    features.

    kNN reads the features as they are; for logistic regression they are standardised by the mean
    and standard deviation of the whole training part, which needs no labels. With few labels, both
    use the same `draws` stratified samples of the training part.

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
        labels), each `{"mean", "std", "n"}`: accuracy as a fraction, its sample standard deviation
        over n draws (divisor n - 1; 0 for a single draw), and n.

    Raises:
        ValueError: shapes do not match, a feature is not finite, a label is negative, or there are
            fewer than two classes.
    """
    # Imported here: scikit-learn takes a second to import, and kNN does not need it.
    from sklearn.preprocessing import StandardScaler

    if labels_per_class < 1 or draws < 1:
        raise ValueError(
            f"closing_row got labels_per_class={labels_per_class} and draws={draws}; give at least 1 for each."
        )
    x, y = _checked("training", train_x, train_y)
    test, answers = _checked("test", test_x, test_y)
    if x.shape[1] != test.shape[1]:
        raise ValueError(
            f"Training features have {x.shape[1]} dimensions and test features {test.shape[1]}; use one encoder for"
            " both."
        )
    check_labels(y, answers)
    classes = int(max(y.max(), answers.max())) + 1
    scaler = StandardScaler().fit(x)
    scaled, scaled_test = scaler.transform(x), scaler.transform(test)

    def knn(labelled: Integers | slice) -> float:
        bank, labels = torch.from_numpy(x[labelled]), torch.from_numpy(y[labelled])
        scores = knn_predict(bank, labels, torch.from_numpy(test), classes)
        return float(np.mean(scores.argmax(dim=1).numpy() == answers))

    def linear(labelled: Integers | slice) -> float:
        return linear_accuracy(scaled[labelled], y[labelled], scaled_test, answers, deadline)

    few = [labelled_draw(y, labels_per_class, seed, draw) for draw in range(draws)]
    return in_time(
        {
            "knn": lambda: [knn(slice(None))],
            f"knn_{labels_per_class}": lambda: [knn(labelled) for labelled in few],
            f"linear_{labels_per_class}": lambda: [linear(labelled) for labelled in few],
            "linear": lambda: [linear(slice(None))],  # the last: it takes longest
        },
        deadline,
        show,
    )


def check_labels(train: Integers, test: Integers, judged: str = "test") -> None:
    """Refuses labels that no classifier can learn from, or be judged by.

    Args:
        train: [M] classes of the training part.
        test: [Q] classes of the part that is judged.
        judged: the name of that part.

    Raises:
        ValueError: a label is negative, or the training part has fewer than two classes.
    """
    for part, labels in {"training": train, judged: test}.items():
        if len(labels) and labels.min() < 0:
            raise ValueError(
                f"The {part} labels hold {labels.min()}; number the classes from 0, and leave out unlabelled samples."
            )
    if len(np.unique(train)) < 2:
        raise ValueError(f"The training labels hold a single class ({train[0]}); a classifier needs at least two.")


def in_time(cells: Mapping[str, Callable[[], list[float]]], deadline: float, show: Show = silent) -> dict[str, Cell]:
    """Those cells of a row that can be computed before a deadline, by column.

    Args:
        cells: what computes the accuracies of each, in the order of computation.
        deadline: a time on the monotonic clock.
        show: called with the title of each cell before it is computed.
    """
    row: dict[str, Cell] = {}
    for column, compute in cells.items():
        if time.monotonic() < deadline:
            show(column_title(column))
            with suppress(OutOfTime):
                row[column] = cell_of(compute())
    return dict(sorted(row.items()))


def cell_of(accuracies: list[float]) -> Cell:
    """Mean and sample standard deviation (divisor n - 1; 0 for a single draw) of the accuracies of
    n draws of labels."""
    std = float(np.std(accuracies, ddof=1)) if len(accuracies) > 1 else 0.0
    return {"mean": float(np.mean(accuracies)), "std": std, "n": len(accuracies)}


def _checked(part: str, features: Tensor | Floats, labels: Tensor | Integers) -> tuple[Floats, Integers]:
    """Features as float32 [M, D] and labels as int64 [M], on the CPU."""
    x = torch.as_tensor(features).detach().to("cpu", torch.float32).flatten(1).numpy()
    y = torch.as_tensor(labels).detach().to("cpu", torch.int64).numpy()
    if len(x) == 0 or y.shape != (len(x),):
        raise ValueError(
            f"The {part} features have the shape {x.shape} and the labels {y.shape}; give at least one feature, and one"
            " label for each."
        )
    broken = int((~np.isfinite(x)).any(axis=1).sum())
    if broken:
        raise ValueError(f"{broken} of {len(x)} {part} features hold NaN or infinity; has the encoder diverged?")
    return x, y


def _regression(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=300, warm_start=True)


def _fit(model: Any, x: Floats, y: Integers) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the limit of 300 iterations is part of the protocol
        model.fit(x, y)


def _cross_validated(x: Floats, y: Integers, deadline: float = math.inf) -> float:
    """The C whose fits give the held-out samples the highest mean log-likelihood.

    Raises:
        OutOfTime: the deadline has passed.
    """
    from sklearn.model_selection import StratifiedKFold

    kept = labelled_draw(
        y, len(y) if len(y) <= FOLD_SAMPLES else max(2, HOLD_OUT_SAMPLES // len(np.unique(y))), seed=0, draw=0
    )
    kept = kept[np.bincount(y[kept])[y[kept]] >= 2]  # from a class of one sample, none can be held out
    x, y = x[kept], y[kept]
    if len(np.unique(y)) < 2:
        return 1.0  # nothing to choose by: scikit-learn's default
    folds = StratifiedKFold(min(5, int(np.bincount(y)[np.unique(y)].min())), shuffle=True, random_state=0)
    splits = list(folds.split(x, y))[: None if len(y) <= FOLD_SAMPLES else 1]
    likelihood = np.zeros(len(STRENGTHS))
    for train, held_out in splits:
        model = _regression(STRENGTHS[0])
        for number, strength in enumerate(STRENGTHS):
            if time.monotonic() > deadline:
                raise OutOfTime
            model.set_params(C=strength)  # warm start: from the solution of the next smaller C
            _fit(model, x[train], y[train])
            with np.errstate(divide="ignore"):  # a probability may underflow to 0: its logarithm -inf is correct
                log_p = model.predict_log_proba(x[held_out])  # [held out, K]
            likelihood[number] += log_p[np.arange(len(held_out)), np.searchsorted(model.classes_, y[held_out])].mean()
    return STRENGTHS[int(likelihood.argmax())]
