"""Tokenizers: trained the same every time, and their tokens known for what they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.datamodules.python_docs import paragraphs
from tokenizers import Tokenizer, models, pre_tokenizers

from ssl_lightning.data.text import tokenizer as module
from ssl_lightning.data.text.documents import Texts
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
        "wordpiece": train_tokenizer(DOCS, "wordpiece", 600),
        "bpe": train_tokenizer(DOCS, "bpe", 600),
        "unigram": train_tokenizer(DOCS, "unigram", 400),
    }


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_same_documents_train_the_same(kind: Kind, trained: dict[str, Tokenizer]) -> None:
    """The library's hash tables, whose order differs each time, decide nothing."""
    assert [digest_of(train_tokenizer(DOCS, kind, 600)) for _ in range(2)] == [digest_of(trained[kind])] * 2


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
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


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
def test_the_first_token_of_a_word_does_not_continue_one(kind: str, trained: dict[str, Tokenizer]) -> None:
    vocabulary = vocabulary_of(trained[kind])
    assert (vocabulary.pad, vocabulary.cls, vocabulary.sep, vocabulary.mask) == (0, 2, 3, 4)
    assert vocabulary.special.nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4] and not vocabulary.continues[:5].any()
    words = ["import", "zzxqj", "statement", "the", "kwmq"]
    encoding = trained[kind].encode(" ".join(words), add_special_tokens=False)
    assert len(encoding) > len(words)
    assert int((~vocabulary.continues[encoding.ids]).sum()) == len(words)


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


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram"])
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
