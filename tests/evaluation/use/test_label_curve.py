"""Accuracy against the number of labels: which labels, what is kept, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from ssl_lightning.datamodules.digits import Digits
from torch import Tensor

from ssl_lightning.cli.main import main
from ssl_lightning.data.sources import labels_of
from ssl_lightning.encoders.conv import ConvEncoder
from ssl_lightning.evaluation.measures import Outcome
from ssl_lightning.evaluation.plots.label_curve import apart
from ssl_lightning.evaluation.use import label_curve as module
from ssl_lightning.evaluation.use.label_curve import LabelCurve
from ssl_lightning.evaluation.use.labels_saved import Level, labels_needed, levels_of, sentence_of
from ssl_lightning.run.pretrained import load_encoder

from .conftest import leave


def test_the_numbers_of_labels_and_their_draws() -> None:
    labels = torch.arange(10).repeat_interleave(140)
    levels = levels_of(labels, draws=5, most=10_000)
    assert [(each.title, each.labels, len(each.draws)) for each in levels] == [
        ("1 a class", 10, 5), ("2 a class", 20, 5), ("5 a class", 50, 5), ("10 a class", 100, 5), ("10 %", 140, 5),
        ("50 a class", 500, 5), ("all", 1400, 1),
    ]  # fmt: skip
    assert all((labels[draw].bincount() == 10).all() for draw in levels[3].draws)
    assert len({tuple(draw.tolist()) for draw in levels[3].draws}) == 5
    many = levels_of(torch.arange(10).repeat_interleave(2000), draws=5, most=5000)
    assert [each.title for each in many][-3:] == ["50 a class", "10 %", "5,000"]
    assert len(many[-2].draws) == 3, "of more than 1,000 labels"


def test_a_draw_is_that_of_a_run_with_so_many_labels() -> None:
    data = Digits()
    train = data.labelled_split
    assert train is not None
    (level,) = (each for each in levels_of(labels_of(train), 2, 10_000) if each.per_class == 10)
    for seed, draw in enumerate(level.draws):
        few = Digits(labels_per_class=10, seed=seed).labelled_split
        assert few is not None
        assert torch.equal(few.fetch(torch.arange(100)), train.fetch(draw))


def test_labels_needed_lie_between_two_numbers() -> None:
    curve = {10: 0.2, 100: 0.4, 1000: 0.8}
    assert labels_needed(curve, 0.4) == 100 and labels_needed(curve, 0.3) == 32 and labels_needed(curve, 0.6) == 316
    assert labels_needed(curve, 0.9) is None and labels_needed({10: 0.5}, 0.5) is None


LEVELS = [Level(f"{k} a class", k, [torch.arange(10 * k)] * 3) for k in (1, 10, 50)]


@pytest.mark.parametrize(
    "rows, said",
    [
        ({}, "give more --minutes"),
        ({"labels_only": {"10 a class": [0.5] * 3}}, "was not tried yet"),
        ({"labels_only": {"10 a class": [0.5, 0.6]}, "pretrained": {"10 a class": [0.7, 0.8]}}, "too few to claim"),
        (
            {"labels_only": {"10 a class": [0.5, 0.6, 0.7]}, "pretrained": {"10 a class": [0.7, 0.5, 0.7]}},
            "makes no difference beyond the spread",
        ),
        (
            {"labels_only": {"10 a class": [0.7, 0.72, 0.71]}, "pretrained": {"10 a class": [0.6, 0.61, 0.62]}},
            "the labels alone do better (pretrained, frozen, 61.0 %, -10.0 points",
        ),
        (
            {
                "labels_only": {"10 a class": [0.5, 0.52, 0.51], "50 a class": [0.69]},
                "pretrained": {"10 a class": [0.55, 0.56, 0.57]},
                "finetuned": {"10 a class": [0.6, 0.61, 0.59]},
            },
            "100 labels with pretraining do what 224 do without (pretrained, fine-tuned, 60.0 %, +9.0 points",
        ),
        (
            {
                "labels_only": {"10 a class": [0.5, 0.52, 0.51], "50 a class": [0.55]},
                "pretrained": {"10 a class": [0.6, 0.61, 0.59]},
            },
            "100 labels with pretraining do what more than 500 do without",
        ),
        (
            {
                "labels_only": {"10 a class": [0.5, 0.52, 0.51]},
                "pretrained": {"10 a class": [0.6, 0.61, 0.59]},
                "end_to_end": {"10 a class": [0.7, 0.71, 0.69]},
            },
            "without (pretrained, end to end, 70.0 %, +19.0 points",
        ),
    ],
)  # fmt: skip
def test_what_is_said(rows: dict[str, Any], said: str) -> None:
    known = {row: {title: dict(enumerate(draws)) for title, draws in cells.items()} for row, cells in rows.items()}
    assert said in sentence_of(LEVELS, known)


def test_the_command_goes_on_and_keeps_to_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    file = leave(ConvEncoder(channels=1, width=4, depth=2), Digits(), tmp_path / "run" / "encoder.safetensors")
    given = ["labels", str(file.parent), "--data", "digits", "--draws", "3", "--train-samples", "200"]
    fits: list[tuple[str, str, int]] = []

    def trained(self: LabelCurve, row: str, level: Level, draw: int, seconds: float) -> float:
        fits.append((row[0], level.title, draw))
        return {"labels_only": 0.5, "end_to_end": 0.6}[row]

    def finetuned(self: LabelCurve, level: Level, draw: int) -> float:
        fits.append(("f", level.title, draw))
        return 0.9

    monkeypatch.setattr(LabelCurve, "_trained", trained)
    monkeypatch.setattr(LabelCurve, "_finetuned", finetuned)
    seen: list[tuple[int, int]] = []

    def half_right(x: Tensor, y: Tensor, test: Tensor, answers: Tensor, deadline: float) -> Outcome:
        seen.append((len(x), len(y)))
        return Outcome(answers < 5)

    monkeypatch.setattr(module, "regressed", half_right)
    assert main([*given, "--minutes", "0", "--test-samples", "100"]) == 0 and not fits
    assert main([*given, "--minutes", "10", "--test-samples", "100"]) == 0
    told = capsys.readouterr().out
    assert fits[:9] == [(row, "10 a class", draw) for draw in range(3) for row in "lef"]
    assert ("f", "200", 0) not in fits, "a part of all labels is none that a run draws"
    assert ("f", "1 a class", 0) not in fits and {("l", "1 a class", 0), ("e", "1 a class", 0)} <= {*fits}
    assert "labels\t10\t20\t50\t100" in told and "pretrained, fine-tuned\t\u2013\t90.0 ± 0.0 (3)" in told
    assert "100 labels with pretraining do what more than 500 do without" in told
    kept = json.loads((file.parent / "labels-digits.json").read_text())
    assert sorted(seen) == sorted([(n, n) for n in (10, 20, 50, 100, 140, 500) for _ in range(9)] + [(200, 200)] * 3)
    stamp = kept["protocol"]
    assert (stamp["protocol"], stamp["split"], stamp["judged"]) == ("labels", "test", 100) and stamp["digest"]
    assert stamp["settings"]["draws"] == 3 and stamp["settings"]["penalty"] == "L2"
    assert {each["mean"] for each in kept["rows"] if each["row"] == "raw"} == {0.5}
    rows = {"raw", "untrained", "pretrained", "finetuned", "end_to_end", "labels_only"}
    assert {each["row"] for each in kept["rows"]} == rows
    assert Image.open(file.parent / "labels-digits.png").size[0] > 500
    del kept["accuracies"]["raw"]["1 a class"]
    seen.clear()
    means: list[float] = []

    def noted(x: Tensor, *others: Any) -> Outcome:
        means.append(float(x.double().sum()))
        return half_right(x, *others)

    monkeypatch.setattr(module, "regressed", noted)
    (file.parent / "labels-digits.json").unlink()
    assert main([*given, "--minutes", "10", "--test-samples", "100"]) == 0
    undisturbed = means[:3]
    means.clear()
    (file.parent / "labels-digits.json").write_text(json.dumps(kept))
    assert main([*given, "--minutes", "10", "--test-samples", "100"]) == 0
    assert means == undisturbed, "a second start standardises by the same samples"
    capsys.readouterr()
    count = len(fits)
    monkeypatch.setattr(module, "regressed", lambda *args: pytest.fail("it is known"))
    assert main([*given, "--minutes", "10", "--test-samples", "100", "--json"]) == 0 and len(fits) == count
    assert json.loads(capsys.readouterr().out)["rows"] == kept["rows"]


@pytest.mark.slow
def test_the_network_learns_from_the_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    file = leave(ConvEncoder(channels=1, width=8, depth=2), Digits(), tmp_path / "run" / "encoder.safetensors")
    given = ["--data", "digits", "--draws", "1", "--train-samples", "200", "--test-samples", "200", "--minutes", "6"]
    assert main(["labels", str(file), *given, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    means = {(each["row"], each["level"]): each["mean"] for each in rows}
    assert all(means[row, "10 a class"] > 0.6 for row in ("labels_only", "finetuned", "end_to_end"))


def test_end_to_end_begins_with_the_pretrained_weights_and_labels_alone_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    file = leave(ConvEncoder(channels=1, width=4, depth=2), Digits(), tmp_path / "run" / "encoder.safetensors")
    given: list[tuple[Tensor, ...]] = []

    def fitted(encoder: ConvEncoder, *others: Any) -> ConvEncoder:
        given.append((next(iter(encoder.parameters())).clone(), torch.tensor(others[3])))
        return encoder

    monkeypatch.setattr(module, "fitted", fitted)
    monkeypatch.setattr(module, "classified", lambda network, data, test, trainer: Outcome(labels_of(test) < 5))
    monkeypatch.setattr(LabelCurve, "_finetuned", lambda *args: 0.5)
    monkeypatch.setattr(module, "regressed", lambda x, y, test, answers, deadline: Outcome(answers < 5))
    options = ["--draws", "1", "--train-samples", "200", "--test-samples", "100", "--minutes", "5"]
    assert main(["labels", str(file.parent), "--data", "digits", *options]) == 0
    pretrained = next(iter(load_encoder(file).parameters()))
    begins = [torch.equal(weight, pretrained) for weight, _ in given]
    assert begins[:2] == [False, True] and sum(begins) == len(begins) / 2  # turn about: labels alone, end to end
    assert [int(seed) for _, seed in given[::2]] == [int(seed) for _, seed in given[1::2]]


def test_wrong_uses_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    file = leave(ConvEncoder(channels=1, width=4, depth=2), Digits(), tmp_path / "run" / "encoder.safetensors")
    for number in range(4):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.new("L", (20, 20), 60 * number).save(tmp_path / "photos" / f"{number}.png")
    for given, message in [
        ([str(file)], "required: --data"),
        ([str(file), "--data", "nosuch"], "There is no file, folder or data set"),
        ([str(file), "--data", str(tmp_path / "photos")], "has no labels"),
        (["nosuch", "--data", "digits"], "nosuch"),
        ([str(file), "--data", "digits", "--second-step", "simclr"], "does not learn from labels"),
        ([str(file), "--data", "digits", "--second-step", "finetun"], "Did you mean 'finetune'"),
        ([str(file), "--data", "digits", "--draws", "0"], "no whole number of at least 1"),
        ([str(file), "--data", "digits", "--minutes", "long"], "invalid float value"),
        ([str(file), "--data", "tones"], "cannot read it"),
    ]:
        assert main(["labels", *given]) == 2, given
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1, err


def test_labels_of_ticks_that_would_touch_are_left_out() -> None:
    assert apart([10, 20, 50, 100, 500, 600, 6_000, 10_000]) == ["10", "20", "50", "100", "500", "", "6,000", "10,000"]
    assert apart([100]) == ["100"] and apart([]) == []
