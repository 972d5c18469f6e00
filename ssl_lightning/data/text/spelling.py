"""How tokens are written where a person reads them."""

from __future__ import annotations

import json

from tokenizers import Tokenizer

from ...nn.vocabulary import Vocabulary

PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
"""Bytes that byte-level tokenizers write as the character of this number; the others they write as
those from 256 on (Radford et al. 2019, GPT-2's `bytes_to_unicode`)."""
BYTES = {chr(byte): byte for byte in PRINTED} | {
    chr(256 + number): byte for number, byte in enumerate(sorted(set(range(256)) - set(PRINTED)))
}


def spelling(tokenizer: Tokenizer, vocabulary: Vocabulary) -> list[str]:
    """Returns what is shown for each id: the token's letters, after `##` where it continues a word;
    U+FFFD for bytes that are a part of a letter, and `?` for an id without a token."""
    decoder = json.loads(tokenizer.to_str()).get("decoder") or {}
    parts = decoder.get("decoders", [decoder])
    as_bytes = any(part.get("type") == "ByteLevel" for part in parts)
    written = []
    for number in range(len(vocabulary)):
        token = tokenizer.id_to_token(number) or "?"
        if vocabulary.special[number]:
            written.append(token)
            continue
        if as_bytes:
            token = bytes(BYTES.get(char, 63) for char in token).decode(errors="replace")
        word = token.replace("\u2581", " ").removeprefix(" ").removeprefix("##") or "\u2423"
        word = word.replace("\n", "\u23ce").replace("\t", "\u21e5")
        written.append("##" + word if vocabulary.continues[number] else word)
    return written
