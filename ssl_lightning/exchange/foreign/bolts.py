"""lightning-bolts 0.7.0: its self-supervised methods, all on ResNets."""

from __future__ import annotations

from .layout import Format, Found, Layout, Traits, state_at

NORMS = {
    "cifar10": ((0.4914, 0.4823, 0.4466), (0.2470, 0.2435, 0.2616)),
    "stl10": ((0.43, 0.42, 0.39), (0.27, 0.26, 0.27)),
}
"""Mean and standard deviation of `pl_bolts.transforms.dataset_normalizations`; others have those of
ImageNet."""
SIZES = {"cifar10": 32, "stl10": 96}
CPC = "CPC v2"


def _traits(network: Found) -> Traits:
    """`SimCLR` and `SwAV` record their stem. `SwAV` pads images by one pixel before its first
    convolution, whose padding is one less where that has 7x7 pixels, but not where it has 3x3
    (`swav_resnet.py`)."""
    settings = network.checkpoint.get("hyper_parameters")
    settings = settings if isinstance(settings, dict) else {}
    data, pool = settings.get("dataset"), settings.get("maxpool1")
    assumed: tuple[str, ...] = ()
    mean, std = NORMS.get(data, (None, None)) if isinstance(data, str) else (None, None)
    patch = int(settings.get("patch_size", 8)) if network.layout.method == CPC else 0
    if patch:
        overlap = int(settings.get("patch_overlap", patch // 2))
        mean_of = f"features are the mean over patches of {patch}x{patch} pixels, {overlap} of which overlap"
        return Traits(pool=True, patch=patch, step=patch - overlap, image_size=32, assumed=(mean_of,))
    if pool is None and network.layout.method in ("SimCLR", "SwAV"):
        assumed = ("the file does not say `maxpool1`: max-pooling follows a first convolution of 7x7 pixels alone",)
    return Traits(
        padding=2 if network.layout.method == "SwAV" else 1,
        pool=pool if isinstance(pool, bool) else None,
        image_size=SIZES.get(data) if isinstance(data, str) else None,
        mean=mean,
        std=std,
        assumed=assumed,
    )


FORMAT = Format(
    library="lightning-bolts",
    layouts=(
        Layout(
            "MoCo v2",
            {"query": r"encoder_q\.", "key": r"encoder_k\."},
            marks=(r"encoder_q\.", r"val_queue$"),
            heads=(r"(val_)?queue(_ptr)?$",),
            inside=(r"fc\.",),
        ),
        Layout(
            "BYOL or SimSiam",
            {"online": r"online_network\.encoder\.", "target": r"target_network\.encoder\."},
            marks=(r"online_network\.encoder\.", r"online_network\.projector\."),
            heads=(r"(online|target)_network\.projector\.", r"predictor\."),
            inside=(r"fc\.",),
        ),
        Layout(
            "SwAV",
            {"model": r"model\."},
            marks=(r"model\.prototypes", r"model\.conv1\."),
            inside=(r"projection_head\.", r"prototypes"),
        ),
        Layout(
            CPC,
            {"encoder": r"encoder\."},
            marks=(r"encoder\.", r"contrastive_task\."),
            heads=(r"contrastive_task\.", r"online_evaluator\."),
            inside=(r"fc\.",),
        ),
        Layout(
            "SimCLR",
            {"encoder": r"encoder\."},
            marks=(r"encoder\.", r"projection\.model\."),
            heads=(r"projection\.",),
            inside=(r"fc\.",),
        ),
    ),
    state=state_at("state_dict"),
    traits=_traits,
)
