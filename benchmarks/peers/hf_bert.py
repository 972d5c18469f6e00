"""transformers' BertForMaskedLM with its collator, in a plain loop; `bert.py` calls it.

    python hf_bert.py FILE BATCH PRECISION SIZES TOKENIZER lines|fixed|grouped

lines: each text is a row, padded to the longest of its batch; fixed: padded to the longest row
there may be. grouped: all texts one after the other, cut into full rows that mix them
(`group_texts` of run_mlm.py), as many rows as hold the tokens of a batch.
"""

from __future__ import annotations

import csv
import json
import sys
from itertools import chain, count
from typing import Any

import torch
from paced import Pace
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast


def main(path: str, batch: str, precision: str, sizes: str, tokenizer_file: str, how: str) -> None:
    torch.manual_seed(0)
    given: dict[str, Any] = json.loads(sizes)
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, **special)
    with open(path, newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    most, size = given["max_length"], int(batch)
    ids = [
        [tokenizer.cls_token_id, *each[: most - 2], tokenizer.sep_token_id]
        for each in tokenizer(texts, add_special_tokens=False)["input_ids"]
    ]
    rows = size
    if how == "grouped":
        tokens = list(chain.from_iterable(ids))
        rows = round(size * len(tokens) / len(ids) / most)
        ids = [tokens[start : start + most] for start in range(0, len(tokens) - most, most)]
    collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)

    def collate(examples: list[list[int]]) -> Any:
        features: Any = [{"input_ids": each} for each in examples]
        if how == "fixed":
            features = [dict(tokenizer.pad(each, padding="max_length", max_length=most)) for each in features]
        return collator(features)

    loader = DataLoader(ids, batch_size=rows, shuffle=True, drop_last=True, collate_fn=collate)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=given["dim"], num_hidden_layers=given["depth"],
        num_attention_heads=given["heads"], intermediate_size=4 * given["dim"], max_position_embeddings=most,
    )  # fmt: skip
    model = BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    batches = chain.from_iterable(loader for _ in count())
    pace = Pace()
    for features in batches:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            loss = model(**features).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        pace.step_done()


if __name__ == "__main__":
    main(*sys.argv[1:])
