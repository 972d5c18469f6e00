"""The encoders that suit recordings."""

from __future__ import annotations

from typing import Any

from ...nn.patches import largest_patch
from .settings import samples_of

SMALL = 64 * 128
"""Up to this many bands times frames, the default encoder is a small stack of convolutions; above,
a ResNet-18."""


def suited_encoders(init_args: dict[str, Any], preferred: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns for each kind of encoder the config that suits recordings.

    For log-mels: a small stack of convolutions that keeps bands apart, or a ResNet-18 for large
    ones; a small ViT with patches of up to 16 bands and 16 frames; and a transformer over frames,
    which also serves where lengths vary. For waves: wav2vec's encoder with a token for each 20 ms.

    Args:
        init_args: arguments of a `SoundDataModule`, defaults included.
        preferred: the configs that the data set itself sets, which take precedence.
    """
    try:
        if init_args.get("features", "log_mel") == "wave":
            kernels, strides = stem_for(int(init_args["sample_rate"]))
            wav = {"class_path": "wav", "init_args": {"kernels": kernels, "strides": strides}}
            return dict.fromkeys(("Encoder", "TokenEncoder", "SequenceEncoder", "WaveEncoder"), wav) | preferred
        frames = {"class_path": "frames", "init_args": {"mels": int(init_args["mels"])}}
        if init_args["seconds"] is None or init_args.get("batch_seconds") is not None:
            return dict.fromkeys(("Encoder", "TokenEncoder", "SequenceEncoder"), frames) | preferred
        size = (int(init_args["mels"]), _frames(init_args))
        patch = [largest_patch(side) for side in size]
    except (KeyError, TypeError, ValueError):  # the parser or the constructor reports it
        return {}
    resnet = {"class_path": "timm", "init_args": {"name": "resnet18", "channels": 1}}
    conv = {"class_path": "audio_conv", "init_args": {"mels": size[0]}}
    vit = {"name": "vit_tiny_patch16_224", "channels": 1, "image_size": list(size), "patch_size": patch}
    small = size[0] * size[1] <= SMALL
    kinds = {
        "Encoder": conv if small else resnet,
        "TokenEncoder": {"class_path": "vit", "init_args": vit},
        "SequenceEncoder": frames,
    }
    return kinds | preferred


def stem_for(sample_rate: int) -> tuple[list[int], list[int]]:
    """Returns kernels and strides of wav2vec's convolutions for about 20 ms from one token to the
    next: the paper's at 16 kHz, with fewer or more of its last layers at other rates."""
    kernels, strides, hop = [10], [5], 5
    while hop * 3 < sample_rate * 0.04:  # another layer brings it nearer to 20 ms
        kernels.append(3 if len(kernels) < 5 else 2)
        strides.append(2)
        hop *= 2
    return kernels, strides


def _frames(init_args: dict[str, Any]) -> int:
    rate = init_args["sample_rate"]
    return samples_of(rate, init_args["seconds"]) // round(init_args["hop"] * rate)
