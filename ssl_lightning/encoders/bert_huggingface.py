"""BERT is converted to and from Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, processors
from torch import Tensor
from torch.nn import functional as F

from ..data.text.judged import read_tokenizer
from ..data.text.tokenizer import TOKENIZER, UNKNOWN, load_tokenizer, vocabulary_of
from ..nn.vocabulary import Vocabulary
from ..plugins.registry import Registry
from .base import PredictionHead
from .bert_layouts import LAYOUTS, TOKEN_TYPES, Layout
from .hf_head import to_masked_model
from .hf_text import HuggingFaceText
from .text import TextTransformer
from .transformers_model import fetched, library, quiet


def from_huggingface(source: Any, tokenizer: str | None = None, **options: Any) -> Any:
    """Builds a `BERT` with the weights of a `BertForMaskedLM` or a
    `RobertaPreLayerNormForMaskedLM`, so that pretraining continues from them.

    The vector of the first token type is added to every position's. A model without a prediction
    head gives the encoder alone.

    Args:
        source: a folder, a name on the hub, or a model in memory.
        tokenizer: content of its `tokenizer.json`. None: the one in the folder; without any, that
            of `Vocabulary.plain`.
        options: further arguments of `BERT`.

    Raises:
        ValueError: transformers is not installed, there is no such model, or `TextTransformer`
            cannot represent it.
    """
    transformers = library("from_huggingface")
    state, config = _weights(source, transformers)
    layout = next((each for each in LAYOUTS.values() if each.model_type == config.model_type), None)
    wrong = _unlike_ours(config) if layout else f"is of the kind {config.model_type!r}"
    if layout is None or wrong:
        raise ValueError(
            f"The model {wrong}, which TextTransformer cannot be; wrap it:"
            " ssl_lightning.encoders.hf_text.HuggingFaceText."
        )
    offset = config.pad_token_id + 1 if layout.after_padding else 0
    encoder = TextTransformer(
        vocab_size=config.vocab_size,
        dim=config.hidden_size,
        depth=config.num_hidden_layers,
        heads=config.num_attention_heads,
        max_length=config.max_position_embeddings - offset,
        norm=layout.norm,
        dropout=config.hidden_dropout_prob,
        norm_eps=config.layer_norm_eps,
    )
    method = Registry("ssl_lightning.methods")["bert"](encoder, **options)
    weights = method.state_dict()
    for name, parts in layout.pairs(config.num_hidden_layers):
        if all(part in state for part in parts):
            weights[name] = torch.cat([state[part] for part in parts])
        elif name.startswith("encoder."):
            raise ValueError(f"The model has no tensor {parts[0]!r}; its weights are not complete.")
    positions = weights["encoder.places.weight"][offset:]
    weights["encoder.places.weight"] = positions + state[f"{layout.base}.{TOKEN_TYPES}"][0]
    method.load_state_dict(weights)
    if tokenizer is None and isinstance(source, (str, Path)) and (Path(source) / TOKENIZER).is_file():
        tokenizer = load_tokenizer(str(source)).to_str()
    if tokenizer is not None:
        method.read_vocabulary(_vocabulary(read_tokenizer(tokenizer, f"The given {TOKENIZER}"), method))
    return method


def export_bert(method: Any, folder: str | Path, tokenizer: str | None) -> str:
    """Writes a folder that `transformers.AutoModelForMaskedLM` and `AutoTokenizer` load: a BERT
    whose encoder is `norm="post"` as `BertForMaskedLM`, one that is "pre" as
    `RobertaPreLayerNormForMaskedLM`, and one whose encoder is of transformers as the model that it
    came from.

    The prediction of the order of sentences, which transformers' models do not have, is left out.
    Texts are encoded as in the run, except for names of special tokens in them, such as [MASK]:
    they stand for those tokens here.

    Args:
        method: a `BERT`.
        folder: where to.
        tokenizer: what the `tokenizer.json` of its run holds.

    Returns:
        how to load it.

    Raises:
        ValueError: transformers is not installed, has no model like the encoder, or the tokenizer
            is missing or does not fit.
    """
    library("export")
    if tokenizer is None:
        raise ValueError(
            f"A BERT cannot be exported without the {TOKENIZER} of its run, which is not there; put it beside the"
            " encoder."
        )
    tokens = read_tokenizer(tokenizer, f"The run's {TOKENIZER}")
    vocabulary = _vocabulary(tokens, method)
    wrapped = isinstance(method.encoder, HuggingFaceText)
    model = (
        to_masked_model(method.encoder, PredictionHead(method.head, method.bias))
        if wrapped
        else to_transformers(method, vocabulary)
    )
    with quiet():
        model.save_pretrained(folder)
        tokenizer_like(tokens, vocabulary, method.encoder.max_length).save_pretrained(folder)
    name = str(folder)
    return (
        f"{name}: AutoModelForMaskedLM.from_pretrained({name!r}) and AutoTokenizer.from_pretrained({name!r}) load it."
    )


def to_transformers(method: Any, vocabulary: Vocabulary) -> Any:
    """The model of transformers that is a BERT of ours, in eval mode.

    Raises:
        ValueError: transformers is not installed, or has no model like its encoder.
    """
    layout = layout_of(method.encoder)
    encoder: TextTransformer = method.encoder
    config, offset, dim = config_like(encoder, vocabulary), positions_before(layout, vocabulary), encoder.dim
    blocks: Any = encoder.trunk.blocks
    weights = {name: tensor.detach().float().cpu() for name, tensor in method.state_dict().items()}
    weights["encoder.places.weight"] = F.pad(weights["encoder.places.weight"], (0, 0, offset, 0))
    state = {
        f"{layout.base}.{TOKEN_TYPES}": torch.zeros(config.type_vocab_size, dim),
        f"{layout.decoder}.weight": weights["encoder.words.weight"],
        f"{layout.decoder}.bias": weights["bias"],
    }
    for name, parts in layout.pairs(len(blocks)):
        state |= dict(zip(parts, weights[name].chunk(len(parts)), strict=True))
    model = library("export").AutoModelForMaskedLM.from_config(config)
    model.load_state_dict(state)
    return model.eval()


def to_text_model(encoder: TextTransformer, vocabulary: Vocabulary) -> Any:
    """The model of transformers that is an encoder without a head (`BertModel`,
    `RobertaPreLayerNormModel`), in eval mode. Its `last_hidden_state` are the contextual tokens.

    Raises:
        ValueError: transformers is not installed, or has no model like this encoder.
    """
    layout, config = layout_of(encoder), config_like(encoder, vocabulary)
    weights = {f"encoder.{name}": tensor.detach().float().cpu() for name, tensor in encoder.state_dict().items()}
    before = positions_before(layout, vocabulary)
    weights["encoder.places.weight"] = F.pad(weights["encoder.places.weight"], (0, 0, before, 0))
    state = {TOKEN_TYPES: torch.zeros(config.type_vocab_size, encoder.dim)}
    for name, parts in layout.pairs(len(encoder.trunk.blocks)):
        if name in weights:
            names = [part.removeprefix(f"{layout.base}.") for part in parts]
            state |= dict(zip(names, weights[name].chunk(len(names)), strict=True))
    model = library("export").AutoModel.from_config(config, add_pooling_layer=False)
    model.load_state_dict(state)
    return model.eval()


def positions_before(layout: Layout, vocabulary: Vocabulary) -> int:
    """Rows of the table of positions that transformers does not use."""
    return vocabulary.pad + 1 if layout.after_padding else 0


def config_like(encoder: TextTransformer, vocabulary: Vocabulary) -> Any:
    """The config of transformers' model like an encoder."""
    layout, blocks = layout_of(encoder), encoder.trunk.blocks
    first: Any = blocks[0]
    return library("export").AutoConfig.for_model(
        layout.model_type,
        vocab_size=encoder.words.num_embeddings,
        hidden_size=encoder.dim,
        num_hidden_layers=len(blocks),
        num_attention_heads=first.heads,
        intermediate_size=first.mlp[0].out_features,
        max_position_embeddings=encoder.max_length + positions_before(layout, vocabulary),
        hidden_act="gelu",
        layer_norm_eps=encoder.norm_eps,
        hidden_dropout_prob=encoder.dropout.p,
        attention_probs_dropout_prob=encoder.dropout.p,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.cls,
        eos_token_id=vocabulary.sep,
    )


