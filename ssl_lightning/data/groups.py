"""Groups of samples that are held out together: a document's rows, a recording's stretches, the
pictures of a patient. A group with samples to learn from has none to judge by."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import torch
from torch import Tensor


def number_of(group: str) -> int:
    """Returns the number of a group, in [-2^63, 2^63): a hash of its name, so that no table of
    names is needed."""
    return int.from_bytes(
        hashlib.blake2b(group.encode(errors="surrogatepass"), digest_size=8).digest(), "big", signed=True
    )


def check_pattern(pattern: str | None) -> re.Pattern[str] | None:
    """Returns a pattern of groups, compiled.

    Raises:
        ValueError: it is not a regular expression.
    """
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"group_pattern={pattern!r} is not a regular expression: {error}. Give one such as '^([^/]+)/'."
        ) from error


def group_in(pattern: re.Pattern[str], path: str) -> str:
    """Returns the group that a pattern finds in a path: what its parentheses enclose, or all that
    it matches.

    Raises:
        ValueError: it does not match.
    """
    match = pattern.search(path)
    if match is None:
        raise ValueError(
            f"group_pattern={pattern.pattern!r} does not match {path!r}, so its group is unknown. Change the pattern"
            " (a regular expression over paths relative to the data's folder)."
        )
    return "/".join(part or "" for part in match.groups()) if match.groups() else match[0]


def withhold_groups(labels: Tensor, groups: Tensor, wanted: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Splits samples by whole groups: returns the indices of those to learn from, and of those held
    out to judge.

    Groups come in an order drawn by the seed; one is held out if that brings the numbers of its
    classes nearer to those wanted, and leaves samples of each to learn from.

    Args:
        labels: [N] int64, not negative.
        groups: [N] int64, equal for samples of one group.
        wanted: [C] how many samples of each class to hold out.
        seed: of the draw.

    Raises:
        ValueError: no group can be held out, since each has all samples of a class.
    """
    number = groups.unique(return_inverse=True)[1]
    order = number.argsort(stable=True)
    members = order.split(number.bincount().tolist())
    missing, left = wanted.double().numpy().copy(), labels.bincount(minlength=len(wanted)).numpy().copy()
    withheld = torch.zeros(len(labels), dtype=torch.bool)
    nearest: tuple[float, Tensor] | None = None
    shuffled = torch.randperm(len(members), generator=torch.Generator().manual_seed(seed)).tolist()
    for group in shuffled:
        classes, counts = np.unique(labels[members[group]].numpy(), return_counts=True)
        if (counts >= left[classes]).any():
            continue
        farther = float((np.abs(missing[classes] - counts) - np.abs(missing[classes])).sum())
        if nearest is None or farther < nearest[0]:
            nearest = farther, members[group]
        if farther < 0:
            missing[classes] -= counts
            left[classes] -= counts
            withheld[members[group]] = True
    if nearest is None:
        raise ValueError(
            f"No group can be held out, since each of the {len(members):,} has all samples of a class. Give a"
            " validation split, or smaller groups: the stretches of a recording are one unless --data.group_column"
            " says otherwise."
        )
    if not withheld.any():
        withheld[nearest[1]] = True
    return (~withheld).nonzero()[:, 0], withheld.nonzero()[:, 0]


def withhold_some(sizes: Tensor, wanted: int, order: Tensor) -> Tensor:
    """Chooses whole groups with about `wanted` samples together, at most a tenth of all.

    Args:
        sizes: [G] samples of each group.
        wanted: samples to withhold.
        order: [G] a permutation, in which groups are tried; larger ones than wanted only if there
            are no others.

    Returns:
        [G] whether a group is withheld; none is where each has more than a tenth of all samples.
    """
    most = max(wanted, int(sizes.min()))
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    if wanted < 1 or most > int(sizes.sum()) // 10:
        return chosen
    tried = order[sizes[order] <= most]
    chosen[tried[sizes[tried].cumsum(0) <= most]] = True
    return chosen
