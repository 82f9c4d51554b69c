"""Every family of models against those who made its files: how far ours is off, over random models and texts.

    python benchmarks/families.py                       # all families, 20 random models each
    python benchmarks/families.py --models 200 --only "Gemma 2"
    python benchmarks/families.py --tokenizers FOLDER   # FOLDER/llama3/tokenizer.json, …: real ones, where there are

Each model has random sizes and settings of its family (grouped heads, biases, windows shorter than the rows, kinds
of rotary positions, tied or not) and random weights, norms and biases too. `transformers` saves it, we open it.
The columns, in float32:

- load: the weights themselves, from one file, from shards and in bfloat16; 0 when they are the same;
- logits: `Transformer` on whole rows;
- cache: `TorchLanguageModel`, a text token by token and in pieces, from paged memory;
- batch: the same for several texts of different lengths that share a beginning, against a padded batch;
- save: our folder, opened by `transformers` again;
- GGUF, ours and llama.cpp: log-probabilities of the `.gguf` that we write, read back by us and by llama.cpp, and
  how many of the models could be compared; why the others could not is said below the table;
- tokenizer, chat template: of how many random texts and conversations the ids are other than those of `tokenizers`
  and `transformers`, for tokenizers and templates of the kind that the family ships;
- rounding: what `transformers` itself differs from its own float64 by, for comparison.
"""

from __future__ import annotations

import argparse
import copy
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
import torch
import transformers
import xllamacpp
from family_files import GGUF, STYLES, differing_conversations, differing_texts, shipped
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from twofold.models.folder import load_config, load_weights, save_folder
from twofold.models.language_model import Ask
from twofold.models.tensor_names import stored_tensors
from twofold.models.torch_model import TorchLanguageModel, default_context
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

Rng = np.random.Generator
LONGEST = 96  # tokens; the context of every model


def sizes(rng: Rng) -> dict[str, Any]:
    """Sizes that all families have, under the names that most have for them."""
    heads, width = int(rng.choice([2, 4, 6])), int(rng.choice([4, 8, 12, 16, 20]))
    return dict(
        vocab_size=int(rng.integers(320, 400)),
        hidden_size=heads * int(rng.integers(5, 14)),
        intermediate_size=int(rng.integers(20, 90)),
        num_hidden_layers=int(rng.integers(2, 5)),
        num_attention_heads=heads,
        num_key_value_heads=int(rng.choice([k for k in (1, 2, 3, 4, 6) if heads % k == 0])),
        head_dim=width,
        max_position_embeddings=LONGEST,
        tie_word_embeddings=bool(rng.random() < 0.5),
        rms_norm_eps=float(rng.choice([1e-6, 1e-5, 1e-2])),
        pad_token_id=None,
        bos_token_id=0,
        eos_token_id=0,
    )


def square(rng: Rng) -> dict[str, Any]:
    """The same where the heads together are as wide as the model."""
    found = sizes(rng)
    return {**found, "hidden_size": found["num_attention_heads"] * found.pop("head_dim")}


def gpt2(rng: Rng) -> dict[str, Any]:
    found, heads = sizes(rng), int(rng.integers(1, 5))
    kept = ("vocab_size", "tie_word_embeddings", "pad_token_id", "bos_token_id", "eos_token_id")
    return {name: found[name] for name in kept} | dict(
        n_head=heads,
        n_embd=heads * int(rng.integers(5, 14)),
        n_layer=found["num_hidden_layers"],
        n_inner=[None, found["intermediate_size"]][rng.integers(2)],
        n_positions=LONGEST,
        layer_norm_epsilon=found["rms_norm_eps"],
        activation_function=str(rng.choice(["gelu_new", "gelu", "relu"])),
    )


