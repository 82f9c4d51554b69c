"""A model's settings as Hugging Face's `config.json`: read by what each family means by it, and written.

What would give other numbers than the file says is refused: settings of a family that has none such, kinds of
positions that are not known, quantized weights. Both ways of saying rotary positions are read: `rope_theta` and
`rope_scaling` beside the others, or all in `rope_parameters` (transformers 5). The older one is written, which
more programs read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from twofold.errors import FileError, UsageError
from twofold.models.families import FAMILIES, OPTIONAL, Family
from twofold.models.rope import RopeScaling

if TYPE_CHECKING:
    from twofold.models.config import TransformerConfig

LARGEST = 1 << 60  # of a size; what is larger no file holds, and no tensor either
MOST_LAYERS = 1 << 16  # of which one by one is told what they are
SLIDING, FULL = "sliding_attention", "full_attention"
_KINDS: Mapping[str, type] = {
    "vocab_size": int, "hidden_size": int, "num_hidden_layers": int, "num_attention_heads": int,
    "num_key_value_heads": int, "head_dim": int, "intermediate_size": int, "max_position_embeddings": int,
    "tie_word_embeddings": bool, "rms_norm_eps": float, "hidden_act": str, "attention_bias": bool,
    "mlp_bias": bool, "sliding_window": int, "layer_types": list, "no_rope_layers": list,
    "query_pre_attn_scalar": int, "attn_logit_softcapping": float, "final_logit_softcapping": float,
}  # fmt: skip
_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_NULLABLE = ("sliding_window", "attn_logit_softcapping", "final_logit_softcapping")  # null means none
_ONLY = {"quantization_config": (None,), "is_encoder_decoder": (None, False)}
_SLIDE_IF_SAID = ("qwen2", "qwen3", "smollm3")  # their windows count where use_sliding_window says so
_GEMMA = ("gemma2", "gemma3_text")  # which always have windows
_IN_SCALING = {field.name for field in fields(RopeScaling)} | {"type"}


def read(values: Any, source: str) -> dict[str, Any]:
    """The arguments of a `TransformerConfig` out of a `config.json`. Raises FileError naming what is amiss."""
    if not isinstance(values, dict):
        raise FileError(f"{source} should hold one JSON object.")
    inner = values.get("text_config")
    if values.get("model_type") == "gemma3" and isinstance(inner, dict) and _is_text(inner):
        whole, values = values, {**inner, "model_type": "gemma3_text"}
        if values.get("final_logit_softcapping") is not None:
            raise FileError(f"{source}: final_logit_softcapping is not supported beside a part that sees.")
        for name in ("tie_word_embeddings", "quantization_config"):
            if name in whole:
                values.setdefault(name, whole[name])
    model_type = values.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise FileError(
            f"{source} describes a model of type {str(model_type)[:40]!r}; {', '.join(sorted(FAMILIES))} open."
        )
    try:
        return _arguments(values, model_type, FAMILIES[model_type])
    except UsageError as error:
        raise FileError(f"{source}: {error}") from error


def _is_text(inner: dict[str, Any]) -> bool:
    return inner.get("model_type", "gemma3_text") == "gemma3_text"


def _arguments(values: dict[str, Any], model_type: str, family: Family) -> dict[str, Any]:
    """Raises UsageError, as all below."""
    for name, allowed in {**_ONLY, **family.only}.items():
        if name in values and values[name] not in allowed:
            raise UsageError(f"{name} = {str(values[name])[:40]!r} is not supported (only {allowed[-1]!r}).")
    found: dict[str, Any] = {"model_type": model_type}
    for name, kind in _KINDS.items():
        if name in OPTIONAL and name not in family.settings:
            continue
        value = _value(values, family.names.get(name, name), kind)
        if value is None and not (name in _NULLABLE and name in values):
            value = family.defaults.get(name)
        if value is not None:
            found[name] = value
    if model_type == "gemma" and found["hidden_act"] == "gelu":  # its first files say so, and mean the other
        found["hidden_act"] = "gelu_pytorch_tanh"
    if family.learned_positions:  # GPT-2 leaves out what follows from the others
        found.setdefault("intermediate_size", 4 * found.get("hidden_size", 0))
        found |= {"num_key_value_heads": found.get("num_attention_heads"), "head_dim": None}
    for name in _REQUIRED:
        if found.get(name) is None:
            raise UsageError(f"there is no {family.names.get(name, name)!r}.")
    heads = found["num_attention_heads"]
    if found.get("head_dim") is None:
        found["head_dim"] = found["hidden_size"] // heads if heads > 0 else 0
    found.setdefault("num_key_value_heads", heads)
    found.setdefault("tie_word_embeddings", False)
    for name, neutral in OPTIONAL.items():  # transformers would pass over these
        if name not in family.settings and values.get(name) not in (None, neutral, family.defaults.get(name)):
            raise UsageError(f"{name} = {str(values[name])[:40]!r} is not supported for {model_type}.")
    found |= _layers(values, found, model_type)
    return found if family.learned_positions else found | _rotary(values, found, model_type, family)


def _value(values: Mapping[str, Any], name: str, kind: type) -> Any:
    """The value of that name, if it is of that kind; None where it is null or not there."""
    value = values.get(name)
    if value is None:
        return None
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        value = float(value)
    if type(value) is not kind:
        raise UsageError(f"{name} should be of type {kind.__name__}, and is {str(value)[:40]!r}.")
    if kind is not list:
        return value
    if not all(type(entry) in (str, int) for entry in value):
        raise UsageError(f"{name} should hold words or numbers, and is {str(value)[:40]!r}.")
    return tuple(value)


def _layers(values: dict[str, Any], found: dict[str, Any], model_type: str) -> dict[str, Any]:
    """Which layers attend within a window, and which turn by position, where not all are alike."""
    count, window = found["num_hidden_layers"], found.get("sliding_window")
    if model_type in _SLIDE_IF_SAID and not _value(values, "use_sliding_window", bool):
        window = None
    types, turns = found.get("layer_types"), found.get("no_rope_layers")
    if not 1 <= count <= MOST_LAYERS:  # before one by one is made
        return {"sliding_window": window}
    every = range(1, count + 1)
    if turns is None and model_type == "smollm3":
        interval = _value(values, "no_rope_layer_interval", int) or 4
        turns = tuple(int(layer % interval != 0) for layer in every)
    if types is None and (window is not None or model_type in _GEMMA):
        if model_type in ("qwen2", "qwen3"):
            first = _value(values, "max_window_layers", int)
            slides = [layer > (28 if first is None else first) for layer in every]
        elif model_type == "smollm3":
            slides = [not turn for turn in turns]
        elif model_type in _GEMMA:
            pattern = 2 if model_type == "gemma2" else _value(values, "sliding_window_pattern", int) or 6
            slides = [layer % pattern != 0 for layer in every]
        else:
            slides = [True] * count
        types = tuple(SLIDING if slide else FULL for slide in slides)
    if types is not None and SLIDING not in types:
        window = None
    if types is not None and len(types) == count and set(types) == {FULL if window is None else SLIDING}:
        types = None  # all alike: `sliding_window` says which
    if turns is not None and set(turns) == {1} and len(turns) == count:
        turns = None
    return {"sliding_window": window, "layer_types": types, "no_rope_layers": turns}


def _rotary(values: dict[str, Any], found: dict[str, Any], model_type: str, family: Family) -> dict[str, Any]:
    """The rotary positions, said in one way or the other."""
    if "rope_local_base_freq" in family.settings:  # one entry for each kind of layer
        kinds = _object(values, "rope_parameters")
        full = {**_object(kinds, FULL), **_object(values, "rope_scaling")}
        local, unknown = _object(kinds, SLIDING), set(kinds) - {FULL, SLIDING}
        unknown |= {key for key in local if (key, local[key]) != ("rope_type", "default")} - {"rope_theta"}
        if unknown:
            raise UsageError(f"rope_parameters: {min(unknown)[:40]!r} is not supported there.")
    else:
        full, local = _object(values, "rope_scaling") or _object(values, "rope_parameters"), {}
    arguments = {}
    for name, where in (
        ("rope_theta", full), ("rope_theta", values), ("partial_rotary_factor", full),
        ("partial_rotary_factor", values),
    ):  # fmt: skip
        value = _value(where, name, float)
        if value is not None:
            arguments.setdefault(name, value)
    if "rope_local_base_freq" in family.settings:
        base = _value(local, "rope_theta", float) or _value(values, "rope_local_base_freq", float)
        arguments["rope_local_base_freq"] = base or family.defaults["rope_local_base_freq"]
    arguments.setdefault("rope_theta", family.defaults.get("rope_theta", 10_000.0))
    scaling = {key: full[key] for key in full.keys() - {"rope_theta", "partial_rotary_factor"}}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        if scaling.keys() - _IN_SCALING:
            raise UsageError(
                f"{min(scaling.keys() - _IN_SCALING)[:40]!r} of the rotary positions is not supported."
            )
        return arguments
    if model_type == "phi3" and kind in ("su", "yarn"):  # what longrope was called
        kind = "longrope"
    if kind in ("llama3", "yarn", "longrope"):
        original = values.get("original_max_position_embeddings", 4096 if model_type == "phi3" else None)
        if original is None:
            original = scaling.get("original_max_position_embeddings", found["max_position_embeddings"])
        scaling["original_max_position_embeddings"] = original
    return {**arguments, "rope_scaling": RopeScaling.from_hf({**scaling, "rope_type": kind})}


def _object(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    return _value(values, name, dict) or {}


def write(config: TransformerConfig) -> dict[str, Any]:
    """The `config.json` that `transformers` opens as the family's class."""
    family, kind = FAMILIES[config.model_type], config.model_type
    found: dict[str, Any] = {"architectures": [family.architecture]}
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
    if not family.learned_positions:
        names += ("num_key_value_heads", "head_dim")
    names += ("intermediate_size", "max_position_embeddings", "tie_word_embeddings")
    if not family.learned_positions:
        names += ("rope_theta",)
    names += ("rms_norm_eps", "model_type", "hidden_act", *family.settings)
    for name in names:
        value = getattr(config, name)
        found[family.names.get(name, name)] = list(value) if isinstance(value, tuple) else value
    dropouts = ("attn_pdrop", "embd_pdrop", "resid_pdrop") if kind == "gpt2" else ("attention_dropout",)
    found |= dict.fromkeys(dropouts, 0.0)
    if "sliding_window" in family.settings:
        found |= _written_layers(config, found)
    if config.rope_scaling is not None:
        found["rope_scaling"] = scaling = config.rope_scaling.to_hf()
        if kind == "phi3":  # which says these in its own way
            found["original_max_position_embeddings"] = scaling.pop("original_max_position_embeddings")
            scaling["type"] = scaling.pop("rope_type")
    return {**found, "initializer_range": 0.02, "use_cache": True, "torch_dtype": "float32"}


def _written_layers(config: TransformerConfig, found: dict[str, Any]) -> dict[str, Any]:
    """How a file says which layers attend within a window, by the family's ways."""
    slides = config.sliding_window is not None
    written: dict[str, Any] = {}
    if config.model_type in _SLIDE_IF_SAID:
        written["use_sliding_window"] = slides
    if config.model_type in _SLIDE_IF_SAID and not slides:
        del found["sliding_window"], found["layer_types"]
    if "layer_types" in found:
        types = config.layer_types or (SLIDING if slides else FULL,) * config.num_hidden_layers
        written["layer_types"] = list(types)
    if config.model_type in _GEMMA:
        written["sliding_window"] = config.sliding_window or config.max_position_embeddings
    if found.get("no_rope_layers", ()) is None:
        written["no_rope_layers"] = [1] * config.num_hidden_layers
    return written
