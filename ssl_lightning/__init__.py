"""Self-supervised pretraining on PyTorch Lightning, with methods as plug-ins.

Public names are imported on first use, so that `import ssl_lightning` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.datamodule import SSLDataModule as SSLDataModule
    from .data.images.datamodule import ImageDataModule as ImageDataModule
    from .data.sound.reader import SoundReader as SoundReader
    from .data.text.reader import Reader as Reader
    from .encoders.base import Encoder as Encoder
    from .encoders.base import SequenceEncoder as SequenceEncoder
    from .encoders.base import TextEncoder as TextEncoder
    from .encoders.base import TokenEncoder as TokenEncoder
    from .encoders.base import WaveEncoder as WaveEncoder
    from .encoders.conv import ConvEncoder as ConvEncoder
    from .encoders.text import TextTransformer as TextTransformer
    from .encoders.timm import TimmEncoder as TimmEncoder
    from .encoders.vit import ViTEncoder as ViTEncoder
    from .encoders.wave import WaveTransformer as WaveTransformer
    from .method import SSLMethod as SSLMethod
    from .nn.ema import EMA as EMA
    from .optim.recipes import OptimizerSpec as OptimizerSpec
    from .run.encoder_file import load_encoder as load_encoder
    from .run.pretrained import load as load
    from .trainer import Trainer as Trainer
    from .types import Batch as Batch
    from .types import Step as Step
    from .types import View as View
    from .types import ViewSpec as ViewSpec

__version__ = "0.1.0"

_PUBLIC = {
    "Batch": "types",
    "ConvEncoder": "encoders.conv",
    "EMA": "nn.ema",
    "Encoder": "encoders.base",
    "ImageDataModule": "data.images.datamodule",
    "OptimizerSpec": "optim.recipes",
    "Reader": "data.text.reader",
    "SSLDataModule": "data.datamodule",
    "SSLMethod": "method",
    "SequenceEncoder": "encoders.base",
    "SoundReader": "data.sound.reader",
    "Step": "types",
    "TextEncoder": "encoders.base",
    "TextTransformer": "encoders.text",
    "TimmEncoder": "encoders.timm",
    "TokenEncoder": "encoders.base",
    "Trainer": "trainer",
    "ViTEncoder": "encoders.vit",
    "View": "types",
    "ViewSpec": "types",
    "WaveEncoder": "encoders.base",
    "WaveTransformer": "encoders.wave",
    "load": "run.pretrained",
    "load_encoder": "run.encoder_file",
}

__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'ssl_lightning' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
