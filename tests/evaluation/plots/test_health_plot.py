"""The picture of a run's health: the curves that there are, and the bounds that were given for
them."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure

from ssl_lightning.evaluation.plots import curves
from ssl_lightning.evaluation.plots.curves import plot_health
from ssl_lightning.types import Alarm

ALARMS = (
    Alarm("codes", "few codes", "Do this", low=4.0),
    Alarm("masked", "odd masks", "Do that", low=0.1, high=0.9),
    Alarm("never", "never logged", "Do nothing", low=0.0),
)
ROWS = [{"step": step, "train/codes": 10.0 - step, "train/masked": 0.5} for step in range(8)]


def test_each_value_that_is_logged_has_a_curve_between_its_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Figure] = []
    save = curves.save_figure
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: (drawn.append(figure), save(figure, path)))
    assert (
        plot_health(ROWS, ALARMS, tmp_path / "plots" / "health.png")
        and (tmp_path / "plots" / "health.png").stat().st_size > 5_000
    )
    codes, masked = drawn[0].axes
    assert codes.lines[0].get_ydata().tolist() == [10.0 - step for step in range(8)] and codes.get_ylabel() == "codes"
    shaded = [
        [(patch.get_y(), patch.get_y() + patch.get_height()) for patch in axes.patches] for axes in (codes, masked)
    ]
    assert [len(spans) for spans in shaded] == [1, 2]
    assert shaded[0][0][1] == 4.0 and shaded[1][0][1] == 0.1 and shaded[1][1][0] == 0.9
    assert masked.get_ylim()[0] <= 0 and masked.get_ylim()[1] > 0.9


def test_a_method_without_alarms_has_no_picture(tmp_path: Path) -> None:
    assert not plot_health(ROWS, (), tmp_path / "a.png") and not plot_health([], ALARMS, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()
