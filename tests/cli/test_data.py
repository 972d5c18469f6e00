"""`ssl-lightning data` with a method draws what that method is shown, and what it hides of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from ssl_lightning.cli.main import main
from ssl_lightning.data import figure


def test_with_a_method_its_views_are_drawn_and_what_it_hides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[dict[str, Tensor]] = []
    monkeypatch.setattr(figure, "plot_pictures", lambda pictures, path: drawn.append(pictures))
    data: list[Any] = ["data", "digits", "--to", str(tmp_path)]
    assert main([*data, "--model", "mae", "--model.mask_ratio", "0.5"]) == 0
    (pictures,), lines = drawn, capsys.readouterr().out.splitlines()
    assert list(pictures) == ["original", "view 1", "visible"]
    assert [line.partition(":")[0] for line in lines if "mean" in line] == list(pictures)
    hidden, shown = pictures["visible"].isnan(), pictures["view 1"]
    assert hidden.float().mean() == 0.5 and (pictures["visible"] - shown)[~hidden].abs().max() < 1e-6
    assert main([*data, "--model", "maee"]) == 2 and "mae" in capsys.readouterr().err
