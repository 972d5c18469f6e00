"""HuggingFaceText: any text encoder of transformers, on packed rows as on rows of its own."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from ssl_lightning.methods.bert import BERT
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    AlbertConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    PreTrainedConfig,
    RobertaConfig,
    T5Config,
    ViTConfig,
)

from ssl_lightning import View
from ssl_lightning.cli.main import main
from ssl_lightning.encoders.bert_huggingface import export_bert
from ssl_lightning.encoders.hf_text import HuggingFaceText
from ssl_lightning.nn.packing import Ragged, pack, unpacked
from ssl_lightning.plugins.rebuild import rebuild
from ssl_lightning.plugins.record import config_of
from ssl_lightning.run.checkpoints.encoder_file import save_encoder
from ssl_lightning.run.pretrained import load_encoder

SIZES: dict[str, Any] = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
}
IDS: dict[str, Any] = {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}
FAMILIES: dict[str, Callable[[], PreTrainedConfig]] = {
    "bert": lambda: BertConfig(**SIZES),
    "roberta": lambda: RobertaConfig(**SIZES, pad_token_id=1),
    "distilbert": lambda: DistilBertConfig(
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=32
    ),
    "electra": lambda: ElectraConfig(**SIZES, embedding_size=8),
    "albert": lambda: AlbertConfig(**SIZES, embedding_size=8),
    "mpnet": lambda: MPNetConfig(**SIZES),
    "deberta": lambda: DebertaV2Config(
        **SIZES, relative_attention=True, pos_att_type=["c2p", "p2c"], position_buckets=4
    ),
    "modernbert": lambda: ModernBertConfig(**SIZES, **IDS, local_attention=4, global_attn_every_n_layers=2),
}
LENGTHS = [7, 3, 12, 4, 2]


def saved(config: PreTrainedConfig, folder: Path, auto: Any = AutoModelForMaskedLM) -> Any:
    """A model of this config, in a folder as it would be published, with weights that are nowhere
    zero or one by construction."""
    torch.manual_seed(0)
    model = auto.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    model.save_pretrained(folder)
    return model


def packed() -> View:
    x = torch.randint(5, 40, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    view = pack(Ragged(x, torch.tensor(LENGTHS)), 15)
    assert len(view.x) < len(LENGTHS) and (view.segment == 0).any()
    return view


@pytest.mark.by_default(3)
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_rows_are_read_as_rows_of_their_own(tmp_path: Path, family: str) -> None:
    """The contextual tokens of published weights are those that the model itself gives for padded
    ids; every weight of the encoder learns by BERT's loss, and belongs to one layer; a checkpoint
    rebuilds it without the folder."""
    model, view, folder = saved(FAMILIES[family](), tmp_path / "published"), packed(), tmp_path / "published"
    encoder = HuggingFaceText(str(folder), pooling="first")
    assert encoder.training and all(module.training for module in encoder.modules())
    encoder.eval()
    there = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    theirs = model.base_model(unpacked(view), attention_mask=there.long()).last_hidden_state
    ours, real = encoder.mix(encoder.tokenize(view)), view.segment > 0
    torch.testing.assert_close(ours[real], theirs[view.segment[real] - 1, view.position[real]], atol=1e-5, rtol=0)
    assert ours[~real].eq(0).all() and ours.shape == (*view.x.shape, encoder.dim)
    torch.testing.assert_close(encoder(view), theirs[:, 0], atol=1e-5, rtol=0)
    alone = View(unpacked(view)[2:3])  # as long as its row: no segment needed
    torch.testing.assert_close(encoder.mix(encoder.tokenize(alone)), theirs[2:3], atol=1e-5, rtol=0)

    groups = encoder.layer_groups()
    assert [id(each) for group in groups for each in group] == [id(each) for each in encoder.parameters()]
    assert len(groups) >= (1 if family == "albert" else 3)  # whose layers are one

    method, key = BERT(encoder, mask_ratio=0.5), torch.arange(len(LENGTHS))
    method.step({"views": [view], "index": key, "key": key})["loss"].backward()
    assert [name for name, parameter in method.named_parameters() if parameter.grad is None] == []

    save_encoder(encoder, tmp_path / "encoder.safetensors")
    shutil.rmtree(folder)
    twin = load_encoder(tmp_path / "encoder.safetensors")
    assert twin.init_args["pretrained"] is False and torch.equal(twin(view), encoder(view))


class Reads(TorchDispatchMode):
    """Counts what an accelerator would wait for: values that are read, choices by truth values."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        aten = torch.ops.aten
        by_truth = func.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            each is not None and each.dtype == torch.bool for each in args[1]
        )
        self.count += by_truth or func.overloadpacket in (aten._local_scalar_dense, aten.nonzero, aten.masked_scatter)
        return func(*args, **(kwargs or {}))


