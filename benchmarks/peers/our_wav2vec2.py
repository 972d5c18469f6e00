"""wav2vec 2.0 by ssl_lightning's `fit`, or by a bare loop over the same batches; `wav2vec2.py`
calls it.

python our_wav2vec2.py BATCH PRECISION SIZES fit|loop
"""

from __future__ import annotations

import json
import sys
from itertools import count
from typing import Any

import torch
from paced import Pace, Paced
from ssl_lightning.datamodules.tones import Tones
from ssl_lightning.methods.wav2vec2 import Wav2Vec2

from ssl_lightning import Trainer, ViewSpec, WaveTransformer
from ssl_lightning.evaluation.report import Report


class Asks:
    views: ViewSpec = Wav2Vec2.views


def main(batch: str, precision: Any, sizes: str, how: str) -> None:
    torch.manual_seed(0)
    data = Tones(features="wave", sample_rate=16_000, batch_size=int(batch))
    method = Wav2Vec2(WaveTransformer(**json.loads(sizes)))
    if how == "fit":
        trainer = Trainer(max_epochs=100, precision=precision, callbacks=[Report(False), Paced()])
        trainer.fit(method, datamodule=data)
        return
    data.prepare_data()
    data.serve(Asks())
    loader, pace = iter(data.train_dataloader()), Pace()
    optimizer, schedule = method.optimizer_spec.build(method.train(), int(batch), 10_000, 100)
    for step in count():
        torch.manual_seed(step)
        views = data.make_batch(next(loader))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = method.step(views)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
