"""Which names of folders, files and values mean a split, as published data sets spell them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath

from ...plugins.messages import printable

WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development"),
    "test": ("test", "testing", "tst", "holdout"),
    "pretrain": ("unlabelled", "unlabeled", "unsup", "unsupervised", "pretrain", "pretraining"),
}
"""The words for a split, in lower case."""
EITHER = ("eval", "evaluation")
"""Words for `test` where another word stands for `val` and none for `test`; else for `val`."""
QUALIFIERS = frozenset(
    (
        *("set", "split", "data", "part", "shard", "of", "all", "full", "extra", "small", "mini", "large"),
        *("image", "images", "img", "audio", "wav", "wavs", "speech", "text", "texts"),
        *("clean", "noisy", "other", "matched", "mismatched", "seen", "unseen"),
    )
)
"""Words that stand beside that of a split and leave it what it is: `train-clean-100`."""
SPLITS = tuple(WORDS)
ALL_WORDS = (*(word for words in WORDS.values() for word in words), *EITHER)
_SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}


def split_of(name: str) -> str | None:
    """The split that a value of a split column means (`TRAIN`, `dev`, `train-clean-100`); None: it
    means none."""
    return next(iter(splits_of([name])), None)


def splits_of(names: Iterable[str]) -> dict[str, list[str]]:
    """The names that mean a split, by split, each split's in order.

    A name means a split if one of its words does (`Train`, `train2017`, `TEST`) and each other
    either only qualifies it (`train-clean-100`, `train-00001-of-00012.parquet`), or stands beside
    another split's word too (`wiki.train.raw` and `wiki.test.raw`). So `train station` and
    `test-tube` mean none.
    """
    read = {name: _read(name) for name in names}
    partners = defaultdict(set)
    for word, rest in read.values():
        if word:
            partners[rest].add(word)
    meant = {
        name: word
        for name, (word, rest) in read.items()
        if word and (all(part.isdigit() or part in QUALIFIERS for part in rest) or len(partners[rest]) > 1)
    }
    known = set(meant.values())
    either = "test" if "val" in known and "test" not in known else "val"
    found: dict[str, list[str]] = {split: [] for split in SPLITS}
    for name in sorted(meant):
        found[either if meant[name] == "either" else meant[name]].append(name)
    return {split: entries for split, entries in found.items() if entries}


def division(folder: Path, inside: Callable[[Path], tuple[Sequence[Path], bool]]) -> dict[str, list[Path]]:
    """What belongs to each split in a folder, or in the only one in it that holds samples, and so
    on, as archives unpack; empty where it is not divided, and all of it is to train on: a class may
    be called `train` among others, and a folder of photos `test`.

    Args:
        folder: the folder.
        inside: what in a folder holds samples and may be a split, and whether there are others.

    Raises:
        ValueError: there are splits to validate and to test on, and nothing to train on.
    """
    entries, others = inside(folder)
    by_split = _divided(folder, entries, others)
    if not by_split and not others and len(entries) == 1 and entries[0].is_dir():
        return division(entries[0], inside)
    return by_split


def _divided(folder: Path, entries: Sequence[Path], others: bool) -> dict[str, list[Path]]:
    paths = {entry.name: entry for entry in entries}
    splits = splits_of(paths)
    others = others or len(paths) > sum(map(len, splits.values()))
    if "train" in splits and (len(splits) > 1 or not others):
        return {split: [paths[name] for name in names] for split, names in splits.items()}
    if {"val", "test"} <= splits.keys() and "train" not in splits and not others:
        raise ValueError(
            f"{printable(folder)} has samples to validate and to test on ({', '.join(map(printable, paths))}) and none"
            " to train on. Add them as `train`, or set --data.splits none to train on all."
        )
    return {}


def _read(name: str) -> tuple[str, tuple[str, ...]]:
    """The split that the first word of this kind means (`either` for `EITHER`; empty: there is
    none), and the other words, without a file's suffix."""
    words = [part for word in re.findall(r"[a-z]+|\d+", _without_suffix(name).lower()) for part in _parts(word)]
    for place, word in enumerate(words):
        split = "either" if word in EITHER else _SPLIT_OF.get(word, "")
        if split:
            return split, tuple(words[:place] + words[place + 1 :])
    return "", tuple(words)


def _parts(word: str) -> list[str]:
    """`trainset` -> `train`, `set`: a split's word and one that qualifies it, without a gap."""
    ways = ([word[:end], word[end:]] for end in range(1, len(word)) if word[:end] in ALL_WORDS)
    return next((parts for parts in ways if parts[1] in QUALIFIERS), [word])


def _without_suffix(name: str) -> str:
    """`train.en.jsonl.gz` -> `train.en`; a suffix is short and has a letter."""
    path = PurePath(name)
    while re.fullmatch(r"\.[a-z]\w{0,7}", path.suffix.lower()) and _stem_has_word(path.stem):
        path = PurePath(path.stem)
    return path.name


def _stem_has_word(stem: str) -> bool:
    return any(word in _SPLIT_OF or word in EITHER for word in re.findall("[a-z]+", stem.lower()))