def test_the_host_waits_for_one_number_in_packed_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the longest sample is; the model's own reads are not counted. Padding alone gives
    zeros."""
    saved(FAMILIES["bert"](), tmp_path / "published")
    encoder = HuggingFaceText(str(tmp_path / "published"))

    def read(x: Any, mask: Any, every: bool) -> list[Any]:
        return [x.new_ones(*x.shape[:2], encoder.dim) * mask[:, :, None]]

    monkeypatch.setattr(encoder, "_read", read)
    view = packed()
    tokens = encoder.tokenize(view)
    with Reads() as reads:
        h = encoder.mix(tokens)
    assert reads.count == 1 and torch.equal(h[:, :, 0] == 1, view.segment > 0)
    assert encoder.mix(tokens._replace(segment=torch.zeros_like(view.segment))).eq(0).all()


def test_the_run_s_config_holds_the_model_s(tmp_path: Path) -> None:
    """What the command line completes: a checkpoint of the run then needs no folder."""
    saved(BertConfig(**SIZES), tmp_path)
    args = HuggingFaceText.suited_args({"name": str(tmp_path)})
    assert args["config"] == HuggingFaceText(str(tmp_path)).init_args["config"]
    assert HuggingFaceText.suited_args(args) == args and HuggingFaceText.suited_args({}) == {}
    shutil.rmtree(tmp_path)
    random = rebuild(config_of(HuggingFaceText(**args, pretrained=False)))
    assert random.dim == 16 and random.model.config.max_position_embeddings == 32


def test_weights_are_read_in_float32_and_whole(tmp_path: Path) -> None:
    model = saved(BertConfig(**SIZES), tmp_path / "half")
    model.bfloat16().save_pretrained(tmp_path / "half")
    assert {parameter.dtype for parameter in HuggingFaceText(str(tmp_path / "half")).parameters()} == {torch.float32}
    state = {name: tensor for name, tensor in model.state_dict().items() if "query" not in name}
    model.save_pretrained(tmp_path / "part", state_dict=state)
    with pytest.raises(ValueError, match=r"lack 4 tensors, among them encoder\.layer\.0\.attention\.self\.query\.bias"):
        HuggingFaceText(str(tmp_path / "part"))


def test_mistakes_are_told(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    saved(T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2), tmp_path / "t5", AutoModel)
    saved(ViTConfig(**small, image_size=16, patch_size=8), tmp_path / "vit", AutoModel)
    saved(RobertaConfig(**SIZES, pad_token_id=1), tmp_path / "roberta", AutoModel)
    for name, options, said in (
        ("t5", {}, "a t5 also has a decoder"),
        ("vit", {}, "a vit does not read token ids"),
        ("./nothing", {}, "neither as a folder nor from the hub"),
        ("roberta", {"pooling": "last"}, "choose mean or first"),
    ):
        with pytest.raises(ValueError, match=said):
            HuggingFaceText(str(tmp_path / name) if not name.startswith(".") else name, **options)
    encoder = HuggingFaceText(str(tmp_path / "roberta"))
    assert encoder(View(torch.full((1, 30), 7))).isfinite().all()
    with pytest.raises(ValueError, match="takes 30 tokens, got rows of 31"):
        encoder(View(torch.full((1, 31), 7)))
    with pytest.raises(ValueError, match="token ids"):
        encoder(View(torch.rand(1, 3, 8, 8)))


def scores(method: BERT, view: View) -> torch.Tensor:
    h = method.encoder.mix(method.encoder.tokenize(view))
    return method.head(h) @ method.encoder.embedding.weight.T + method.bias


@pytest.mark.parametrize("family", FAMILIES)
def test_the_prediction_head_is_kept_both_ways(tmp_path: Path, family: str) -> None:
    """A BERT goes on from the scores of the published model, and is exported as one that has its
    own, whatever the family calls the parts of its head."""
    model = saved(FAMILIES[family](), tmp_path / "published")
    method, ids = BERT(HuggingFaceText(str(tmp_path / "published"))).eval(), torch.arange(5, 12)[None]
    close = {"atol": 2e-3, "rtol": 0.0} if family == "albert" else {"atol": 1e-5, "rtol": 1e-5}  # its GELU is by tanh
    torch.testing.assert_close(scores(method, View(ids)), model(ids).logits, **close)
    for parameter in method.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    export_bert(method, tmp_path / "exported", words(40))
    again, report = AutoModelForMaskedLM.from_pretrained(tmp_path / "exported", output_loading_info=True)
    assert not any(report.values()), report
    torch.testing.assert_close(again.eval()(ids).logits, scores(method, View(ids)), **close)
    assert AutoTokenizer.from_pretrained(tmp_path / "exported")("w7 w9")["input_ids"] == [2, 7, 9, 3]
    back = BERT(HuggingFaceText(str(tmp_path / "exported"))).eval()
    torch.testing.assert_close(scores(back, View(ids)), scores(method, View(ids)), atol=1e-5, rtol=1e-5)


def words(size: int) -> str:
    """A tokenizer that knows a word for each id, of a file of its own."""
    names = {"[PAD]": 1, "[UNK]": 0, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4} | {f"w{id}": id for id in range(5, size)}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(tokenizer.to_str())


def test_a_head_of_another_kind_begins_anew_and_says_so(tmp_path: Path) -> None:
    """Whose activation is not GELU; without any head, or from a checkpoint, there is nothing to
    say."""
    saved(BertConfig(**SIZES, hidden_act="relu"), tmp_path / "relu")
    with pytest.warns(UserWarning, match=r"The prediction head of '.*relu' is not like the method's"):
        BERT(HuggingFaceText(str(tmp_path / "relu")))
    saved(BertConfig(**SIZES), tmp_path / "encoder", AutoModel)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert HuggingFaceText(str(tmp_path / "encoder")).pretrained_head() is None
        saved(BertConfig(**SIZES), tmp_path / "whole")
        assert HuggingFaceText(str(tmp_path / "whole"), pretrained=False).pretrained_head() is None
    method = BERT(HuggingFaceText(str(tmp_path / "relu"), pretrained=False))
    with pytest.raises(ValueError, match=r"The head of transformers' BertForMaskedLM is not like the method's"):
        export_bert(method, tmp_path / "out", words(40))


def test_the_command_line_gives_the_data_the_model_s_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that pretraining goes on from a published model by its name alone."""
    saved(BertConfig(**SIZES), tmp_path / "published")
    (tmp_path / "texts.txt").write_text("w5 w6\n\nw7 w8")
    command = [
        "fit", "--model", "bert", "--model.encoder", "hf_text", "--model.encoder.name", str(tmp_path / "published"),
        "--data", "text_files", "--data.path", str(tmp_path / "texts.txt"), "--print_config",
    ]  # fmt: skip
    for given, tokenizer in ((False, None), (True, str(tmp_path / "published"))):
        if given:
            (tmp_path / "published" / "tokenizer.json").write_text(words(40))
        with pytest.raises(SystemExit):
            main(command)
        assert yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["tokenizer"] == tokenizer
