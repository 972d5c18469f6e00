"""timm: `config.json` and weights, as its hub's, that `timm.create_model` loads from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused
from .images import Parts, parts_of

LINES = """import timm

model = timm.create_model("local-dir:{folder}", pretrained=True{classes}).eval()
with torch.no_grad():
    {result} = model(x)  # {shape}
"""
SETTINGS = {"interpolation": "bilinear", "crop_pct": 1.0, "crop_mode": "center"}
"""Of timm's own transform: the largest central square, as the run's."""


class Timm(Format):
    """Models of timm: any architecture of its list, also with sizes of its own."""

    name, library = "timm", "timm (timm.create_model)"

    def check(self, subject: Subject) -> None:
        parts = parts_of(subject.encoder)
        if parts.small:
            raise Refused(
                "has the stem for small images (small_images), which no config of timm describes; its formats are"
                " torchvision, onnx and torch"
            )

    def write(self, subject: Subject, folder: Path) -> None:
        from timm.models import save_for_hf

        parts = parts_of(subject.encoder)
        model = like(parts)
        side, told = subject.inputs.x.shape[-2:], subject.told
        size = [parts.channels, *side]
        data: dict[str, Any] = {**SETTINGS, "input_size": size, "num_classes": model.num_classes}
        for name in ("mean", "std"):
            if name in told:  # one value a channel, which timm asks for
                data[name] = told[name] * (parts.channels if len(told[name]) == 1 else 1)
        config: dict[str, Any] = {"pretrained_cfg": {**data, "tag": "", "test_input_size": None, "pool_size": None}}
        if parts.classes:
            config["label_names"] = list(parts.classes)
        save_for_hf(model, str(folder), model_config=config, safe_serialization=True)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        import timm

        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.no_grad():
            return model(inputs.x)

    def lines(self, subject: Subject, folder: str) -> str:
        parts = parts_of(subject.encoder)
        shape = f"[1, {subject.encoder.dim}]"
        result = "features" if parts.head is None else "logits"
        return LINES.format(folder=folder, classes="" if parts.head else ", num_classes=0", result=result, shape=shape)


def like(parts: Parts) -> Any:
    """A model of timm that gives an encoder's features, or a classifier's logits, by itself."""
    import timm

    given = dict(getattr(parts.model, "_model_args", {}))
    given = {name: value for name, value in given.items() if name not in ("weight_init", "num_classes")}
    state = {name: tensor.detach().clone() for name, tensor in parts.model.state_dict().items()}
    if parts.pooling is not None:  # normed tokens are pooled; timm's mean would be normed
        given |= {"global_pool": {"mean": "avg", "token": "token"}[parts.pooling], "fc_norm": False}
        state = {
            name.replace("fc_norm.", "norm.") if name.startswith("fc_norm.") else name: tensor
            for name, tensor in state.items()
        }
    model: Any = timm.create_model(parts.name, num_classes=len(parts.classes), **given)
    if parts.head is None:
        model.load_state_dict(state)
        return model.eval()
    rest = model.load_state_dict(state, strict=False)
    head: Any = model.get_classifier()
    own = {f"{name}.{kind}" for name, module in model.named_modules() if module is head for kind in ("weight", "bias")}
    if not isinstance(head, nn.Linear) or set(rest.missing_keys) != own or rest.unexpected_keys:
        raise Refused(f"has a classifier that a {type(model).__name__} of timm does not take")
    head.load_state_dict(parts.head.state_dict())
    return model.eval()
