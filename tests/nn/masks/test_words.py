"""Masks: BERT's statistics, special tokens never, and each sample's own whatever is around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from ssl_lightning.augment.random import sample_keys, uniform
from ssl_lightning.nn.masks import words as module
from ssl_lightning.nn.masks.words import Hidden, TokenMasks
from ssl_lightning.nn.packing import Ragged, pack
from ssl_lightning.nn.vocabulary import SPECIAL, Vocabulary
from ssl_lightning.types import View

SIZE, FIRST = 100, len(SPECIAL)
"""Tokens, and the first one that is text."""


def texts(count: int, longest: int = 24, below: int = SIZE) -> list[Tensor]:
    """Samples of 1 to `longest` tokens between [CLS] and [SEP]."""
    generator = torch.Generator().manual_seed(count)
    lengths = torch.randint(1, longest + 1, (count,), generator=generator).tolist()
    return [
        torch.cat([torch.tensor([2]), torch.randint(FIRST, below, (n,), generator=generator), torch.tensor([3])])
        for n in lengths
    ]


def packed(samples: Sequence[Tensor], row_length: int = 32) -> View:
    return pack(
        Ragged(
            torch.cat([torch.zeros(0, dtype=torch.int64), *samples]),
            torch.tensor([len(sample) for sample in samples], dtype=torch.int64),
        ),
        row_length,
    )


def hidden_of(masks: TokenMasks, view: View, key: Tensor, ratio: float = 0.15) -> tuple[list[Tensor], list[Tensor]]:
    """For each sample, which of its tokens are to be predicted, and what is seen of it."""
    hidden = masks.choose(view, key, ratio)
    chosen = torch.zeros(view.x.numel(), dtype=torch.bool)
    chosen[hidden.positions[hidden.chosen]] = True
    seen = masks.corrupt(view, key, hidden).x.flatten()
    rows = torch.arange(1, len(view.x) + 1)[:, None].expand_as(view.x)
    segment = (rows if view.segment is None else view.segment).flatten()
    parts = segment.bincount(minlength=len(key) + 1).tolist()
    order = segment.argsort(stable=True)  # a sample's places lie one after the other
    return list(chosen[order].split(parts))[1:], list(seen[order].split(parts))[1:]


def keys(count: int, pass_: int = 0) -> Tensor:
    return sample_keys(0, pass_, torch.arange(count))


def within(count: float, draws: int, p: float) -> bool:
    """Whether a number of successes is at most 4 standard deviations from its mean."""
    return abs(count - p * draws) <= 4 * (draws * p * (1 - p)) ** 0.5


# Statistics.


def collated(samples: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What transformers hides, and what it shows."""
    words = {name: number for number, name in enumerate([*SPECIAL, *(f"w{number}" for number in range(FIRST, SIZE))])}
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), SPECIAL, strict=True))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, unk_token="[UNK]")), **names)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    torch.manual_seed(0)
    batch = collate([{"input_ids": sample.tolist(), "attention_mask": [1] * len(sample)} for sample in samples])
    rows = [
        (batch["labels"][row, : len(sample)] >= 0, batch["input_ids"][row, : len(sample)])
        for row, sample in enumerate(samples)
    ]
    return [row[0] for row in rows], [row[1] for row in rows]


@pytest.mark.parametrize("who", ["ours", "transformers"])
def test_rate_and_fates_are_those_of_transformers_collator(who: str) -> None:
    """15 % of the tokens; of those 80 % hidden, 10 % another token, 10 % left; neither special
    tokens nor padding."""
    samples = texts(3000)
    chosen, seen = (
        collated(samples) if who == "transformers" else hidden_of(TokenMasks(SIZE), packed(samples), keys(3000))
    )
    whole, of, now = torch.cat(samples), torch.cat(chosen), torch.cat(seen)
    assert not of[whole < FIRST].any() and torch.equal(now[~of], whole[~of])
    text, hidden = int((whole >= FIRST).sum()), int(of.sum())
    assert within(hidden, text, 0.15)
    same, masked = int((now == whole)[of].sum()), int((now[of] == 4).sum())
    assert within(masked, hidden, 0.8)
    assert within(same, hidden, 0.1 + 0.1 / (SIZE - FIRST))
    assert within(hidden - same - masked, hidden, 0.1 - 0.1 / (SIZE - FIRST))


def test_replacements_are_drawn_from_all_tokens_of_text_alike_and_from_no_special_one() -> None:
    """Though the batch holds but a few; and not from rows of the table that no token has."""
    samples = texts(3000, below=FIRST + 10)
    masks = TokenMasks(SIZE + 28)
    masks.read(Vocabulary.plain(SIZE))
    chosen, seen = hidden_of(masks, packed(samples), keys(3000), ratio=0.5)
    now, was = torch.cat(seen), torch.cat(samples)
    replaced = now[torch.cat(chosen) & (now != was) & (now != 4)]
    counts = replaced.bincount(minlength=SIZE + 28)
    assert not counts[:FIRST].any() and not counts[SIZE:].any()
    others = counts[FIRST + 10 : SIZE]  # the batch's own are at times what they replace
    expected = 0.1 * sum(int(each.sum()) for each in chosen) / (SIZE - FIRST)
    assert expected > 15 and ((others - expected).abs() < 5 * expected**0.5).all()


