"""Rotary positions: each pair of a head's channels turns by an angle that grows with the position.

Stretched positions (`rope.py`) change how fast the pairs turn. Two kinds of them ask how long the row is:
"longrope" has one set of speeds for rows up to the original length and another for longer ones, "dynamic" slows
down beyond max_position_embeddings. Source: Su et al. 2021 (arXiv 2104.09864); for the kinds, see `rope.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from twofold.models.config import TransformerConfig
from twofold.models.rope import RopeScaling


def rotary_tables(
    positions: Tensor, config: TransformerConfig, *, local: bool = False, length: int | None = None
) -> tuple[Tensor, Tensor]:
    """cos and sin for `positions` (any shape […]), each […, rotary_dim] float32, the two halves equal.

    `local`: for the layers with a window, where those turn otherwise. `length`: of the row in tokens, for the
    kinds that depend on it (`depends_on_length`); None: up to its last position.
    """
    half = torch.arange(0, config.rotary_dim, 2, dtype=torch.float32, device=positions.device)
    local = local and config.rope_local_base_freq is not None
    theta = config.rope_local_base_freq if local else config.rope_theta
    scaling, scale = None if local else config.rope_scaling, 1.0
    if scaling is not None and scaling.rope_type == "dynamic":
        theta = _slower(theta, scaling, config, length or int(positions.max()) + 1)
    frequencies = theta ** (-half / config.rotary_dim)
    if scaling is not None:
        scale = scaling.scale(config.max_position_embeddings)
        if scaling.rope_type == "longrope":
            is_long = (length or int(positions.max()) + 1) > scaling.original_max_position_embeddings
            divisors = scaling.long_factor if is_long else scaling.short_factor
            frequencies = frequencies / torch.tensor(divisors, device=positions.device)
        else:
            frequencies = _stretched(frequencies, theta, scaling, config)
    angles = positions.float()[..., None] * frequencies
    angles = torch.cat((angles, angles), -1)
    if scale == 1.0:
        return angles.cos(), angles.sin()
    return angles.cos() * scale, angles.sin() * scale


def depends_on_length(config: TransformerConfig) -> bool:
    """Whether the angles of a position depend on how long its row is."""
    return config.rope_scaling is not None and config.rope_scaling.rope_type in ("longrope", "dynamic")


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn channel pairs (i, i + R/2) of x_BHTC's first R channels by the position's angle; cos and sin, […, R],
    broadcast to them."""
    width = cos.shape[-1]
    if width < x.shape[-1]:
        return torch.cat((rotate(x[..., :width], cos, sin), x[..., width:]), -1)
    first, second = x.chunk(2, -1)
    return x * cos.to(x.dtype) + torch.cat((-second, first), -1) * sin.to(x.dtype)


def _slower(theta: float, scaling: RopeScaling, config: TransformerConfig, length: int) -> float:
    """The base of "dynamic" positions: a larger one for rows longer than the context, the same for others."""
    beyond = max(length, config.max_position_embeddings) / config.max_position_embeddings
    power = config.rotary_dim / (config.rotary_dim - 2)
    return theta * (scaling.factor * beyond - (scaling.factor - 1)) ** power


def _stretched(frequencies: Tensor, theta: float, scaling: RopeScaling, config: TransformerConfig) -> Tensor:
    """The frequencies of the kinds that change them by how often a pair turns in the original length."""
    if scaling.rope_type == "dynamic":
        return frequencies
    slow = frequencies / scaling.stretch(config.max_position_embeddings)
    if scaling.rope_type == "linear":
        return slow
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    if scaling.rope_type == "llama3":
        kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    else:  # yarn: between the pairs that make beta_fast turns and those that make beta_slow
        low, high = (
            _pair_of(turns, theta, scaling, config.rotary_dim)
            for turns in (scaling.beta_fast or 32, scaling.beta_slow or 1)
        )
        if scaling.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, config.rotary_dim - 1)
        pairs = torch.arange(len(frequencies), dtype=torch.float32, device=frequencies.device)
        kept = 1 - (pairs - low) / (high - low if high != low else 0.001)
    kept = kept.clamp(0, 1)
    return slow * (1 - kept) + frequencies * kept


def _pair_of(turns: float, theta: float, scaling: RopeScaling, width: int) -> float:
    """Which pair of channels makes so many turns in the original length, as a fraction."""
    length = scaling.original_max_position_embeddings
    return width * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(theta))
