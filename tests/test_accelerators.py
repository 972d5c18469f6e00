"""A run on an accelerator: nothing of the host's meets a tensor of the device, and no process group
is given what NCCL would not take, in `fit` with all that watches and closes it, `validate`, `test`
and `predict`.

The accelerator is a pretended one (`pretended.py`). Run as a script this file is one of two
processes: `test_accelerators.py METHOD FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended import KIND, Pretended, pretended
from torch import Tensor, nn

from ssl_lightning import Trainer, View
from ssl_lightning.distributed import gather, rank, reduce_sum, row_counts
from ssl_lightning.evaluation import labels_only, report
from ssl_lightning.evaluation.probes.collapse import CollapseMonitor
from ssl_lightning.evaluation.probes.held_out import HeldOut
from ssl_lightning.evaluation.probes.knn import KNNProbe
from ssl_lightning.evaluation.probes.linear import OnlineLinearProbe
from ssl_lightning.evaluation.probes.spectrum import Spectrum
from ssl_lightning.evaluation.report import Report
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.run.folder.metrics import Metrics
from ssl_lightning.run.numbers.health import Health
from ssl_lightning.testing import TinyTokenEncoder
from ssl_lightning.testing.methods import tiny_data, tiny_encoder

METHODS = sorted(Registry("ssl_lightning.methods"))
KINDS = ("simclr", "bert", "wav2vec2")
"""Of images, texts and sounds."""
STEPS = 4


class Restoring(TinyTokenEncoder):
    """Gives pictures of its tokens."""

    def restore(self, content: Tensor, view: View) -> Tensor:
        return nn.functional.fold(content.mT, view.x.shape[2:], 4, stride=4)


def everything(name: str, root: Path, processes: int) -> dict[str, Any]:
    """All that a user does with a method, each part once."""
    torch.manual_seed(0)
    cls: Any = Registry("ssl_lightning.methods")[name]
    encoder = tiny_encoder(cls)
    encoder = Restoring() if isinstance(encoder, TinyTokenEncoder) else encoder
    method, data = cls(encoder), tiny_data(cls, samples=32)

    def trainer() -> Trainer:
        return Trainer(
            **settings(), precision="32-true", max_steps=STEPS, log_every_n_steps=2, default_root_dir=str(root),
            enable_progress_bar=False, inference_mode=False,  # in which torch lets no tensor pretend to be a view
            callbacks=[
                KNNProbe(every_n_steps=2), OnlineLinearProbe(every_n_steps=2, eval_every_n_steps=2),
                HeldOut(every_n_steps=2), CollapseMonitor(every_n_steps=2), Health(every_n_steps=2),
                Spectrum(every_n_steps=2, samples=16, lidar_samples=4, views=3),
                Report(draws=1, labels_per_class=2, labels_only=True, layers=False),
            ],
        )  # fmt: skip

    with pretended(processes) as settings:
        run = trainer()
        run.fit(method, datamodule=data)
        assert run.run_folder is not None
        newest = next((run.run_folder / "checkpoints").glob("*.ckpt"))
        again = trainer()  # no step is left: the report is made when Lightning has taken the device away
        again.fit(method, datamodule=data, ckpt_path=newest)
        evaluated = trainer()
        evaluated.validate(method, datamodule=data, verbose=False)
        evaluated.test(method, datamodule=data, verbose=False)
        evaluated.predict(method, datamodule=data)
        x = torch.arange(3.0) + rank()  # of the host, whatever the group takes
        exchanged = gather(x), reduce_sum(x), row_counts(x[: 2 + rank()])
        assert all(type(each) is torch.Tensor for each in exchanged[:2])
    summary = json.loads((run.run_folder / "summary.json").read_text())
    return {
        "summary": summary,
        "exchanged": [exchanged[0].tolist(), exchanged[1].tolist(), exchanged[2]],
    }


def process(name: str, folder: Path) -> None:
    """One of two processes."""
    torch.set_num_threads(1)
    labels_only.FEWEST_STEPS, labels_only.PASSES = 2, 0
    report.draw_plots = lambda *args: {}
    result = everything(name, folder, 2)
    (folder / f"{rank()}.json").write_text(json.dumps(result))


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_two_processes_exchange_nothing_that_nccl_would_refuse(run: Any, tmp_path: Path, name: str) -> None:
    ended = run(tmp_path, script=[__file__, name, str(tmp_path)], processes=2)
    assert ended["code"] == 0, ended["log"][-3000:]
    first, second = (json.loads((tmp_path / f"{number}.json").read_text()) for number in range(2))
    assert first == second and "final/labels_only/linear" in first["summary"]
    assert first["exchanged"] == [[0, 1, 2, 1, 2, 3], [1, 3, 5], [2, 3]]


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_no_method_mixes_host_and_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels_only, "FEWEST_STEPS", 2)
    monkeypatch.setattr(labels_only, "PASSES", 0)
    monkeypatch.setattr(report, "draw_plots", lambda *args: {})
    result = everything(name, tmp_path, 1)
    assert result["summary"]["steps"] == (1 if Registry("ssl_lightning.methods")[name].solved else STEPS)


def test_numbers_of_python_and_tensors_of_any_device_are_logged_together() -> None:
    with pretended():
        metrics = Metrics()
        metrics.device = torch.device(KIND, 0)
        loss = [torch.tensor(float(number), device=KIND) for number in range(2)]
        metrics.pending = {
            "loss": loss, "temperature": [0.5, 1.5], "count": [torch.tensor(3), 4], "double": [loss[0].double(), 2.0]
        }  # fmt: skip
        reduced = metrics.reduced()
        assert {name: each.tolist() for name, each in reduced.items()} == {
            "loss": [0, 1], "temperature": [0.5, 1.5], "count": [3, 4], "double": [0, 2]
        }  # fmt: skip
        assert {each.dtype for each in reduced.values()} == {torch.float32}


def test_the_pretended_device_refuses_what_is_not_on_it() -> None:
    """The tool of the claims above."""
    with pretended():
        x = torch.arange(3.0, device=KIND)
        assert isinstance(x, Pretended) and (x + 1).tolist() == [1, 2, 3] and type(x.cpu()) is torch.Tensor
        for mixed in (lambda: x + torch.ones(3), lambda: torch.stack([x.sum(), torch.ones(())])):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed()


if __name__ == "__main__":
    process(sys.argv[1], Path(sys.argv[2]))
