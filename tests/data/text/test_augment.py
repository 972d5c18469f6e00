"""Deletion of tokens: drawn for each sample and place alone, never of special tokens, never all of
a sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_lightning.augment.random import sample_keys
from ssl_lightning.data.text.augment import TextAugmentation
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.nn.vocabulary import Vocabulary

VOCABULARY = Vocabulary.plain(1000)


def texts(lengths: list[int]) -> Ragged:
    """Samples of different tokens, each between 2 and 3."""
    x = torch.cat([torch.tensor([2, *range(5, 3 + length), 3]) for length in lengths])
    return Ragged(x, torch.tensor(lengths))


def split(samples: Ragged) -> list[Tensor]:
    return list(samples.x.split(samples.lengths.tolist()))


def keys(count: int, pass_: int = 0) -> Tensor:
    return sample_keys(0, pass_, torch.arange(count))


def test_the_asked_part_is_deleted_and_the_rest_keeps_its_order() -> None:
    samples = texts([102] * 400)
    left = TextAugmentation(128, VOCABULARY, 0.1).delete(samples, keys(400))
    assert 1 - (len(left.x) - 800) / 40_000 == pytest.approx(0.1, abs=4 * (0.09 / 40_000) ** 0.5)
    assert int(left.lengths.sum()) == len(left.x)
    kept = torch.zeros(100)
    for sample in split(left):
        assert sample[0] == 2 and sample[-1] == 3 and bool((sample[1:-1].diff() > 0).all())
        kept[sample[1:-1] - 5] += 1
    assert float((kept / 400 - 0.9).abs().max()) < 0.075  # no place is preferred


@pytest.mark.parametrize("deletion", [0.5, 1.0])
def test_special_tokens_stay_and_one_other_of_each_sample(deletion: float) -> None:
    samples = texts([2, 3, 4, 9, 3] * 20)
    samples.x[4] = 4  # the only word of a sample is hidden
    left = split(TextAugmentation(16, VOCABULARY, deletion).delete(samples, keys(100)))
    before = split(samples)
    for one, other in zip(left, before, strict=True):
        special = VOCABULARY.special[one]
        assert torch.equal(one[special], other[VOCABULARY.special[other]])
        assert int((~special).sum()) >= int((~VOCABULARY.special[other]).sum() > 0)
    if deletion == 1.0:
        assert all(int((~VOCABULARY.special[one]).sum()) <= 1 for one in left)


def test_what_a_sample_loses_depends_on_its_key_alone() -> None:
    samples, augmentation = texts([9, 100, 33, 2, 50]), TextAugmentation(128, VOCABULARY, 0.3)
    together = split(augmentation.delete(samples, keys(5)))
    for number, sample in enumerate(split(samples)):
        alone = augmentation.delete(Ragged(sample, samples.lengths[number : number + 1]), keys(5)[number : number + 1])
        assert torch.equal(alone.x, together[number])
    again, later = augmentation.delete(samples, keys(5)), augmentation.delete(samples, keys(5, pass_=1))
    assert torch.equal(torch.cat(together), again.x) and not torch.equal(again.x, later.x)
    longer = texts([50, 100])
    alike = torch.stack([keys(1)[0]] * 2)
    short, long = split(augmentation.delete(longer, alike))
    assert torch.equal(short[1:-1], long[1:-1][: len(short) - 2])  # the same places go, whatever the length


def test_rows_hold_what_is_left_and_the_test_transform_leaves_all() -> None:
    samples = texts([9, 100, 33, 2, 50])
    for deletion in (0.0, 0.3):
        augmentation = TextAugmentation(128, VOCABULARY, deletion)
        expected = pack(augmentation.delete(samples, keys(5)) if deletion else samples, 128)
        view: Any = augmentation(samples, keys(5))
        assert torch.equal(view.x, expected.x) and torch.equal(view.segment, expected.segment) and view.samples == 5
    before = samples.x.clone()
    TextAugmentation(128, VOCABULARY, 1.0)(samples, keys(5))
    assert torch.equal(samples.x, before)


def test_a_probability_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"deletion=1\.5\) must be at least 0 and at most 1"):
        TextAugmentation(128, VOCABULARY, 1.5)
