"""`ssl-lightning import`: the file that it writes is one that every command takes; what it cannot
take it refuses in one line, and nothing in a file is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from ssl_lightning import Reader, load_encoder
from ssl_lightning.cli.main import main
from ssl_lightning.cli.verbs import parser_of
from ssl_lightning.exchange.foreign import formats
from ssl_lightning.exchange.foreign.file import read_file
from ssl_lightning.exchange.foreign.formats import FORMATS
from ssl_lightning.exchange.foreign.importing import read_foreign

VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 64, "depth": 1, "num_heads": 1, "num_classes": 0}


def model() -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(**VIT).eval()


@pytest.fixture
def dino(tmp_path: Path) -> Path:
    """A checkpoint of DINO's teacher."""
    state = {f"backbone.{name}": tensor for name, tensor in model().state_dict().items()}
    torch.save({"teacher": state, "student": dict(state)}, tmp_path / "dino.pth")
    return tmp_path / "dino.pth"


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / "animals" / name).mkdir(parents=True)
        for number in range(4):
            pixels = random.integers(0, 255, (40, 40, 3), "uint8")
            Image.fromarray(pixels).save(tmp_path / "animals" / name / f"{number}.png")
    return tmp_path / "animals"


def test_every_command_takes_the_file(
    dino: Path, animals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, table = str(tmp_path / "out"), str(tmp_path / "animals.parquet")
    assert main(["import", str(dino), "--to", folder, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["origin"].startswith("dino") and facts["left behind"] == "the network student (18)"
    assert {path.name for path in Path(folder).iterdir()} == {"encoder.safetensors", "encoder.md"}
    assert "| left behind | the network student" in (Path(folder) / "encoder.md").read_text()
    assert main(["embed", folder, str(animals), "--out", table]) == 0
    query = str(animals / "ant" / "0.png")
    assert main(["neighbours", folder, "--among", table, "--query", query, "--count", "1", "--json"]) == 0
    assert main(["inspect", folder]) == 0
    assert "ViTEncoder" in capsys.readouterr().out
    assert load_encoder(folder).taught


def test_images_are_prepared_as_the_card_says(dino: Path, animals: Path, tmp_path: Path) -> None:
    folder, given = tmp_path / "out", ["--mean", "0.5", "0.4", "0.3", "--std", "0.2"]
    assert main(["import", str(dino), "--to", str(folder), *given]) == 0
    file, read = animals / "ant" / "0.png", Reader(folder)
    pixels = torch.tensor(np.asarray(Image.open(file).resize((32, 32), Image.Resampling.BILINEAR))).movedim(-1, 0)
    x = read.view([file]).x
    assert x.shape == (1, 3, 32, 32)
    standardised = (pixels / 255 - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / 0.2
    assert (x[0] - standardised).abs().mean() < 0.1
    with torch.no_grad():
        assert torch.allclose(read([file]), model()(x), atol=1e-5)


def test_positions_follow_another_image_size(dino: Path, tmp_path: Path) -> None:
    assert main(["import", str(dino), "--to", str(tmp_path / "out"), "--image-size", "64"]) == 0
    assert load_encoder(tmp_path / "out").init_args["image_size"] == 64
    assert "interpolated from 4x4 to 8x8" in (tmp_path / "out" / "encoder.md").read_text()


@pytest.mark.slow
def test_it_is_fine_tuned_and_judged(dino: Path, animals: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "out")
    assert main(["import", str(dino), "--to", folder]) == 0
    quick = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]
    quick += ["--data.image_size", "32", "--data.batch_size", "4"]
    where = ["--trainer.default_root_dir", str(tmp_path / "runs"), "--data.root", str(animals)]
    fit = ["fit", "--model", "finetune", "--data", "image_folder", "--model.checkpoint", folder, *where, *quick]
    assert main(fit) == 0
    assert (
        main(
            [
                "labels",
                folder,
                "--data",
                str(animals),
                "--draws",
                "1",
                "--minutes",
                "0.2",
                "--to",
                str(tmp_path),
            ]
        )
        == 0
    )


# What a file holds is not run.


class Runs:
    """Pickled, it writes a file when it is read."""

    def __init__(self, function: Any, canary: Path) -> None:
        self.function, self.canary = function, canary

    def __reduce__(self) -> tuple[Any, ...]:
        text = f"touch {self.canary}" if self.function is os.system else f"open({str(self.canary)!r}, 'w')"
        return self.function, (text,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("function", [os.system, eval, exec])
def test_code_in_a_pickle_does_not_run(function: Any, zipped: bool, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    contents = {"teacher": model().state_dict(), "args": Runs(function, canary)}
    torch.save(contents, tmp_path / "file.pth", _use_new_zipfile_serialization=zipped)
    try:
        assert type(read_file(tmp_path / "file.pth")["args"]).__name__ == "Opaque"
    except ValueError as error:
        assert "holds more than tensors and plain values" in str(error)
    assert not canary.exists()
    torch.load(tmp_path / "file.pth", weights_only=False)
    assert canary.exists()  # it would have run


# Wrong uses.


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert main(["import", *map(str, arguments)]) == 2
    line = capsys.readouterr().err
    assert line.startswith("ssl-lightning import: error: ") and line.count("\n") == 1
    return line


@pytest.mark.parametrize(
    ("contents", "options", "words"),
    [
        ({}, [], "holds nothing, not a state dict"),
        ([1, 2], [], "holds a list"),
        ({"layer9.weight": torch.zeros(2)}, [], "has the keys of no format that is known: layer9.weight"),
        ({"bert.embeddings.word_embeddings.weight": torch.zeros(2)}, [], "a model of texts or speech"),
        ({"state_dict": {"a": torch.zeros(1)}, "ssl_lightning": "0.1.0"}, [], "checkpoint of ssl_lightning itself"),
        (None, ["--format", "blots"], "There is no format 'blots'. Did you mean 'bolts'?"),
        (None, ["--format", "moco"], "is no checkpoint of the authors' MoCo: "),
        (None, ["--format", "moco"], "It fits dino."),
        (None, ["--network", "key"], "holds no network 'key'; it holds teacher, student."),
        (None, ["--architecture", "vit_base_patch16_224"], "does not fit ViTEncoder('vit_base_patch16_224'). Miss"),
        (None, ["--architecture", "vit_bse_patch16_224"], "timm has no model 'vit_bse_patch16_224'. Did you mean"),
        (None, ["--image-size", "30"], "--image-size 30 is not a multiple of the patches"),
        (None, ["--mean", "0.5", "0.5"], "--mean has 2 values; give 1, or 3"),
        (None, ["--pooling", "first"], "Argument --pooling: invalid choice: 'first'"),
    ],
    ids=str,
)
def test_a_wrong_use_is_refused_in_one_line(
    contents: Any, options: list[str], words: str, dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if contents is not None:
        torch.save(contents, dino)
    assert words in refusal(capsys, dino, "--to", tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_missing_left_over_and_misshapen_tensors_are_listed(
    dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(dino)
    del state["teacher"]["backbone.norm.bias"]
    state["teacher"]["backbone.norm_pre.weight"] = torch.zeros(64)
    state["teacher"]["backbone.norm.weight"] = torch.zeros(63)
    torch.save(state, dino)
    line = refusal(capsys, dino, "--to", tmp_path / "out")
    assert (
        "Missing: norm.bias; left over: norm_pre.weight; of another shape: norm.weight [63] in place of [64]." in line
    )


def test_a_tensor_that_is_left_over_is_enough(dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(dino)
    state["teacher"]["backbone.norm_pre.weight"] = torch.zeros(64)
    torch.save(state, dino)
    assert "Left over: norm_pre.weight." in refusal(capsys, dino, "--to", tmp_path / "out")


def test_a_key_beside_the_known_parts_is_refused(
    dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(dino)
    state["teacher"]["adapter.weight"] = torch.zeros(2)
    torch.save(state, dino)
    line = refusal(capsys, dino, "--to", tmp_path / "out")
    assert "holds what the authors' DINO does not write: teacher.adapter.weight." in line


def test_a_file_that_is_not_whole_is_refused(dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    to = ("--to", tmp_path / "out")
    assert "There is no file" in refusal(capsys, tmp_path / "none.pth", *to)
    assert "is a folder; give the file, such as its dino.pth." in refusal(capsys, tmp_path, *to)
    dino.write_bytes(dino.read_bytes()[:2000])
    assert "is not a whole checkpoint of torch" in refusal(capsys, dino, *to)
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    assert "is not a whole safetensors file" in refusal(capsys, tmp_path / "cut.safetensors", *to)


def test_a_folder_that_holds_something_is_left_alone(
    dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    assert "exists already; give a folder" in refusal(capsys, dino, "--to", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_weights_that_are_not_finite_are_refused(
    dino: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = torch.load(dino)
    state["teacher"]["backbone.norm.weight"].fill_(float("nan"))
    torch.save(state, dino)
    assert "are not finite" in refusal(capsys, dino, "--to", tmp_path / "out")


def test_a_file_of_several_formats_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`backbone.` and a head of this name are lightly's and solo-learn's; the classifier of the one
    has another name than the other's."""
    state = {f"backbone.{name}": tensor for name, tensor in model().state_dict().items()}
    both = {**state, "head.weight": torch.zeros(1), "classifier.weight": torch.zeros(1)}
    torch.save({"state_dict": {**both, "online_classifier.weight": torch.zeros(1)}}, tmp_path / "a.ckpt")
    line = refusal(capsys, tmp_path / "a.ckpt", "--to", tmp_path / "out")
    assert "could be of lightly or solo-learn; say which: --format lightly." in line
    torch.save({"state_dict": both}, tmp_path / "a.ckpt")
    assert read_foreign(tmp_path / "a.ckpt").facts["origin"].startswith("solo-learn")


def test_the_help_lists_the_formats_by_the_names_of_their_modules() -> None:
    modules = {name.replace("-", "_"): form for name, form in FORMATS.items()}
    assert all(vars(formats)[name].FORMAT is form for name, form in modules.items())
    assert ", ".join(FORMATS) in " ".join(parser_of("import").format_help().split())


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    torch.save(model().half().state_dict(), tmp_path / "half.pth")
    encoder = read_foreign(tmp_path / "half.pth").encoder
    assert all(tensor.dtype == torch.float32 for tensor in encoder.state_dict().values())
    assert isinstance(encoder, nn.Module)
