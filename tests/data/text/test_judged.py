"""A `tokenizer.json` of somebody else: a crafted one is refused at once, in one line, and published
ones load."""

from __future__ import annotations

import base64
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ssl_lightning.cli.main import main
from ssl_lightning.data.text import judged
from ssl_lightning.data.text.judged import guarded, read_tokenizer
from ssl_lightning.data.text.patterns import check_pattern
from ssl_lightning.data.text.tokenizer import load_tokenizer, ready

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a"]
SEED: dict[str, Any] = json.loads(
    Tokenizer(models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")).to_str()
)


def changed(**parts: Any) -> str:
    """A tokenizer with other parts; those of `model` are added to its own."""
    return json.dumps({**SEED, **parts, "model": {**SEED["model"], **parts.get("model", {})}})


def replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(kind: str, parts: list[Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: parts}


def split(regex: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}


DOUBLE = replace({"String": "a"}, "aa")
CHARSMAP = base64.b64encode((4).to_bytes(4, "little") + bytes(4) + b"x" * 1000 + b"\0").decode()
TOKEN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
CRAFTED: dict[str, tuple[Callable[[], Any], str]] = {
    "id": (lambda: changed(model={"vocab": {**SEED["model"]["vocab"], "x": 10**9}}), "the id 1000000000"),
    "lone id": (lambda: changed(model={"vocab": {**SEED["model"]["vocab"], "x": 10**6}}), "the id 1000000"),
    "negative id": (lambda: changed(model={"vocab": {"x": -1}}), "the id -1"),
    "id of text": (lambda: changed(model={"vocab": {"x": "1"}}), "the id 1"),
    "added id": (lambda: changed(added_tokens=[{"id": 10**9, "content": "x", **TOKEN}]), "the id 1000000000"),
    "added tokens": (
        lambda: changed(added_tokens=[{"id": i, "content": str(i)} for i in range(150_000)]),
        "adds 150,000",
    ),
    "doubling": (lambda: changed(normalizer=sequence("normalizers", [DOUBLE] * 60)), "lengthen a text"),
    "doubling tokens": (lambda: changed(decoder=sequence("decoders", [DOUBLE] * 60)), "lengthen a text"),
    "doubling bytes": (lambda: changed(normalizer=sequence("normalizers", [{"type": "ByteLevel"}] * 30)), "lengthen"),
    "between all characters": (lambda: changed(normalizer=replace({"Regex": "x*"}, "y" * 999)), "lengthen a text"),
    "for nothing": (lambda: changed(normalizer=replace({"String": ""}, "y" * 999)), "lengthen a text"),
    "map of characters": (
        lambda: changed(normalizer={"type": "Precompiled", "precompiled_charsmap": CHARSMAP}), "lengthen a text"
    ),
    "prepending": (
        lambda: changed(normalizer=sequence("normalizers", [{"type": "Prepend", "prepend": "a" * 99}] * 99)),
        "more than 5,000 values",
    ),
    "long word": (lambda: changed(model={"max_input_chars_per_word": 10**6}), "max_input_chars_per_word"),
    "long padding": (lambda: changed(padding={"strategy": {"Fixed": 10**9}}), "the number 1e+09"),
    "exponential": (lambda: changed(pre_tokenizer=split("(a+)+$")), "several ways"),
    "exponential replacement": (lambda: changed(normalizer=replace({"Regex": "(a|a)*$"}, "b")), "several ways"),
    "cubic": (lambda: changed(pre_tokenizer=split(r"\w*\w*\w*[^\w\s!]")), "not a tokenizer"),
    "large pattern": (lambda: changed(pre_tokenizer=split("((a{1000}){1000}){1000}")), "1,000 times"),
    "chunks of nothing": (lambda: changed(pre_tokenizer={"type": "FixedLength", "length": 0}), "not a tokenizer"),
    "twice": (lambda: changed()[:-1] + ', "model": {}}', "given twice"),
    "deep": (lambda: '{"model": ' + "[" * 100_000, "nests too deep"),
    "deep parts": (
        lambda: '{"model": {"vocab": {}}, "normalizer": ' + '{"a":' * 900 + "1" + "}" * 900 + "}", "not a tokenizer"
    ),
    "wide": (lambda: "[" * (judged.MOST + 1), "larger than any"),
    "long": (lambda: " " * (judged.LONGEST + 1), "larger than any"),
    "unknown in a template": (
        lambda: changed(post_processor={"type": "TemplateProcessing", "special_tokens": {}, "pair": [],
                                        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}]}),
        "adds '[CLS]'",
    ),
    "not JSON": (lambda: "tokens", "Expecting value"),
    "not finite": (lambda: changed(truncation={"stride": float("inf")}), "the number inf"),
    "not UTF-8": (lambda: b"\xff\xfe{}", "not a tokenizer"),
    "empty": (lambda: "", "Expecting value"),
    "a list": (lambda: "[]", "describes no model"),
    "no model": (lambda: '{"version": "1.0"}', "describes no model"),
    "no vocabulary": (lambda: '{"model": {"type": "BPE"}}', "vocabulary is missing"),
    "vocabulary of text": (lambda: changed(model={"vocab": "abc"}), "vocabulary is missing"),
    "unknown part": (lambda: changed(plugin="x"), "the part 'plugin'"),
    "unknown model": (lambda: changed(model={"type": "Shell"}), "not a tokenizer"),
    "unknown normalizer": (lambda: changed(normalizer={"type": "Shell"}), "not a tokenizer"),
    "number as text": (lambda: changed(model={"max_input_chars_per_word": "many"}), "is many, not a number"),
    "pattern of a number": (lambda: changed(pre_tokenizer=split(1)), "not text"),  # type: ignore[arg-type]
    "no end of a group": (lambda: changed(pre_tokenizer=split("(a")), "has no end"),
    "merges of numbers": (lambda: json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [1]}}), "not a"),
    "merges of unknown tokens": (
        lambda: json.dumps({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["x", "y"]]}}), "not a tokenizer"
    ),
    "no unknown token": (
        lambda: json.dumps({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 9}}), "not a tokenizer"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_tokenizer_is_refused_at_once_in_one_line(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is given as a file; with less than a gigabyte, and no word of the library's own."""
    monkeypatch.setattr(judged, "SECONDS", 3)
    make, reason = CRAFTED[name]
    content = make()
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError) as caught:
        load_tokenizer(str(path))
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20
    message = str(caught.value)
    assert reason in message and "tokenizer.json" in message and "\n" not in message and len(message) < 500, message
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["id", "exponential"])
def test_it_is_refused_wherever_it_comes_from(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = CRAFTED[name][0]()
    (tmp_path / "tokenizer.json").write_text(text)
    torch.save({"artifacts": {"tokenizer.json": text}, "state_dict": {}}, tmp_path / "crafted.ckpt")
    (tmp_path / "texts.txt").write_text("a b a\n\nb a b\n" * 20)
    for file in (tmp_path, tmp_path / "tokenizer.json", tmp_path / "crafted.ckpt"):
        assert main(["fit", "--model", "bert", "--data", "text_files", "--data.path", str(tmp_path / "texts.txt"),
                     "--data.tokenizer", str(file)]) == 2  # fmt: skip
        err = capsys.readouterr().err
        assert "is not a tokenizer" in err and err.count("\n") == 1, err
        with pytest.raises(ValueError, match="is not a tokenizer"):
            load_tokenizer(str(file))


@pytest.mark.parametrize("artifacts", [None, [], {}, {"tokenizer.json": 3}], ids=str)
def test_a_checkpoint_without_a_tokenizer_is_told(artifacts: Any, tmp_path: Path) -> None:
    torch.save({"artifacts": artifacts, "state_dict": {}}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=r"x\.ckpt is not a tokenizer .*not text"):
        load_tokenizer(str(tmp_path / "x.ckpt"))


def test_a_panic_is_an_error_like_any_other() -> None:
    """The library's panics are no `Exception`, and would end in a traceback."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    with pytest.raises(ValueError, match="failed with this tokenizer"):
        guarded(tokenizer.encode_batch, ["a" * 40 + "b"])
    assert guarded(tokenizer.encode, "a").ids == [0]
    with pytest.raises(ValueError, match="Missing"):
        guarded(Tokenizer(models.WordPiece({"a": 0}, unk_token="b")).encode, "c")
    with pytest.raises(TypeError):  # a mistake of the caller's
        guarded(tokenizer.encode, 1)


# What is published.

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
PATTERNS = {
    "GPT-2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "GPT-4, Llama 3": GPT4,
    "Qwen 2": GPT4.replace("{1,3}", ""),
    "GPT-4o": rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}*{LOWER}+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{{L}}\p{{N}}]?{UPPER}+"
    rf"{LOWER}*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "Mistral Nemo": r"[^\r\n\p{L}\p{N}]?((?=[\p{L}])([^a-z]))*((?=[\p{L}])([^A-Z]))+|[^\r\n\p{L}\p{N}]?"
    r"((?=[\p{L}])([^a-z]))+((?=[\p{L}])([^A-Z]))*|\p{N}| ?((?=[\S])([^\p{L}\p{N}]))+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek": r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "DeepSeek's scripts": "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "CLIP": r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
    "Bloom": " ?[^(\\s|[.,!?…。\uff0c、।\u06d4،])]+",
    "Falcon": "[0-9][0-9][0-9]",
    "digits in threes": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?:\P{N}|$))",
    "Kimi": r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lo}&&[^\p{Han}]]+|\s+",
    "spaces": r" {2,}",
    "possessive": r"[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+|\s++$",
}


@pytest.mark.parametrize("name", PATTERNS)
def test_the_patterns_of_published_tokenizers_pass(name: str) -> None:
    check_pattern(PATTERNS[name])


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a*)*$", "((a|b))*c", "(?:a?)+b", "(?>a+)*b", "(a{1,2}){2}b", "a{1,2}+b", "a**b", "(?<n>a+)+b",
     "(x(a+)+)", "(?:(a+)+|b)c", "(?=(a+)+)b", "(a(b(c+)))+d", r"(a)\1+", r"(?<n>a)\k<n>", r"(?<n>a\g<n>?)",
     "(?x) # [\n(a+)+b", "[(?#](a+)+b", "(?~a)", "(?(1)a|b)", "(*FAIL)", "(?{x})", "[a", "[[a](a+)+b", "[]](a+)+b",
     "(?:a{100}){100}", "(a+)+?b", "(a+){2,}b", "(?i)(a+)+b", "a++b+*c"],
)  # fmt: skip
def test_patterns_that_may_not_end_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="its pattern"):
        check_pattern(pattern)


def test_what_nothing_follows_never_tries_again() -> None:
    check_pattern("(a+)+")


def gpt2() -> Tokenizer:
    tokens = [*WORDS[:5], *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab", "Ġa"]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [("a", "b"), ("Ġ", "a")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return tokenizer


def roberta() -> Tokenizer:
    tokenizer = gpt2()
    tokenizer.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.add_special_tokens(WORDS[:5])
    tokenizer.enable_padding(length=512)
    tokenizer.enable_truncation(512)
    return tokenizer


def llama3() -> Tokenizer:
    tokenizer = gpt2()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(GPT4), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    return tokenizer


def llama2() -> Tokenizer:
    tokens = ["<unk>", "<s>", "</s>", "<pad>", "<mask>", *(f"<0x{i:02X}>" for i in range(256)), "▁", "a", "▁a"]
    tokenizer = Tokenizer(
        models.BPE({token: i for i, token in enumerate(tokens)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def bert() -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(SEED))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", None, [("[CLS]", 2), ("[SEP]", 3)])
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(WORDS[:5])
    return tokenizer


def xlm_roberta() -> Tokenizer:
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", "a", "b", "▁a"]
    tokenizer = Tokenizer(models.Unigram([(token, -float(i)) for i, token in enumerate(tokens)], 3))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return tokenizer


def albert() -> Tokenizer:
    tokenizer = xlm_roberta()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(),
         normalizers.Lowercase(), normalizers.Strip()]
    )  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return tokenizer


def clip() -> Tokenizer:
    tokenizer = gpt2()
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(PATTERNS["CLIP"]), "removed", invert=True), pre_tokenizers.ByteLevel(False)]
    )
    return tokenizer


@pytest.mark.parametrize("build", [gpt2, roberta, llama3, llama2, bert, xlm_roberta, albert, clip])
def test_tokenizers_like_those_published_load_and_are_the_same(build: Callable[[], Tokenizer], tmp_path: Path) -> None:
    """Also in an older form, whose model does not say its type."""
    tokenizer, text = build(), "A b, ab  1 a's\n猫"
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str())
    loaded = load_tokenizer(str(tmp_path))
    assert loaded.encode(text).ids == tokenizer.encode(text).ids and ready(loaded).encode(text).ids
    assert loaded.to_str() == Tokenizer.from_str(tokenizer.to_str()).to_str()
    older = json.loads(tokenizer.to_str())
    del older["model"]["type"]
    assert read_tokenizer(json.dumps(older), "x").encode(text).ids == tokenizer.encode(text).ids