def rope(rng: Rng, kind: str, width: int) -> dict[str, Any]:
    """Rotary positions of a kind for heads of `width` channels that turn."""
    found = {"rope_type": kind, "rope_theta": float(rng.choice([100.0, 10_000.0, 5e5]))}
    original = int(rng.choice([24, 32, 48]))
    if kind != "default":
        found["factor"] = float(rng.choice([1.5, 4.0, 8.0]))
    if kind in ("yarn", "llama3", "longrope"):
        found["original_max_position_embeddings"] = original
    if kind == "llama3":
        found |= {"low_freq_factor": 1.0, "high_freq_factor": float(rng.choice([2.0, 4.0]))}
    if kind == "yarn" and rng.random() < 0.5:
        found |= {"beta_fast": 8.0, "beta_slow": 0.5, "truncate": False}
    if kind == "yarn":
        found |= [{}, {"attention_factor": 1.25}, {"mscale": 0.7, "mscale_all_dim": 1.2}][rng.integers(3)]
    if kind == "longrope":
        found |= {name: rng.uniform(1, 4, width // 2).tolist() for name in ("short_factor", "long_factor")}
        del found["factor"]
    return found


def biased(rng: Rng, *names: str) -> dict[str, bool]:
    return {name: bool(rng.random() < 0.3) for name in names}


def windowed(rng: Rng, found: dict[str, Any]) -> dict[str, Any]:
    """Some layers with a window, some without, at random."""
    layers = found["num_hidden_layers"]
    kinds = rng.choice(["sliding_attention", "full_attention"], layers).tolist()
    return {"sliding_window": int(rng.integers(1, 40)), "layer_types": kinds}


def llama(rng: Rng, kind: str = "default") -> dict[str, Any]:
    found = sizes(rng)
    found |= {"rope_parameters": rope(rng, kind, found["head_dim"])}
    return found | biased(rng, "attention_bias", "mlp_bias")


def mistral(rng: Rng) -> dict[str, Any]:
    return sizes(rng) | {"sliding_window": [None, int(rng.integers(1, 40))][rng.integers(2)]}


def qwen(rng: Rng, found: dict[str, Any]) -> dict[str, Any]:
    found |= {"rope_parameters": rope(rng, str(rng.choice(["default", "yarn"])), 0)}
    if rng.random() < 0.5:
        found |= {"use_sliding_window": True, **windowed(rng, found)}
    return found


def smollm3(rng: Rng) -> dict[str, Any]:
    found = square(rng) | biased(rng, "attention_bias", "mlp_bias")
    if rng.random() < 0.5:  # else all but every fourth turn
        found["no_rope_layers"] = rng.integers(0, 2, found["num_hidden_layers"]).tolist()
    if rng.random() < 0.3:
        found |= {"use_sliding_window": True, "sliding_window": int(rng.integers(1, 40))}
    return found


def gemma(rng: Rng) -> dict[str, Any]:
    found = sizes(rng) | biased(rng, "attention_bias")
    return found | {"tie_word_embeddings": bool(rng.random() < 0.8)}


def gemma2(rng: Rng) -> dict[str, Any]:
    found = sizes(rng) | biased(rng, "attention_bias")
    scalar = [found["head_dim"], int(rng.integers(4, 40))][int(rng.random() < 0.3)]
    found |= {"query_pre_attn_scalar": scalar, **windowed(rng, found)}
    found["tie_word_embeddings"] = bool(rng.random() < 0.8)
    for name in ("attn_logit_softcapping", "final_logit_softcapping"):
        found[name] = [None, float(rng.uniform(1, 30))][int(rng.random() < 0.8)]
    return found


def gemma3(rng: Rng) -> dict[str, Any]:
    found = gemma2(rng) | {"attn_logit_softcapping": None}
    full = rope(rng, str(rng.choice(["default", "linear"])), 0)
    local = {"rope_type": "default", "rope_theta": float(rng.choice([50.0, 10_000.0]))}
    return found | {"rope_parameters": {"full_attention": full, "sliding_attention": local}}


def phi3(rng: Rng) -> dict[str, Any]:
    found = square(rng)
    width = found["hidden_size"] // found["num_attention_heads"]
    share = float(rng.choice([share for share in (0.5, 0.75, 1.0) if int(width * share) % 2 == 0]))
    parameters = rope(rng, str(rng.choice(["default", "longrope"])), int(width * share))
    original = parameters.pop("original_max_position_embeddings", LONGEST)
    return found | {
        "rope_parameters": {**parameters, "partial_rotary_factor": share},
        "original_max_position_embeddings": original,
        "sliding_window": [None, int(rng.integers(1, 40))][rng.integers(2)],
    }


class Row(NamedTuple):
    """One row of the table: the class of configs, random arguments for it, and the tokenizer that it ships."""

    config: type[PretrainedConfig]
    settings: Callable[[Rng], dict[str, Any]]
    style: str = ""


ROWS: Mapping[str, Row] = {
    "GPT-2": Row(transformers.GPT2Config, gpt2, "gpt2"),
    "Llama 2": Row(transformers.LlamaConfig, llama, "llama2"),
    **{
        f"Llama, {kind}": Row(
            transformers.LlamaConfig,
            lambda rng, kind=kind: llama(rng, kind),
            "llama3" if kind == "llama3" else "llama2",
        )
        for kind in ("linear", "dynamic", "yarn", "llama3", "longrope")
    },
    "Mistral": Row(transformers.MistralConfig, mistral, "mistral"),
    "Qwen2": Row(transformers.Qwen2Config, lambda rng: qwen(rng, square(rng)), "qwen2"),
    "Qwen3": Row(
        transformers.Qwen3Config, lambda rng: qwen(rng, sizes(rng)) | biased(rng, "attention_bias"), "qwen3"
    ),
    "SmolLM2": Row(
        transformers.LlamaConfig, lambda rng: sizes(rng) | {"tie_word_embeddings": True}, "smollm2"
    ),
    "SmolLM3": Row(transformers.SmolLM3Config, smollm3, "smollm3"),
    "Gemma": Row(transformers.GemmaConfig, gemma, "gemma2"),
    "Gemma 2": Row(transformers.Gemma2Config, gemma2, "gemma2"),
    "Gemma 3": Row(transformers.Gemma3TextConfig, gemma3, "gemma3"),
    "Phi-3": Row(transformers.Phi3Config, phi3, "phi3"),
    "OLMo 2": Row(transformers.Olmo2Config, lambda rng: square(rng) | biased(rng, "attention_bias"), "olmo2"),
}


def random_model(row: str, rng: Rng) -> PreTrainedModel:
    """A model of the row with random weights, norms and biases: none is such that leaving it out changes nothing."""
    torch.manual_seed(int(rng.integers(1 << 30)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = ROWS[row].config(**ROWS[row].settings(rng))
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        one = parameter.ndim == 1 and name.endswith("weight") and "gemma" not in config.model_type
        std = 0.2 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5
        parameter.data.normal_(std=std).add_(float(one))
    return model


@torch.no_grad()
def expected(theirs: PreTrainedModel, tokens: list[int]) -> Tensor:
    """Their scores after each token of one row, [T, V]."""
    return theirs(torch.tensor([tokens])).logits[0]


def opened(folder: str | Path, dtype: torch.dtype | None = torch.float32) -> Transformer:
    return load_weights(folder, load_config(folder), dtype=dtype)


def text(model: Transformer, rng: Rng, most: int = LONGEST, least: int = 1) -> list[int]:
    return rng.integers(0, model.config.vocab_size, int(rng.integers(least, most + 1))).tolist()


def original_length(model: Transformer) -> int | None:
    """Of rotary positions that are others for longer rows; None: they do not ask."""
    context = default_context(model.config)
    return None if context == LONGEST else context


def load(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """The largest difference of a weight: in one file, in shards, in bfloat16."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as shards, tempfile.TemporaryDirectory() as half:
        theirs.save_pretrained(shards, max_shard_size="20KB")
        rounded = copy.deepcopy(theirs).bfloat16()
        rounded.save_pretrained(half)
        for found, model in ((folder, theirs), (shards, theirs), (half, rounded)):
            ours, named = opened(found, None), model.state_dict()
            if ours.config.tie_word_embeddings:
                del named["lm_head.weight"]
            weights = ours.state_dict()
            stored = {tensor.name: tensor.join(weights) for tensor in stored_tensors(ours.config, weights)}
            if stored.keys() != named.keys() or any(x.dtype != model.dtype for x in weights.values()):
                return float("inf")
            worst = max(worst, *(float((stored[n] - named[n]).abs().max()) for n in named))
    return worst


def logits(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """Whole rows, short and long."""
    ours, worst = opened(folder), 0.0
    for most in (8, LONGEST):
        tokens = text(ours, rng, most)
        with torch.no_grad():
            worst = max(
                worst, float((ours(torch.tensor([tokens]))[0] - expected(theirs, tokens)).abs().max())
            )
    return worst


def engines(ours: Transformer, rng: Rng) -> list[tuple[TorchLanguageModel, int, int]]:
    """The model behind its memory, with the least and the most tokens for which it promises what they compute."""
    settings = dict(page_size=int(rng.choice([1, 4, 16])), chunk=int(rng.choice([5, 16, 1024])))
    original = original_length(ours)
    found = [(TorchLanguageModel(ours, **settings), 1, original or LONGEST)]
    if original is not None:
        found.append((TorchLanguageModel(ours, context_length=LONGEST, **settings), original + 1, LONGEST))
    return found


def cache(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """One text from memory: token by token, then in pieces, and again after a rewind."""
    worst = 0.0
    for model, least, most in engines(opened(folder), rng):
        tokens = text(model.transformer, rng, most, least)
        target = expected(theirs, tokens)
        memory = model.new_memory()
        sequence, at, step = memory.new(), 0, 1
        while at < len(tokens):
            piece = tokens[at : at + step]
            scores = model.scores(memory, [Ask(sequence, piece, len(piece))])
            worst = max(worst, float((scores - target[at : at + len(piece)]).abs().max()))
            at += len(piece)
            if rng.random() < 0.2:
                step = int(rng.integers(1, 20))
            if rng.random() < 0.1:
                at = int(rng.integers(0, at + 1))
                memory.rewind(sequence, at)
    return worst


def batch(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """Several texts that share a beginning, asked together and of different lengths; theirs are padded."""
    worst = 0.0
    for model, least, most in engines(opened(folder), rng):
        stem = text(model.transformer, rng, max(1, most - 20), max(1, least - 1))
        texts = [
            stem + text(model.transformer, rng, most - len(stem)) for _ in range(int(rng.integers(2, 6)))
        ]
        memory = model.new_memory()
        first = memory.new()
        model.scores(memory, [Ask(first, stem, 0)])
        forks = [memory.fork(first) for _ in texts]
        cuts = [int(rng.integers(1, len(whole) - len(stem) + 1)) for whole in texts]
        got = []
        for start, stop in (([0] * len(texts), cuts), (cuts, [len(whole) for whole in texts])):
            pieces = [whole[len(stem) :][a:b] for whole, a, b in zip(texts, start, stop, strict=True)]
            asks = [Ask(f, piece, len(piece)) for f, piece in zip(forks, pieces, strict=True) if piece]
            scores = iter(model.scores(memory, asks).split([ask.rows for ask in asks]))
            got.append([next(scores) if piece else None for piece in pieces])
        longest = max(map(len, texts))
        rows = torch.tensor([[0] * (longest - len(whole)) + whole for whole in texts])
        mask = torch.tensor([[0] * (longest - len(whole)) + [1] * len(whole) for whole in texts])
        places = (mask.cumsum(1) - 1).clamp(min=0)
        with torch.no_grad():
            theirs_BTV = theirs(rows, attention_mask=mask, position_ids=places).logits
        for index, whole in enumerate(texts):
            ours = torch.cat([part[index] for part in got if part[index] is not None])
            target = theirs_BTV[index, longest - len(whole) + len(stem) :]
            worst = max(worst, float((ours - target).abs().max()))
    return worst


def save(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """Our folder in their hands."""
    ours = opened(folder)
    with tempfile.TemporaryDirectory() as there:
        save_folder(there, ours, bytes_only(), chat=False)
        again, report = transformers.AutoModelForCausalLM.from_pretrained(there, output_loading_info=True)
    if type(again) is not type(theirs) or report["missing_keys"] or report["unexpected_keys"]:
        return float("inf")
    tokens = text(ours, rng)
    return float((expected(again.eval(), tokens) - expected(theirs, tokens)).abs().max())


def rounding(theirs: PreTrainedModel, folder: Path, rng: Rng) -> float:
    """Their whole rows in float32 and in float64."""
    tokens = text(opened(folder), rng)
    exact = expected(copy.deepcopy(theirs).double(), tokens)
    return float((expected(theirs, tokens) - exact).abs().max())


Column = Callable[[PreTrainedModel, Path, Rng], float | str]
COLUMNS: Mapping[str, Column] = {
    "load": load, "logits": logits, "cache": cache, "batch": batch, "save": save, "rounding": rounding,
}  # fmt: skip


def differences(row: str, seed: int, columns: Mapping[str, Column] = COLUMNS) -> dict[str, float | str]:
    """The largest difference of each column for one random model, or why it has none."""
    rng = np.random.default_rng([seed, *row.encode()])
    theirs = random_model(row, rng)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return {name: column(theirs, Path(folder), rng) for name, column in columns.items()}


def models(row: str, count: int, reasons: dict[str, Counter]) -> dict[str, str]:
    """The cells of random models. Where not all can be compared, the cell says how many were; adds to `reasons`."""
    found = [differences(row, seed, COLUMNS | GGUF) for seed in range(count)]
    for each in found:
        for reason in {value for value in each.values() if isinstance(value, str)}:
            general = re.sub(r"\d[\d,]* tokens", "N tokens", reason)
            reasons.setdefault(general, Counter())[row] += 1
    cells = {}
    for name in COLUMNS | GGUF:
        values = [each[name] for each in found if not isinstance(each[name], str)]
        of = f" of {len(values)}" if len(values) < count else ""
        cells[name] = f"{max(values):.1e}{of}" if values else "-"
    return cells


def texts(row: str, count: int, conversations: int, real: Path | None) -> dict[str, str]:
    """The cells of a tokenizer and its chat template."""
    style, rng = STYLES[ROWS[row].style], np.random.default_rng([*row.encode()])
    with shipped(style, real) as folder:
        cells = {"tokenizer": f"{differing_texts(folder, rng, count)}/{count}", "chat template": "-"}
        if style.template:
            differing = differing_conversations(folder, style, rng, conversations)
            cells["chat template"] = f"{differing}/{conversations}"
    return cells


ORDER = (*[name for name in COLUMNS if name != "rounding"], *GGUF, "tokenizer", "chat template", "rounding")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--models", type=int, default=20, help="random models of each family")
    parser.add_argument("--texts", type=int, default=1000, help="random texts for each tokenizer")
    parser.add_argument(
        "--conversations", type=int, default=500, help="random conversations for each chat template"
    )
    parser.add_argument("--tokenizers", type=Path, help=f"a folder with real ones, in {', '.join(STYLES)}")
    parser.add_argument(
        "--only", nargs="+", choices=ROWS, metavar="FAMILY", help="these, by their names in the table"
    )
    parser.add_argument("--quick", action="store_true", help="2 models, 40 texts, 20 conversations")
    options = parser.parse_args()
    if options.quick:
        options.models, options.texts, options.conversations = 2, 40, 20
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    libraries = (torch, transformers, tokenizers, xllamacpp)
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in libraries)
    print(f"{versions}; {options.models} models each\n")
    print(f"| family | {' | '.join(ORDER)} |")
    print(f"|---|{'---|' * len(ORDER)}")
    reasons: dict[str, Counter] = {}
    real: list[str] = []
    for row in options.only or ROWS:
        folder = options.tokenizers / ROWS[row].style if options.tokenizers else None
        if folder is not None and folder.is_dir():
            real.append(row)
        else:
            folder = None
        cells = models(row, options.models, reasons)
        cells |= texts(row, options.texts, options.conversations, folder)
        print(f"| {row} | {' | '.join(cells[name] for name in ORDER)} |", flush=True)
    print()
    for reason, rows in reasons.items():
        print(f"- {reason} ({', '.join(f'{row} {count}' for row, count in rows.items())})")
    print(f"- real tokenizers: {', '.join(real) or 'none'}")


if __name__ == "__main__":
    main()
