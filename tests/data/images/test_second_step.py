"""The second step on pictures: an encoder of a run gets from other pictures the views that it was
pretrained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from ssl_lightning.datamodules.digits import Digits
from ssl_lightning.datamodules.image_folder import ImageFolder

from ssl_lightning import ConvEncoder
from ssl_lightning.cli.main import main
from ssl_lightning.data.images.settings import IMAGE, arguments_in
from ssl_lightning.run.checkpoints.encoder_file import save_encoder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(12):
        path = tmp_path / "photos" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (20, 20), 20 * number).save(path)
    return tmp_path / "photos"


def test_the_data_takes_over_how_the_run_saw(tmp_path: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = ImageFolder(str(photos), image_size=24, channels=1, window=(0, 200), augmentation={"flip": 0.0})
    run = tmp_path / "run"
    run.mkdir()
    save_encoder(ConvEncoder(channels=1, width=4, depth=2), run / "encoder.safetensors", first.artifacts())

    def chosen(*more: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as end:
            main([*["fit", "--model", "finetune", "--data", "image_folder", "--data.root"], str(photos),
                  "--model.checkpoint", str(run), *more, "--print_config"])  # fmt: skip
        assert not end.value.code
        arguments: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]
        return arguments

    second = ImageFolder(**chosen())
    assert (second.image_size, second.channels, second.reading, second.recipe) == (
        24, 1, first.reading, first.recipe,
    )  # fmt: skip
    assert chosen("--data.image_size", "32")["image_size"] == 32, "the command line is above it"


def test_only_what_differs_from_the_datas_recipe_is_taken_over() -> None:
    data = Digits(image_size=20, augmentation={"rotation": 3.0})
    text = data.artifacts()[IMAGE]
    assert arguments_in(text, data.policy) == {"image_size": 20, "channels": 1, "augmentation": {"rotation": 3.0}}
    taken = arguments_in(text, ImageFolder.policy)["augmentation"]
    assert taken["flip"] == 0.0 and taken["mean"] == [0.306] and "blur_p" not in taken
    with pytest.raises(ValueError, match=IMAGE):
        arguments_in("[1]", data.policy)
