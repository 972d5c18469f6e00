"""A `tokenizer.json` is judged before it is used: the sizes of its parts, how far they lengthen a
text, and whether their patterns end.

The library tokenizers takes the file at its word: it allocates, expands and backtracks as it says,
and panics where it cannot.
"""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import tokenizers
from tokenizers import Tokenizer

from .patterns import check_pattern

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
LONGEST = 64 << 20
"""Characters of the file; Gemma's, the longest that we know of, has 33 million."""
MOST = 8 << 20
"""Values in it; Gemma's has 2 million."""
MOST_IDS = 2 << 20
"""Ids begin at 0 and end below this, and below twice the number of tokens; the largest vocabulary
that we know is XLM-V's of 0.9 million."""
MOST_ADDED = 1 << 17
"""Tokens added to the model's."""
PARTS = ("version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
         "model")  # fmt: skip
MOST_SETTINGS = 5_000
"""Values, and characters in them, in all parts but vocabulary, merges and character maps."""
LONGEST_WORD = 1_000
"""Characters of a word that WordPiece cuts, in time that grows with the square; BERT's is 100."""
GROWTH = 256
"""A text's length may grow by this factor: NFKC in SentencePiece's map has one of 33 bytes."""
SECONDS = 30
"""Seconds that the trial may take; published tokenizers take less than one, mostly to start."""
TRIAL = """
import sys
from tokenizers import Tokenizer
tokenizer = Tokenizer.from_str(sys.stdin.buffer.read().decode())
words = "The cat's 1,234 naïve ideas cost $5.60; e.g. https://example.org/a_b?c=d (see).\\n\\tÀ la carte: 猫が好き。 "
runs = [char * 5000 for char in "a1. \\n\\t_-=é猫"]
runs += [pair * 2500 for pair in ("aB", "a ", " \\n", "a1", "0x")]
for text in [words, words.upper(), words * 60, *runs, *(run + "!" for run in runs)]:
    tokenizer.encode(text)
"""


def read_tokenizer(text: Any, where: str) -> Tokenizer:
    """Builds the tokenizer of a `tokenizer.json`, whoever wrote it.

    Args:
        text: what the file holds.
        where: what holds it, for messages.

    Raises:
        ValueError: it is not a tokenizer, or one that would take a memory or a time out of all
            proportion to its size or to that of its texts.
    """
    try:
        if not isinstance(text, str):
            raise ValueError(f"it is a {type(text).__name__}, not text")
        if _judged(text):
            _try_out(text)
        return guarded(Tokenizer.from_str, text)
    except Exception as error:  # the library raises no narrower kind
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise ValueError(f"{where} is not a tokenizer of the library tokenizers: {reason}.") from error


def guarded(function: Callable[Arguments, Result], *args: Arguments.args, **options: Arguments.kwargs) -> Result:
    """Calls a function of the library tokenizers, whose panics are no `Exception`.

    Raises:
        ValueError: it failed, as where a pattern needs too many steps for a text.
    """
    try:
        return function(*args, **options)
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"The library tokenizers failed with this tokenizer: {reason}.") from None


def _judged(text: str) -> bool:
    """Checks all that can be seen without running it; returns whether it holds a part whose cost
    cannot be seen."""
    if len(text) > LONGEST or sum(map(text.count, "[{,")) > MOST:
        raise ValueError(f"it is larger than any, with {len(text):,} characters")
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("it nests too deep") from None
    if not isinstance(content, dict) or not isinstance(model := content.get("model"), dict):
        raise ValueError("it describes no model")
    if unknown := sorted(content.keys() - set(PARTS)):
        raise ValueError(f"it has the part {unknown[0][:40]!r}")
    _check_ids(model, content.get("added_tokens") or [])
    rest = {name: part for name, part in content.items() if name not in ("model", "added_tokens")}
    rest["model"] = {name: value for name, value in model.items() if name not in ("vocab", "merges")}
    _check_settings(rest)
    longest = model.get("max_input_chars_per_word", 0)
    if not isinstance(longest, int) or longest > LONGEST_WORD:
        raise ValueError(f"max_input_chars_per_word is {str(longest)[:40]}, not a number of at most {LONGEST_WORD:,}")
    growth = max(_growth(rest.get("normalizer")) * _growth(rest.get("pre_tokenizer")), _growth(rest.get("decoder")))
    if growth > GROWTH:
        raise ValueError(f"it may lengthen a text by a factor of {growth:.3g}, more than {GROWTH}")
    for part in _dicts(rest.get("post_processor")):
        added = [each["SpecialToken"] for each in _dicts(part) if isinstance(each.get("SpecialToken"), dict)]
        used = {str(each.get("id")) for each in added}
        if isinstance(known := part.get("special_tokens"), dict) and (unknown := sorted(used - known.keys())):
            raise ValueError(f"its template adds {unknown[0][:40]!r}, of which it says no more")
    return any(part.keys() & {"pattern", "precompiled_charsmap", "length"} for part in _dicts(rest))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):  # which one counts is up to the reader
        raise ValueError("a key is given twice")
    return values


