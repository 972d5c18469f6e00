"""torchvision: the state dict of a ResNet, whose tensors have the same names in timm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..inputs import Inputs
from ..subject import Subject
from .base import Format, Refused, tensors_of
from .images import Parts, parts_of

LINES = """import torchvision
from safetensors.torch import load_file

model = torchvision.models.{name}({classes})
{changes}model.load_state_dict(load_file("{folder}/model.safetensors"))
with torch.no_grad():
    {result} = model.eval()(x)  # {shape}
"""


class Torchvision(Format):
    """ResNets of torchvision, with another stem where the encoder has one, and without its last
    layer."""

    name, library = "torchvision", "torchvision (torchvision.models)"

    def check(self, subject: Subject) -> None:
        parts = parts_of(subject.encoder)
        reason = f"holds a {parts.name}, which is not a ResNet of torchvision"
        if parts.name not in resnets():
            raise Refused(reason)
        state, model = parts.model.state_dict(), built(parts)
        shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
        if shapes != {name: tensor.shape for name, tensor in state.items()}:
            raise Refused(f"{reason}: their tensors differ")

    def write(self, subject: Subject, folder: Path) -> None:
        parts = parts_of(subject.encoder)
        state = tensors_of(parts.model)
        if parts.head is not None:
            state |= {f"fc.{name}": tensor for name, tensor in tensors_of(parts.head).items()}
        save_file(state, folder / self.weights)

    def features(self, subject: Subject, folder: Path, inputs: Inputs) -> Tensor:
        model = built(parts_of(subject.encoder))
        model.load_state_dict(load_file(folder / self.weights))
        with torch.no_grad():
            features: Tensor = model.eval()(inputs.x)
        return features

    def lines(self, subject: Subject, folder: str) -> str:
        parts = parts_of(subject.encoder)
        width = parts.model.conv1.out_channels
        changes = [] if parts.head is not None else ["model.fc = torch.nn.Identity()"]
        if parts.small:
            changes += [f"model.conv1 = torch.nn.Conv2d({parts.channels}, {width}, 3, padding=1, bias=False)"]
            changes += ["model.maxpool = torch.nn.Identity()"]
        elif parts.channels != 3:
            changes += [f"model.conv1 = torch.nn.Conv2d({parts.channels}, {width}, 7, 2, 3, bias=False)"]
        return LINES.format(
            name=parts.name,
            classes=f"num_classes={len(parts.classes)}" if parts.head is not None else "",
            changes="".join(f"{line}\n" for line in changes),
            folder=folder,
            result="features" if parts.head is None else "logits",
            shape=f"[1, {subject.encoder.dim}]",
        )

    def facts(self, subject: Subject) -> dict[str, Any]:
        parts = parts_of(subject.encoder)
        return {"stem": "3x3, no max-pooling (small images)"} if parts.small else {}


def resnets() -> list[str]:
    """The names of torchvision's ResNets, which are timm's too."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if name.startswith(("resne", "wide_resnet"))]


def built(parts: Parts) -> Any:
    """torchvision's model like an encoder's, with new weights."""
    from torchvision import models

    model: Any = models.get_model(parts.name, num_classes=max(1, len(parts.classes)))
    if parts.head is None:
        model.fc = nn.Identity()
    channels, width = parts.channels, model.conv1.out_channels
    if parts.small:
        model.conv1, model.maxpool = nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.Identity()
    elif channels != 3:
        model.conv1 = nn.Conv2d(channels, width, 7, 2, 3, bias=False)
    return model
