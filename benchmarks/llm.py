"""LoRA fine-tune of a causal language model: the recipe `generation` beside transformers.Trainer.

The base has random weights, so its size is chosen by the machine: 0.5 B on a GPU, 42 M without.
Every way runs in a process of its own, in turn, and reads the same examples twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from benchmarks.report import machine, say, table
from headrace.engine import Engine

EPOCHS, RATE, LONGEST = 2, 1e-3, 256
WAYS = {
    "ours": "recipe `generation`",
    "best": "Trainer + peft, best settings",
    "defaults": "Trainer + peft, defaults",
}


class Size(NamedTuple):
    """What is trained: a Llama's shape, examples, and rows of a step."""

    vocabulary: int
    hidden: int
    inner: int
    layers: int
    heads: int
    key_heads: int
    examples: int
    rows: int

    @classmethod
    def of(cls, quick: bool) -> Size:
        if torch.cuda.is_available():
            return cls(151_936, 896, 4_864, 24, 14, 2, 512 if quick else 8_192, 32)
        return cls(32_000, 512, 1_408, 8, 8, 8, 16 if quick else 384, 8)

    def needed(self, answers: float) -> float:
        """FLOPs for each token: layers forwards and backwards, logits for answers alone."""
        keys = self.hidden * self.key_heads // self.heads
        layer = self.hidden * (2 * self.hidden + 2 * keys + 3 * self.inner)
        return 4 * (self.layers * layer + answers * self.hidden * self.vocabulary)


def run(engine: Engine, quick: bool) -> str:
    """Return the table as Markdown."""
    size, rounds = Size.of(quick), 1 if quick else 3
    with tempfile.TemporaryDirectory(prefix="headrace-llm-") as folder:
        parameters = _make_base(Path(folder) / "base", size)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS:
                found[way].append(_measured(way, Path(folder), quick))
                speed = found[way][-1]["tokens_per_second"]
                say(f"llm: round {number + 1}/{rounds}, {way}: {speed:,.0f} tokens/s")
    return _page(found, size, parameters, machine(engine))


def _page(
    found: Mapping[str, Sequence[Mapping[str, float]]], size: Size, parameters: int, where: str
) -> str:
    first = found["ours"][0]
    answers = first["answer_tokens"] / first["tokens"]
    peak = max(one["peak_flops"] for runs in found.values() for one in runs)
    rows = []
    for way, name in WAYS.items():
        runs = found[way]
        speed = median(one["tokens_per_second"] for one in runs)
        ratios = [
            ours["tokens_per_second"] / one["tokens_per_second"]
            for ours, one in zip(found["ours"], runs, strict=True)
        ]
        rows.append(
            [
                name,
                f"{speed:,.0f}",
                "" if way == "ours" else f"{median(ratios):.2f}",
                f"{max(one['peak_memory'] for one in runs) / 1e9:.2f}",
                f"{speed * size.needed(answers) / peak:.0%}",
                f"{median(one['loss'] for one in runs):.3f}",
            ]
        )
    head = ["", "tokens/s", "ours / this", "peak memory, GB", "share of peak", "held-out loss"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    missing = "" if torch.cuda.is_available() else " **Figures of a GPU are missing.**"
    return (
        f"# LoRA fine-tune of a language model\n\n{parameters / 1e6:,.0f} M parameters of random "
        f"weights, a vocabulary of {size.vocabulary:,}; {size.examples:,} examples of "
        f"{first['tokens'] / size.examples:.0f} tokens on average, {answers:.0%} of them the "
        f"answers', read {EPOCHS} times; {device}, {torch.get_num_threads()} CPU threads. Medians "
        f"of {len(found['ours'])} rounds, one way after the other, each in its own process. The "
        f"peak is that of a large matrix product in the same run, {peak / 1e9:,.0f} GFLOP/s."
        f"{missing}\n\n{table(head, rows)}\n{where}\n"
    )


def _measured(way: str, folder: Path, quick: bool) -> dict[str, float]:
    """Run one way in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.llm", way, str(folder), *["quick"] * quick]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _texts(count: int) -> list[tuple[str, str]]:
    """Real reports: the first two thirds of the words are the prompt, the rest is the answer."""
    from headrace.demo.stream import reports

    words = [row["text"].split() for row in reports()[:count]]
    cuts = [max(1, 2 * len(one) // 3) for one in words]
    return [
        (" ".join(one[:cut]), " ".join(one[cut:])) for one, cut in zip(words, cuts, strict=True)
    ]


def _make_base(folder: Path, size: Size) -> int:
    """Write a Llama of random weights and a tokenizer of the reports; return its parameters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=16_384, special_tokens=["<end>"], show_progress=False)
    tokenizer.train_from_iterator((" ".join(one) for one in _texts(4_000)), trainer)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>"
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.hidden,
            intermediate_size=size.inner,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.key_heads,
            max_position_embeddings=2 * LONGEST,
            tie_word_embeddings=True,
            eos_token_id=fast.eos_token_id,
            bos_token_id=None,
        )
    )
    model.save_pretrained(folder)
    fast.save_pretrained(folder)
    return sum(one.numel() for one in model.parameters())


