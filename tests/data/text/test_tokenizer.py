"""Tokenizers: trained the same every time, and their tokens known for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ssl_lightning.datamodules.python_docs import paragraphs
from tokenizers import Tokenizer, models, pre_tokenizers

from ssl_lightning.data.text import tokenizer as module
from ssl_lightning.data.text.documents import Texts
from ssl_lightning.data.text.spelling import spelling
from ssl_lightning.data.text.tokenizer import (
    Kind,
    digest_of,
    load_tokenizer,
    ready,
    train_tokenizer,
    vocabulary_of,
    without_special,
)
from ssl_lightning.nn.vocabulary import SPECIAL

DOCS = Texts("docs", tuple(paragraphs())[:300])


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {
        "byte_bpe": train_tokenizer(DOCS, "byte_bpe", 600),
        "wordpiece": train_tokenizer(DOCS, "wordpiece", 600),
        "bpe": train_tokenizer(DOCS, "bpe", 600),
        "unigram": train_tokenizer(DOCS, "unigram", 400),
    }


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "bpe"])
def test_the_same_documents_train_the_same(kind: Kind, trained: dict[str, Tokenizer]) -> None:
    """The library's hash tables, whose order differs each time, decide nothing."""
    assert [digest_of(train_tokenizer(DOCS, kind, 600)) for _ in range(2)] == [digest_of(trained[kind])] * 2


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "bpe", "unigram"])
def test_a_trained_tokenizer_has_its_special_tokens_first_and_ends_around_a_text(
    kind: str, trained: dict[str, Tokenizer]
) -> None:
    tokenizer = trained[kind]
    assert [tokenizer.id_to_token(number) for number in range(5)] == list(SPECIAL)
    assert tokenizer.get_vocab_size() == (400 if kind == "unigram" else 600)
    encoding = tokenizer.encode("import the name")
    assert encoding.tokens[0] == "[CLS]" and encoding.tokens[-1] == "[SEP]"
    assert tokenizer.decode(encoding.ids).split() == ["import", "the", "name"]
    assert Tokenizer.from_str(tokenizer.to_str()).to_str() == tokenizer.to_str()


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "bpe", "unigram"])
def test_the_first_token_of_a_word_does_not_continue_one(kind: str, trained: dict[str, Tokenizer]) -> None:
    vocabulary = vocabulary_of(trained[kind])
    assert (vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (0, 2, 3, 4)
    assert vocabulary.special.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4] and not vocabulary.continues[:5].any()
    words = ["import", "zzxqj", "statement", "the", "kwmq"]
    text = " " * (kind == "byte_bpe") + " ".join(words)  # which adds no space of its own
    encoding = trained[kind].encode(text, add_special_tokens=False)
    assert len(encoding) > len(words)
    assert int((~vocabulary.continues[encoding.ids]).sum()) == len(words)


LANGUAGES = [
    "Удобный ёжик нашёл в лесу ещё один гриб и понёс домой.",
    "スペースなしで書かれた文章もきちんと分けられるべきです。",
    "ประโยคภาษาไทยเขียนโดยไม่มีช่องว่างระหว่างคำ",
    "Die Größe der Übung ändert sich, ÄÖÜ bleiben groß.",
    "नमस्ते दुनिया, यह एक वाक्य है।",
    "def f(x):\n\treturn  {'a': x[0]}  # e\u0301, \U0001f469\u200d\U0001f467",
]


def test_every_text_comes_back_from_its_tokens() -> None:
    """Capitals, accents, vowel signs and voicing marks are kept, and nothing is unknown: neither a
    letter that training has not seen nor a word without end."""
    tokenizer = ready(train_tokenizer(Texts("languages", LANGUAGES * 20), vocab_size=700))
    unseen = ["\u4e16\u754c", "x" * 300, "https://example.org/" + "Ab9_" * 40, " two  spaces\r\n", "[MASK] \x00"]
    for text in (*LANGUAGES, *unseen):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
        assert 1 not in ids


def test_letters_and_the_marks_on_them_stay_together() -> None:
    """So that a Thai or Hindi word is not cut at its vowels, as GPT-2's rule does."""
    texts = Texts("languages", LANGUAGES * 20)
    lengths = {
        kind: [len(train_tokenizer(texts, kind, 700).encode(text).ids) for text in LANGUAGES]
        for kind in ("byte_bpe", "bpe")
    }
    assert lengths["byte_bpe"][2] < lengths["bpe"][2] / 2 and lengths["byte_bpe"][4] < lengths["bpe"][4]


def test_many_characters_use_the_vocabulary() -> None:
    """Of 2,000 Chinese characters none is unknown, where WordPiece's alphabet ends at 1,000."""
    random = np.random.default_rng(0)
    texts = ["".join(map(chr, 0x4E00 + random.integers(0, 2000, 60))) for _ in range(500)]
    tokenizer = train_tokenizer(Texts("signs", texts), vocab_size=4096)
    ids = [id for text in texts for id in tokenizer.encode(text, add_special_tokens=False).ids]
    assert 1 not in ids and len(set(ids)) > 3500 and len(ids) < 500 * 60
    wordpiece = train_tokenizer(Texts("signs", texts), "wordpiece", 4096)
    assert sum(wordpiece.encode(text).ids.count(1) for text in texts) > 10_000


