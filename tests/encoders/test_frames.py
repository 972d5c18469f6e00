"""The encoder over frames: padding changes nothing, a causal one does not see ahead, tokens can be
hidden, and commands build it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from ssl_lightning.methods.mae import MAE
from torch import Tensor
from torch.testing import assert_close

from ssl_lightning import View
from ssl_lightning.augment.random import sample_keys
from ssl_lightning.cli.main import main
from ssl_lightning.encoders.frames import FrameTransformer
from ssl_lightning.types import Tokens


def encoder(**changes: Any) -> FrameTransformer:
    torch.manual_seed(0)
    made = FrameTransformer(**{"mels": 5, "dim": 16, "depth": 2, "heads": 2, **changes}).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return made.eval()


def log_mels(samples: int = 3, frames: int = 16) -> Tensor:
    return torch.randn(samples, 1, 5, frames, generator=torch.Generator().manual_seed(samples), dtype=torch.float64)


def padded(x: Tensor, lengths: list[int]) -> View:
    """Rows of other lengths, with something loud in their padding."""
    real = torch.arange(x.shape[3]) < torch.tensor(lengths)[:, None]
    return View(torch.where(real[:, None, None], x, 1e3), real * torch.arange(1, len(x) + 1)[:, None])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_token_is_some_frames_one_after_the_other(k: int) -> None:
    x = log_mels()
    network, n = encoder(frames_per_token=k), 16 // k
    content = network.content(View(x))
    assert content.shape == (3, n, network.content_dim) and network.grid(View(x)) == (n,)
    for token in range(n):
        assert torch.equal(content[:, token], torch.cat([x[:, 0, :, token * k + frame] for frame in range(k)], dim=1))
    again = network.restore(content, View(x))
    assert (
        torch.equal(again[..., : n * k], x[..., : n * k]) and not again[..., n * k :].any() and again.shape == x.shape
    )


@pytest.mark.parametrize(("k", "causal"), [(1, False), (2, False), (2, True)])
def test_padding_changes_no_feature_and_no_token(k: int, causal: bool) -> None:
    """Against each recording alone, without padding; a frame that does not fill a token is not
    heard."""
    network, lengths = encoder(frames_per_token=k, causal=causal), [16, 7, 2]
    view = padded(log_mels(), lengths)
    features, tokens = network(view), network.tokenize(view)
    mixed, layers = network.mix(tokens), network.layer_features(view)
    assert tokens.segment is not None and (tokens.segment > 0).sum(1).tolist() == [length // k for length in lengths]
    assert_close(layers[:, -1], features)
    assert layers.shape == (3, 3, 16)
    for row, length in enumerate(lengths):
        alone = View(view.x[row : row + 1, ..., :length])
        assert_close(network(alone)[0], features[row])
        assert_close(network.layer_features(alone)[0], layers[row])
        assert_close(network.mix(network.tokenize(alone))[0], mixed[row, : length // k])
    assert torch.isfinite(network(padded(log_mels(), [16, 1, 0]))).all()


def test_a_causal_one_does_not_see_ahead() -> None:
    x = log_mels()
    later = x.clone()
    later[..., 8:] += 1.0
    for causal in (True, False):
        network = encoder(causal=causal)
        assert network.causal == causal
        before, after = (network.mix(network.tokenize(View(each)))[:, :4] for each in (x, later))
        assert torch.equal(before, after) == causal


def test_a_token_takes_its_position_along() -> None:
    """So that a method may leave out tokens and shuffle the rest; MAE does."""
    network = encoder()
    tokens = network.tokenize(View(log_mels()))
    order = torch.tensor([5, 0, 7, 2, 1, 6, 4, 3])
    assert_close(network.mix(Tokens(tokens.x[:, order])), network.mix(tokens)[:, order])
    assert (network.mix(network.tokenize(View(log_mels().flip(3)))).flip(1) - network.mix(tokens)).abs().max() > 0.1
    index = torch.arange(3)
    method = MAE(network, decoder_dim=16).double()
    method.step({"views": [View(log_mels())], "index": index, "key": sample_keys(0, 0, index)})["loss"].backward()
    assert network.embed.weight.grad is not None and network.embed.weight.grad.any()


def test_every_parameter_is_in_one_layer_group() -> None:
    network = encoder()
    groups = [id(parameter) for group in network.layer_groups() for parameter in group]
    assert len(groups) == len(set(groups)) and set(groups) == {id(parameter) for parameter in network.parameters()}
    assert len(network.layer_groups()) == 1 + 2 + 1


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 1, 4, 16), r"takes log-mels \[S, 1, 5, F\] .* got \[2, 1, 4, 16\]: set --model.encoder.mels"),
        ((2, 3, 5, 16), "got"),
        ((2, 400), "--data.features log_mel"),
        ((2, 1, 5, 1), "at least 2 frames"),
    ],
)
def test_other_views_are_refused(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        encoder()(View(torch.zeros(shape, dtype=torch.float64)))


@pytest.mark.parametrize("change", [{"dim": 15}, {"frames_per_token": 0}, {"mels": 0}, {"heads": 3}])
def test_mistakes_are_named(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="=".join(map(str, next(iter(change.items()))))):
        encoder(**change)


# Commands.


@pytest.mark.slow
def test_what_follows_time_takes_it_with_the_bands_of_the_data(capsys: pytest.CaptureFixture[str]) -> None:
    def config(*argv: str) -> dict[str, Any]:
        with pytest.raises(SystemExit) as stop:
            pytest.fail(f"exit code {main(['fit', *argv, '--print_config'])}: {capsys.readouterr().err}")
        assert not stop.value.code
        chosen: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["encoder"]
        assert chosen["class_path"] == "ssl_lightning.encoders.frames.FrameTransformer"
        return chosen["init_args"]

    tones = ("--data", "tones")
    ahead, infill = config("--model", "next_step", *tones), config("--model", "infill", *tones, "--data.mels", "24")
    assert (ahead["causal"], ahead["mels"]) == (True, 32) and (infill["causal"], infill["mels"]) == (False, 24)
    named = config("--model", "next_step", *tones, "--model.encoder", "frames", "--model.encoder.dim", "64")
    assert named == {**ahead, "dim": 64}
    assert config("--model", "mae", *tones, "--model.encoder", "frames")["mels"] == 32
    assert config("--model", "next_step", *tones, "--model.encoder.causal", "false")["causal"] is False

    def mistake(*argv: str) -> str:
        assert main(["fit", *argv]) == 2
        return capsys.readouterr().err

    told = mistake("--model", "next_step", "--data", "digits")
    assert "next_step needs a SequenceEncoder, which reads what follows time" in told
    assert "needs a SequenceEncoder, but ViTEncoder is not one; choose frames" in mistake(
        "--model", "infill", *tones, "--model.encoder", "vit"
    )
