"""BERT to and from transformers: the same numbers, the same loss and gradients, the same tokens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ssl_lightning.methods.bert import BERT
from ssl_lightning.methods.simclr import SimCLR
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    RobertaPreLayerNormConfig,
    RobertaPreLayerNormForMaskedLM,
)

from ssl_lightning import TextTransformer, View
from ssl_lightning.cli.main import main
from ssl_lightning.data.text.documents import Texts
from ssl_lightning.data.text.tokenizer import train_tokenizer
from ssl_lightning.encoders.bert_huggingface import export_bert, from_huggingface, to_transformers
from ssl_lightning.encoders.bert_layouts import LAYOUTS
from ssl_lightning.nn.packing import Ragged, pack, unpacked
from ssl_lightning.nn.vocabulary import SPECIAL, Vocabulary
from ssl_lightning.plugins.record import config_of
from ssl_lightning.run.checkpoints.checkpoint import AtomicIO
from ssl_lightning.testing import TinyEncoder

WORDS = [*SPECIAL, "the", "cat", "##s", "sat", "on", "a", "mat", "dog", ".", "[", "]", "mask"]
LENGTHS = [7, 3, 9, 4, 2]
TEXTS = ["The cats sat on a mat.", "dog", "", "no such words: cats!"]


def tokenizer(words: list[str] = WORDS) -> str:
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(list(SPECIAL))
    made.enable_truncation(4)  # as a file from elsewhere may say
    return made.to_str()


def bert(seed: int = 0, **encoder: Any) -> BERT:
    """Without dropout, with weights that are nowhere zero or one by construction, so that none can
    be left out unseen."""
    method = BERT(
        TextTransformer(
            **{"vocab_size": len(WORDS) + 3, "dim": 12, "depth": 2, "heads": 3, "max_length": 16, "dropout": 0.0}
            | encoder
        )
    )
    return shaken(method, seed)


def shaken(model: Any, seed: int = 0) -> Any:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def packed() -> View:
    x = torch.randint(len(SPECIAL), len(WORDS), (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    view = pack(Ragged(x, torch.tensor(LENGTHS)), 12)
    assert len(view.x) < len(LENGTHS)
    return view


def numbers(method: BERT, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """Contextual tokens and scores of all real places, sample by sample."""
    h = method.encoder.mix(method.encoder.tokenize(view))
    scores = method.head(h) @ method.encoder.embedding.weight.T + method.bias
    order = (view.segment * 100 + view.position)[view.segment > 0].argsort()
    return h[view.segment > 0][order], scores[view.segment > 0][order]


def their_numbers(model: Any, view: View) -> tuple[torch.Tensor, torch.Tensor]:
    """The same of transformers, each sample in a padded row of its own."""
    there = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    base, scores = model.base_model, model(unpacked(view), attention_mask=there.long()).logits
    return base(unpacked(view), attention_mask=there.long()).last_hidden_state[there], scores[there]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_an_exported_bert_is_the_same_in_transformers_and_back(tmp_path: Path, norm: Any) -> None:
    """Contextual tokens and scores, of packed samples here and padded ones there; its tokenizer;
    and the method that comes back."""
    method, view, folder = bert(norm=norm), packed(), tmp_path / "new" / "model"
    export_bert(method, folder, tokenizer())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    model, found = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert type(model) is {"post": BertForMaskedLM, "pre": RobertaPreLayerNormForMaskedLM}[norm]
    assert not any(found.values()), found
    for ours, theirs in zip(numbers(method, view), their_numbers(model, view), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    read, plain = AutoTokenizer.from_pretrained(folder), Tokenizer.from_str(tokenizer())
    plain.no_truncation()
    assert read(TEXTS)["input_ids"] == [[2, *plain.encode(text, add_special_tokens=False).ids, 3] for text in TEXTS]
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).truncation is None
    assert (read.pad_token_id, read.unk_token_id, read.mask_token_id, read.model_max_length) == (0, 1, 4, 16)
    assert read("the [MASK]", text_pair="dog", return_tensors="pt")["input_ids"].tolist() == [[2, 5, 4, 3, 12, 3]]
    assert (
        model(**read(TEXTS, text_pair=TEXTS, padding=True, truncation=True, return_tensors="pt"))
        .logits.isfinite()
        .all()
    )
    back = from_huggingface(folder, mask_ratio=0.3)
    assert back.training and back.mask_ratio == 0.3 and back.encoder.init_args["norm"] == norm
    mine, state = method.state_dict(), back.state_dict()
    assert all(torch.equal(state[name], mine[name]) for name, _ in method.named_parameters())
    assert back.masks.special.nonzero().flatten().tolist() == [0, 1, 2, 3, 4, 17, 18, 19]
    assert back.masks.continues.nonzero().flatten().tolist() == [WORDS.index("##s")]


@pytest.mark.parametrize("kind", ["bert", "roberta-prelayernorm"])
def test_a_model_of_transformers_is_the_same_here(tmp_path: Path, kind: str) -> None:
    """With its own epsilon, token types and id of padding; in half precision; and without a
    head."""
    sizes = {
        "vocab_size": 20,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 48,
    }
    if kind == "bert":
        model = BertForMaskedLM(BertConfig(**sizes, layer_norm_eps=1e-3))
    else:
        model = RobertaPreLayerNormForMaskedLM(RobertaPreLayerNormConfig(**sizes, layer_norm_eps=1e-3, pad_token_id=1))
    shaken(model)
    view, method = packed(), from_huggingface(model).eval()
    assert method.encoder.max_length == (512 if kind == "bert" else 510)
    for ours, theirs in zip(numbers(method, view), their_numbers(model, view), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    model.half().save_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in from_huggingface(tmp_path / "half").parameters()} == {torch.float32}
    model.base_model.float().save_pretrained(tmp_path / "encoder")
    for source in (tmp_path / "encoder", model.base_model):
        alone = from_huggingface(source).eval()
        torch.testing.assert_close(numbers(alone, view)[0], their_numbers(model.float(), view)[0], atol=1e-5, rtol=0)
        assert alone.bias.eq(0).all()


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_loss_and_gradients_are_those_of_transformers(norm: Any) -> None:
    """For the same masks, in float64: ours packed, theirs padded."""
    method, view = bert(norm=norm).double(), packed()
    model = to_transformers(method, Vocabulary.plain(len(WORDS))).double()
    key = torch.arange(len(LENGTHS)) * 7919
    method.mask_ratio = 0.5
    loss = method.step({"views": [view], "index": key, "key": key})["loss"]
    loss.backward()
    hidden = method.masks.choose(view, key, 0.5)
    labels = hidden.put(view._replace(x=torch.full_like(view.x, -100)), hidden.take(view.x)).x
    assert (labels >= 0).sum() > 5
    rows, there = (
        [unpacked(each) for each in (method.masks.corrupt(view, key, hidden), view._replace(x=labels))],
        torch.zeros(5, 9),
    )
    for sample, length in enumerate(LENGTHS):
        there[sample, :length] = 1
    theirs = model(rows[0], attention_mask=there, labels=torch.where(there > 0, rows[1], -100)).loss
    theirs.backward()
    torch.testing.assert_close(loss, theirs, atol=0, rtol=1e-6)
    gradient = {name: parameter.grad for name, parameter in model.named_parameters()}
    compared = set()
    for name, names in LAYOUTS[norm].pairs(2):
        ours, other = method.get_parameter(name).grad, torch.cat([gradient[each] for each in names])
        if name == "encoder.places.weight":
            other = other[len(other) - len(ours) :]
        assert ours is not None and (ours - other).norm() <= 1e-5 * other.norm(), name
        compared.add(name)
    assert compared == {name for name, _ in method.named_parameters()}


def run_of(method: Any, folder: Path, artifacts: dict[str, str]) -> Path:
    """A run folder with a checkpoint."""
    state = {
        "state_dict": method.state_dict(),
        "config": yaml.safe_dump({"model": config_of(method)}),
        "artifacts": artifacts,
    }
    AtomicIO().save_checkpoint(state, folder / "checkpoints" / "step-00000001.ckpt")
    return folder


@pytest.mark.slow
def test_the_command_exports_runs_of_bert_alone(tmp_path: Path, capsys: Any) -> None:
    """A folder or a checkpoint, with the tokenizer in either; and mistakes are told in one line,
    and write nothing."""
    run = run_of(bert(), tmp_path / "run", {"tokenizer.json": tokenizer()})
    to = ["--format", "huggingface", "--to"]
    assert main(["export", str(run), *to, str(tmp_path / "a")]) == 0
    assert main(["export", *to, str(tmp_path / "b"), str(run / "checkpoints" / "step-00000001.ckpt")]) == 0
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1] and "from_pretrained" in capsys.readouterr().out
    other = run_of(SimCLR(TinyEncoder()), tmp_path / "simclr", {})
    without = run_of(bert(), tmp_path / "without", {})
    assert all((path / name).exists() for path, name in ((tmp_path, "a"), (run, "checkpoints")))
    before = sorted(tmp_path.rglob("*"))
    for arguments, said in (
        ([str(run), *to, str(tmp_path / "a")], "exists already"),
        ([str(run), *to, str(tmp_path / "a" / "config.json")], "exists already"),
        ([str(run), "--to", str(tmp_path / "c")], "Choose a format: --format huggingface, onnx, torch;"),
        ([str(run)], "export --help"),
        ([str(run), "--too", "x"], "export --help"),
        ([str(tmp_path / "nothing"), *to, str(tmp_path / "c")], "There is no run"),
        ([str(other), *to, str(tmp_path / "c")], "Nothing says what TinyEncoder reads"),
        ([str(without), *to, str(tmp_path / "c")], "without the tokenizer.json of its run"),
    ):
        assert main(["export", *arguments]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    (tmp_path / "link").symlink_to("nowhere")
    assert main(["export", str(run), *to, str(tmp_path / "link")]) == 2
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "link"])
    (without / "tokenizer.json").write_text(tokenizer())
    (tmp_path / "empty").mkdir()
    assert main(["export", str(without), *to, str(tmp_path / "empty")]) == 0


def test_the_command_s_help_imports_no_torch() -> None:
    code = (
        "import sys; from ssl_lightning.cli.main import main; main(['export', '--help']); sys.exit('torch' in"
        " sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "export [-h] [--format FORMAT] --to FOLDER" in done.stdout


def test_what_cannot_be_exported_is_told_with_the_remedy(tmp_path: Path) -> None:
    vast = [*WORDS, "x", "y", "z", "u"]
    for method, text, said in (
        (bert(position="rotary", heads=2), tokenizer(), r"position='rotary'.*--model.encoder.position learned"),
        (bert(activation="geglu"), tokenizer(), r"--model.encoder.activation gelu"),
        (bert(causal=True), tokenizer(), r"--model.encoder.causal false"),
        (bert(), None, "without the tokenizer.json of its run"),
        (bert(), tokenizer(vast), "21 tokens, the model 20"),
        (bert(), tokenizer(WORDS).replace("[MASK]", "[HIDE]"), "no mask token"),
    ):
        with pytest.raises(ValueError, match=said):
            export_bert(method, tmp_path / "out", text)
    assert not list(tmp_path.iterdir())


def test_what_cannot_come_back_is_told(tmp_path: Path) -> None:
    sizes = {"vocab_size": 20, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3}
    for changes, said in (
        ({"intermediate_size": 40}, "an MLP of 40 for a width of 12"),
        ({"intermediate_size": 48, "hidden_act": "relu"}, "the activation 'relu'"),
        ({"intermediate_size": 48, "is_decoder": True}, "is a decoder"),
        ({"intermediate_size": 48, "tie_word_embeddings": False}, "an untied projection"),
    ):
        with pytest.raises(ValueError, match=f"{said}.*HuggingFaceText"):
            from_huggingface(BertForMaskedLM(BertConfig(**sizes, **changes)))
    with pytest.raises(ValueError, match=r"cannot load './nothing'"):
        from_huggingface("./nothing")
    model = BertModel(BertConfig(**sizes, intermediate_size=48))
    state = {name: tensor for name, tensor in model.state_dict().items() if "query" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ValueError, match=r"no tensor 'bert\.encoder\.layer\.0\.attention\.self\.query\.weight'"):
        from_huggingface(tmp_path)
    with pytest.raises(ValueError, match="24 tokens, the model 20"):
        from_huggingface(model, tokenizer([*WORDS, *"xyzuvwr"]))


def test_an_exported_tokenizer_of_bytes_reads_and_writes_every_text(tmp_path: Path) -> None:
    """Without transformers' clean-up, which takes spaces before punctuation away."""
    texts = ["x != y , and 'a b' . Größe ещё  two ?", " lead ", "don 't"]
    trained = train_tokenizer(Texts("texts", texts * 10), vocab_size=320)
    export_bert(bert(vocab_size=320, max_length=64), tmp_path / "model", trained.to_str())
    read = AutoTokenizer.from_pretrained(tmp_path / "model")
    for text in texts:
        ids = read(text)["input_ids"]
        assert ids == [2, *trained.encode(text, add_special_tokens=False).ids, 3]
        assert read.decode(ids, skip_special_tokens=True) == text