def test_tokens_are_spelt_as_they_are_read(trained: dict[str, Tokenizer]) -> None:
    tokenizer = train_tokenizer(Texts("languages", LANGUAGES * 20), vocab_size=700)
    written = spelling(tokenizer, vocabulary_of(tokenizer))
    spelt = [written[id] for id in tokenizer.encode(LANGUAGES[0]).ids]
    assert spelt[:4] == ["[CLS]", "##Удобный", "ёжик", "нашёл"] and spelt[-2:] == ["##.", "[SEP]"]
    assert "\u0120" not in "".join(written) and written[vocabulary_of(tokenizer).mask] == "[MASK]"
    for kind, each in trained.items():
        words = spelling(each, vocabulary_of(each))
        assert "the" in words and "##ing" in words, kind
        assert not {"\u0120the", "\u2581the"} & set(words), kind


def test_a_vocabulary_knows_the_names_of_others() -> None:
    """Of RoBERTa, say; ids without a token are special."""
    names = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "\u0120b": 5, "<mask>": 8}
    tokenizer = Tokenizer(models.BPE(names, []))
    vocabulary = vocabulary_of(tokenizer)
    assert (vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (1, 0, 2, 8)
    assert vocabulary.special.tolist() == [True] * 4 + [False] * 2 + [True] * 3
    assert vocabulary.continues.tolist() == [False] * 4 + [True] + [False] * 4
    words = Tokenizer(
        models.WordLevel({name: number for number, name in enumerate((*SPECIAL, "a", "b"))}, unk_token="[UNK]")
    )
    assert not vocabulary_of(words).continues.any()


@pytest.mark.parametrize("role", ["pad", "cls", "sep", "mask"])
def test_a_tokenizer_without_a_needed_token_is_refused(role: str) -> None:
    names = [name for name in SPECIAL if role.upper() not in name]
    with pytest.raises(
        ValueError, match=rf"The tokenizer has no {role} token: none of its 4 tokens is called \[{role.upper()}\] or "
    ):
        vocabulary_of(
            Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
        )


@pytest.mark.parametrize("kind", ["byte_bpe", "wordpiece", "bpe", "unigram"])
def test_a_text_that_spells_a_special_token_gives_none(kind: str, trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained[kind]
    ids = ready(tokenizer).encode("the [MASK] [CLS] [SEP] [PAD] name", add_special_tokens=False).ids
    assert kind == "unigram" or not set(range(5)) & set(ids)  # Unigram knows them as words: they become unknown ones
    assert not {0, 2, 3, 4} & set(without_special(tokenizer)[ids].tolist())
    assert without_special(tokenizer).tolist() == [1] * 5 + list(range(5, tokenizer.get_vocab_size()))


def test_what_a_loaded_tokenizer_cuts_or_fills_is_left_out(trained: dict[str, Tokenizer]) -> None:
    cutting = Tokenizer.from_str(trained["bpe"].to_str())
    cutting.enable_truncation(3)
    cutting.enable_padding(length=9)
    assert len(ready(cutting).encode("a b c d e f", add_special_tokens=False)) == 6


def test_it_is_loaded_from_its_file_or_folder(tmp_path: Path, trained: dict[str, Tokenizer]) -> None:
    trained["bpe"].save(str(tmp_path / "tokenizer.json"))
    assert (
        digest_of(load_tokenizer(str(tmp_path)))
        == digest_of(load_tokenizer(str(tmp_path / "tokenizer.json")))
        == digest_of(trained["bpe"])
    )
    with pytest.raises(FileNotFoundError, match=r"there is no .*tokeniser.json. Did you mean 'tokenizer.json'"):
        load_tokenizer(str(tmp_path / "tokeniser.json"))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is not a tokenizer of the library tokenizers"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "wordpeice"}, "tokenizer_kind='wordpeice' is unknown. Did you mean 'wordpiece'?"),
        ({"kind": "bpe", "vocab_size": 260}, "vocab_size=260 is too small for bpe; give 300 or more"),
        ({"vocab_size": 10**10}, "vocab_size=10000000000 is too large; give 2,097,152 or less"),
        ({"corpus": Texts("nothing.txt", [" "])}, "nothing.txt does not contain any text"),
    ],
)
def test_what_cannot_be_trained_is_told(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        train_tokenizer(**{"corpus": DOCS, **arguments})


def test_training_sees_a_bounded_part_spread_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Texts("many", [f"{number:04d}" * 25 for number in range(1000)])
    monkeypatch.setattr(module, "SEEN", 10_000)
    chosen = torch.tensor([int(text[:4]) for text in module._chosen(corpus)])
    assert 90 <= len(chosen) <= 100 and int(chosen.diff().max()) <= 12 and int(chosen[-1]) > 980
    monkeypatch.setattr(module, "SEEN", 200_000)
    assert len(list(module._chosen(corpus))) == 1000


def test_wordpiece_keeps_a_share_of_its_vocabulary_for_pieces_of_words() -> None:
    """Where there are more characters than that, the frequent ones are known."""
    texts = [
        " ".join(chr(0x4E00 + number) for number in range(count)) + " word words wording" for count in range(0, 400, 7)
    ]
    tokenizer = train_tokenizer(Texts("signs", texts), "wordpiece", 200)
    encoding = tokenizer.encode(chr(0x4E00) + chr(0x4E00 + 390) + " words", add_special_tokens=False)
    assert encoding.tokens[0] == chr(0x4E00) and encoding.tokens[1] == "[UNK]" and "[UNK]" not in encoding.tokens[2:]
    assert not any(token.startswith("##") and ord(token[2]) >= 0x4E00 for token in tokenizer.get_vocab())
    assert isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
