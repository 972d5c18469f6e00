"""Whole groups are held out: none has samples on both sides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ssl_lightning.data.groups import withhold_groups, withhold_some
from ssl_lightning.data.sources import holdout, withhold_fifth


def drawn(n: int, classes: int, groups: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(classes, (n,), generator=generator), torch.randint(groups, (n,), generator=generator) - 7


@pytest.mark.parametrize(("n", "classes", "groups"), [(2000, 5, 200), (300, 3, 6), (60, 2, 4), (50, 1, 2)])
def test_no_group_is_torn_and_about_as_many_of_each_class_are_held_out(n: int, classes: int, groups: int) -> None:
    labels, group = drawn(n, classes, groups)
    for rest, withheld in (holdout(labels, group), withhold_fifth(labels, 3, group)):
        assert sorted([*rest.tolist(), *withheld.tolist()]) == list(range(n)) and len(withheld)
        assert not set(group[rest].tolist()) & set(group[withheld].tolist())
        assert set(labels[rest].tolist()) == set(labels.tolist()), "each class is left to learn from"
    if groups == 200:
        withheld = holdout(labels, group)[1]
        wanted = labels.bincount() / 7
        assert (labels[withheld].bincount() - wanted).abs().max() < 20


def test_a_group_for_each_sample_is_as_good_as_none() -> None:
    labels, _ = drawn(700, 4, 1)
    alone = torch.arange(700)
    withheld = holdout(labels, alone)[1]
    counts, free = (labels[part].bincount() for part in (withheld, holdout(labels)[1]))
    assert (counts - free).abs().max() <= 1
    again = holdout(labels, torch.arange(700))[1]
    assert torch.equal(withheld, again)
    assert not torch.equal(
        withhold_fifth(labels, 0, torch.arange(700))[1], withhold_fifth(labels, 1, torch.arange(700))[1]
    )


def test_groups_that_are_classes_are_refused() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match="No group can be held out, since each of the 2 has all samples of a class"):
        withhold_groups(labels, labels, torch.tensor([1, 1]), 0)


def test_some_are_withheld_up_to_a_tenth() -> None:
    def withheld(sizes: list[int], wanted: int) -> list[int]:
        return withhold_some(torch.tensor(sizes), wanted, torch.arange(len(sizes))).nonzero()[:, 0].tolist()

    assert withheld([1] * 100, 2) == [0, 1]  # documents of one row: so many rows
    assert withheld([5, 1, 1, 1] + [5] * 40, 3) == [1, 2, 3]
    assert withheld([25] * 40, 20) == [0]  # none is as small as wanted
    assert withheld([100] * 9, 18) == []  # each is more than a tenth
    assert withheld([1] * 100, 0) == []
