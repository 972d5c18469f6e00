"""Self-supervised pretraining on PyTorch Lightning, with methods as plug-ins.

Public names are imported on first use, so that `import ssl_lightning` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from .checkpoint import load as load
    from .datamodule import SSLDataModule as SSLDataModule
    from .encoder import Encoder as Encoder
    from .encoder import SequenceEncoder as SequenceEncoder
    from .encoder import TextEncoder as TextEncoder
    from .encoder import TokenEncoder as TokenEncoder
    from .encoder import WaveEncoder as WaveEncoder
    from .encoders.conv import ConvEncoder as ConvEncoder
    from .encoders.text import TextTransformer as TextTransformer
    from .encoders.timm import TimmEncoder as TimmEncoder
    from .encoders.vit import ViTEncoder as ViTEncoder
    from .encoders.wave import WaveTransformer as WaveTransformer
    from .export import load_encoder as load_encoder
    from .images import ImageDataModule as ImageDataModule
    from .method import SSLMethod as SSLMethod
    from .nn.ema import EMA as EMA
    from .optim.recipes import OptimizerSpec as OptimizerSpec
    from .sound.reader import SoundReader as SoundReader
    from .text.reader import Reader as Reader
    from .trainer import Trainer as Trainer
    from .types import Batch as Batch
    from .types import Step as Step
    from .types import View as View
    from .types import ViewSpec as ViewSpec

_PUBLIC = {
    "Batch": "types",
    "ConvEncoder": "encoders.conv",
    "EMA": "nn.ema",
    "Encoder": "encoder",
    "ImageDataModule": "images",
    "OptimizerSpec": "optim.recipes",
    "Reader": "text.reader",
    "SSLDataModule": "datamodule",
    "SSLMethod": "method",
    "SequenceEncoder": "encoder",
    "SoundReader": "sound.reader",
    "Step": "types",
    "TextEncoder": "encoder",
    "TextTransformer": "encoders.text",
    "TimmEncoder": "encoders.timm",
    "TokenEncoder": "encoder",
    "Trainer": "trainer",
    "ViTEncoder": "encoders.vit",
    "View": "types",
    "ViewSpec": "types",
    "WaveEncoder": "encoder",
    "WaveTransformer": "encoders.wave",
    "load": "checkpoint",
    "load_encoder": "export",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ssl_lightning' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
