"""Stages that look at the tokens: bias, penalties for repetition, bans, masks.

Each function changes the scores [B, V] IN PLACE, and only in the rows whose settings ask for it: `adjust`
gives them a copy. Most touch few tokens of a row, so a copy at each stage would cost more than the stage.
Tokens outside the vocabulary are passed over.

Sources: repetition penalty (CTRL, arXiv 1909.05858); frequency and presence penalties (OpenAI's API
reference); no-repeat n-grams (1705.04304); DRY (text-generation-webui, pull request 5677), here as in
llama.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from twofold.decoding.row import Row
from twofold.decoding.sampling import Sampling

_NEVER = float("-inf")
_MOST = 1e30  # of a DRY penalty: no score outweighs it, and none becomes infinite by it


def add_bias(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """Add each row's `bias`."""
    found = []
    for at, row in _using(rows, "bias"):
        found.append((at, row.settings.arrays["bias"], row.settings.arrays["bias_values"]))
    _add(scores_BV, found)


def penalise_repetition(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """Divide the scores of tokens in the history, or multiply them if below 0, by `repetition_penalty`.

    The history is prompt and answer (as in transformers), or the newest `repetition_window` tokens of it.
    """
    found = []
    for at, row in _using(rows, "repetition"):
        tokens = row.history(row.settings.repetition_window)
        found.append((at, tokens, np.full(len(tokens), row.settings.repetition_penalty, np.float32)))
    rows_N, tokens_N, penalty_N = _entries(scores_BV, found)
    score_N = scores_BV[rows_N, tokens_N]
    scores_BV[rows_N, tokens_N] = torch.where(score_N < 0, score_N * penalty_N, score_N / penalty_N)


def penalise_counts(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """Subtract `frequency_penalty` for each time that a token is in the answer, `presence_penalty` once.

    Only the answer counts, not the prompt (as in OpenAI's API and vLLM).
    """
    found = []
    for at, row in _using(rows, "counts"):
        tokens, counts = np.unique(np.asarray(row.chosen, np.int64), return_counts=True)
        settings = row.settings
        found.append(
            (at, tokens, -(counts * (settings.frequency_penalty or 0) + (settings.presence_penalty or 0)))
        )
    _add(scores_BV, found)


def penalise_dry(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """Subtract DRY's penalty from tokens that would lengthen a repetition in the history."""
    found = []
    for at, row in _using(rows, "dry"):
        tokens, lengths = repetitions(row.history(row.settings.dry_window), row.settings)
        growth = (lengths - row.settings.dry_allowed_length) * math.log(row.settings.dry_base)
        most = math.log(_MOST / row.settings.dry_multiplier)
        found.append((at, tokens, -row.settings.dry_multiplier * np.exp(np.minimum(growth, most))))
    _add(scores_BV, found)


def repetitions(history_T: np.ndarray, settings: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """(tokens that followed an earlier copy of the history's end, that copy's length), DRY's way.

    Only copies of `dry_allowed_length` or more, the longest for each token; none reaches back over a breaker,
    and breakers themselves are left out. At most so long that a longer one would change nothing.
    """
    size, allowed = len(history_T), settings.dry_allowed_length
    breaks = np.flatnonzero(np.isin(history_T, settings.dry_breakers)) if settings.dry_breakers else ()
    most = size - 1 - int(breaks[-1]) if len(breaks) else size
    none = np.zeros(0, np.int64)
    if size <= allowed or most < allowed:
        return none, none
    growth = math.log(settings.dry_base)
    useful = math.log(_MOST / settings.dry_multiplier) / growth + 1 if growth else 0
    ends, lengths = _copies(history_T, int(min(most, allowed + max(useful, 0))))
    followed = history_T[ends + 1]
    counts = (lengths >= allowed) & ~np.isin(followed, settings.dry_breakers)
    tokens, of = np.unique(followed[counts], return_inverse=True)
    longest = np.zeros(len(tokens), np.int64)
    np.maximum.at(longest, of, lengths[counts])
    return tokens, longest


def _copies(history_T: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """(where earlier copies of the history's end end, how many tokens each shares with it, at most `most`)."""
    last = len(history_T) - 1
    ends = np.flatnonzero(history_T[:-1] == history_T[-1])
    lengths = np.ones(len(ends), np.int64)
    alive = np.arange(len(ends))
    for back in range(1, most):
        alive = alive[ends[alive] >= back]
        alive = alive[history_T[ends[alive] - back] == history_T[last - back]]
        if not len(alive):
            break
        lengths[alive] = back + 1
    return ends, lengths


def ban(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """-inf for `banned` tokens, the ends of `bad_words`, what would repeat an n-gram, stops that come early."""
    found = []
    for at, row in _using(rows, "bans"):
        settings = row.settings
        bans = [settings.arrays["banned"]]
        if settings.bad_words or settings.no_repeat_ngram:
            history_T = row.history()
            bans.append(np.asarray(_bad_ends(history_T, settings.bad_words), np.int64))
            bans.append(_repeating(history_T, settings.no_repeat_ngram))
        if len(row.chosen) < (settings.min_tokens or 0):
            bans.append(np.asarray(sorted(row.stop_ids), np.int64))
        tokens = np.concatenate(bans)
        found.append((at, tokens, np.zeros(len(tokens), np.float32)))
    rows_N, tokens_N, _ = _entries(scores_BV, found)
    scores_BV[rows_N, tokens_N] = _NEVER


def _bad_ends(history_T: np.ndarray, bad_words: Iterable[tuple[int, ...]]) -> list[int]:
    longest = max(map(len, bad_words), default=1) - 1
    tail = tuple(history_T[len(history_T) - min(longest, len(history_T)) :].tolist())
    return [word[-1] for word in bad_words if len(word) == 1 or tail[-(len(word) - 1) :] == word[:-1]]


def _repeating(history_T: np.ndarray, size: int | None) -> np.ndarray:
    """Tokens that would complete an n-gram of `size` which the history has already, int64 [N]."""
    if size is None or len(history_T) < size:
        return np.zeros(0, np.int64)
    grams = np.lib.stride_tricks.sliding_window_view(history_T, size)  # [T - size + 1, size]
    begun = (grams[:, :-1] == history_T[len(history_T) - size + 1 :]).all(1)
    return grams[begun, -1]


def keep_allowed(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """-inf for all tokens but each row's `allowed` ids."""
    for at, row in _using(rows, "allowed"):
        tokens = row.settings.arrays["allowed"]
        tokens_N = torch.from_numpy(tokens[tokens < scores_BV.shape[1]]).to(scores_BV.device)
        kept_N = scores_BV[at, tokens_N]
        scores_BV[at] = _NEVER
        scores_BV[at, tokens_N] = kept_N


def mask(scores_BV: Tensor, rows: Sequence[Row]) -> None:
    """-inf for the tokens that a row's mask (`Row.allowed`, bool [V]) does not allow."""
    masked = [at for at, row in enumerate(rows) if row.allowed is not None]
    if not masked:
        return
    forbidden_KV = np.ones((len(masked), scores_BV.shape[1]), bool)
    for place, at in enumerate(masked):
        allowed = rows[at].allowed[: scores_BV.shape[1]]
        np.logical_not(allowed, out=forbidden_KV[place, : len(allowed)])
    forbidden = torch.from_numpy(forbidden_KV).to(scores_BV.device, non_blocking=True)
    if len(masked) == len(rows):
        scores_BV.masked_fill_(forbidden, _NEVER)
    else:
        scores_BV[masked] = scores_BV[masked].masked_fill(forbidden, _NEVER)


def _using(rows: Sequence[Row], stage: str) -> list[tuple[int, Row]]:
    return [(at, row) for at, row in enumerate(rows) if stage in row.settings.stages]


def _entries(
    scores_BV: Tensor, found: Sequence[tuple[int, np.ndarray, np.ndarray]]
) -> tuple[Tensor, Tensor, Tensor]:
    """[(row, tokens, a number for each)] as three tensors [N], on the device of the scores."""
    rows_N = np.concatenate([np.full(len(tokens), at) for at, tokens, _ in found])
    tokens_N = np.concatenate([tokens for _, tokens, _ in found])
    numbers_N = np.concatenate([numbers for _, _, numbers in found])
    known = (tokens_N >= 0) & (tokens_N < scores_BV.shape[1])
    entries = rows_N[known], tokens_N[known], numbers_N[known]
    rows_N, tokens_N, numbers_N = (torch.from_numpy(x).to(scores_BV.device) for x in entries)
    return rows_N, tokens_N, numbers_N.to(scores_BV.dtype)


def _add(scores_BV: Tensor, found: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> None:
    rows_N, tokens_N, numbers_N = _entries(scores_BV, found)
    scores_BV[rows_N, tokens_N] += numbers_N  # no token comes twice in a row's list
