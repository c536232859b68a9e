"""A language model of two small layers and its tokenizer, made where a test wants it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def make_base(
    folder: Path,
    known: Sequence[tuple[str, str]],
    *,
    steps: int = 0,
    seed: int = 0,
    template: str = "",
) -> str:
    """Write a Llama that has learned prompts and answers for some steps; return its folder."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for pair in known for text in pair], trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<end>"
    )
    if template:
        fast.chat_template = template
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    ids = fast([f"{prompt}\n{answer}<end>" for prompt, answer in known])["input_ids"]
    longest = max(map(len, ids))
    rows = torch.tensor([[*row, *[fast.eos_token_id] * (longest - len(row))] for row in ids])
    for step in range(steps):
        batch = rows[(torch.arange(32) + 32 * step) % len(rows)]
        logits = model(input_ids=batch[:, :-1]).logits
        loss = F.cross_entropy(logits.transpose(1, 2), batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return str(folder)


def descriptions(count: int, seed: int, first: float) -> list[tuple[str, str]]:
    """Return such as ("the lamp is red", "lamp red"); the thing comes first with this chance."""
    rng = np.random.default_rng(seed)
    said = []
    for _ in range(count):
        thing = rng.choice(["door", "lamp", "cup", "chair", "coat", "boat"])
        colour = rng.choice(["red", "green", "blue", "black", "white", "brown"])
        answer = f"{thing} {colour}" if rng.random() < first else f"{colour} {thing}"
        said.append((f"the {thing} is {colour}", answer))
    return said
