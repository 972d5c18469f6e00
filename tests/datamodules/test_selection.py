"""Any selection of a data set can be fetched: none of its samples, one, or all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from sets import init_args_of
from ssl_lightning.datamodules.tones import generate

from ssl_lightning.augment.window import Waves
from ssl_lightning.nn.packing import Ragged
from ssl_lightning.plugins.registry import Registry

SELECTIONS = {"none": [], "one": [7], "all": list(range(24))}


@pytest.mark.parametrize(
    "name",
    [
        "digits",
        "image_folder",
        "hf_images",
        pytest.param("tones", marks=pytest.mark.slow),
        "audio_folder",
        "text_files",
    ],
)
def test_a_fetch_has_the_samples_selected(name: str, tmp_path: Path) -> None:
    data: Any = Registry("ssl_lightning.datamodules")[name](**init_args_of(name, tmp_path))
    data.prepare_data()
    for selection in SELECTIONS.values():
        raw = data.fetch_clean(data.split("train"), torch.tensor(selection, dtype=torch.int64))
        samples = raw.lengths if isinstance(raw, Ragged) else raw.x if isinstance(raw, Waves) else raw
        assert len(samples) == len(selection)


@pytest.mark.parametrize("kinds", [[], [0], [9], [8, 9], list(range(10))], ids=str)
def test_a_selection_of_generated_sounds_equals_that_of_all(kinds: list[int]) -> None:
    """It may have any kinds: an FFT of no samples fails on some builds of PyTorch."""
    numbers = torch.tensor([kind + 10 * turn for kind in kinds for turn in range(2)], dtype=torch.int64)
    torch.testing.assert_close(generate(numbers), generate(torch.arange(20))[numbers], atol=1e-5, rtol=1e-4)
