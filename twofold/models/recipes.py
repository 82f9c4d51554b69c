"""Which type each tensor of a GGUF gets: one for nearly all of them, better ones where errors cost most.

llama.cpp's recipes: what a score is computed with last, and in the mixes some of the matrices that carry values
and write into the stream, keep more bits. Rows that are not whole blocks of 256 take the next best type of 32.
Norms, biases and positions stay F32. Source: llama.cpp (`src/llama-quant.cpp`, llama_tensor_get_type_impl and
tensor_type_fallback).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, get_args

from twofold.errors import UsageError
from twofold.models.quantize import BLOCKS, TensorType

Recipe = Literal["f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_1", "q5_0", "q4_k_m", "q4_1", "q4_0"]
RECIPES = get_args(Recipe)

FILE_TYPES: Mapping[str, int] = {  # llama.cpp's llama_ftype, in general.file_type
    "f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q4_k_m": 15, "q5_k_m": 17,
    "q6_k": 18, "bf16": 32,
}  # fmt: skip
_SMALLER_BLOCKS = {
    TensorType.Q4_K: TensorType.Q5_0,
    TensorType.Q5_K: TensorType.Q5_1,
    TensorType.Q6_K: TensorType.Q8_0,
}
_SAFER = {TensorType.Q4_0: TensorType.Q4_1, TensorType.Q5_0: TensorType.Q5_1}  # for a lopsided matrix


def check_recipe(name: str) -> None:
    """Raise UsageError for a recipe that there is not."""
    if name not in RECIPES:
        raise UsageError(f"There is no type {name!r}; {', '.join(RECIPES)} can be written.")


def wanted_type(
    recipe: str, name: str, shape: tuple[int, ...], *, layers: int, tied: bool, weighed: bool
) -> TensorType:
    """The type that a recipe wants for the tensor of this name (llama.cpp's), whatever its width.

    `tied`: embedding and output are one matrix. `weighed`: there is an importance to encode by.
    """
    base = TensorType[recipe.removesuffix("_m").upper()]
    stem = re.sub(r"^blk\.\d+\.|\.weight$", "", name)
    if len(shape) != 2 or not name.endswith(".weight") or stem == "position_embd":
        return TensorType.F32
    if BLOCKS[base][0] == 1:
        return base
    if stem == "output" or (tied and stem == "token_embd"):
        return TensorType.Q8_0 if base == TensorType.Q8_0 or shape[1] % BLOCKS[base][0] else TensorType.Q6_K
    layer = re.match(r"blk\.(\d+)\.", name)
    if layer and stem in ("attn_v", "attn_qkv", "ffn_down"):
        place, eighth = int(layer[1]), layers // 8
        if recipe.endswith("_m") and (
            place < eighth or place >= 7 * layers // 8 or (place - eighth) % 3 == 2
        ):
            return TensorType.Q6_K
        if stem == "ffn_down" and weighed and place < eighth:
            return _SAFER.get(base, base)
    return base


def fitting_type(wanted: TensorType, width: int) -> TensorType:
    """The type itself, or the best one below it whose blocks make up rows of this width."""
    for kind in (wanted, _SMALLER_BLOCKS.get(wanted, wanted)):
        if width % BLOCKS[kind][0] == 0:
            return kind
    return TensorType.F16
