"""lightly: its examples and benchmarks, on ResNets of torchvision, timm or its own, and on vision
transformers of torchvision or timm."""

from __future__ import annotations

from .layout import Format, Found, Layout, Tensors, Traits, first_of, plain, state_at
from .naming import by_rules, first_stage, named_sequence, of_vit

BACKBONES = (
    "backbone",
    "teacher_backbone",
    "student_backbone",
    "backbone_momentum",
    "momentum_backbone",
    "query_backbone",
    "key_backbone",
    "anchor_backbone",
)
"""What its methods call their networks; its own evaluation takes the first."""
HEADS = r"((\w+_)?(heads?|criterion|prototypes|decoder|queues?|memory_bank|loss|center)|\w+_classifier)(_momentum)?\d*"


def _renamed(tensors: Tensors) -> Tensors:
    tensors = by_rules(tensors, ((r"^vit\.", ""), (r"\.shortcut\.", ".downsample.")))
    return of_vit(named_sequence(tensors))


def _traits(network: Found) -> Traits:
    """Its benchmarks for CIFAR put the children of its own ResNet into an `nn.Sequential`, where
    the ReLU behind the first norm, a function, is lost."""
    own = any(".shortcut." in name for name in network.tensors)
    assumed: tuple[str, ...] = ()
    if own:
        assumed = ("lightly's ResNet in an nn.Sequential, as in its benchmarks: no ReLU behind the first norm",)
    return Traits(activation=not (own and first_stage(network.tensors) == "2"), pool=None, assumed=assumed)


FORMAT = Format(
    library="lightly",
    layouts=(
        Layout(
            "one of lightly's methods",
            {name: rf"{name}\." for name in BACKBONES},
            marks=(rf"({'|'.join(BACKBONES)})\.", rf"({HEADS}(\.|$)|mask_token$)"),
            heads=(rf"{HEADS}(\.|$)", r"mask_token$", r"dummy_param$"),
            inside=(r"fc\.", r"(vit\.)?heads?\.", r"(vit\.)?mask_token$", r"linear\."),
        ),
    ),
    state=first_of(state_at("state_dict"), plain),
    renamed=_renamed,
    traits=_traits,
)
