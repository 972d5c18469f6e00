"""Tokenizers: trained on the documents, or loaded from any `tokenizer.json`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ...nn.vocabulary import SPECIAL, Vocabulary
from ...plugins.messages import did_you_mean
from ..files.atomic import write_text
from ..files.kept import default_folder, key_of, writing
from .documents import Corpus, Counts
from .judged import LONGEST, MOST_IDS, guarded, read_tokenizer
from .settings import artifact_of

TOKENIZER = "tokenizer.json"
"""The file that contains a tokenizer."""
Kind = Literal["byte_bpe", "wordpiece", "bpe", "unigram"]
WORDS = r" ?[\p{L}\p{M}]{1,32}| ?\p{N}{1,3}| ?[^\s\p{L}\p{M}\p{N}]{1,16}|\s{1,16}(?!\S)|\s"
"""`byte_bpe` joins bytes within a match of this alone: letters and the marks that belong to them,
up to three digits, other signs, or white space. Words end after 32 letters, so that neither a text
without spaces nor a genome is one word, with whose length the time of each join would grow."""
SEEN = 32 << 20
"""Characters that a tokenizer is trained on."""
ALPHABET = 1000
"""The most single characters in WordPiece's vocabulary; words with other characters are unknown."""
NAMES = {
    "pad": ("[PAD]", "<pad>"),
    "cls": ("[CLS]", "<s>", "<cls>"),
    "sep": ("[SEP]", "</s>", "<eos>", "<sep>"),
    "mask": ("[MASK]", "<mask>"),
}
UNKNOWN = ("[UNK]", "<unk>")


def train_tokenizer(corpus: Corpus, kind: Kind = "byte_bpe", vocab_size: int = 8192) -> Tokenizer:
    """Trains a tokenizer on documents, or on evenly spaced parts of them where they have more than
    32 million characters.

    Its first tokens are `vocabulary.SPECIAL`. The same documents give the same tokenizer, apart
    from Unigram: two trainings may differ slightly, since the library's order of summation varies.

    Args:
        corpus: the documents.
        kind: `byte_bpe` joins bytes (Sennrich et al. 2015, arXiv 1508.07909; Radford et al. 2019)
            within words of any script: every text comes back from its tokens, and none is unknown.
            `bpe` does so by GPT-2's rule for words, which also ends one before each combining mark.
            `wordpiece` is that of uncased BERT (Devlin et al. 2018, arXiv 1810.04805): it
            lowercases texts, strips accents and knows 1,000 characters. `unigram` is Kudo's (2018,
            arXiv 1804.10959).
        vocab_size: the most tokens; small corpora give fewer.

    Raises:
        ValueError: the kind is unknown, vocab_size is too small or too large, there is no text, or
            the library fails.
    """
    if kind not in get_args(Kind):
        raise ValueError(
            f"tokenizer_kind={kind!r} is unknown.{did_you_mean(kind, get_args(Kind))} Choose one of"
            f" {', '.join(get_args(Kind))}."
        )
    least = 300 if kind in ("byte_bpe", "bpe") else 50
    if vocab_size < least:
        raise ValueError(f"vocab_size={vocab_size} is too small for {kind}; give {least} or more.")
    if vocab_size > MOST_IDS:  # the library would reserve the memory, and abort
        raise ValueError(f"vocab_size={vocab_size} is too large; give {MOST_IDS:,} or less.")
    if next(corpus.read(Counts()), None) is None:
        raise ValueError(f"{corpus.name} does not contain any text.")
    train = {"byte_bpe": _bytes_of_words, "wordpiece": _word_piece, "bpe": _byte_pairs, "unigram": _unigram}[kind]
    tokenizer = train(corpus, vocab_size)
    ends = [(SPECIAL[2], 2), (SPECIAL[3], 3)]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ends)
    return settled(tokenizer)