def _check_ids(model: dict[str, Any], added: Any) -> None:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, (dict, list)) or not isinstance(added, list):
        raise ValueError("its vocabulary is missing or malformed")
    if len(added) > MOST_ADDED or len(vocabulary) > MOST_IDS:
        raise ValueError(f"it has {len(vocabulary):,} tokens and adds {len(added):,}, more than any")
    if not all(isinstance(token, dict) and isinstance(token.get("content"), str) for token in added):
        raise ValueError("an added token is malformed")
    ids = [*(vocabulary.values() if isinstance(vocabulary, dict) else ()), *(token.get("id") for token in added)]
    most = min(MOST_IDS, 2 * (len(vocabulary) + len(added)) + 1000)  # some ids may be of no token
    if wrong := next((i for i in ids if type(i) is not int or not 0 <= i < most), None):
        raise ValueError(f"a token has the id {str(wrong)[:40]}; here ids are integers from 0 to below {most:,}")


def _check_settings(rest: dict[str, Any]) -> None:
    """Counts values and characters, and bounds numbers."""
    count, waiting = 0, [rest]
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, dict):
            waiting += [item for name, item in value.items() if name != "precompiled_charsmap"]
            count += sum(map(len, value))
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str):
            count += len(value)
        elif isinstance(value, (int, float)) and not -MOST_IDS < value < MOST_IDS:
            raise ValueError(f"it has the number {value:.3g}")
        count += 1
        if count > MOST_SETTINGS:
            raise ValueError(f"its settings have more than {MOST_SETTINGS:,} values or characters")


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(item)


def _growth(part: Any) -> float:
    """The factor by which a part and those in it may lengthen a text; patterns are checked too."""
    growth = 1.0
    for each in _dicts(part):
        pattern = each.get("pattern")
        regex = pattern.get("Regex") if isinstance(pattern, dict) else None
        plain = pattern.get("String") if isinstance(pattern, dict) else pattern
        if regex is not None:
            check_pattern(regex)
        if each.get("type") == "Replace":
            content = len(str(each.get("content")))
            # A pattern may match nothing, between all characters.
            growth *= max(1.0, content / len(plain) if isinstance(plain, str) and plain else 1 + content)
        elif each.get("type") == "ByteLevel":
            growth *= 2
        elif charsmap := each.get("precompiled_charsmap"):
            growth *= max(1, _longest_in(charsmap))
    return growth


def _longest_in(charsmap: Any) -> int:
    """Bytes of the longest text that a map of SentencePiece puts in place of another: after the
    length of an index and the index itself follow such texts, each of which ends with a zero."""
    if not isinstance(charsmap, str):
        raise ValueError("its map of characters is malformed")
    content = b64decode(charsmap, validate=True)
    return max(map(len, content[4 + int.from_bytes(content[:4], "little") :].split(b"\0")))


tried: set[bytes] = set()
"""Digests of tokenizers that have passed."""


def _try_out(text: str) -> None:
    """Lets a process of its own encode texts on which patterns take long, where they ever do."""
    digest = sha256(text.encode(errors="surrogatepass")).digest()
    if digest in tried:
        return
    try:
        result = subprocess.run(
            [sys.executable, "-c", TRIAL], input=text.encode(), timeout=SECONDS, capture_output=True,
            cwd=Path(tokenizers.__file__).parents[1],  # where it is looked for first
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"it does not encode some thousand characters in {SECONDS} seconds") from None
    if result.returncode:
        last = result.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"it fails to encode a text: {''.join(last)}")
    tried.add(digest)
