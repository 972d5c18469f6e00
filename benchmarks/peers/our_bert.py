"""BERT by ssl_lightning's `fit`, or by a bare loop over the same packed batches; `bert.py` calls
it.

python our_bert.py FILE BATCH PRECISION SIZES fit|loop
"""

from __future__ import annotations

import json
import sys
from itertools import count
from typing import Any

import torch
from paced import Pace, Paced
from ssl_lightning.datamodules.text_files import TextFiles
from ssl_lightning.methods.bert import BERT

from ssl_lightning import Trainer
from ssl_lightning.encoders.text import TextTransformer
from ssl_lightning.evaluation.report import Report
from ssl_lightning.types import ViewSpec


class Asks:
    views = ViewSpec(full=1, strength="none")


def main(path: str, batch: str, precision: Any, sizes: str, how: str) -> None:
    torch.manual_seed(0)
    given = json.loads(sizes)
    data = TextFiles(
        path, batch_size=int(batch), row_length=given["max_length"], tokenizer_kind="wordpiece",
        vocab_size=given["vocab_size"],
    )  # fmt: skip
    method = BERT(TextTransformer(norm="post", **given))
    if how == "fit":
        trainer = Trainer(max_epochs=100, precision=precision, callbacks=[Report(False), Paced()])
        trainer.fit(method, datamodule=data)
        return
    data.prepare_data()
    data.serve(Asks())
    method.read_vocabulary(data.vocabulary)
    loader, pace = iter(data.train_dataloader()), Pace()
    optimizer, schedule = method.optimizer_spec.build(method.train(), int(batch), 10_000, 100)
    for step in count():
        torch.manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = method.step(next(loader))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
