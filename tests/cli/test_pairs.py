"""Every method of the registry on every built-in data set, by short names alone: a pair trains, or
one line says why not and what would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from ssl_lightning.cli.defaults import lowest_layer
from ssl_lightning.cli.main import main
from ssl_lightning.cli.names import Names, UsageError
from ssl_lightning.cli.request import read_request
from ssl_lightning.plugins.registry import Registry

METHODS = sorted(
    name for name, each in Registry("ssl_lightning.methods").plugins.items() if each.value.startswith("ssl_lightning.")
)
DATA = ["digits", "tones", "python_docs", "image_folder", "audio_folder", "text_files"]
"""Data sets that need no download; each modality has one in the package and one of files."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The options that a data set of files needs: two classes of twelve."""
    root, random = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for label in "ab":
        for kind in ("image", "audio", "text"):
            (root / kind / label).mkdir(parents=True)
        for number in range(12):
            picture = random.integers(0, 255, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(picture).save(root / "image" / label / f"{number}.png")
            soundfile.write(root / "audio" / label / f"{number}.wav", random.normal(0, 0.1, 16000), 16000)
            words = random.choice(["the", "cat", "sat", "on", "a", "mat", "with", "some", "other", "words"], (6, 60))
            text = "\n\n".join(" ".join(line) for line in words)
            (root / "text" / label / f"{number}.txt").write_text(text)
    return {
        "image_folder": ["--data.root", str(root / "image"), "--data.image_size", "32"],
        "audio_folder": ["--data.root", str(root / "audio")],
        "text_files": ["--data.path", str(root / "text")],
    }


def refusal(method: str, data: str, options: list[str]) -> str:
    """The line that refuses a pair before anything is built; empty where it suits."""
    names = Names(yaml.safe_load)
    request = read_request(["fit", "--model", method, "--data", data, *options], names)
    try:
        lowest_layer(request, names)
    except UsageError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA)
def test_each_method_has_an_encoder_for_the_data_or_says_what_would(data: str, options: dict[str, list[str]]) -> None:
    for method in METHODS:
        line = refusal(method, data, options.get(data, []))
        if line:
            assert f"{method} needs a" in line and data in line, line
            assert "hoose data that has: " in line and f"hoose a method for {data}: " in line, line
            suited = line.partition("data that has: ")[2].partition(";")[0].rstrip(".").split(", ")
            assert data not in suited
            assert not [name for name in set(suited) & set(DATA) if refusal(method, name, options.get(name, []))]


@pytest.mark.slow
@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", METHODS)
def test_a_pair_trains_or_is_refused_in_one_line(
    method: str, data: str, options: dict[str, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    off = [f"--{key}.enabled=false" for key in ("report", "online_probe", "knn_probe", "held_out")]
    run = ["--data.batch_size=8", "--trainer.max_steps=1", "--trainer.limit_val_batches=1", "--trainer.accelerator=cpu"]
    given = options.get(data, [])
    root = f"--trainer.default_root_dir={tmp_path}"
    code = main(["fit", "--model", method, "--data", data, *given, *run, *off, root])
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    refused = refusal(method, data, given)
    unlabelled = method in ("finetune", "linear_probe") and data == "text_files"
    assert code == (2 if refused or unlabelled else 0), lines
    assert not refused or lines == [f"ssl-lightning fit: error: {refused}"]
    assert not unlabelled or "Label some, or choose a method that learns without" in lines[0]
