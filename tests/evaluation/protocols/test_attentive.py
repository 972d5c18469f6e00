"""The attentive probe: the network of its paper layer by layer, several at once as one by one, and
what it sees that a mean over tokens does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from ssl_lightning.evaluation.protocol import linear_accuracy
from ssl_lightning.evaluation.protocols.attentive import Attentive, Setting, logits_of
from ssl_lightning.evaluation.protocols.attentive_heads import AdamW, AttentiveHeads
from ssl_lightning.evaluation.protocols.base import Samples
from ssl_lightning.evaluation.protocols.token_store import TokenStore

SHORT: dict[str, Any] = {
    "epochs": 20, "lr": (1e-2,), "weight_decay": (0.01,), "heads": 4, "batch_size": 16, "least_steps": 1
}  # fmt: skip


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def stirred(heads: AttentiveHeads) -> AttentiveHeads:
    """The same classifiers with weights that are all unlike."""
    with torch.no_grad():
        for number, weight in enumerate(heads.weights.values()):
            weight.add_(0.3 * noise(*weight.shape, seed=number))
    return heads


class OneByOne(nn.Module):
    """The same classifier on torch's own attention, keys and values of each token; number p."""

    def __init__(self, w: dict[str, Tensor], heads: int, p: int) -> None:
        super().__init__()
        self.w = {name: weight[p] for name, weight in w.items()}
        dim = len(self.w["query"])
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        with torch.no_grad():
            names = ("to_query", "to_key", "to_value")
            self.attention.in_proj_weight.copy_(torch.cat([self.w[name].T for name in names]))
            biases = [self.w["query_bias"], noise(dim, seed=99), self.w["value_bias"]]  # of keys: any
            self.attention.in_proj_bias.copy_(torch.cat(biases))
            self.attention.out_proj.weight.copy_(self.w["out"].T)
            self.attention.out_proj.bias.copy_(self.w["out_bias"])

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        w, dim = self.w, x.shape[2]
        query = w["query"].expand(len(x), 1, dim)
        tokens = F.layer_norm(x, (dim,), w["norm"], w["norm_bias"])
        z = query + self.attention(query, tokens, tokens, key_padding_mask=~real)[0]
        inner = F.layer_norm(z, (dim,), w["norm2"], w["norm2_bias"])
        z = z + F.gelu(inner @ w["up"] + w["up_bias"]) @ w["down"] + w["down_bias"]
        logits: Tensor = z[:, 0] @ w["classes"] + w["classes_bias"]
        return logits


def test_the_heads_are_the_papers_layers_and_attention_sees_no_padding() -> None:
    heads = stirred(AttentiveHeads(12, 5, heads=4, count=3, seed=2))
    assert heads.heads == 4 and AttentiveHeads(12, 2, heads=16).heads == 12 and AttentiveHeads(10, 2).heads == 10
    x = noise(6, 9, 12)
    real = torch.arange(9) < torch.tensor([9, 4, 1, 7, 9, 2])[:, None]
    logits = heads.logits(x, real)
    assert logits.shape == (3, 6, 5)
    for p in range(3):
        assert_close(logits[p], OneByOne(heads.weights, 4, p)(x, real), atol=1e-5, rtol=1e-4)
    assert_close(heads.logits(torch.where(real[..., None], x, 1e3), real), logits)
    for row, count in enumerate(real.sum(1).tolist()):  # each alone, without padding
        alone = heads.logits(x[row : row + 1, :count], real[row : row + 1, :count])
        assert_close(alone[:, 0], logits[:, row], atol=1e-5, rtol=1e-4)


def test_its_optimizer_is_torchs_for_each_of_several_models() -> None:
    rates, decays = torch.tensor([1e-2, 1e-3]), torch.tensor([0.0, 0.5])
    target = noise(2, 3, 4, seed=1)
    weights = {"out": noise(2, 3, 4).requires_grad_(), "out_bias": noise(2, 4).requires_grad_()}
    single = [{name: nn.Parameter(each[p].detach().clone()) for name, each in weights.items()} for p in range(2)]

    def loss_of(w: Any, goal: Tensor) -> Tensor:
        return ((w["out"] - goal).square().sum() + (w["out_bias"] ** 4).sum()).sum()

    ours = AdamW(weights, rates, decays)
    torchs = [
        torch.optim.AdamW([{"params": [w["out"]], "weight_decay": float(decay)}, {"params": [w["out_bias"]],
                           "weight_decay": 0.0}], lr=float(lr))
        for w, lr, decay in zip(single, rates, decays, strict=True)
    ]  # fmt: skip
    for step in range(5):
        ours.step(loss_of(weights, target), 1.0)
        for p, optimizer in enumerate(torchs):
            optimizer.zero_grad()
            loss_of(single[p], target[p]).backward()
            optimizer.step()
            for name, weight in single[p].items():
                assert_close(weights[name][p], weight.data, msg=f"step {step}: {name} of model {p}")


def hidden_class(samples: int, seed: int) -> tuple[list[Tensor], Tensor]:
    """Six to twelve tokens of noise, one of which shows the class: a pattern among those that are
    of no class. Its mean over all samples and tokens is that of the noise."""
    patterns = torch.linalg.qr(noise(16, 16, seed=50))[0][:2] * 4  # of a class each
    labels = torch.arange(samples) % 2
    counts = 6 + torch.arange(samples) % 7
    tokens = []
    for number, (label, count) in enumerate(zip(labels.tolist(), counts.tolist(), strict=True)):
        x = noise(count, 16, seed=seed * 10_000 + number) * 2.5
        x[number % count] = patterns[label] + 0.1 * x[number % count]
        x[(number + 1) % count] -= patterns[label]  # the mean of the sample says nothing
        tokens.append(x)
    return tokens, labels


