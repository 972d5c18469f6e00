"""`fit` against a loop by hand with the same modules, and against other libraries, on ready batches
of one device: `gpu.py fit simclr mae bert wav2vec2`, or another method of images.

Live probes, checkpoints and the closing report are off; the other standing callbacks run. What is
compared takes turns, a block of steps each.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from ssl_lightning import ConvEncoder, SSLMethod, TextTransformer, TimmEncoder, ViTEncoder, Vocabulary, WaveTransformer
from ssl_lightning.nn.vocabulary import introduce
from ssl_lightning.plugins.registry import Registry
from ssl_lightning.types import Batch

from . import made, peers
from .clock import DEVICE, FULL, bar, flops, memory, spread, use
from .sheet import Sheet
from .trained import Loop, against, difference

BAR, AHEAD = 0.97, 1.0
ROUNDS, STEPS = (5, 10) if FULL else (1, 2)


@dataclass
class Case:
    """A method with a ready batch, what its rate counts, and other libraries' steps on the same
    samples, each built when it is its turn: to be built may fail where the library is missing."""

    title: str
    method: SSLMethod
    batch: Batch
    amount: float
    unit: str
    others: dict[str, Callable[[str], Callable[[], Any]]] = field(default_factory=dict)


def images(name: str) -> Case:
    """A ResNet-18 for small images, by any method that takes images."""
    samples = 512 if FULL else 16
    encoder = TimmEncoder("resnet18", small_images=True) if FULL else ConvEncoder(width=8, depth=2)
    method = build(name, encoder)
    batch = made.images(method, samples, 32)
    others = {"lightly": lambda precision: peers.lightly_simclr(batch, precision, FULL)} if name == "simclr" else {}
    title = f"{name}, {'ResNet-18' if FULL else 'tiny'} at 32x32, batch {samples}"
    return Case(title, method, batch, samples, "images/s", others)


def mae() -> Case:
    """With the paper's decoder at full size."""
    samples, side = (256, 224) if FULL else (8, 32)
    decoder = {"decoder_dim": 512, "decoder_depth": 8, "decoder_heads": 16} if FULL else {}
    size: dict[str, Any] = {} if FULL else {"patch_size": 8, "dim": 32, "depth": 2, "heads": 2}
    method = build("mae", ViTEncoder("vit_small_patch16_224", image_size=side, **size), **decoder)
    batch = made.images(method, samples, side)
    others = {"transformers": lambda precision: peers.transformers_mae(method, batch, precision)}
    return Case(f"mae, {'ViT-S/16' if FULL else 'tiny'} at {side}x{side}, batch {samples}", method, batch, samples,
                "images/s", others)  # fmt: skip


def bert() -> Case:
    samples, row_length, vocabulary = (256, 512, 30_522) if FULL else (8, 64, 200)
    size: dict[str, Any] = {"size": "base"} if FULL else {"dim": 32, "depth": 2, "heads": 2}
    method = build("bert", TextTransformer(vocab_size=vocabulary, max_length=row_length, norm="post", **size))
    introduce(method, Vocabulary.plain(vocabulary))
    ids = made.texts(samples, row_length, vocabulary)
    batch = made.packed(ids, row_length)
    others = {
        "transformers, padded to the longest": lambda precision: peers.transformers_bert(method, ids, precision),
        "transformers, full rows that mix texts": lambda precision: peers.transformers_bert(
            method, peers.full_rows(ids, row_length), precision
        ),
    }
    rows = len(batch["views"][0].x)
    title = f"bert, {'12x768' if FULL else 'tiny'}, {samples} texts packed in {rows} rows of {row_length}"
    return Case(title, method, batch, sum(map(len, ids)), "tokens/s", others)


def wav2vec2() -> Case:
    samples, seconds = (16, 10.0) if FULL else (2, 0.5)
    size: dict[str, Any] = {"size": "base"} if FULL else {"maps": 16, "dim": 32, "depth": 2, "heads": 2}
    method = build("wav2vec2", WaveTransformer(stem="group", norm="post", **size))
    batch = made.waves(samples, int(16_000 * seconds))
    others = {"transformers": lambda precision: peers.transformers_wav2vec2(method, batch, precision)}
    title = f"wav2vec2, {'base' if FULL else 'tiny'}, {samples} waves of {seconds} s"
    return Case(title, method, batch, samples * seconds, "s of sound/s", others)


def build(name: str, encoder: Any, **settings: Any) -> Any:
    torch.manual_seed(0)
    return Registry("ssl_lightning.methods")[name](encoder, **settings)


CASES = {"mae": mae, "bert": bert, "wav2vec2": wav2vec2}


def run(sheet: Sheet, names: list[str]) -> None:
    for name in names:
        case = CASES[name]() if name in CASES else images(name)
        case.method.to(DEVICE)
        compare(sheet, case, "bf16-mixed")


def compare(sheet: Sheet, case: Case, precision: str) -> None:
    """The rows of a case: `fit` and the loop, then each other library."""
    memory()
    operations = flops(Loop(case.method, case.batch, precision, 1).without_update)
    taken = memory()
    others = {}
    for name, prepare in case.others.items():
        try:
            others[name] = prepare(precision)
        except ImportError as error:
            sheet.tell(f"{case.title}: {name}", "", f"not compared: {error}")
        except Exception as error:
            sheet.failed(f"{case.title}: {name}", error)
    seconds = against(case.method, case.batch, precision, others, ROUNDS, STEPS)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    share, work = use(operations, middle["fit"])
    ratios = [loop / fit for loop, fit in zip(seconds["loop"], seconds["fit"], strict=True)]
    sheet.tell(
        f"{case.title}, {precision}: `fit` / a loop by hand",
        f">= {BAR}",
        f"{spread(ratios)}; {case.amount / middle['fit']:,.0f} {case.unit}, {1000 * middle['fit']:.2f} and"
        f" {1000 * middle['loop']:.2f} ms a step; {work}; {taken:.1f} GiB without the optimizer",
        bar(statistics.median(ratios) >= BAR),
        ratios=ratios,
        seconds=seconds,
        flops=operations,
        mfu=share,
    )
    for name in others:
        ratios = [other / fit for other, fit in zip(seconds[name], seconds["fit"], strict=True)]
        sheet.tell(
            f"{case.title}, {precision}: `fit` / {name}",
            f"> {AHEAD}",
            f"{spread(ratios, '.2f')}; {case.amount / middle[name]:,.0f} {case.unit} there",
            bar(statistics.median(ratios) > AHEAD),
            ratios=ratios,
        )
    gap = difference(case.method, case.batch, "32-true")
    sheet.tell(
        f"{case.title}: weights after 3 steps of `fit` and of the loop, fp32",
        "",
        f"apart by {gap:.1e} of the largest of a tensor",
        difference=gap,
    )