def test_every_place_of_a_sample_is_hidden_as_often_as_any_other() -> None:
    sample = torch.cat([torch.tensor([2]), torch.arange(10, 17), torch.tensor([3])])
    view = View(sample.expand(4000, -1))
    times = torch.stack(hidden_of(TokenMasks(SIZE), view, keys(4000))[0]).sum(dim=0)
    assert not times[0] and not times[-1] and all(within(int(each), 4000, 0.15) for each in times[1:-1])


@pytest.mark.parametrize("ratio", [0.15, 0.4])
def test_samples_of_few_tokens_keep_the_ratio_in_the_mean(ratio: float) -> None:
    """Rounded down alone, samples of 1 to 4 words would never be asked for anything."""
    samples = texts(4000, longest=4)
    chosen, _ = hidden_of(TokenMasks(SIZE), packed(samples), keys(4000), ratio)
    for words in range(1, 5):
        of = [each for each in chosen if len(each) == words + 2]
        counts = torch.stack([each.sum() for each in of])
        assert set(counts.tolist()) <= {int(ratio * words), int(ratio * words) + 1}
        assert within(int(counts.sum()), words * len(of), ratio)


# A sample's mask is its own.


def test_the_batch_the_row_the_order_and_padding_change_no_mask() -> None:
    """Nor which token replaces another: a sample by itself, without a segment, is hidden as in a
    packed batch."""
    samples, key, masks = texts(40), keys(40), TokenMasks(SIZE)
    chosen, seen = hidden_of(masks, packed(samples), key, 0.3)
    assert all(each.sum() for each in chosen if len(each) > 6)

    def same(places: list[int], view: View) -> None:
        for place, its, shown in zip(places, *hidden_of(masks, view, key[places], 0.3), strict=True):
            assert torch.equal(its[: len(samples[place])], chosen[place]) and torch.equal(
                shown[: len(samples[place])], seen[place]
            )

    order = torch.randperm(40, generator=torch.Generator().manual_seed(1)).tolist()
    for places in (order, order[:7], order[7:], [3]):
        for row_length in (32, 61):
            same(places, packed([samples[place] for place in places], row_length))
    for place in range(40):
        same([place], View(samples[place][None]))
        same(
            [place], View(torch.nn.functional.pad(samples[place][None], (0, 9)))
        )  # [PAD] without a segment is special still


def test_another_pass_gives_other_masks_and_other_samples_do() -> None:
    view, masks = View(torch.arange(10, 90).expand(4, -1)), TokenMasks(SIZE)
    first, second = (torch.stack(hidden_of(masks, view, keys(4, pass_))[0]) for pass_ in (0, 1))
    assert torch.equal(first, torch.stack(hidden_of(masks, view, keys(4))[0]))
    for one in range(4):
        assert not torch.equal(first[one], second[one])
        assert all(not torch.equal(first[one], first[other]) for other in range(one))


# Whole words.


def words_of(sample: Tensor, continues: Tensor) -> list[list[int]]:
    """The places of each word's tokens, one token at a time."""
    words: list[list[int]] = []
    for place, token in enumerate(sample.tolist()):
        if token < FIRST:
            continue
        if words and continues[token] and words[-1][-1] == place - 1:
            words[-1].append(place)
        else:
            words.append([place])
    return words


def pieces() -> Vocabulary:
    """Two tokens of five go on with a word."""
    return Vocabulary(torch.arange(SIZE) < FIRST, torch.arange(SIZE) >= 62)


def test_words_are_hidden_whole_or_not_at_all_and_the_ratio_is_kept() -> None:
    """Also a piece of a document that begins within a word, and words on both sides of a token that
    is special."""
    samples, vocabulary, masks = texts(2000), pieces(), TokenMasks(SIZE, whole_words=True)
    samples += [torch.tensor([2, 70, 71, 1, 72, 10, 73, 3])] * 200
    masks.read(vocabulary)
    chosen, _ = hidden_of(masks, packed(samples), keys(2200))
    words = hidden = 0
    for sample, its in zip(samples, chosen, strict=True):
        assert not its[sample < FIRST].any()
        for word in words_of(sample, vocabulary.continues):
            assert its[word].all() or not its[word].any()
            words, hidden = words + 1, hidden + int(its[word[0]])
    assert within(hidden, words, 0.15)
    tokens, text = int(torch.cat(chosen).sum()), int((torch.cat(samples) >= FIRST).sum())
    assert abs(tokens / text - 0.15) < 0.01
    masks.whole_words = False
    chosen, _ = hidden_of(masks, packed(samples), keys(2200))
    parts = [
        its[word]
        for sample, its in zip(samples, chosen, strict=True)
        for word in words_of(sample, vocabulary.continues)
    ]
    assert any(part.any() and not part.all() for part in parts), "tokens by themselves cut words"


# Places.


