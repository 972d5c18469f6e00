"""What a tokenizer does not know is told, and refused where it is much."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ssl_lightning.datamodules.text_files import TextFiles

SIGNS = "\n\n".join("".join(chr(0x4E00 + (31 * line + place) % 1500) for place in range(40)) for line in range(80))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_LIGHTNING_CACHE", str(tmp_path / "cache"))
    (tmp_path / "signs.txt").write_text(SIGNS)
    return tmp_path


def data_of(path: Path, **changes: Any) -> TextFiles:
    return TextFiles(str(path), **{"batch_size": 4, "vocab_size": 4096, **changes})


def test_texts_that_a_tokenizer_hardly_knows_are_refused(folder: Path) -> None:
    """WordPiece's alphabet has 1,000 characters: a third of these signs is not in it."""
    with pytest.raises(
        ValueError,
        match=r"signs\.txt: the tokenizer does not know \d\d\.\d% of the tokens.* or set --data\.max_unknown 0\.\d+\.$",
    ):
        data_of(folder / "signs.txt", tokenizer_kind="wordpiece").prepare_data()
    with pytest.warns(UserWarning, match="does not know"):
        data = data_of(folder / "signs.txt", tokenizer_kind="wordpiece", max_unknown=0.5)
        data.prepare_data()
    tally = data.ledger()[0]
    assert tally.remarks[-1].endswith("% of the tokens unknown")
    assert str(tally).endswith(f"({'; '.join(tally.remarks)}).")


def test_documents_of_one_unknown_word_each_are_refused(folder: Path) -> None:
    (folder / "long.txt").write_text("\n\n".join("ab" * 100 + str(number) * 60 for number in range(30)))
    with pytest.raises(ValueError, match=r"does not know 100\.0% of the tokens"):
        data_of(folder / "long.txt", tokenizer_kind="wordpiece").prepare_data()


def test_nothing_is_unknown_by_default(folder: Path, recwarn: pytest.WarningsRecorder) -> None:
    data = data_of(folder / "signs.txt")
    data.prepare_data()
    assert not any("unknown" in remark for remark in data.ledger()[0].remarks)
    assert not [each for each in recwarn if "does not know" in str(each.message)]


def test_a_split_that_is_not_trained_on_is_only_told(folder: Path) -> None:
    (folder / "set").mkdir()
    (folder / "set" / "train.txt").write_text("\n\n".join(f"plain words {number}" for number in range(80)))
    (folder / "set" / "test.txt").write_text(SIGNS)
    with pytest.warns(UserWarning, match=r"test\.txt: the tokenizer does not know"):
        data_of(folder / "set", tokenizer_kind="wordpiece").prepare_data()
