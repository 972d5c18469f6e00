"""AudioConvEncoder: what it keeps of a log-mel, and what it forgets."""

from __future__ import annotations

import pytest
import torch

from ssl_lightning.encoders.audio_conv import AudioConvEncoder
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.types import View


def sound(mels: int = 48, frames: int = 80, low: int = 8, start: int = 8) -> torch.Tensor:
    """A log-mel [1, 1, M, F] of silence with one short tone."""
    x = torch.zeros(1, 1, mels, frames)
    x[:, :, low : low + 8, start : start + 16] = 3.0
    return x


@pytest.mark.parametrize(
    ("mels", "width", "depth", "frame_dim", "dim"), [(48, 32, 3, 256, 1280), (50, 4, 3, 6, 124), (7, 5, 1, 3, 46)]
)
def test_features_have_the_length_that_dim_says(mels: int, width: int, depth: int, frame_dim: int, dim: int) -> None:
    encoder = AudioConvEncoder(mels=mels, width=width, depth=depth, frame_dim=frame_dim).eval()
    assert encoder.dim == dim
    for frames in (1, 20, 33):  # of any length
        assert encoder(View(torch.randn(2, 1, mels, frames))).shape == (2, dim)


def test_it_knows_how_high_a_sound_is_and_not_when() -> None:
    """Two tones that lie a stride of all stages apart differ in time by nothing, in frequency by
    much."""
    encoder = AudioConvEncoder(mels=48).eval()
    tone, later, higher = (encoder(View(x)) for x in (sound(), sound(start=40), sound(low=24)))
    torch.testing.assert_close(later, tone)
    assert float(((higher - tone).norm() / tone.norm()).detach()) > 0.1


def test_features_are_mean_and_maximum_over_time() -> None:
    """Twice as much silence moves the mean and leaves the maximum; the features of convolutions and
    layer stand side by side in both."""
    encoder = AudioConvEncoder(mels=48).eval()
    frames: list[torch.Tensor] = []
    encoder.frame.register_forward_hook(lambda _, given, made: frames.append(torch.cat([given[0], made], 1)))
    features = encoder(View(sound()))
    torch.testing.assert_close(features[0], torch.cat([frames[0].mean(0), frames[0].amax(0)]))
    longer = encoder(View(sound(frames=160)))
    half = encoder.dim // 2
    torch.testing.assert_close(longer[:, half:], features[:, half:])
    assert not torch.allclose(longer[:, :half], features[:, :half], rtol=0.05)


def test_what_does_not_fit_is_named() -> None:
    for name in ("mels", "width", "depth", "frame_dim"):
        with pytest.raises(ValueError, match=f"{name}=0"):
            AudioConvEncoder(**{name: 0})
    with pytest.raises(ValueError, match="takes 64 bands, got 48: set mels=48"):
        AudioConvEncoder()(View(sound()))
    with pytest.raises(ValueError, match="takes 1 channels, got images with 3"):
        AudioConvEncoder()(View(torch.zeros(2, 3, 64, 80)))


def test_a_rebuilt_encoder_has_the_same_weights_to_load() -> None:
    encoder = AudioConvEncoder(mels=20, width=4, depth=2, frame_dim=8).eval()
    again = rebuild(config_of(encoder)).eval()
    again.load_state_dict(encoder.state_dict())
    view = View(torch.randn(2, 1, 20, 30))
    assert torch.equal(again(view), encoder(view))
