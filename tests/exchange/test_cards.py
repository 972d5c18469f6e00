"""The lines of each card are run as they stand, where there is no ssl_lightning, and give the
features that the run's own reader gives."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from ssl_lightning import Reader
from ssl_lightning.exchange.export import export

BLOCKED = "import sys\nsys.modules['ssl_lightning'] = None\n"
RUN = """import json, os, sys
import numpy as np
for folder, code in json.loads(sys.stdin.read()):
    os.chdir(folder)
    values = {}
    exec(code, values)
    np.save("values.npy", np.asarray(values.get("features", values.get("logits"))))
try:
    import ssl_lightning
except ImportError:
    print("alone")
"""
ITEMS: dict[str, Any] = {"images": "a.png", "sound": "a.wav", "text": "a text"}


def item_in(folder: Path, modality: str, channels: int = 3) -> Any:
    """Writes the item that the lines of a card read, and returns it for a reader here."""
    random = np.random.default_rng(0)
    if modality == "images":
        shape = (50, 43, 3) if channels == 3 else (50, 43)
        Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8)).save(folder / "a.png")
    if modality == "sound":
        soundfile.write(folder / "a.wav", random.normal(0, 0.1, (3000, 2)), 8000)
    return "a text" if modality == "text" else folder / ITEMS[modality]


def card_lines(folder: Path) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return block


def check(
    cases: list[tuple[str, str, str, int]], file: Callable[[str], Path], root: Path, python: str, before: str
) -> None:
    """Exports, runs the lines of all cards in one other process, and compares.

    Args:
        cases: encoder, format, modality, channels.
        file: gives an encoder's file.
        root: to write to.
        python: of the process.
        before: code that it begins with.
    """
    given, expected = [], []
    for number, (name, form, modality, channels) in enumerate(cases):
        place = root / f"{number}"
        place.mkdir()
        item = item_in(place, modality, channels)
        export(file(name), form, place / "model")
        given.append((str(place), card_lines(place / "model")))
        expected.append(Reader(file(name))([item]))
    assert not any("ssl_lightning" in code for _, code in given)
    done = subprocess.run(
        [python, "-c", before + RUN], input=json.dumps(given), text=True, capture_output=True, cwd=root, check=False
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "alone", done.stderr[-3000:]
    for case, (place, _), here in zip(cases, given, expected, strict=True):
        there = torch.from_numpy(np.load(Path(place) / "values.npy"))
        assert (there - here).abs().max() <= 1e-5 * here.abs().max(), case


@pytest.mark.slow
def test_lines_run_without_this_package(encoder_file: Callable[[str], Path], tmp_path: Path) -> None:
    check([("vit", "timm", "images", 3)], encoder_file, tmp_path, sys.executable, BLOCKED)


ALL = [
    ("grey vit of tokens", "timm", "images", 1),
    ("classifier", "timm", "images", 3),
    ("small resnet", "torchvision", "images", 3),
    ("resnet", "torchvision", "images", 1),
    ("vit", "huggingface", "images", 3),
    ("wave", "huggingface", "sound", 1),
    ("wave of groups", "huggingface", "sound", 1),
    ("text", "huggingface", "text", 1),
    ("text of first tokens", "huggingface", "text", 1),
    ("vit", "onnx", "images", 3),
    ("text", "onnx", "text", 1),
    ("wave", "torch", "sound", 1),
]


@pytest.mark.slow
def test_the_lines_of_all_formats_run_without_this_package(encoder_file: Callable[[str], Path], tmp_path: Path) -> None:
    check(ALL, encoder_file, tmp_path, sys.executable, BLOCKED)


@pytest.mark.slow
def test_lines_run_in_an_environment_of_their_own(encoder_file: Callable[[str], Path], tmp_path: Path) -> None:
    """A new virtual environment, in which the other libraries are those that are installed here,
    and this package is not."""
    venv.create(tmp_path / "venv", with_pip=False)
    site = Path(torch.__file__).parents[1]
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(f"{site}\n")
    if (site / "ssl_lightning").exists():
        pytest.skip("the other libraries lie in the folder that this package is in")
    (tmp_path / "work").mkdir()
    cases = [ALL[0], ALL[2], ALL[5], ALL[9]]
    check(cases, encoder_file, tmp_path / "work", str(tmp_path / "venv" / "bin" / "python"), "")
