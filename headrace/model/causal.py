"""A causal language model: prompts and answers as tokens, their likelihoods, and new answers.

Rows of like length form a batch and are padded at the end. Causal attention does not look there,
so no mask is needed and the fastest kernel runs. Logits are made where an answer's tokens are to be
predicted, some rows at a time, so their memory does not grow with batch and vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from headrace.model.base import Base
from headrace.model.inputs import Example
from headrace.model.lora import autocast, batches, on_device
from headrace.model.network import padded

LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}  # made at a time


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a prompt and, from `start` on, of its answer."""

    ids: list[int]
    start: int

    def __len__(self) -> int:
        return len(self.ids)


def prompt_ids(base: Base, text: str) -> list[int]:
    """Return the tokens before an answer: by the chat template, else the text and a new line."""
    tokenizer = base.tokenizer
    if tokenizer.chat_template:
        chat = [{"role": "user", "content": text}]
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(text + "\n")["input_ids"]
        if ids and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
    return list(ids) or [tokenizer.eos_token_id]


def row_of(base: Base, text: str, answer: str, max_tokens: int) -> Row:
    """Return prompt, answer and the token that ends it.

    What is longer than `max_tokens` loses the end of the answer, which keeps half of them, and then
    the beginning of the prompt.
    """
    said = base.tokenizer(answer, add_special_tokens=False)["input_ids"]
    said = [*said, base.tokenizer.eos_token_id]
    prompt = prompt_ids(base, text)
    said = said[: max(max_tokens // 2, max_tokens - len(prompt))]
    prompt = prompt[-(max_tokens - len(said)) :]
    return Row([*prompt, *said], len(prompt))


def rows_of(
    base: Base, examples: Sequence[Example], answers: Sequence[str], max_tokens: int
) -> list[Row]:
    """Return a row of each example and its answer."""
    return [
        row_of(base, example.text, answer, max_tokens)
        for example, answer in zip(examples, answers, strict=True)
    ]


def token_losses(model: Any, rows: Sequence[Row], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the negative log likelihood of each answer's tokens in nats, and whose they are.

    Both are (tokens,); the second holds positions in `rows`. `model` is a causal language model of
    transformers whose output layer is not trained.
    """
    ids = padded([row.ids for row in rows], 0)
    longest = ids.shape[1]
    before = [at * longest + i - 1 for at, row in enumerate(rows) for i in _answer(row)]
    wanted = [row.ids[i] for row in rows for i in _answer(row)]
    owner = [at for at, row in enumerate(rows) for _ in _answer(row)]
    states = model.base_model(input_ids=on_device(ids, device), use_cache=False).last_hidden_state
    hidden = states.flatten(0, 1)[on_device(before, device)]
    head = model.get_output_embeddings()
    losses = _HeadLosses.apply(hidden, head, on_device(wanted, device))  # type: ignore[no-untyped-call]
    return losses, on_device(owner, device)


def summed(losses: Tensor, owner: Tensor, rows: int) -> Tensor:
    """Return the sum of the losses of each row, (rows,)."""
    return torch.zeros(rows, device=losses.device).index_add(0, owner, losses)


def _answer(row: Row) -> range:
    return range(row.start, len(row))


class _HeadLosses(torch.autograd.Function):
    """Cross entropy of a frozen output layer, some rows at a time.

    The loss of a row depends on its hidden state alone, so forward computes the gradients, too, and
    keeps them in place of the logits.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: nn.Linear, wanted: Tensor) -> Tensor:
        needed = ctx.needs_input_grad[0]
        size = max(1, LOGITS[hidden.device.type] // head.out_features)
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for states, tokens in zip(
            torch.split(hidden, size), torch.split(wanted, size), strict=True
        ):
            with torch.set_grad_enabled(needed):
                states = states.detach().requires_grad_(needed)
                loss = F.cross_entropy(head(states).float(), tokens, reduction="none")
                if needed:
                    gradients += torch.autograd.grad(loss.sum(), states)
            losses.append(loss.detach())
        if needed:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0][:, None].to(gradient.dtype), None, None


@torch.no_grad()  # not `inference_mode`: what FSDP gathers here it needs in the training
def answer_losses(
    model: Any, rows: Sequence[Row], device: torch.device, budget: int
) -> NDArray[np.float32]:
    """Return the summed negative log likelihood of each answer, (n,), in batches of tokens."""
    out = np.zeros(len(rows), dtype=np.float32)
    for batch in batches([len(row) for row in rows], budget):
        with autocast(device):
            losses, owner = token_losses(model, [rows[at] for at in batch], device)
        out[batch] = summed(losses, owner, len(batch)).cpu().numpy()
    return out


@dataclass(slots=True)
class LanguageModel:
    """A version that writes answers; any thread may call it.

    Attributes:
        model: the base's structure with the version's LoRA matrices.
        max_tokens: of a prompt and its answer.
        max_new_tokens: of an answer that is written.
        batch_tokens: computed at a time.
    """

    base: Base
    model: Any
    max_tokens: int
    max_new_tokens: int
    batch_tokens: int
    labels: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    def predict(self, examples: Sequence[Example]) -> NDArray[np.object_]:
        """Return the likeliest answer token by token, (n,) of strings."""
        prompts = [prompt_ids(self.base, example.text) for example in examples]
        prompts = [ids[-self.max_tokens :] for ids in prompts]
        out = np.empty(len(examples), dtype=np.object_)
        lengths = [len(ids) + self.max_new_tokens for ids in prompts]
        for batch in batches(lengths, self.batch_tokens):
            out[batch] = self._write([prompts[at] for at in batch])
        return out

    @torch.inference_mode()
    def _write(self, prompts: Sequence[Sequence[int]]) -> list[str]:
        from transformers import GenerationConfig

        tokenizer, device = self.base.tokenizer, self.base.device
        longest = max(map(len, prompts))
        ends = self.model.generation_config.eos_token_id or []
        ends = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
        fill = tokenizer.eos_token_id
        ids = [[fill] * (longest - len(one)) + list(one) for one in prompts]
        mask = [[0] * (longest - len(one)) + [1] * len(one) for one in prompts]
        with autocast(device):
            written = self.model.generate(
                on_device(ids, device),
                attention_mask=on_device(mask, device),
                generation_config=GenerationConfig(  # type: ignore[no-untyped-call]
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,
                    eos_token_id=sorted(ends),
                    pad_token_id=fill,
                ),
            )
        answers: list[str] = tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)
        return answers

    def log_losses(
        self, examples: Sequence[Example], answers: Sequence[str]
    ) -> NDArray[np.float32]:
        """Return the mean negative log likelihood of each answer's tokens, in nats, (n,)."""
        rows = rows_of(self.base, examples, answers, self.max_tokens)
        sums = answer_losses(self.model, rows, self.base.device, self.batch_tokens)
        counts = np.array([len(_answer(row)) for row in rows], dtype=np.float32)
        return np.asarray(sums / counts, dtype=np.float32)
