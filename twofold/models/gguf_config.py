"""A model's settings as the metadata of a GGUF, read and written.

llama.cpp's name of a family says much that Hugging Face's settings say one by one: which layers attend within a
window, what scores are scaled by, how positions turn. What it does not say and llama.cpp cannot compute is refused
where we could not read it back either; else it is written under a key that llama.cpp passes over, and told.
Source: llama.cpp (`gguf-py/gguf/constants.py`; `convert_hf_to_gguf.py`; `src/models/` for what is computed).
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.families import FAMILIES
from twofold.models.gguf import GGUF
from twofold.models.hf_config import FULL, SLIDING
from twofold.models.rope import RopeScaling

ARCHITECTURES = {  # our model_type -> llama.cpp's general.architecture
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2", "smollm3": "smollm3",
    "phi3": "phi3", "olmo2": "olmo2", "gemma": "gemma", "gemma2": "gemma2", "gemma3_text": "gemma3",
}  # fmt: skip
_SIZES = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
_PERIODS = {"gemma2": 2, "gemma3_text": 6}  # of layers, the last of so many attends to all
_WINDOWS = ("gemma2", "gemma3_text")  # families whose windows llama.cpp knows
_WIDE = {
    "gemma2": 46,
    "gemma3_text": 62,
}  # layers of the models whose scores are scaled by hidden_size / heads
_SQUARE = ("qwen2", "olmo2", "phi3")  # families whose heads together are as wide as the stream, for llama.cpp
_WITH_BIASES = ("llama", "mistral", "qwen2", "gpt2")
_TIED = {
    "gemma": True,
    "gemma2": True,
    "olmo2": False,
}  # is the output the embedding? where llama.cpp takes no other
_BIASED = {"attention_bias": ("attn_q", "attn_qkv"), "mlp_bias": ("ffn_up",)}
_LLAMA3 = (1.0, 4.0, 8192)  # low_freq_factor, high_freq_factor, original length of all Llama 3 models


def write_config(config: TransformerConfig) -> tuple[dict[str, Any], dict[str, np.ndarray], list[str]]:
    """(metadata, tables that go with it as tensors, what llama.cpp will compute otherwise, in sentences).

    Raises UsageError for settings that a GGUF cannot say.
    """
    kind = config.model_type
    name, family = ARCHITECTURES[kind], config.family
    values: dict[str, Any] = {"vocab_size": config.vocab_size}
    values |= {theirs: getattr(config, ours) for theirs, ours in _SIZES.items()}
    values[_epsilon(kind)] = config.rms_norm_eps
    if config.hidden_act not in (family.defaults.get("hidden_act", "silu"), _same_as(family.defaults)):
        raise UsageError(f"A GGUF of {kind} cannot say that its activation is {config.hidden_act}.")
    notes, tables = [], {}
    if kind in _SQUARE and config.num_attention_heads * config.head_dim != config.hidden_size:
        notes.append(f"llama.cpp opens no {kind} model whose heads together are not as wide as hidden_size.")
    if (config.attention_bias or config.mlp_bias) and kind not in _WITH_BIASES:
        notes.append(f"llama.cpp opens no {kind} model with biases.")
    if _TIED.get(kind, config.tie_word_embeddings) != config.tie_word_embeddings:
        tied = "not its" if _TIED[kind] else "its"
        notes.append(f"llama.cpp opens no {kind} model whose output is {tied} embedding.")
    if not family.learned_positions:
        values |= {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}
        values |= {"rope.dimension_count": config.rotary_dim, "rope.freq_base": config.rope_theta}
        scaling, tables = _written_scaling(config)
        values |= scaling
    if config.rope_local_base_freq is not None:
        values["rope.freq_base_swa"] = config.rope_local_base_freq
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        value = getattr(config, cap)
        if value is not None:
            values[cap] = value
        elif cap in family.defaults:
            raise UsageError(f"A GGUF of {kind} cannot say that there is no {cap}.")
    if config.no_rope_layers != _turns(kind, config.num_hidden_layers):
        raise UsageError(f"A GGUF of {kind} cannot say which layers turn by position; every 4th must not.")
    if "query_pre_attn_scalar" in family.settings:
        scalar = config.query_pre_attn_scalar or config.head_dim
        if scalar != _scalar(config):
            values["attention.scale"] = 1 / math.sqrt(scalar)
            notes.append(
                "llama.cpp takes no notice of query_pre_attn_scalar, and scales attention otherwise."
            )
    scaling = config.rope_scaling
    if (
        scaling is not None
        and scaling.rope_type == "longrope"
        and scaling.original_max_position_embeddings < config.max_position_embeddings
    ):
        notes.append(
            "llama.cpp takes the positions for long rows by the length of its context, not the row's."
        )
    windows, more = _written_windows(config)
    metadata = {f"{name}.{key}": value for key, value in (values | windows).items()}
    return {"general.architecture": name} | metadata, tables, notes + more


def read_config(file: GGUF) -> TransformerConfig:
    """The settings in a file. Raises FileError for other families, and for what is missing or amiss."""
    name = str(file.metadata.get("general.architecture"))
    kinds = [kind for kind, theirs in ARCHITECTURES.items() if theirs == name]
    if not kinds:
        known = ", ".join(dict.fromkeys(ARCHITECTURES.values()))
        raise FileError(f"{file.path} holds a model of the family {name[:40]!r}; {known} open.")
    try:
        return _Reader(file, name, kinds[0]).config()
    except UsageError as error:
        raise FileError(f"{file.path}: {error}") from error


class _Reader:
    """Of one file's metadata."""

    def __init__(self, file: GGUF, name: str, kind: str) -> None:
        self.file, self.name, self.kind = file, name, kind

    def config(self) -> TransformerConfig:
        """Raises FileError or UsageError."""
        if self.name == "llama" and self.value("attention.sliding_window", int, 0):
            self.kind = "mistral"
        kind, family, tensors = self.kind, FAMILIES[self.kind], self.file.tensors
        found: dict[str, Any] = {"model_type": kind}
        for theirs, ours in _SIZES.items():
            otherwise = found["num_attention_heads"] if theirs == "attention.head_count_kv" else None
            found[ours] = self.size(theirs, otherwise)
        if not 1 <= found["num_hidden_layers"] <= len(tensors):  # before one by one is looked at
            raise FileError(
                f"{self.file.path} describes {found['num_hidden_layers']:,} layers, and holds {len(tensors):,} "
                f"tensors. It is damaged."
            )
        heads = max(1, found["num_attention_heads"])
        found["head_dim"] = self.value("attention.key_length", int, found["hidden_size"] // heads)
        if self.value("attention.value_length", int, found["head_dim"]) != found["head_dim"]:
            raise FileError(
                f"{self.file.path}: heads whose values differ in width from their keys are not supported."
            )
        found["rms_norm_eps"] = self.value(_epsilon(kind), float)
        tokens = self.file.metadata.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list):
            raise FileError(f"{self.file.path}: the key 'tokenizer.ggml.tokens' is missing, or is no list.")
        found["vocab_size"] = len(tokens)
        found["tie_word_embeddings"] = "output.weight" not in tensors
        for setting, stems in _BIASED.items():
            if setting in family.settings:
                found[setting] = any(f"blk.0.{stem}.bias" in tensors for stem in stems)
        if not family.learned_positions:
            found |= self.positions(found)
        for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
            if cap in family.settings:
                found[cap] = self.value(cap, float, family.defaults.get(cap, 0.0)) or None
        if "sliding_window" in family.settings:
            found |= self.windows(found["num_hidden_layers"])
        found["no_rope_layers"] = _turns(kind, found["num_hidden_layers"])
        config = TransformerConfig(**found)
        if "query_pre_attn_scalar" in family.settings:
            scale = self.value("attention.scale", float, _scalar(config) ** -0.5)
            if not 1e-9 < scale < 1e9:
                raise FileError(f"{self.file.path}: attention.scale cannot be {scale}.")
            config = TransformerConfig(**found, query_pre_attn_scalar=round(scale**-2))
        return config

    def value(self, key: str, kind: type, otherwise: Any = None) -> Any:
        """The value of one of the family's keys, of this type. Raises FileError."""
        whole = f"{self.name}.{key}"
        value = self.file.metadata.get(whole, otherwise)
        if kind is float and type(value) is int and abs(value) < 1 << 60:
            value = float(value)
        if type(value) is not kind:
            raise FileError(f"{self.file.path}: the key {whole!r} is missing, or is no {kind.__name__}.")
        with np.errstate(over="ignore"):  # a float32 in the file: 9.999999974752427e-07 was meant to be 1e-06
            return float(str(np.float32(value))) if kind is float and whole in self.file.metadata else value

    def size(self, key: str, otherwise: int | None) -> int:
        """A size, which may stand there once for each layer."""
        each = self.file.metadata.get(f"{self.name}.{key}")
        if isinstance(each, np.ndarray) and each.dtype.kind in "iu" and len(each):
            if (each != each[0]).any():
                raise FileError(
                    f"{self.file.path}: {key} differs from layer to layer, which is not supported."
                )
            return int(each[0])
        return self.value(key, int, otherwise)

    def positions(self, found: dict[str, Any]) -> dict[str, Any]:
        """How channels turn by position."""
        values: dict[str, Any] = {"rope_theta": self.value("rope.freq_base", float, 10_000.0)}
        turned = self.value("rope.dimension_count", int, found["head_dim"])
        if "partial_rotary_factor" in FAMILIES[self.kind].settings and found["head_dim"]:
            values["partial_rotary_factor"] = turned / found["head_dim"]
        elif turned != found["head_dim"]:
            raise FileError(f"{self.file.path}: heads of which only a part turns are not supported here.")
        if "rope_local_base_freq" in FAMILIES[self.kind].settings:
            values["rope_local_base_freq"] = self.value("rope.freq_base_swa", float, 10_000.0)
        return values | {"rope_scaling": self.scaling(found | values, turned // 2)}

    def scaling(self, found: dict[str, Any], pairs: int) -> RopeScaling | None:
        """How positions are stretched."""
        kind = self.value("rope.scaling.type", str, "none")
        divisors = {name: self.table(name, pairs) for name in ("freqs", "factors_long", "factors_short")}
        original = self.value("rope.scaling.original_context_length", int, found["max_position_embeddings"])
        attention = self.value("rope.scaling.attn_factor", float, 1.0)
        longest = found["max_position_embeddings"]
        if divisors["factors_long"] is not None or kind == "longrope":
            if divisors["factors_long"] is None or divisors["factors_short"] is None:
                raise FileError(f"{self.file.path} lacks one of the two tables of its rotary positions.")
            scaling = RopeScaling(
                rope_type="longrope",
                original_max_position_embeddings=original,
                long_factor=divisors["factors_long"],
                short_factor=divisors["factors_short"],
            )
            return _with_scale(scaling, attention, longest)
        if divisors["freqs"] is not None:
            return _of_table(divisors["freqs"], found)
        factor = self.value("rope.scaling.factor", float, 1.0)
        if kind == "none" or (kind == "linear" and factor == 1):
            return None
        if kind == "linear":
            return RopeScaling(rope_type="linear", factor=factor)
        if kind != "yarn":
            raise FileError(f"{self.file.path}: rotary positions scaled by {kind[:40]!r} are not supported.")
        betas = {
            name: self.value(f"rope.scaling.yarn_{name}", float)
            for name in ("beta_fast", "beta_slow")
            if f"{self.name}.rope.scaling.yarn_{name}" in self.file.metadata
        }
        scaling = RopeScaling(
            rope_type="yarn", factor=factor, original_max_position_embeddings=original, **betas
        )
        return _with_scale(scaling, attention * (0.1 * math.log(factor) + 1), longest)

    def table(self, name: str, pairs: int) -> tuple[float, ...] | None:
        """One of the tables that stand beside the weights: a divisor for each pair of channels."""
        tensor = self.file.tensors.get(f"rope_{name}.weight")
        if tensor is None:
            return None
        if tensor.shape != (pairs,):
            raise FileError(
                f"{self.file.path}: rope_{name}.weight has the shape {list(tensor.shape)}, not [{pairs}]."
            )
        return tuple(float(str(x)) for x in tensor.float32())

    def windows(self, layers: int) -> dict[str, Any]:
        """Which layers attend within a window."""
        window = self.value("attention.sliding_window", int, 4096 if self.kind == "gemma2" else 0)
        pattern = self.file.metadata.get(
            f"{self.name}.attention.sliding_window_pattern", _PERIODS.get(self.kind)
        )
        if not window:
            return {"sliding_window": None}
        if isinstance(pattern, np.ndarray) and pattern.dtype == bool and len(pattern) == layers:
            slides = pattern.tolist()
        elif type(pattern) is int and pattern > 0:
            slides = [(layer + 1) % pattern != 0 for layer in range(layers)]
        elif pattern is None:
            return {"sliding_window": window}
        else:
            raise FileError(f"{self.file.path}: its sliding_window_pattern is for another number of layers.")
        return {
            "sliding_window": window,
            "layer_types": tuple(SLIDING if slide else FULL for slide in slides),
        }


def _epsilon(kind: str) -> str:
    return f"attention.layer_norm{'' if FAMILIES[kind].norm == 'layer' else '_rms'}_epsilon"


def _same_as(defaults: Any) -> str:
    """The other name of a family's activation."""
    return {"gelu_new": "gelu_pytorch_tanh", "gelu_pytorch_tanh": "gelu_new"}.get(
        defaults.get("hidden_act"), "silu"
    )


def _turns(kind: str, layers: int) -> tuple[int, ...] | None:
    """`no_rope_layers` as llama.cpp takes them to be."""
    turns = tuple(int((layer + 1) % 4 != 0) for layer in range(layers)) if kind == "smollm3" else None
    return None if turns is None or 0 not in turns else turns


def _scalar(config: TransformerConfig) -> int:
    """What llama.cpp takes Gemma's query_pre_attn_scalar to be."""
    if config.num_hidden_layers == _WIDE[config.model_type]:
        return config.hidden_size // config.num_attention_heads
    return config.head_dim


def _written_windows(config: TransformerConfig) -> tuple[dict[str, Any], list[str]]:
    window, layers = config.sliding_window, config.num_hidden_layers
    if window is None:
        always = {"gemma2": config.max_position_embeddings, "phi3": 0}.get(config.model_type)
        return {} if always is None else {"attention.sliding_window": always}, []
    slides = [config.slides(layer) for layer in range(layers)]
    values: dict[str, Any] = {"attention.sliding_window": window}
    period = _PERIODS.get(config.model_type, layers + 1)  # all, without a period
    if slides != [(layer + 1) % period != 0 for layer in range(layers)]:
        values["attention.sliding_window_pattern"] = np.array(slides)
    if config.model_type in _WINDOWS or window >= config.max_position_embeddings:
        return values, []
    return values, [f"llama.cpp attends to all that came before, not to the last {window:,} tokens alone."]


def _written_scaling(config: TransformerConfig) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    scaling, name = config.rope_scaling, ARCHITECTURES[config.model_type]
    if scaling is None:
        return {}, {}
    kind, longest = scaling.rope_type, config.max_position_embeddings
    refused = UsageError(
        f"A GGUF of {config.model_type} has no place for {kind} rotary positions as they are here."
    )
    if kind == "linear":
        return {"rope.scaling.type": kind, "rope.scaling.factor": scaling.factor}, {}
    if kind == "llama3" and name == "llama":
        return {}, {"rope_freqs.weight": _llama3(config, scaling)}
    values: dict[str, Any] = {
        "rope.scaling.type": kind,
        "rope.scaling.original_context_length": scaling.original_max_position_embeddings,
    }
    if kind == "longrope" and name in ("llama", "phi3"):
        values["rope.scaling.attn_factor"] = scaling.scale(longest)
        tables = {"long": scaling.long_factor, "short": scaling.short_factor}
        return values, {f"rope_factors_{k}.weight": np.array(v, np.float32) for k, v in tables.items()}
    if kind == "yarn" and scaling.truncate:
        stretch = scaling.stretch(longest)
        own = scaling.scale(longest) / (
            0.1 * math.log(stretch) + 1
        )  # by the latter llama.cpp multiplies itself
        values["rope.scaling.factor"] = stretch
        values |= {"rope.scaling.attn_factor": own} if abs(own - 1) > 1e-6 else {}
        betas = {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
        return values | {f"rope.scaling.yarn_{k}": v for k, v in betas.items() if v is not None}, {}
    raise refused


def _llama3(config: TransformerConfig, scaling: RopeScaling) -> np.ndarray:
    """What the speed of each pair is divided by, float32: 1 for the fast ones, the factor for the slow ones."""
    speeds = config.rope_theta ** (-np.arange(0, config.rotary_dim, 2) / config.rotary_dim)
    turns = scaling.original_max_position_embeddings * speeds / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = np.clip(kept, 0, 1)
    return (1 / ((1 - kept) / scaling.factor + kept)).astype(np.float32)


def _with_scale(scaling: RopeScaling, scale: float, longest: int) -> RopeScaling:
    """A scaling whose sines and cosines are multiplied by `scale`, which is said only where it has to be."""
    if abs(scaling.scale(longest) - scale) < 1e-6:
        return scaling
    return replace(scaling, attention_factor=float(f"{scale:.7g}"))


def _of_table(divisors: tuple[float, ...], found: dict[str, Any]) -> RopeScaling:
    """The scaling of a table: Llama 3's if the table is what that gives, else the table itself."""
    if max(divisors) > 1 and min(divisors) > 0:
        config = TransformerConfig(**found)
        low, high, original = _LLAMA3
        guess = RopeScaling(
            rope_type="llama3",
            factor=max(divisors),
            low_freq_factor=low,
            high_freq_factor=high,
            original_max_position_embeddings=original,
        )
        if np.allclose(_llama3(config, guess), divisors, rtol=1e-5, atol=0):
            return guess
    return RopeScaling(
        rope_type="longrope",
        original_max_position_embeddings=found["max_position_embeddings"],
        attention_factor=1.0,
        long_factor=divisors,
        short_factor=divisors,
    )