def load_tokenizer(path: str) -> Tokenizer:
    """Loads the tokenizer of a `tokenizer.json`.

    Args:
        path: the file; a folder with it, such as that of a run or of a Hugging Face model; or a
            checkpoint of a run, which contains it.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is not a tokenizer.
    """
    given = Path(path).expanduser()
    file = given / TOKENIZER if given.is_dir() else given
    if not file.is_file():
        known = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
        raise FileNotFoundError(
            f"tokenizer={path!r}: there is no {file}.{did_you_mean(file.name, known)} Give a {TOKENIZER} or its folder."
        )
    where = str(file)
    if file.suffix == ".ckpt":
        text = artifact_of(file, TOKENIZER)
    elif file.stat().st_size > 4 * LONGEST:
        raise ValueError(f"{where} has {file.stat().st_size:,} bytes, more than any tokenizer.")
    else:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    return settled(read_tokenizer(text, where))


def kept_tokenizer(text: str, path: str) -> str:
    """The path by which `load_tokenizer` finds the tokenizer of a run: that of the run folder or
    checkpoint, or for an encoder's file without a `tokenizer.json` beside it a copy in the cache.

    Args:
        text: of the run's `tokenizer.json`.
        path: the run folder, checkpoint or encoder's file.
    """
    given = Path(path).expanduser()
    if given.suffix != ".safetensors":
        return path
    beside = given.with_name(TOKENIZER)
    if beside.is_file() and beside.read_text(encoding="utf-8") == text:
        return str(given.parent)
    kept = default_folder() / f"tokenizer-{key_of(text)}.json"
    with writing(kept.parent):
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_text(kept, text)
    return str(kept)


def settled(tokenizer: Tokenizer) -> Tokenizer:
    """Returns the tokenizer as it is after writing and reading it: the library rounds Unigram's
    scores each time, until they settle after one or two rounds."""
    text = tokenizer.to_str()
    for _ in range(5):
        tokenizer = Tokenizer.from_str(text)
        if (again := tokenizer.to_str()) == text:
            break
        text = again
    return tokenizer


