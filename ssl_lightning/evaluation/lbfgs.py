"""L-BFGS (Liu and Nocedal 1989) for many convex functions at once, on torch.

Notation for shapes: P functions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MEMORY = 8
"""Pairs of steps and gradients from which L-BFGS estimates the curvature."""
REFRESHED = 10
"""Iterations after which the diagonals of the Hessians are computed anew."""
FLAT = 1e-7
"""A pair whose step and gradients enclose an angle with less than this cosine says nothing of the
curvature."""


def minimised(
    w: Tensor,
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    curvatures: Callable[[Tensor, Tensor], Tensor],
    tolerance: float,
    most: int,
    noise: float = 0.0,
) -> tuple[Tensor, Tensor, int]:
    """The minimum of each of P convex functions by L-BFGS with backtracking. Problems that have
    converged are no longer computed, nor those that rounding errors let descend no further.

    Args:
        w: [P, ...] where to start.
        evaluate: parameters of some problems, and their numbers -> values and gradients.
        curvatures: the same -> the diagonals of the Hessians.
        tolerance: the part of a value that its Newton decrement may be.
        most: iterations.
        noise: rounding errors of a value, as a part of it, where they are above those of its dtype.

    Returns:
        Where each is smallest [P, ...], whether it has converged [P], and the number of iterations.
    """
    slack = max(noise, 4 * torch.finfo(w.dtype).eps)
    result, done = w.clone(), torch.zeros(len(w), dtype=torch.bool)
    problems, diagonal = torch.arange(len(w)), w
    value, gradient = evaluate(w, problems)
    stuck = torch.zeros_like(done)
    pairs: list[tuple[Tensor, Tensor]] = []
    for iteration in range(most):
        if iteration % REFRESHED == 0:
            diagonal = curvatures(w, problems)
        direction = _direction(gradient, pairs, diagonal)
        slope = _dot(gradient, direction)
        finished = -slope / 2 <= tolerance * value
        ended = finished | stuck
        if bool(ended.any()):
            result[problems[ended]], done[problems[ended]] = w[ended], finished[ended]
            left = ~ended
            if not bool(left.any()):
                return result, done, iteration
            problems, w, value, gradient, diagonal = (each[left] for each in (problems, w, value, gradient, diagonal))
            direction, slope, stuck = direction[left], slope[left], stuck[left]
            pairs = [(moved[left], turned[left]) for moved, turned in pairs]
        length = torch.ones_like(value)
        for _ in range(30):
            moved = _times(length, direction)
            value_there, gradient_there = evaluate(w + moved, problems)
            enough = value_there <= value + 1e-4 * length * slope + slack * value
            if bool(enough.all()):
                break
            length = torch.where(enough, length, length / 2)
        stuck = ~enough
        pairs = [*pairs[1 - MEMORY :], (moved, gradient_there - gradient)]
        w = torch.where(stuck[:, None, None], w, w + moved)
        value, gradient = value_there, gradient_there
    result[problems] = w
    return result, done, most


def _direction(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]], diagonal: Tensor) -> Tensor:
    """The step that L-BFGS takes, by its two loops over the last pairs, from Newton's by the
    diagonal of the Hessian."""
    step, kept = -gradient, []
    for moved, turned in reversed(pairs):
        turn = _dot(moved, turned)
        bent = turn > FLAT * (_dot(moved, moved) * _dot(turned, turned)).sqrt()  # else rounding errors
        inverse = torch.where(bent, 1 / turn, 0.0)
        part = inverse * _dot(moved, step)
        step = step - _times(part, turned)
        kept.append((inverse, part))
    step = step / diagonal
    if pairs:
        moved, turned = pairs[-1]
        factor = _dot(moved, turned) / _dot(turned, turned / diagonal).clamp(min=1e-30)
        step = _times(torch.where(kept[0][0] > 0, factor, 1.0), step)
    for (moved, turned), (inverse, part) in zip(pairs, reversed(kept), strict=True):
        step = step + _times(part - inverse * _dot(turned, step), moved)
    return step


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1)


def _times(factor: Tensor, tensor: Tensor) -> Tensor:
    return factor[:, None, None] * tensor
