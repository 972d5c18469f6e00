"""`ssl-lightning probe` from a run to its tables: every modality, what is kept, and going on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ssl_lightning.datamodules.digits import Digits

from ssl_lightning.cli.main import main
from ssl_lightning.data.sources import labels_of
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.protocol import closing_row
from ssl_lightning.evaluation.protocols import probing as module
from ssl_lightning.evaluation.protocols.classes import Linear
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.pretrained import load_encoder

from .conftest import leave

SMALL = ["--data", "digits", "--train-samples", "200", "--test-samples", "80"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    data = Digits()
    leave(ConvEncoder(channels=1, width=4, depth=2), data, tmp_path / "run" / "encoder.safetensors")
    torch.manual_seed(1)
    save_encoder(ConvEncoder(channels=1, width=4, depth=2), tmp_path / "run" / "untrained.safetensors", None)
    return tmp_path / "run"


@pytest.fixture
def targets(tmp_path: Path) -> Path:
    data, lines = Digits(), ["split,index,ink,even,large"]
    for split in ("train", "test"):
        source = data.split(split)
        assert source is not None
        ink = source.fetch(torch.arange(len(source))).float().mean(dim=(1, 2, 3)).tolist()
        lines += [
            f"{split},{number},{ink[number]:.4f},{1 - label % 2},{int(label > 4)}"
            for number, label in enumerate(labels_of(source).tolist())
        ]
    path = tmp_path / "targets.csv"
    path.write_text("\n".join(lines))
    return path


def kept(run: Path) -> dict[tuple[str, str], dict]:
    results = json.loads((run / "probe-digits.json").read_text())["results"]
    return {(each["row"], each["protocol"]): each for each in results}


def test_the_numbers_are_those_of_the_closing_table_on_the_encoder_s_features(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["probe", str(run), *SMALL, "--by", "knn,linear", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    results = kept(run)
    assert printed["results"] == list(results.values())
    assert list(results) == [(row, name) for row in ("pretrained", "untrained", "raw") for name in ("knn", "linear")]
    data = Digits()
    task = module.task_of(data, "classes", None, (200, 80))
    for row in ("pretrained", "untrained", "raw"):
        name = "encoder" if row == "pretrained" else "untrained"
        network = None if row == "raw" else load_encoder(run / f"{name}.safetensors")
        x, judged = (module.features_here(network, data, each.source, each.index) for each in (task.train, task.judged))
        cells = closing_row(x, task.train.target, judged, task.judged.target)
        for protocol in ("knn", "linear"):
            scores = results[row, protocol]["scores"]
            assert scores["accuracy"]["value"] == pytest.approx(cells[protocol]["mean"], abs=1e-9)
            assert scores["accuracy_10"]["draws"] == pytest.approx(cells[f"{protocol}_10"]["draws"], abs=1e-9)
            assert scores["accuracy_10"]["spread_is"] == "std over 5 draws of labels"
    stamp = results["raw", "knn"]["stamp"]
    assert stamp["settings"] == {
        "k": 20, "temperature": 0.07, "metric": "cosine", "labels_per_class": 10, "draws": 5,
    }  # fmt: skip
    assert (stamp["train"], stamp["judged"], stamp["split"], stamp["seed"]) == (200, 80, "test", 0)
    assert len({each["stamp"]["digest"] for each in results.values()}) == 2, "one a protocol"
    gains = {(each["from"], each["protocol"], each["metric"]): each for each in printed["differences"]}
    assert len(gains) == 8
    gain = gains["untrained", "knn", "accuracy"]
    values = [results[row, "knn"]["scores"]["accuracy"]["value"] for row in ("pretrained", "untrained")]
    assert gain["points"] == pytest.approx(values[0] - values[1]) and gain["low"] < gain["points"] < gain["high"]


def test_features_are_computed_once_and_a_second_start_goes_on(
    run: Path, targets: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    embedded: list[int] = []
    judged: list[str] = []
    features, judge = module.features_here, Linear.judge

    def counted(network, data, source, index, *args):
        embedded.append(len(index))
        return features(network, data, source, index, *args)

    monkeypatch.setattr(module, "features_here", counted)
    given = ["probe", str(run), *SMALL, "--by", "knn,linear,retrieval,multilabel,values", "--targets", str(targets)]

    def stopped(self, *args):
        judged.append("linear")
        if len(judged) == 2:
            raise KeyboardInterrupt
        return judge(self, *args)

    monkeypatch.setattr(Linear, "judge", stopped)
    with pytest.raises(KeyboardInterrupt):
        main(given)
    assert "pretrained" in capsys.readouterr().out, "what is done is printed"
    assert len(embedded) == 4, "training and test samples of two rows, though there are three sets of samples"
    first = kept(run)
    assert list(first)[5:] == [("untrained", "knn")]
    monkeypatch.setattr(Linear, "judge", judge)
    assert main(given) == 0
    assert "pretrained - untrained" in capsys.readouterr().out.replace("\N{MINUS SIGN}", "-")
    again = kept(run)
    assert len(again) == 15 and all(again[key] == value for key, value in first.items())
    assert len(embedded) == 8, "the finished row is not embedded again"
    (run / "probe-digits.json").unlink()
    assert main(given) == 0
    assert kept(run) == again, "undisturbed it is the same"
    assert main(given) == 0 and len(embedded) == 14, "nothing is left to compute"


def test_results_of_other_settings_weights_or_files_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["probe", str(run), *SMALL, "--rows", "raw,pretrained", "--by"]
    assert main([*given, "knn,retrieval"]) == 0
    first = kept(run)
    assert main([*given, "knn", "--set", "knn.k=3"]) == 0
    assert "Earlier results of knn are replaced: settings.k was 20, is 3." in capsys.readouterr().err
    second = kept(run)
    assert second["raw", "retrieval"] == first["raw", "retrieval"], "what was not asked for stays"
    assert second["raw", "knn"]["stamp"]["digest"] != first["raw", "knn"]["stamp"]["digest"]
    torch.manual_seed(5)
    leave(ConvEncoder(channels=1, width=4, depth=2), Digits(), run / "encoder.safetensors")
    assert main([*given, "knn", "--set", "knn.k=3"]) == 0
    assert "holds results of other weights: starting anew" in capsys.readouterr().err
    assert len(kept(run)) == 2
    (run / "summary.json").write_text("{}")
    assert main([*given, "knn", "--to", str(run / "summary.json")]) == 2
    assert "is there and holds no results of protocols" in capsys.readouterr().err
    assert (run / "summary.json").read_text() == "{}"
    assert main([*given[:-3], "--rows", "published", "--by", "knn"]) == 2
    assert "has no row 'published'; it has pretrained, untrained, raw" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["image", "sound", "text"])
def test_every_modality(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    encoder = request.getfixturevalue(f"{kind}_encoder")
    folder = request.getfixturevalue({"image": "photos", "sound": "sounds", "text": "texts"}[kind])
    image = ["--data.unreadable", "skip", "--data.max_unreadable", "1"]
    options = {"image": image, "sound": [], "text": ["--data.label_column", "label"]}[kind]
    to = tmp_path / "results.json"
    given = ["probe", str(encoder), "--data", str(folder), *options, "--to", str(to), "--set", "knn.labels_per_class=0"]
    assert main([*given, "--by", "knn,retrieval"]) == 0
    results = json.loads(to.read_text())["results"]
    assert {each["row"] for each in results} == {"pretrained", "untrained", "raw"}
    assert all(0 <= score["value"] <= 1 for each in results for score in each["scores"].values())
    assert results[0]["stamp"]["transform"]["class"]


def test_targets_of_images_are_predicted_by_their_pixels(run: Path, targets: Path, tmp_path: Path) -> None:
    given = ["probe", str(run), "--data", "digits", "--rows", "raw", "--by", "values,multilabel"]
    assert main([*given, "--targets", str(targets), "--train-samples", "500"]) == 0
    results = kept(run)
    assert results["raw", "values"]["scores"]["r2"]["value"] > 0.99, "ink is a sum of pixels"
    assert 0.85 < results["raw", "multilabel"]["scores"]["map"]["value"] < 1