@pytest.mark.parametrize("whole_words", [False, True])
def test_as_many_places_for_every_batch_of_a_shape_each_once(whole_words: bool) -> None:
    masks = TokenMasks(SIZE, whole_words)
    counts = set()
    for count in (1, 2, 30, 38):
        view = packed(texts(count))
        view = view.each(lambda part: torch.nn.functional.pad(part, (0, 0, 0, 20 - len(part))))
        hidden = masks.choose(view, keys(count), 0.15)
        assert len(hidden.positions.unique()) == len(hidden.positions) == len(hidden.chosen)
        counts.add(len(hidden.positions))
    assert len(counts) == 1


def without_room(masks: TokenMasks, view: View, ratio: float) -> list[tuple[Hidden, set[int], set[int]]]:
    """Draws in which not all of a sample's places have room: the places, and those of the same draw
    in a batch with more room."""
    wider = view.each(lambda part: torch.nn.functional.pad(part, (0, 0, 0, 9)))
    found = []
    for pass_ in range(400):
        key = keys(view.samples or len(view.x), pass_)
        hidden, free = masks.choose(view, key, ratio), masks.choose(wider, key, ratio)
        wanted, got = (set(each.positions[each.chosen].tolist()) for each in (free, hidden))
        assert got <= wanted and len(hidden.positions) < len(free.positions)
        if got != wanted:
            found.append((hidden, wanted, got))
    return found


def test_without_room_the_last_are_dropped() -> None:
    """Ten samples of one word, of which more than 5 may be hidden, and 5 places."""
    view = packed([torch.tensor([2, 9, 3])] * 10, row_length=30)
    found = without_room(TokenMasks(SIZE), view, 0.15)
    assert found and all(len(hidden.positions) == 5 and len(got) >= 4 for hidden, _, got in found)


def test_without_room_for_a_whole_word_none_of_it_is_hidden() -> None:
    masks, long, short = (
        TokenMasks(SIZE, whole_words=True),
        torch.tensor([2, 9, *[70] * 12, 3]),
        torch.tensor([2, 9, 70, 10, 3]),
    )
    masks.read(pieces())
    found = without_room(masks, packed([long, short, short], row_length=26), 0.3)
    assert found
    for _, wanted, got in found:
        for word in (set(range(1, 14)), {16, 17}, {18}, {21, 22}, {23}):
            assert not word & got or word <= got, "a word is hidden in part"
        assert len(got) < len(wanted)


def test_a_batch_without_text_hides_nothing() -> None:
    for view in (
        packed([torch.tensor([2, 3])] * 3),
        View(torch.zeros(2, 8, dtype=torch.int64)),
        packed([])._replace(samples=0),
    ):
        masks, key = TokenMasks(SIZE), keys(view.samples or len(view.x))[: view.samples]
        hidden = masks.choose(view, key, 0.15)
        assert not hidden.chosen.any() and torch.equal(masks.corrupt(view, key, hidden).x, view.x)


def test_hide_takes_the_tokenizers_own_mask_and_puts_it_in_chosen_places_alone() -> None:
    masks, view = TokenMasks(SIZE), packed(texts(20))
    masks.read(
        Vocabulary(torch.arange(SIZE) >= 95, torch.zeros(SIZE, dtype=torch.bool), pad=99, cls=97, sep=98, mask=96)
    )
    hidden = masks.choose(view, keys(20), 0.2)
    expected = view.x.flatten().clone()
    expected[hidden.positions[hidden.chosen]] = 96
    assert torch.equal(masks.hide(view, hidden).x.flatten(), expected) and (expected == 96).sum() > 20
    assert torch.equal(hidden.take(view.x), view.x.flatten()[hidden.positions])


def test_a_vocabulary_of_special_tokens_is_refused() -> None:
    cases: list[Any] = [0, 5]
    for size in cases:
        with pytest.raises(ValueError, match=f"A vocabulary of {size} tokens has none besides"):
            TokenMasks(size)


def test_what_is_hidden_is_as_when_the_order_was_computed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not every device has float64. Equal numbers included: 40 of them for 4,000 tokens."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 60, (120,), generator=generator)
    samples = Ragged(torch.randint(5, 40, (int(lengths.sum()),), generator=generator), lengths)
    view, masks = pack(samples, 64), TokenMasks(40)
    coarse = torch.randint(0, 40, (view.x.numel(),), generator=generator).float().mul(2.0**-24)
    key = torch.arange(120)

    def few(keys: Tensor, n: int) -> Tensor:
        return coarse[:, None] if len(keys) == view.x.numel() else uniform(keys, n)

    monkeypatch.setattr(module, "uniform", few)
    seen: list[Tensor] = []
    argsort = Tensor.argsort

    def noted(self: Tensor, **kwargs: Any) -> Tensor:
        seen.append(argsort(self, **kwargs))
        return seen[-1]

    monkeypatch.setattr(Tensor, "argsort", noted)
    masks.choose(view, key, 0.15)
    assert view.segment is not None
    flat, first = view.segment.flatten(), ((view.segment > 0) & ~masks.special[view.x]).flatten()
    in_float64 = 2.0 * flat.double() + torch.where(first, coarse, 1.0)
    assert torch.equal(seen[0], torch.sort(in_float64, stable=True).indices)