def layout_of(encoder: Any) -> Layout:
    """The layout of an encoder in transformers.

    Raises:
        ValueError: transformers has no model like it.
    """
    if not isinstance(encoder, TextTransformer):
        raise ValueError(
            f"The encoder of the run is a {type(encoder).__name__}, and only a TextTransformer can be exported; a"
            " model of transformers saves itself: ssl_lightning.load_encoder(run).model.save_pretrained(folder)."
        )
    settings = encoder.init_args
    for name, needed in (("position", "learned"), ("activation", "gelu"), ("causal", False)):
        if settings[name] != needed:
            raise ValueError(
                f"transformers has no BERT like TextTransformer({name}={settings[name]!r}); train with"
                f" --model.encoder.{name} {str(needed).lower()} to export, or load the encoder with"
                " ssl_lightning.load_encoder."
            )
    return LAYOUTS[settings["norm"]]


def _vocabulary(tokenizer: Tokenizer, method: Any) -> Vocabulary:
    """The vocabulary of a tokenizer, which has to fit the method."""
    vocabulary = vocabulary_of(tokenizer)
    if len(vocabulary) > len(method.bias):
        raise ValueError(
            f"The tokenizer has {len(vocabulary):,} tokens, the model {len(method.bias):,}; it was trained with another"
            " one."
        )
    return vocabulary


