"""Tags of words: entities of a table worked out by hand, words to tokens, and what a classifier on
tokens finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.datamodules.text_files import TextFiles
from tokenizers import Tokenizer
from torch import Tensor

from ssl_lightning.data.sources import InMemory
from ssl_lightning.data.tagged import Tagged
from ssl_lightning.data.text.conll import Sentence, read_conll, tagged
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.entities import agreement, are_spans, entities
from ssl_lightning.evaluation.protocols.tags import Tags, predictions, scores_of, words_of
from ssl_lightning.evaluation.protocols.token_regression import token_classifier
from ssl_lightning.evaluation.protocols.token_store import TokenStore

P, L = "PER", "LOC"


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-PER I-PER O B-LOC", {(P, 0, 1), (L, 3, 3)}),
        ("B-PER B-PER", {(P, 0, 0), (P, 1, 1)}),
        ("I-PER I-PER O", {(P, 0, 1)}),  # begins without B
        ("B-PER I-LOC I-LOC", {(P, 0, 0), (L, 1, 2)}),  # of another type: a new one
        ("O I-LOC B-LOC I-LOC", {(L, 1, 1), (L, 2, 3)}),
        ("B-PER O I-PER", {(P, 0, 0), (P, 2, 2)}),
        ("B-A-B I-A-B I-A", {("A-B", 0, 1), ("A", 2, 2)}),  # a type with a hyphen
        ("B-PER", {(P, 0, 0)}),
    ],
)
def test_entities_are_seqevals(tags: str, expected: Any) -> None:
    assert entities(tags.split()) == expected


def test_f1_counts_an_entity_whose_type_and_ends_are_right() -> None:
    """Of 4 entities 2 are found, beside 3 that are wrong: the type, an end, and where none is."""
    truth = ["B-PER I-PER O B-LOC O", "B-LOC I-LOC O B-PER O"]
    said = ["B-PER I-PER O B-PER O", "B-LOC O O B-PER B-LOC"]
    sums = [sum(each) for each in zip(*(agreement(a.split(), b.split()) for a, b in zip(truth, said, strict=True)),
                                      strict=True)]  # fmt: skip
    assert sums == [2, 5, 4]
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    numbers = [[torch.tensor([names.index(tag) for tag in each.split()]) for each in part] for part in (truth, said)]
    judged = Tagged(InMemory(torch.zeros(2, 1)), [], numbers[0], tuple(names))
    scores = scores_of(judged, numbers[1], names, True)
    assert scores["f1"].value == pytest.approx(2 * 2 / (5 + 4)) and scores["accuracy"].value == 0.7
    assert {round(each, 4) for each in scores["f1"].resampled} == {round(2 / 5, 4), round(4 / 9, 4), round(2 / 4, 4)}


def test_tags_of_another_scheme_are_named_and_parts_of_speech_are_no_spans() -> None:
    assert are_spans(["B-PER", "I-PER", "O"]) and not are_spans(["NOUN", "VERB", "O"])
    with pytest.raises(ValueError, match=r"'S-PER' is not of IOB2, as 'B-PER' is"):
        are_spans(["B-PER", "S-PER", "O"])


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    words = ["unbelievable", "Zürich", "antidisestablishment", "we", "met", "in"]
    lines = [" ".join(words[(number + each) % 6] for each in range(5)) for number in range(40)]
    (tmp_path / "texts.csv").write_text("label,text\n" + "\n".join(f"{i % 2},{line}" for i, line in enumerate(lines)))

    def build(**kwargs: Any) -> TextFiles:
        data = TextFiles(str(tmp_path / "texts.csv"), **{"row_length": 16, "vocab_size": 300, **kwargs})
        data.prepare_data()
        return data

    return build


@pytest.mark.parametrize("kind", ["byte_bpe", "bpe", "wordpiece", "unigram"])
def test_a_words_token_is_the_first_that_has_one_of_its_characters(corpus: Any, kind: str) -> None:
    data = corpus(tokenizer_kind=kind, row_length=64)
    words = ["unbelievable", "we", "Zürich", "x", "met"]
    part = tagged([Sentence(words, ["O"] * 5)], ["O"], data.tokenizer, data.vocabulary, 64)
    (places,) = part.places
    ids = part.source.fetch(torch.tensor([0])).x
    tokenizer: Tokenizer = data.tokenizer
    assert places[:, 2].tolist() == [0, 1, 2, 3, 4] and ids[0] == data.vocabulary.cls
    for (position, _, word), following in zip(places.tolist(), [*places[1:, 0].tolist(), len(ids) - 1], strict=True):
        spelt = tokenizer.decode(ids[position:following].tolist()).replace("##", "").replace(" ", "")
        expected = "" if tokenizer.token_to_id("[UNK]") in ids[position:following].tolist() else words[word]
        assert spelt.lower().replace("ü", "u") == expected.lower().replace("ü", "u"), (word, spelt)


def test_a_long_sentence_is_read_in_pieces_with_each_word_where_it_is_deepest(corpus: Any) -> None:
    data = corpus(row_length=12)
    words = ["we"] * 30 + ["met"] * 7
    sentences = [Sentence(words, ["O"] * 37), Sentence(["in"], ["O"])]
    part = tagged(sentences, ["O"], data.tokenizer, data.vocabulary, 12)
    seen = torch.cat(list(part.places))
    assert seen[:, 1:].tolist() == [*([0, word] for word in range(37)), [1, 0]], "each word once"
    lengths = part.source.fetch(torch.arange(len(part.places))).lengths
    assert int(lengths.max()) <= 12 and part.remarks[0].startswith("1 of 2 sentences are longer than a row of 12")
    for piece, places in enumerate(part.places[1:-2], start=1):  # within, no word is at a cut
        assert places[:, 0].min() > 1 and places[:, 0].max() < lengths[piece] - 2
    ids = part.source.fetch(torch.arange(len(part.places)))
    first = ids.lengths.cumsum(0) - ids.lengths
    texts = [data.tokenizer.decode([int(ids.x[first[piece] + position])]).strip()
             for piece, places in enumerate(part.places) for position in places[:, 0].tolist()]  # fmt: skip
    spelt = {tuple(row[1:].tolist()): text for row, text in zip(seen, texts, strict=True)}
    assert all(words[word].startswith(spelt[0, word]) for word in range(37)) and "in".startswith(spelt[1, 0])


def made_up(sentences: int, seed: int) -> tuple[list[Tensor], Tagged]:
    """Tokens that show the tag of their word; of each sentence's last word there is no token."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(9)))[0][:3] * 3
    tags, tokens, places = [], [], []
    for number in range(sentences):
        count = int(torch.randint(3, 8, (1,), generator=generator))
        tag = torch.zeros(count, dtype=torch.int64)
        if count > 4:
            tag[1], tag[2] = 1, 2  # B-PER I-PER
        tags.append(tag)
        x = torch.randn(count + 2, 6, generator=generator) * 0.3
        x[1 : count + 1] += directions[tag]
        tokens.append(x)
        places.append(torch.tensor([[1 + word, number, word] for word in range(count - 1)]))
    return tokens, Tagged(InMemory(torch.zeros(sentences, 1)), places, tags, ("O", "B-PER", "I-PER"))


