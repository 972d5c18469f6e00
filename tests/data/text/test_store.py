"""The store of tokens: the tokenizer's own ids, made once and whole, whatever comes in between."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ssl_lightning.datamodules.python_docs import paragraphs
from tokenizers import Tokenizer

from ssl_lightning.data.text import store as module
from ssl_lightning.data.text.documents import PIECE, Corpus, Counts, Piece, Texts
from ssl_lightning.data.text.store import Store, open_store
from ssl_lightning.data.text.tokenizer import train_tokenizer, trained_tokenizer

DOCS = tuple(paragraphs())[:200]
CORPUS = Texts("docs", DOCS, [f"{number % 3}" for number in range(200)])


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, "wordpiece", 500)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def documents(store: Store) -> list[list[int]]:
    return [part.tolist() for part in np.split(store.tokens, store.offsets[1:-1])]


def test_a_document_is_its_ids_in_any_batch(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1000)
    store = open_store(CORPUS, tokenizer)
    assert documents(store) == [tokenizer.encode(text, add_special_tokens=False).ids for text in DOCS]
    assert store.tokens.dtype == np.uint16 and store.longest == max(map(len, documents(store)))
    assert store.labels is not None and store.labels.tolist() == [number % 3 for number in range(200)]


def test_a_long_document_is_one_in_spite_of_its_pieces(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", PIECE)
    long = " ".join(DOCS) * 4
    assert len(long) > 2 * PIECE
    store = open_store(Texts("long", ["first", long, "last"]), tokenizer)
    assert documents(store) == [
        tokenizer.encode(text, add_special_tokens=False).ids for text in ("first", long, "last")
    ]
    assert store.labels is None and store.class_names == ()


def test_classes_are_in_the_order_of_their_names(tokenizer: Tokenizer) -> None:
    """Integers in that of their values."""
    store = open_store(Texts("names", ["a"] * 4, ["pear", "apple", "pear", "fig"]), tokenizer)
    assert (
        store.class_names == ("apple", "fig", "pear")
        and store.labels is not None
        and store.labels.tolist() == [2, 0, 2, 1]
    )
    store = open_store(Texts("numbers", ["a"] * 4, ["10", "9", "-1", "10"]), tokenizer)
    assert store.class_names == ("-1", "9", "10") and store.labels is not None and store.labels.tolist() == [2, 1, 0, 2]


def test_what_gives_no_token_is_skipped_and_counted_in_one_line(tokenizer: Tokenizer) -> None:
    """Each time, not only when it is made."""
    for _ in range(2):
        with pytest.warns(
            UserWarning,
            match=(
                r"^odd: 1 byte that is not of the encoding became U\+FFFD \(the first in document 5\), 4 empty"
                r" documents were skipped\.$"
            ),
        ):
            store = open_store(Texts("odd", ["\x07", "a", " ", "\x07", "b\udcff", "\x08"], list("uvwxyz")), tokenizer)
    assert [each[:3] for each in store.left_out] == [("are empty", 1, "document 3"), ("give no token", 3, "")]
    assert sum(each.count for each in store.left_out) + len(store) == 6
    assert len(store) == 2 and store.labels is not None
    assert [store.class_names[label] for label in store.labels] == ["v", "y"]
    with pytest.raises(ValueError, match="blank does not contain any text"):
        open_store(Texts("blank", ["\x07", " "]), tokenizer)


def test_a_text_cannot_forge_special_tokens(tokenizer: Tokenizer) -> None:
    store = open_store(Texts("forged", ["a [MASK] b [SEP][CLS] [PAD]"]), tokenizer)
    assert not {0, 2, 3, 4} & set(store.tokens.tolist())


class Once(Texts):
    """Documents that may be read once."""

    reads = 0

    def read(self, counts: Counts):  # type: ignore[no-untyped-def]
        type(self).reads += 1
        yield from super().read(counts)


def test_it_is_made_once_for_one_corpus_and_tokenizer(tokenizer: Tokenizer, cache: Path) -> None:
    first = open_store(Once("docs", DOCS, ["a"] * 200), tokenizer)
    again = open_store(Once("docs", DOCS, ["a"] * 200), tokenizer)
    assert Once.reads == 1 and again.fingerprint == first.fingerprint and folders(cache) == [first.folder]
    others = [
        open_store(Once("docs", DOCS, ["b"] * 200), tokenizer),
        open_store(Once("docs", DOCS[::-1], ["a"] * 200), tokenizer),
    ]
    others.append(open_store(Once("docs", DOCS, ["a"] * 200), train_tokenizer(CORPUS, "bpe", 300)))
    assert Once.reads == 4 and len({first.fingerprint, *(store.fingerprint for store in others)}) == 4
    assert len(pickle.dumps(first)) < 300 and documents(pickle.loads(pickle.dumps(first))) == documents(first)


@pytest.mark.parametrize("name", ["tokens", "offsets", "labels", "meta.json"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_store_is_made_anew(tokenizer: Tokenizer, name: str, harm: str) -> None:
    store = open_store(CORPUS, tokenizer)
    expected, path = documents(store), store.folder / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-8] if harm == "cut" else content[:-9] + b"\xfe" + content[-8:])
    found = open_store(CORPUS, tokenizer)
    assert documents(found) == expected and path.read_bytes() == content
    assert folders(store.folder.parent) == [store.folder]


def folders(cache: Path) -> list[Path]:
    """Stores and the beginnings of them."""
    return [path for path in cache.iterdir() if path.is_dir()]


def forked(make: Callable[[], None]) -> int:
    """The id of a process that does this."""
    child = os.fork()
    if child:
        return child
    try:
        make()
        os._exit(0)
    finally:
        os._exit(1)


def test_two_processes_that_make_it_at_once_both_end_well_and_a_killed_one_leaves_nothing(
    tokenizer: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, gate, opened = module._write, os.pipe(), os.pipe()

    def make_and_wait(folder: Path, *args: Any) -> None:
        make(folder, *args)
        os.write(opened[1], b".")
        os.read(gate[0], 1)

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", make_and_wait)
        children = [forked(lambda: documents(open_store(CORPUS, tokenizer)) and None) for _ in range(3)]
    for _ in children:
        os.read(opened[0], 1)
    assert len(folders(cache)) == 3 and module._existing(cache) is None
    os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)
    os.write(gate[1], b"..")
    assert [os.waitpid(child, 0)[1] for child in children[1:]] == [0, 0]
    store = open_store(CORPUS, tokenizer)
    left = [folder for folder in folders(cache) if folder != store.folder]
    assert len(left) == 1  # of the killed one; it goes when any other is made
    other = open_store(Texts("other", ["a"]), tokenizer)
    assert sorted(folders(cache)) == sorted([store.folder, other.folder]) and not list(cache.glob(".text-*"))


def test_of_processes_that_finish_in_the_same_moment_none_takes_away_the_store_of_another(
    tokenizer: Tokenizer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, found, rename, ready, go = module._write, module._existing, os.rename, os.pipe(), os.pipe()
    place = open_store(CORPUS, tokenizer).folder
    shutil.rmtree(place)

    def make_and_wait(folder: Path, *args: Any) -> None:
        make(folder, *args)
        os.write(ready[1], b".")
        os.read(go[0], 1)

    def found_and_slow(place: Path) -> Any:
        store = found(place)
        time.sleep(0.1)  # processes that look at once all see nothing
        return store

    def rename_and_tell(source: Path, target: Path) -> None:
        rename(source, target)
        if source == place:
            (tmp_path / "taken").touch()

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", make_and_wait)
        patch.setattr(module, "_existing", found_and_slow)
        patch.setattr(os, "rename", rename_and_tell)
        children = [forked(lambda: documents(open_store(CORPUS, tokenizer)) and None) for _ in range(3)]
    for _ in children:
        os.read(ready[0], 1)
    os.write(go[1], b"...")
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert folders(cache) == [place] and not (tmp_path / "taken").exists()


class Growing(Texts):
    """Documents to which one is added while they are read."""

    def read(self, counts: Counts):  # type: ignore[no-untyped-def]
        yield from super().read(counts)
        self.texts.append("more")  # type: ignore[attr-defined]  # a list


def test_files_that_change_while_they_are_read_are_refused(tokenizer: Tokenizer, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"growing changed while it was read. Start again"):
        open_store(Growing("growing", ["a"]), tokenizer)
    assert folders(cache) == []


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "file" / "cache"))
    for make in (lambda: open_store(CORPUS, tokenizer), lambda: trained_tokenizer(CORPUS, "wordpiece", 500)):
        with pytest.raises(
            OSError,
            match=(
                rf"The cache folder {tmp_path}/file/cache cannot be written: .*environment variable SSL_LIGHTNING_CACHE"
            ),
        ):
            make()


def test_a_column_with_a_label_for_each_document_is_refused(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_CLASSES", 100)
    with pytest.raises(
        ValueError, match=r"docs: the labels have more than 100 values, '100' among them. Is it another column"
    ):
        open_store(Texts("docs", ["a"] * 200, [str(number) for number in range(200)]), tokenizer)


def test_a_large_vocabulary_has_wider_numbers(tmp_path: Path) -> None:
    from tokenizers import models, pre_tokenizers

    from ssl_lightning.nn.vocabulary import SPECIAL

    names = {name: number for number, name in enumerate((*SPECIAL, *map(str, range(70_000))))}
    wide = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    wide.pre_tokenizer = pre_tokenizers.Whitespace()
    store = open_store(Texts("numbers", ["0 69999", "65531 65530"]), wide)
    assert store.tokens.dtype == np.uint32 and documents(store) == [[5, 70_004], [65_536, 65_535]]


def test_document_frequency_counts_each_document_once(tokenizer: Tokenizer) -> None:
    store = open_store(CORPUS, tokenizer)
    frequency, count = store.document_frequency()
    expected = np.zeros(500, int)
    for ids in documents(store):
        expected[sorted(set(ids))] += 1
    assert count == 200 and frequency.tolist() == expected.tolist()
    assert store.document_frequency(most=10)[1] == 10


def test_memory_does_not_grow_with_the_corpus(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time are more pieces held than a batch has."""
    import gc

    monkeypatch.setattr(module, "AT_ONCE", 5000)
    most = 0

    class Watched(Corpus):
        name, labelled, size = "watched", False, 0

        def identity(self) -> list[int]:
            return [0]

        def read(self, counts: Counts):  # type: ignore[no-untyped-def]
            nonlocal most
            for number in range(2000):
                if number % 500 == 499:
                    most = max(most, sum(type(thing) is Piece for thing in gc.get_objects()))
                yield Piece(f"some text number {number}", None, True)

    assert len(open_store(Watched(), tokenizer)) == 2000
    assert 0 < most < 600


