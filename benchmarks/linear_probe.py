"""The linear probe's logistic regression against scikit-learn's, at equal C.

    python benchmarks/linear_probe.py
    python benchmarks/linear_probe.py --samples 6000 --dim 64 --rounds 1

Features are standardised, as in the closing table. Synthetic ones have a spectrum that decays as
1/j, and classes that overlap; where SSL_LIGHTNING_DATA names a folder with Fashion-MNIST, its
pixels reduced by PCA follow. Contestants take turns; the table has medians:

- `fit`: this package's, converged to 1e-6 of the loss;
- scikit-learn's LogisticRegression (lbfgs) at its default tolerance, in float64 and in float32;
- the same with the largest tolerance, of powers of ten, at which its loss in float64 is within a
  millionth of the smallest loss that is known, or within as much as that of `fit`;
- `logistic_regression`: this package's with the choice of C, for comparison with its last fit.

`excess` is how far the loss is above the smallest of all, as a part of it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from common import machine
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn import functional as F

from ssl_lightning.evaluation.measures import balanced
from ssl_lightning.evaluation.protocol import logistic_regression, standardised
from ssl_lightning.evaluation.regression import fit

SPARE = 1e-6
"""The part of a loss that does not count."""
DISTANCE = 14.0
"""The squared distance of two synthetic classes, in deviations within a class."""
CHOSEN = "logistic_regression, with the choice of C"
STEPS = 5_000
"""Iterations that scikit-learn may take."""


class Data(NamedTuple):
    """Features [M, D] float32, and labels [M], to learn from and to judge."""

    name: str
    x: Tensor
    y: Tensor
    test: Tensor
    answers: Tensor


class Line(NamedTuple):
    """A fit: weights [D, K] and biases [K]."""

    weight: Tensor
    bias: Tensor


def synthetic(samples: int, dim: int, classes: int) -> Data:
    """Classes that overlap along directions of decaying variance."""
    generator = torch.Generator().manual_seed(0)
    count = samples + samples // 6
    y = torch.arange(count) % classes
    scale = torch.arange(1, dim + 1).double().rsqrt()
    centres = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(count, dim, generator=generator, dtype=torch.float64)
    basis = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))[0]
    centres *= (DISTANCE / (2 * dim)) ** 0.5  # two centres are, in the mean, so far apart: squared, in deviations
    x = ((centres[y] + noise) * scale) @ basis
    train, test = standardised(x[:samples].float(), x[samples:].float())
    return Data(f"synthetic, {classes} classes", train, y[:samples], test, y[samples:])


def fashion(samples: int, dim: int) -> Data | None:
    """Fashion-MNIST's pixels, reduced by PCA; None where it is not there."""
    if not os.environ.get("SSL_LIGHTNING_DATA"):
        return None
    from ssl_lightning.datamodules.fashion_mnist import FashionMNIST

    data = FashionMNIST(root=f"{os.environ['SSL_LIGHTNING_DATA']}/fashion_mnist", download=False)
    data.prepare_data()
    parts = []
    for split in ("train", "test"):
        source = data.split(split)
        assert source is not None and source.labels is not None
        index = torch.arange(min(samples, len(source)))
        parts.append((data.raw_features(source.fetch(index)).flatten(1).numpy(), source.labels[index]))
    reduce = PCA(min(dim, parts[0][0].shape[1]), random_state=0).fit(parts[0][0])
    x, test = (torch.from_numpy(reduce.transform(pixels)).float() for pixels, _ in parts)
    x, test = standardised(x, test)
    return Data(f"Fashion-MNIST, {x.shape[1]} principal components", x, parts[0][1], test, parts[1][1])


def loss(line: Line, data: Data, strength: float) -> float:
    """The objective of both, as a mean over samples."""
    nll = F.cross_entropy(data.x.double() @ line.weight + line.bias, data.y)
    return float(nll + line.weight.square().sum() / (2 * strength * len(data.y)))


def by_fit(data: Data, strength: float) -> Line:
    fits = fit(data.x, data.y, torch.ones(1, len(data.y)), torch.tensor([strength]))
    return Line(fits.weight[0], fits.bias[0])


def chosen(data: Data, strength: float) -> Line:
    model = logistic_regression(data.x, data.y)
    return Line(model.weight, model.bias)


def by_sklearn(dtype: torch.dtype, tolerance: float = 1e-4, steps: int = STEPS) -> Callable[[Data, float], Line]:
    def fitted(data: Data, strength: float) -> Line:
        model = LogisticRegression(C=strength, tol=tolerance, max_iter=steps)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(data.x.to(dtype).numpy(), data.y.numpy())
        return Line(torch.from_numpy(model.coef_.T).double(), torch.from_numpy(model.intercept_).double())

    return fitted


def comparable(data: Data, strength: float, ours: float) -> tuple[float, float]:
    """The largest tolerance at which scikit-learn's loss is as near to the smallest as ours, and
    that loss."""
    best = min(ours, loss(by_sklearn(torch.float64, 1e-7)(data, strength), data, strength))
    allowed = max(ours, best * (1 + SPARE))
    for power in range(1, 8):
        value = loss(by_sklearn(torch.float64, 10.0**-power)(data, strength), data, strength)
        if value <= allowed:
            return 10.0**-power, best
    return 1e-7, best


def compare(data: Data, strength: float, rounds: int, complete: bool) -> None:
    ours = loss(by_fit(data, strength), data, strength)
    tolerance, best = comparable(data, strength, ours)
    contestants: dict[str, Callable[[Data, float], Line]] = {
        "fit": by_fit,
        "scikit-learn, default tolerance": by_sklearn(torch.float64),
        "scikit-learn, default, float32": by_sklearn(torch.float32),
        f"scikit-learn, equal loss (tol {tolerance:g})": by_sklearn(torch.float64, tolerance),
        "scikit-learn, the same tolerance, float32": by_sklearn(torch.float32, tolerance),
    }
    if complete:
        contestants[CHOSEN] = chosen
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    lines: dict[str, Line] = {}
    for _ in range(rounds):
        for name, contestant in contestants.items():
            began = time.perf_counter()
            lines[name] = contestant(data, strength)
            seconds[name].append(time.perf_counter() - began)
    first = statistics.median(seconds["fit"])
    print(f"\n{data.name}, {len(data.y):,} x {data.x.shape[1]}, C = {strength:g}\n")
    print("| | s | times fit | accuracy, % | loss | excess |\n| --- | --- | --- | --- | --- | --- |")
    for name, line in lines.items():
        middle, value = statistics.median(seconds[name]), loss(line, data, strength)
        accuracy = 100 * balanced(
            (data.test.double() @ line.weight + line.bias).argmax(1) == data.answers, data.answers
        )
        end = "| |" if line is lines.get(CHOSEN) else f"{value:.6f} | {value / best - 1:.1e} |"
        print(f"| {name} | {middle:.2f} | {middle / first:.2f} | {accuracy:.2f} | {end}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--classes", type=int, nargs="*", default=[10, 100])
    parser.add_argument("--strength", type=float, default=0.01, help="C")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--without", choices=("fashion", "choice"), nargs="*", default=[], help="parts to leave out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(machine())
    with threadpool_limits(args.threads):
        for classes in args.classes:
            data = synthetic(args.samples, args.dim, classes)
            compare(data, args.strength, args.rounds, "choice" not in args.without)
        pixels = None if "fashion" in args.without else fashion(args.samples, args.dim)
        if pixels is not None:
            compare(pixels, args.strength, args.rounds, "choice" not in args.without)


if __name__ == "__main__":
    main()
