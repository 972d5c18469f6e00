"""The nearest of a query, and near-duplicates: by exact search."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from ssl_lightning import Reader
from ssl_lightning.cli.main import main
from ssl_lightning.evaluation.use import neighbours as module
from ssl_lightning.evaluation.use.neighbours import alike, nearest_among


@pytest.mark.parametrize("faiss", [False, True])
@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_the_nearest_are_those_of_all_comparisons(chunk: int, faiss: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if faiss:
        pytest.importorskip("faiss")
    else:
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    monkeypatch.setattr(module, "CHUNK", chunk)
    generator = torch.Generator().manual_seed(0)
    queries, vectors = (torch.randn(count, 5, generator=generator) for count in (4, 40))
    index, cosine = nearest_among(queries, vectors, 6)
    every = F.normalize(queries, dim=1) @ F.normalize(vectors, dim=1).T
    expected, order = every.sort(dim=1, descending=True)
    assert torch.equal(index, order[:, :6]) and torch.allclose(cosine, expected[:, :6], atol=1e-6)
    assert nearest_among(queries, vectors[:3], 6)[0].shape == (4, 3)


@pytest.mark.parametrize("chunk, rows", [(8, 4), (1 << 16, 1024)])
def test_pairs_are_those_of_all_comparisons(chunk: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    monkeypatch.setattr(module, "ROWS", rows)
    vectors = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    pairs = alike(vectors, 0.9)
    z = F.normalize(vectors, dim=1)
    every = [(i, j) for i in range(30) for j in range(i + 1, 30) if float(z[i] @ z[j]) >= 0.9]
    assert sorted(map(tuple, pairs.places.tolist())) == every and len(every) > 5 and not pairs.more
    assert pairs.cosine.tolist() == sorted(pairs.cosine.tolist(), reverse=True)
    few = alike(vectors, 0.9, most=3)
    assert len(few.places) == 3 and few.more


def test_a_file_finds_itself_and_its_copy(
    image_encoder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = photos / "test" / "a" / "00.png"
    copy = photos / "test" / "b" / "copy.png"
    copy.write_bytes(one.read_bytes())
    vectors, sheet = tmp_path / "vectors.parquet", tmp_path / "sheet.png"
    assert main(["embed", str(image_encoder), str(photos), "--out", str(vectors)]) == 0
    capsys.readouterr()
    common = [str(image_encoder), "--among", str(vectors), "--to", str(sheet), "--json"]
    assert main(["neighbours", *common, "--query", str(one), "--count", "3"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in rows] == [1, 2, 3] and rows[0]["query"] == str(one)
    assert {rows[0]["path"], rows[1]["path"]} == {str(one), str(copy)} and rows[1]["cosine"] == pytest.approx(
        1, abs=1e-5
    )
    assert np.asarray(Image.open(sheet)).std() > 1
    sheet.unlink()
    assert main(["neighbours", *common, "--duplicates", "0.99999"]) == 0
    (pair,) = json.loads(capsys.readouterr().out)
    assert {pair["first"], pair["second"]} == {str(one), str(copy)} and sheet.is_file()


def test_a_text_is_a_query_and_its_neighbours_are_quoted(
    text_encoder: Path, texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = tmp_path / "vectors.parquet"
    assert main(["embed", str(text_encoder), str(texts), "--out", str(vectors)]) == 0
    capsys.readouterr()
    line = texts.read_text().splitlines()[1].partition(",")[2]
    given = ["--query", line, "--count", "1", "--json", "--to", str(tmp_path / "sheet.png")]
    assert main(["neighbours", str(text_encoder), "--among", str(vectors), *given]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["text"] == line and row["cosine"] == pytest.approx(1, abs=1e-5)


def test_wrong_uses_are_told_in_one_line(
    image_encoder: Path, text_encoder: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = tmp_path / "vectors.parquet"
    assert main(["embed", str(image_encoder), str(photos / "test"), "--out", str(vectors)]) == 0
    (tmp_path / "no.parquet").write_text("no table")
    (tmp_path / "no.csv").write_text("a,b\n1,2\n")
    query = ["--query", str(photos / "test" / "a" / "00.png")]
    for given, message in [
        ([str(image_encoder), "--among", str(vectors)], "Give --query FILE, or --duplicates"),
        ([str(image_encoder), "--among", str(vectors), *query, "--duplicates", "0.9"], "Give --query FILE, or"),
        ([str(image_encoder), "--among", str(vectors), "--query", "nosuch.png"], "nosuch.png: there is no such file."),
        ([str(text_encoder), "--among", str(vectors), *query], "vectors of another encoder"),
        ([str(image_encoder), "--among", str(tmp_path / "nosuch.parquet"), *query], "There is no file of vectors"),
        ([str(image_encoder), "--among", str(tmp_path / "no.parquet"), *query], "cannot be read"),
        ([str(image_encoder), "--among", str(tmp_path / "no.csv"), *query], "cannot be read"),
        ([str(image_encoder), "--among", str(vectors), *query, "--count", "0"], "no whole number of at least 1"),
        ([str(image_encoder), "--among", str(vectors), *query, "--to", "x.jpg"], "pictures are written as .png"),
        ([str(image_encoder), "--among", str(vectors), "--duplicates", "much"], "invalid float value"),
        ([str(image_encoder), *query], "required: --among"),
    ]:
        capsys.readouterr()
        assert main(["neighbours", *given]) == 2, given
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


def test_vectors_of_another_length_are_refused(
    image_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.csv").write_text("path,label,v0,v1\na.png,x,0.5,1\n")
    given = ["neighbours", str(image_encoder), "--among", str(tmp_path / "v.csv"), "--query", "a.png"]
    assert main(given) == 2
    assert "holds vectors of 2 values, the encoder's have 8" in capsys.readouterr().err
    assert Reader(image_encoder).dim == 8