def tokenizer_like(tokenizer: Tokenizer, vocabulary: Vocabulary, max_length: int) -> Any:
    """Builds transformers' tokenizer, which adds the same tokens at both ends of a text as the
    token store does."""
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    cls, sep = (str(tokenizer.id_to_token(number)) for number in (vocabulary.cls, vocabulary.sep))
    ids = tokenizer.encode("a").ids
    if ids[:1] != [vocabulary.cls] or ids[-1:] != [vocabulary.sep]:
        ends = [(cls, vocabulary.cls), (sep, vocabulary.sep)]
        tokenizer.post_processor = processors.TemplateProcessing(
            f"{cls} $A {sep}", f"{cls} $A {sep} $B:1 {sep}:1", ends
        )
    return library("export").PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=max_length,
        cls_token=cls,
        sep_token=sep,
        pad_token=tokenizer.id_to_token(vocabulary.pad),
        mask_token=tokenizer.id_to_token(vocabulary.mask),
        unk_token=next((name for name in UNKNOWN if tokenizer.token_to_id(name) is not None), None),
    )


def _weights(source: Any, transformers: Any) -> tuple[dict[str, Tensor], Any]:
    """Returns a model's tensors, with the encoder's named as in the model with a head, and its
    config."""
    missing: set[str] = set()
    if isinstance(source, (str, Path)):
        config = fetched(transformers.AutoConfig.from_pretrained, source)
        if config.model_type not in {layout.model_type for layout in LAYOUTS.values()}:
            return {}, config
        source, report = fetched(
            transformers.AutoModelForMaskedLM.from_pretrained, source, config=config, output_loading_info=True
        )
        missing = set(report["missing_keys"])
    base = source.base_model_prefix
    prefix = "" if hasattr(source, base) else f"{base}."
    return {
        f"{prefix}{name}": tensor.float() for name, tensor in source.state_dict().items() if name not in missing
    }, source.config


def _unlike_ours(config: Any) -> str:
    """Names a property that `TextTransformer` and `BERT` lack; empty where the model can be
    built."""
    if config.is_decoder or config.add_cross_attention:
        return "is a decoder"
    if config.hidden_act != "gelu":
        return f"has the activation {config.hidden_act!r}"
    if config.intermediate_size != 4 * config.hidden_size:
        return f"has an MLP of {config.intermediate_size} for a width of {config.hidden_size}"
    return "" if config.tie_word_embeddings else "has an untied projection onto the vocabulary"
