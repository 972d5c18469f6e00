"""Spectrum: curves of scores without labels, of the same samples and views at every look, and no
trace of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_lightning.methods.simclr import SimCLR
from torch import Tensor

import ssl_lightning
from ssl_lightning.augment.random import fold, sample_keys
from ssl_lightning.data.peek import evaluating, sample
from ssl_lightning.evaluation.label_free import alpha_req, rankme
from ssl_lightning.evaluation.lidar import lidar
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.report import Report
from ssl_lightning.run.folder.metrics import rows_of
from ssl_lightning.testing import TinyEncoder, TinyImages

OFF: tuple[Any, ...] = (KNNProbe, OnlineLinearProbe, CollapseMonitor, Report)


def trained(root: Path, probe: Spectrum, dim: int = 12, samples: int = 64, **settings: Any) -> tuple[Any, Any]:
    """A trainer after 7 steps of a method, and its rows of metrics."""
    torch.manual_seed(0)
    trainer = ssl_lightning.Trainer(
        max_steps=7, max_epochs=-1, accelerator="cpu", default_root_dir=str(root), enable_checkpointing=False,
        enable_progress_bar=False, callbacks=[probe, *(cls(enabled=False) for cls in OFF)],
        **{"precision": "32-true", **settings},
    )  # fmt: skip
    trainer.fit(SimCLR(TinyEncoder(dim), norm="layer"), datamodule=TinyImages(samples=samples))
    return trainer, rows_of(trainer)


def spectrum(rows: Any) -> dict[int, dict[str, float]]:
    """What was logged of it, by step."""
    seen = {row["step"]: {name: value for name, value in row.items() if name.startswith("spectrum/")} for row in rows}
    return {step: values for step, values in seen.items() if values}


def by_hand(method: Any, data: TinyImages, samples: int, few: int, views: int) -> dict[str, float]:
    """The scores of the clean images and of strong views that differ in their number alone."""
    source: Any = data.training_split
    clean, strong = data.transform("none"), data.transform("strong")
    index, chosen = sample(len(source), samples), sample(len(source), few)
    keys = sample_keys(data.seed, torch.zeros_like(chosen), chosen)

    def features(x: Tensor) -> Tensor:
        return method(ssl_lightning.View(x))

    with torch.no_grad(), evaluating(method):
        plain = features(clean(source.fetch(index), torch.zeros(len(index), dtype=torch.int64)))
        each = [features(strong(source.fetch(chosen), fold(keys, number))) for number in range(views)]
    return {
        "spectrum/rankme": rankme(plain), "spectrum/alpha": alpha_req(plain),
        "spectrum/lidar": lidar(torch.stack(each, dim=1)),
    }  # fmt: skip


def test_it_logs_the_scores_of_always_the_same_samples_and_leaves_no_trace(tmp_path: Path) -> None:
    trainer, rows = trained(tmp_path / "with", Spectrum(samples=40, lidar_samples=20, views=3, every_n_steps=3))
    logged = spectrum(rows)
    assert list(logged) == [3, 6, 7] and len({values["spectrum/lidar"] for values in logged.values()}) == 3
    expected = by_hand(trainer.lightning_module, trainer.datamodule, 40, 20, 3)
    assert logged[7] == pytest.approx(expected, rel=1e-5)
    without, others = trained(tmp_path / "without", Spectrum(enabled=False))
    assert not spectrum(others)
    for name, value in trainer.lightning_module.state_dict().items():
        assert torch.equal(value, without.lightning_module.state_dict()[name]), f"{name} is another with it"


def test_scores_are_of_float32_whatever_the_precision_of_the_run(tmp_path: Path) -> None:
    probe = Spectrum(samples=40, lidar_samples=20, views=3, every_n_steps=7)
    trainer, rows = trained(tmp_path, probe, precision="bf16-mixed")
    expected = by_hand(trainer.lightning_module, trainer.datamodule, 40, 20, 3)
    assert spectrum(rows)[7] == pytest.approx(expected, rel=1e-5)


def test_what_sizes_do_not_allow_is_not_logged_and_said_once(tmp_path: Path) -> None:
    """Eight dimensions are too few for alpha-ReQ; 10 samples have 20 differences of 3 views."""
    with pytest.warns(UserWarning, match="spectrum/") as said:
        _, rows = trained(tmp_path / "narrow", Spectrum(every_n_steps=2), dim=8)
    assert {name for values in spectrum(rows).values() for name in values} == {"spectrum/rankme", "spectrum/lidar"}
    lines = [str(each.message) for each in said if "spectrum/" in str(each.message)]
    assert lines == [
        "spectrum/alpha is not logged: 64 samples of 8 dimensions have fewer than 10 eigenvalues."
        " --spectrum.enabled false switches all off."
    ]
    with pytest.warns(UserWarning, match="lidar is not logged: 34 dimensions are more than the 32 differences"):
        _, rows = trained(tmp_path / "few", Spectrum(lidar_samples=3, views=3, every_n_steps=7), dim=34, samples=16)
    assert set(spectrum(rows)[7]) == {"spectrum/rankme", "spectrum/alpha"}


def test_wide_features_take_as_many_samples_as_have_a_variance_in_each_direction() -> None:
    assert Spectrum().most_views(64) == Spectrum().most_views(900) == 100
    assert Spectrum().most_views(2_048) == 228  # 228 x 9 = 2,052


def test_it_is_paid_for_by_the_budget(tmp_path: Path) -> None:
    """30 samples and 10 x 3 views forward are 10 samples of two views trained; of steps of 16 that
    is 5 % every 12.5 steps, and the last step always."""
    probe = Spectrum(samples=30, lidar_samples=10, views=3, budget=0.05)
    _, rows = trained(tmp_path, probe)
    assert probe.period == 13 and list(spectrum(rows)) == [7]
    probe = Spectrum(samples=30, lidar_samples=10, views=3, budget=0.04)
    _, rows = trained(tmp_path / "short", probe)
    assert probe.period == 16 and not spectrum(rows), "seven steps would pay too much for a look"


def test_pending_scores_stand_in_a_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator they come with the next step: what is saved in between holds them."""
    monkeypatch.setattr("ssl_lightning.evaluation.probes.spectrum.runs_ahead", lambda device: True)
    trainer, rows = trained(tmp_path, Spectrum(every_n_steps=3))
    assert list(spectrum(rows)) == [3, 6, 7]
    probe = next(each for each in trainer.callbacks if isinstance(each, Spectrum))
    monkeypatch.setattr("ssl_lightning.evaluation.probes.spectrum.at_end", lambda *args: False)
    assert probe.state_dict() == {}
    probe.on_train_batch_end(trainer, trainer.lightning_module, None, None, 0)
    state = probe.state_dict()
    other = Spectrum()
    other.load_state_dict(state)
    assert other.pending is not None and other.pending() == spectrum(rows)[7] == state["pending"]


@pytest.mark.parametrize("settings", [{"samples": 1}, {"views": 1}, {"lidar_samples": 0}, {"budget": 0}])
def test_wrong_settings_are_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match=rf"Spectrum\({next(iter(settings))}="):
        Spectrum(**settings)