def ready(tokenizer: Tokenizer) -> Tokenizer:
    """Returns a copy that neither truncates nor pads, and reads the name of a special token in a
    text as text."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def digest_of(tokenizer: Tokenizer) -> str:
    """Returns a short hash of a tokenizer."""
    return sha256(tokenizer.to_str().encode()).hexdigest()[:16]


def vocabulary_of(tokenizer: Tokenizer) -> Vocabulary:
    """Returns what a method needs to know about a tokenizer's tokens. An id without a token counts
    as special.

    Raises:
        ValueError: the tokenizer lacks a token to begin or end a text, to pad, or to mask with.
    """
    ids = tokenizer.get_vocab(with_added_tokens=True)
    roles = {}
    for role, names in NAMES.items():
        token_id = next((ids[name] for name in names if name in ids), None)
        if token_id is None:
            raise ValueError(
                f"The tokenizer has no {role} token: none of its {len(ids):,} tokens is called {' or '.join(names)}."
            )
        roles[role] = token_id
    size = max(ids.values()) + 1
    special, continues = torch.ones(size, dtype=torch.bool), torch.zeros(size, dtype=torch.bool)
    special[list(ids.values())] = False
    added = [number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special]
    special[[*roles.values(), *added, *(ids[name] for name in UNKNOWN if name in ids)]] = True
    model = json.loads(tokenizer.to_str())["model"]
    prefix = model.get("continuing_subword_prefix") or ""
    marks = (
        () if model["type"] == "WordPiece" or prefix else ("\u0120", "\u2581")
    )  # prefixes of the first token of a word
    marked = marks and any(token.startswith(marks) for token in ids)
    goes_on = [
        number
        for token, number in ids.items()
        if (marked and not token.startswith(marks)) or (prefix and token.startswith(prefix))
    ]
    continues[goes_on] = True
    return Vocabulary(special, continues & ~special, **roles)


def without_special(tokenizer: Tokenizer) -> torch.Tensor:
    """Returns [V] each token's id, but that of the unknown token for special ones: a text may
    contain their names and must not turn into them."""
    vocabulary, unknown = vocabulary_of(tokenizer), unknown_of(tokenizer)
    unknown = vocabulary.pad if unknown is None else unknown
    return torch.where(vocabulary.special, unknown, torch.arange(len(vocabulary)))


def unknown_of(tokenizer: Tokenizer) -> int | None:
    """Returns the id of the token that stands for all that a tokenizer does not know; None: it does
    not have one."""
    ids = tokenizer.get_vocab(with_added_tokens=True)
    return next((ids[name] for name in UNKNOWN if name in ids), None)


def _word_piece(corpus: Corpus, vocab_size: int) -> Tokenizer:
    """Trains WordPiece, reproducibly: the library numbers the characters within words in the order
    of a hash table, which differs from run to run, and breaks ties by these numbers. So the
    characters are counted first and passed in a fixed order, as if they were special tokens."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in _chosen(corpus):
        counts.update(normalizer.normalize_str(text))
    often = sorted((char for char in counts if not char.isspace()), key=lambda char: (-counts[char], char))
    alphabet = sorted(often[: min(ALPHABET, vocab_size // 4)])
    within = [
        f"##{char}" for char in alphabet if len(splitter.pre_tokenize_str(normalizer.normalize_str(f"a{char}"))) == 1
    ]
    tokenizer = Tokenizer(models.WordPiece(unk_token=SPECIAL[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL, *within],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    guarded(tokenizer.train_from_iterator, _chosen(corpus), trainer)
    trained = Tokenizer(models.WordPiece(tokenizer.get_vocab(with_added_tokens=True), unk_token=SPECIAL[1]))
    trained.normalizer, trained.pre_tokenizer, trained.decoder = normalizer, splitter, decoders.WordPiece()
    trained.add_special_tokens(list(SPECIAL))
    return trained


def _bytes_of_words(corpus: Corpus, vocab_size: int) -> Tokenizer:
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _joined(corpus, vocab_size, pre_tokenizers.Sequence([words, as_bytes]))


def _byte_pairs(corpus: Corpus, vocab_size: int) -> Tokenizer:
    return _joined(corpus, vocab_size, pre_tokenizers.ByteLevel(add_prefix_space=True))


def _joined(corpus: Corpus, vocab_size: int, words: Any) -> Tokenizer:
    """Trains BPE on the bytes of the words that a pre-tokenizer gives."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = words, decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    guarded(tokenizer.train_from_iterator, _chosen(corpus), trainer)
    return tokenizer


def _unigram(corpus: Corpus, vocab_size: int) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = (
        normalizers.NFKC(),
        pre_tokenizers.Metaspace(),
        decoders.Metaspace(),
    )
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size, special_tokens=list(SPECIAL), unk_token=SPECIAL[1], show_progress=False
    )
    guarded(tokenizer.train_from_iterator, _chosen(corpus), trainer)
    return tokenizer


def _chosen(corpus: Corpus) -> Iterator[str]:
    """Yields pieces of the documents, at most `SEEN` characters, spread evenly over all."""
    share = min(1.0, SEEN / max(1, corpus.size))
    read = taken = 0
    for piece in corpus.read(Counts()):
        read += len(piece.text)
        if taken + len(piece.text) <= min(SEEN, share * read + len(piece.text)):
            taken += len(piece.text)
            yield piece.text


def trained_tokenizer(corpus: Corpus, kind: Kind, vocab_size: int) -> Tokenizer:
    """Returns the tokenizer that was trained on these documents before, or trains it now.

    Raises:
        OSError: the cache folder cannot be written.
        ValueError: see `train_tokenizer`.
    """
    path = default_folder() / f"tokenizer-{key_of(corpus.identity(), kind, vocab_size)}.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception:  # missing or damaged: the library raises no narrower kind
        tokenizer = train_tokenizer(corpus, kind, vocab_size)
    with writing(path.parent):
        write_text(path, tokenizer.to_str())
    return Tokenizer.from_file(str(path))  # if several processes trained one, all use the last one written