def test_a_tokenizer_is_trained_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained_tokenizer(CORPUS, "wordpiece", 400)
    (path,) = cache.iterdir()
    path.write_text(path.read_text()[:100])
    assert trained_tokenizer(CORPUS, "wordpiece", 400).to_str() == first.to_str()
    monkeypatch.setattr("ssl_lightning.data.text.tokenizer.train_tokenizer", lambda *args: pytest.fail("trained again"))
    assert trained_tokenizer(CORPUS, "wordpiece", 400).to_str() == first.to_str()


def test_groups_are_kept_with_the_documents(tokenizer: Tokenizer) -> None:
    class Grouped(Texts):
        def read(self, counts: Counts):  # type: ignore[no-untyped-def]
            for piece, group in zip(super().read(counts), "xyxz", strict=True):
                yield piece._replace(group=group)

        def identity(self) -> list[Any]:
            return ["grouped"]

    store, plain = (open_store(cls(cls.__name__, ["a", "b", "c", "d"]), tokenizer) for cls in (Grouped, Texts))
    assert plain.groups is None and store.fingerprint != plain.fingerprint and store.groups is not None
    first, second, third, fourth = store.groups.tolist()
    assert first == third and len({first, second, fourth}) == 3
    assert documents(pickle.loads(pickle.dumps(store))) == documents(plain)
