"""denoise gives back, of each sample under noise of its own, what was there; of images and of
sound."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from recordings import LENGTHS, batch_of
from ssl_lightning.methods.denoise import NOISE, STANDARD, Denoise
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import Batch, TextTransformer, View
from ssl_lightning.augment.random import fold, normal, sample_keys, uniform
from ssl_lightning.encoders.base import TokenEncoder
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.encoders.vit import ViTEncoder
from ssl_lightning.testing import TinyEncoder


def exact(encoder: TokenEncoder | None = None, **init_args: Any) -> Denoise:
    torch.manual_seed(0)
    method = Denoise(
        encoder or FrameTransformer(mels=4, frames_per_token=2, dim=8, depth=2, heads=2), **init_args
    ).double()
    with torch.no_grad():
        for parameter in method.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return method


def images() -> Batch:
    index = torch.arange(5)
    x = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return {"views": [View(x)], "index": index, "key": sample_keys(0, 0, index)}


def vit() -> ViTEncoder:
    return ViTEncoder(image_size=16, patch_size=4, dim=24, depth=2, heads=3)


def written_out(method: Denoise, x: Tensor, key: Tensor) -> Tensor:
    """Of a sample alone, for each token, the mean square of W h + b - content."""
    deviation = uniform(fold(key, NOISE), 1, *method.noise)
    drawn = normal(fold(key, NOISE, 1), x.numel()).view(x.shape[-1], *x.shape[:-1]).movedim(0, -1)
    view, noisy = View(x[None]), View((x + deviation[0] * drawn)[None])
    h = method.encoder.mix(method.encoder.tokenize(noisy))[0, method.encoder.prefix :]
    return torch.stack(
        [
            (method.decoder.weight @ token + method.decoder.bias - clean).square().mean()
            for token, clean in zip(h, method.encoder.content(view)[0], strict=True)
        ]
    )


@pytest.mark.parametrize("kind", ["images", "sound"])
def test_loss_and_gradient_are_those_of_each_sample_alone(kind: str) -> None:
    """Of images behind a class token, and of recordings without their padding."""
    method, batch = (exact(vit()), images()) if kind == "images" else (exact(), batch_of())
    lengths = [16] * 5 if kind == "images" else LENGTHS
    found = [
        written_out(method, x[..., :n], batch["key"][i : i + 1])
        for i, (x, n) in enumerate(zip(batch["views"][0].x, lengths, strict=True))
    ]
    loss, step = torch.cat(found).mean(), method.step(batch)
    assert step["weight"] == sum(map(len, found)) == (80 if kind == "images" else 8 + 4 + 6 + 3 + 1)
    assert_close(step["loss"], loss, rtol=1e-7, atol=0)
    parameters = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    ours, theirs = (torch.autograd.grad(each, list(parameters.values())) for each in (step["loss"], loss))
    for name, one, other in zip(parameters, ours, theirs, strict=True):
        assert_close(
            one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()), msg=lambda text, name=name: f"{name}: {text}"
        )


def test_each_sample_has_noise_of_its_own_deviation_and_padding_has_none() -> None:
    method, (x, key) = exact(noise=(0.2, 1.0)), (torch.zeros(400, 1, 4, 100), sample_keys(0, 0, torch.arange(400)))
    real = (torch.arange(100) < 90).expand(400, 100)
    noise = method.corrupt(View(x, real.long()), key, (0.2, 1.0)).x
    deviation = noise[..., :90].std((1, 2, 3))
    assert 0.17 < deviation.min() < 0.25 and 0.9 < deviation.max() < 1.1 and abs(float(deviation.mean()) - 0.6) < 0.05
    assert not noise[..., 90:].any() and abs(float(noise.mean())) < 0.01
    order = torch.randperm(400, generator=torch.Generator().manual_seed(0))
    assert torch.equal(method.corrupt(View(x), key[order], (0.2, 1.0)).x[..., :90], noise[order][..., :90]), (
        "its key alone decides"
    )
    assert torch.equal(method.corrupt(View(x[..., :50]), key, (0.2, 1.0)).x, noise[..., :50]), (
        "a longer row changes nothing"
    )


def test_skill_and_gain_are_against_the_noisy_view(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch = exact(), batch_of()
    (view,) = batch["views"]
    clean, noisy, _, real, h = method.denoise(view, method.corrupt(view, batch["key"], STANDARD))

    def scored(denoised: Tensor) -> dict[str, float]:
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(method, "denoise", lambda *_: (clean, noisy, denoised, real, h))
            return {name: float(value) for name, value in method.scores([batch]).items()}

    assert scored(noisy) == {"skill": 0.0, "gain": 0.0}
    assert scored(clean)["skill"] == 1 and scored(clean)["gain"] > 60
    half = scored((clean + noisy) / 2)
    assert abs(half["skill"] - 0.75) < 1e-6 and abs(half["gain"] - 10 * math.log10(4)) < 1e-5
    loud, quiet = (exact(noise=noise).scores([batch]) for noise in ((0.1, 0.2), (0.9, 2.0)))
    assert loud == quiet, "at a deviation of 0.5, whatever is trained with"


def test_pictures_are_the_view_under_noise_and_given_back() -> None:
    method, batch = exact(vit()), images()
    shown = method.pictures(batch)
    assert list(shown) == ["original", "noisy", "denoised"] and all(
        each.shape == (5, 3, 16, 16) for each in shown.values()
    )
    assert torch.equal(shown["original"], batch["views"][0].x)
    assert abs(float((shown["noisy"] - shown["original"]).std()) - 0.5) < 0.02


def test_what_is_shown_as_noisy_has_the_noise_of_the_training() -> None:
    method, batch = exact(vit(), noise=(0.1, 0.1)), images()
    shown, (view,) = method.corrupted(batch)["noisy"], batch["views"]
    assert torch.equal(shown, method.corrupt(view, batch["key"], (0.1, 0.1)).x)
    assert abs(float((shown - view.x).std()) - 0.1) < 0.01


def test_mistakes_are_named() -> None:
    for noise in ((0.5, 0.2), (-1.0, 1.0), (0.0, 0.0)):
        with pytest.raises(ValueError, match=r"Denoise\(noise=.*is not a range of standard deviations"):
            exact(noise=noise)
    with pytest.raises(TypeError, match=r"TokenEncoder, such as ViTEncoder, got a TinyEncoder"):
        Denoise(TinyEncoder())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="of images or sound, such as ViTEncoder, got a TextTransformer"):
        Denoise(TextTransformer(vocab_size=9, size="tiny"))
