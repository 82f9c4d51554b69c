"""Attention within a row, where all of it is there at once, as training sees it.

Shape letters: B batch, T time, S keys, H heads, K key-value heads, C head width.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Attend(Protocol):
    """attend(layer, q_BHTC, k_BKTC, v_BKTC) -> out_BHTC, causal.

    A layer that looks otherwise than most says so by name. `window`: to how many positions, its own and those
    before, a position attends; `softcap` c makes c·tanh(s/c) of each score s; `scale` stands for 1/√C.
    """

    def __call__(
        self,
        layer: int,
        q_BHTC: Tensor,
        k_BKTC: Tensor,
        v_BKTC: Tensor,
        *,
        window: int | None = None,
        softcap: float | None = None,
        scale: float | None = None,
    ) -> Tensor: ...


def causal_attention(
    layer: int,
    q_BHTC: Tensor,
    k_BKTC: Tensor,
    v_BKTC: Tensor,
    *,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """Each position attends to itself and what came before it in its row. Returns [B, H, T, C]; see `Attend`."""
    del layer
    T = q_BHTC.shape[2]
    if softcap is None and (window is None or window >= T):
        grouped = q_BHTC.shape[1] != k_BKTC.shape[1]
        return F.scaled_dot_product_attention(
            q_BHTC, k_BKTC, v_BKTC, is_causal=True, enable_gqa=grouped, scale=scale
        )
    sees = torch.ones((T, T), dtype=torch.bool, device=q_BHTC.device).tril()
    return masked_attention(q_BHTC, k_BKTC, v_BKTC, sees, window=window, softcap=softcap, scale=scale)


def masked_attention(
    q_BHTC: Tensor,
    k_BKSC: Tensor,
    v_BKSC: Tensor,
    sees: Tensor,
    *,
    window: int | None = None,
    softcap: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """Each query attends to the keys that it `sees`: bool, broadcasts to [B, H, T, S], at least one for each.

    A window counts back from the query's own place, so S is T there.
    """
    if window is not None:
        sees = sees & torch.ones(sees.shape[-2:], dtype=torch.bool, device=sees.device).triu(1 - window)
    grouped = q_BHTC.shape[1] != k_BKSC.shape[1]
    if softcap is None:
        return F.scaled_dot_product_attention(
            q_BHTC, k_BKSC, v_BKSC, attn_mask=sees, enable_gqa=grouped, scale=scale
        )
    G = q_BHTC.shape[1] // k_BKSC.shape[1]
    k_BHSC, v_BHSC = (x.repeat_interleave(G, 1) if grouped else x for x in (k_BKSC, v_BKSC))
    scores = q_BHTC @ k_BHSC.mT * (q_BHTC.shape[-1] ** -0.5 if scale is None else scale)
    scores = (softcap * (scores / softcap).tanh()).masked_fill(~sees, float("-inf"))
    return scores.softmax(-1, dtype=torch.float32).to(v_BHSC.dtype) @ v_BHSC