def samples(tokens: list[Tensor], labels: Tensor) -> Samples:
    return Samples(TokenStore.of_samples(tokens), labels)


def test_it_finds_the_class_in_one_token_where_a_mean_of_tokens_has_nothing_of_it() -> None:
    (train, y), (test, answers) = hidden_class(240, 1), hidden_class(200, 2)
    judgement = Attentive(**SHORT).judge(samples(train, y), samples(test, answers))
    attentive = judgement.scores["accuracy"].value
    means = [torch.stack([each.mean(0) for each in tokens]).numpy() for tokens in (train, test)]
    pooled = linear_accuracy(means[0], y.numpy(), means[1], answers.numpy())
    assert attentive > 0.95 and pooled < 0.65, (attentive, pooled)
    again = Attentive(**SHORT).judge(samples(train, y), samples(test, answers))
    assert again == judgement
    other = Attentive(**SHORT).judge(samples(train, y), samples(test, answers), seed=1)
    assert other.scores["accuracy"].value > 0.95


def test_several_settings_at_once_are_several_runs() -> None:
    tokens, y = hidden_class(60, 3)
    store, index = TokenStore.of_samples(tokens), torch.arange(60)
    grid = [Setting(1e-2, 0.01), Setting(1e-3, 0.5), Setting(3e-3, 0.0)]
    probe = Attentive(epochs=3, heads=4, batch_size=16, least_steps=1)
    together = logits_of(probe.fit(store, y, index, grid, 2, seed=4), store)
    for p, setting in enumerate(grid):
        alone = logits_of(probe.fit(store, y, index, [setting], 2, seed=4), store)[0]
        assert_close(together[p], alone, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_the_best_setting_is_that_of_held_out_samples_and_no_judged_one_has_a_part() -> None:
    """A rate of 0 learns nothing; the labels of the judged samples are wrong on purpose."""
    (train, y), (test, answers) = hidden_class(150, 1), hidden_class(40, 2)
    probe = Attentive(**{**SHORT, "lr": (0.0, 1e-2), "epochs": 12})
    setting, line = probe.choose(TokenStore.of_samples(train), y, [Setting(0.0, 0.1), Setting(1e-2, 0.1)], seed=0)
    assert setting == Setting(1e-2, 0.1) and "30 samples held out" in line
    right = probe.judge(samples(train, y), samples(test, answers))
    wrong = probe.judge(samples(train, y), samples(test, 1 - answers))
    assert right.remarks == wrong.remarks
    assert right.scores["accuracy"].value == pytest.approx(1 - wrong.scores["accuracy"].value)


def test_every_class_counts_alike() -> None:
    """Nine of ten samples are of one class, and nothing can be learned: both are guessed alike."""
    labels = (torch.arange(200) % 10 == 0).long()
    tokens = [noise(3, 8, seed=number) * 1e-3 + 1 for number in range(200)]
    probe = Attentive(**{**SHORT, "lr": (1e-4,), "epochs": 1})
    heads = probe.fit(
        TokenStore.of_samples([torch.ones(3, 8)] * 200), labels, torch.arange(200), [Setting(0.1, 0)], 2, 0
    )
    p = logits_of(heads, TokenStore.of_samples(tokens))[0].softmax(1)[:, 1]
    assert float(p.mean()) == pytest.approx(0.5, abs=0.15)


def test_a_small_set_is_passed_over_more_often() -> None:
    """20 passes of 1,000 samples in batches of 64 are 320 steps, of a million many more."""
    assert Attentive().passes(1_000) * 16 >= 1_000 > (Attentive().passes(1_000) - 1) * 16
    assert Attentive().passes(1_000_000) == 20 and Attentive(least_steps=1, epochs=3).passes(10) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lr": ()}, r"lr=\(\) is not a list"),
        ({"lr": (-1.0,)}, "from 0 on"),
        ({"weight_decay": (math.nan,)}, "weight_decay=.*from 0 on"),
        ({"epochs": 0}, "epochs=0 is too small"),
        ({"heads": 0}, "heads=0 is too small"),
    ],
)
def test_wrong_settings_are_one_line(settings: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as refusal:
        Attentive(**settings)
    assert "\n" not in str(refusal.value)


def test_a_store_gives_back_every_sample_whatever_the_parts() -> None:
    tokens = [noise(count, 4, seed=count) for count in (3, 1, 5, 2, 7)]
    store = TokenStore([torch.cat(tokens[:2]), torch.cat(tokens[2:])], [3, 1, 5, 2, 7])
    for each, expected in zip(store, tokens, strict=True):
        assert torch.equal(each, expected)
    some = store.at(torch.tensor([4, 0, 4]))
    assert [len(each) for each in some] == [7, 3, 7] and torch.equal(some[1], tokens[0])
    x, real = some.batch(torch.tensor([1, 2]))
    assert x.shape == (2, 7, 4) and real.sum(1).tolist() == [3, 7] and torch.equal(x[0, :3], tokens[0])
    assert torch.equal(some.flat(), torch.cat([tokens[4], tokens[0], tokens[4]]))
    with pytest.raises(ValueError, match="1 of 2 samples have no tokens"):
        TokenStore([tokens[0]], [3, 0])