def test_a_linear_classifier_finds_the_tags_and_words_without_a_token_are_outside() -> None:
    (train, known), (test, judged) = made_up(60, 1), made_up(40, 2)
    samples = [Samples(TokenStore.of_samples(x), part, part.names) for x, part in ((train, known), (test, judged))]
    judgement = Tags().judge(*samples)
    assert judgement.scores["f1"].value > 0.97 and judgement.scores["accuracy"].value > 0.97
    assert judgement.remarks[-1] == f"40 of {judged.words:,} judged words have no token, and count as O."
    assert (
        len(words_of(samples[0].x, known, 100)[1]) == 100 and Tags(words=100).judge(*samples).scores["f1"].value > 0.9
    )
    wrong = samples[1]._replace(target=judged._replace(tags=[(each + 1) % 3 for each in judged.tags]))
    assert Tags().judge(samples[0], wrong).remarks[:1] == judgement.remarks[:1], "chosen on the judged sentences"


def test_words_of_sentences_come_with_their_tags_and_predictions_go_back_to_them() -> None:
    tokens, known = made_up(20, 3)
    x, y, sentence = words_of(TokenStore.of_samples(tokens), known, 10_000)
    rows = [(piece, token, word) for piece, each in enumerate(known.places) for token, _, word in each.tolist()]
    assert [tuple(each) for each in zip(sentence.tolist(), y.tolist(), strict=True)] == [
        (piece, int(known.tags[piece][word])) for piece, _, word in rows
    ]
    assert torch.equal(x, torch.stack([tokens[piece][token] for piece, token, _ in rows]))
    back = predictions(token_classifier(x, y, sentence, 3), TokenStore.of_samples(tokens), known, -1)
    assert [len(each) for each in back] == [len(each) for each in known.tags]
    assert all(int(each[-1]) == -1 and int(each[:-1].min()) >= 0 for each in back)


def test_files_of_conll_are_read_with_tabs_or_spaces_and_wrong_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("-DOCSTART- -X- O\n\nWe PRP O\nmet VBD O\n\n\nZürich NNP B-LOC\n")
    assert read_conll(path) == [Sentence(["We", "met"], ["O", "O"]), Sentence(["Zürich"], ["B-LOC"])]
    path.write_text("New York\tB-LOC\ncity\tI-LOC")
    assert read_conll(path) == [Sentence(["New York", "city"], ["B-LOC", "I-LOC"])]
    for text, message in {
        "We O\nmet\n": "line 2: 'met' is not a word and its tag in 2 columns",
        "We O\nmet VBD O\n": "line 2: 'met VBD O' is not a word",
        "\n\n": "holds no sentence",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message) as refusal:
            read_conll(path)
        assert "\n" not in str(refusal.value)
    path.write_bytes(b"\xff\xfe O\n")
    with pytest.raises(ValueError, match="is not a text in UTF-8"):
        read_conll(path)
    with pytest.raises(ValueError, match="words=1 is too small"):
        Tags(words=1)