def _child(way: str, folder: Path, quick: bool) -> dict[str, float]:
    """Train one way, and say how fast, in how much memory, to which loss on other examples."""
    from headrace.model.base import open_base
    from headrace.model.causal import answer_losses, rows_of
    from headrace.model.inputs import Example
    from headrace.model.lora import peak_memory

    size, base = Size.of(quick), str(folder / "base")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak_flops = _peak_flops(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    pairs = _texts(size.examples + 64)
    ways: dict[str, Callable[..., tuple[float, Any, int]]] = {
        "ours": _ours,
        "best": _trainer,
        "defaults": _trainer,
    }
    seconds, model, peak = ways[way](way, base, pairs[: size.examples], size, device)
    opened = open_base(base)
    read, held = (
        rows_of(opened, [Example(prompt) for prompt, _ in part], [a for _, a in part], LONGEST)
        for part in (pairs[: size.examples], pairs[size.examples :])
    )
    losses = answer_losses(model, held, device, 2_048)
    tokens = sum(map(len, read))
    return {
        "tokens": tokens,
        "answer_tokens": sum(len(row) - row.start for row in read),
        "tokens_per_second": EPOCHS * tokens / seconds,
        "peak_memory": peak or peak_memory(device),
        "peak_flops": peak_flops,
        "loss": float(losses.sum() / sum(len(row) - row.start for row in held)),
    }


def _peak_flops(device: torch.device) -> float:
    """FLOP/s of a product of square matrices, the best of some."""
    from headrace.model.base import fast_dtype

    n = 8_192 if device.type == "cuda" else 1_024
    a = torch.randn(n, n, device=device, dtype=fast_dtype(device))
    best = 0.0
    for _ in range(8):
        began = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


def _ours(
    way: str, base: str, pairs: Sequence[tuple[str, str]], size: Size, _: torch.device
) -> tuple[float, Any, int]:
    import peft  # noqa: F401

    from headrace.model.base import open_base
    from headrace.model.causal import rows_of
    from headrace.model.inputs import Example
    from headrace.model.lora import load_lora
    from headrace.model.recipe import TrainingExample, TrainingSet
    from headrace.trainer.recipes import generation

    examples = [TrainingExample(Example(prompt), answer) for prompt, answer in pairs]
    opened = open_base(base)
    rows = rows_of(opened, [one.example for one in examples], [a for _, a in pairs], LONGEST)
    config = generation.Config(
        base=base,
        rank=16,
        alpha=32,
        lr=RATE,
        epochs=EPOCHS,
        max_tokens=LONGEST,
        batch_tokens=size.rows * sum(map(len, rows)) // len(rows),
    )
    dataset = TrainingSet("bench", "generation", examples)
    with tempfile.TemporaryDirectory(prefix=f"headrace-{way}-") as folder:
        report = generation.fit(dataset, None, config, lambda *_: None, Path(folder))
        return report["seconds"], load_lora(opened, Path(folder)), report["peak_memory"]


def _trainer(
    way: str, base: str, pairs: Sequence[tuple[str, str]], size: Size, device: torch.device
) -> tuple[float, Any, int]:
    """The usual program: prompts are masked in the labels, and batches are padded."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForSeq2Seq,
        Trainer,
        TrainingArguments,
    )

    from headrace.model.base import Base, fast_dtype
    from headrace.model.causal import rows_of
    from headrace.model.inputs import Example
    from headrace.model.lora import peak_memory

    tokenizer = AutoTokenizer.from_pretrained(base)
    asked, answers = [Example(prompt) for prompt, _ in pairs], [answer for _, answer in pairs]
    rows = rows_of(Base(base, None, tokenizer, ""), asked, answers, LONGEST)
    examples = [
        {
            "input_ids": row.ids,
            "attention_mask": [1] * len(row),
            "labels": [-100] * row.start + row.ids[row.start :],
        }
        for row in rows
    ]
    best = way == "best"
    half = best and fast_dtype(device) is torch.bfloat16
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16 if half else None)
    lora = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear"))
    settings: dict[str, Any] = (
        {
            "bf16": half,
            "per_device_train_batch_size": size.rows,
            "train_sampling_strategy": "group_by_length",
        }
        if best
        else {}
    )
    with tempfile.TemporaryDirectory(prefix=f"headrace-{way}-") as folder:
        trainer = Trainer(
            model=lora,
            args=TrainingArguments(
                output_dir=folder,
                learning_rate=RATE,
                num_train_epochs=EPOCHS,
                warmup_steps=0.05,
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                use_cpu=device.type == "cpu",
                **settings,
            ),
            train_dataset=examples,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
        )
        began = time.perf_counter()
        trainer.train()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds, lora.get_base_model().eval(), peak_memory(device)


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], Path(sys.argv[2]), len(sys.argv) > 3)))
