"""Scores → distribution → choice: pure functions over a batch, each row with settings of its own.

The order of the stages is `ORDERS[compat]`. Ours:

  bias, repetition penalty, frequency and presence penalties, DRY,       `penalties`: the tokens so far
  bans (banned, bad words, n-grams, early stops), allowed ids, mask,
  temperature, top-n-sigma, top-k, top-p, min-p, typical, epsilon, eta,  `truncation`: the distribution
  XTC, mirostat,
  draw

A neighbour's order is its own for the stages that it has; the others stand where they do least harm to that,
and every stage means the same in all orders. Greedy is temperature 0: the best token after the mask; what
only shapes a draw is passed over. With mirostat, llama.cpp applies only bias, bans and temperature beside it.

A draw is one uniform number looked up in the cumulative distribution; each request brings its own numbers,
so that what it says does not depend on who is beside it. The common case, rows with a temperature and a cut
or two, pays for nothing else: a stage that no row uses is not run, and one that some use runs on those.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from twofold.decoding import penalties
from twofold.decoding import truncation as cut
from twofold.decoding.row import Row
from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError

Uniforms = Sequence[float | tuple[float, float]]

_EDITS = ("bias", "repetition", "counts", "dry", "bans", "allowed", "mask")
_TEMPERATURE = ("temperature", "dynamic_temperature")
_OURS = (*_TEMPERATURE, "top_n_sigma", "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "xtc")
_TRANSFORMERS = (*_TEMPERATURE, "top_k", "top_p", "min_p", "typical", "epsilon", "eta", "top_n_sigma", "xtc")
_LLAMA_CPP = ("top_n_sigma", "top_k", "typical", "top_p", "min_p", "epsilon", "eta", "xtc", *_TEMPERATURE)
_MLX = ("top_p", "min_p", "xtc", "top_k", "typical", "epsilon", "eta", "top_n_sigma", *_TEMPERATURE)
ORDERS: dict[str | None, tuple[str, ...]] = {
    None: (*_EDITS, *_OURS, "mirostat"),
    "transformers": (*_EDITS, *_TRANSFORMERS, "mirostat"),
    "llama.cpp": (*_EDITS, *_LLAMA_CPP, "mirostat"),
    "mlx": (*_EDITS, *_MLX, "mirostat"),
}

_NEVER = float("-inf")
_EDIT: dict[str, Callable[[Tensor, Sequence[Row]], None]] = {
    "bias": penalties.add_bias,
    "repetition": penalties.penalise_repetition,
    "counts": penalties.penalise_counts,
    "dry": penalties.penalise_dry,
    "bans": penalties.ban,
    "allowed": penalties.keep_allowed,
    "mask": penalties.mask,
}
# those that need no more than one setting: (function, the setting)
_CUT: dict[str, tuple[Callable[[Tensor, Sequence], Tensor], str]] = {
    "top_n_sigma": (cut.keep_top_n_sigma, "top_n_sigma"),
    "top_k": (cut.keep_top_k, "top_k"),
    "top_p": (cut.keep_top_p, "top_p"),
    "min_p": (cut.keep_min_p, "min_p"),
    "typical": (cut.keep_typical, "typical_p"),
    "epsilon": (cut.keep_epsilon, "epsilon_cutoff"),
    "eta": (cut.keep_eta, "eta_cutoff"),
}


def as_scores(scores: np.ndarray | Tensor) -> Tensor:
    """Any model's scores [B, V] as a float32 tensor where they lie."""
    tensor = torch.from_numpy(scores) if isinstance(scores, np.ndarray) else scores
    return tensor.float()


def adjust(
    scores_BV: Tensor, rows: Sequence[Row], *, uniforms: Uniforms | None = None, search: bool = False
) -> Tensor:
    """The whole chain [B, V]: softmax of it is what a row draws from. A greedy row keeps only its best token.

    uniforms: as for `choose`, only looked at for XTC, which does nothing without. search: what a search for
    the most probable text adds up (as transformers' beams): log-probabilities with bias, penalties, bans and
    mask applied, neither cut off nor normalised again. The scores given stay as they are.
    """
    if search:
        return _edited(scores_BV.log_softmax(-1), rows)
    coins = None if uniforms is None else _draws_and_coins(rows, uniforms)[1]
    edited_BV = _edited(scores_BV, rows)
    greedy = [at for at, row in enumerate(rows) if row.settings.temperature == 0]
    kept_BV = _shaped(edited_BV, rows, coins)
    if greedy:
        best_BV = torch.full_like(kept_BV, _NEVER).scatter(1, edited_BV.argmax(-1, keepdim=True), 0.0)
        kept_BV = torch.where(_column(rows, greedy, kept_BV), best_BV + edited_BV, kept_BV)
    return kept_BV


def choose(scores_BV: Tensor, rows: Sequence[Row], uniforms: Uniforms) -> Tensor:
    """One token for each row, int64 [B], on the device of the scores.

    `uniforms`: for each row a number in [0, 1), which a greedy row does not look at, or two: the second
    decides whether XTC acts. With one only, both are made from it. After the choice comes `update_mirostat`
    for rows that use it.

    A row whose scores have NaN, +inf or nothing but -inf gets the token -1, one whose bans and mask leave
    nothing -2: `check` says so where the tokens are read.
    """
    best_value, best = scores_BV.max(-1)  # NaN wins, so the best value tells of any
    broken = ~best_value.isfinite()
    edited_BV = _edited(scores_BV, rows)
    if edited_BV is not scores_BV:
        best_value, best = edited_BV.max(-1)
        nothing = best_value == _NEVER
    if any(row.settings.temperature for row in rows):
        draws, coins = _draws_and_coins(rows, uniforms)
        drawn = draw(_shaped(edited_BV, rows, coins), draws)
        greedy = [at for at, row in enumerate(rows) if row.settings.temperature == 0]
        best = torch.where(_column(rows, greedy, best)[:, 0], best, drawn) if greedy else drawn
    if edited_BV is not scores_BV:
        best = best.masked_fill(nothing, -2)
    return best.masked_fill(broken, -1)


def update_mirostat(settings: Sampling, mu: float | None, log_probability: float) -> float:
    """The state for the next token (None: the start), after a token of this log-probability (nats).

    mu moves by mirostat_eta times what the token's surprise is short of mirostat_tau. Whose probability: the
    authors' code takes the model's own (`log_probabilities`), llama.cpp the one among the tokens that were
    kept (`log_probabilities` of what `adjust` gave).
    """
    before = 2 * settings.mirostat_tau if mu is None else mu
    return before - settings.mirostat_eta * (-log_probability / math.log(2) - settings.mirostat_tau)


def _edited(scores_BV: Tensor, rows: Sequence[Row]) -> Tensor:
    """Scores after the stages that look at the tokens: a new tensor, or the same if there are none."""
    needed = _needed(rows).intersection(_EDITS)
    if any(row.allowed is not None for row in rows):
        needed.add("mask")
    if not needed:
        return scores_BV
    scores_BV = scores_BV.clone()
    for stage in _EDITS:
        if stage in needed:
            _EDIT[stage](scores_BV, rows)
    return scores_BV


def _shaped(scores_BV: Tensor, rows: Sequence[Row], coins: Sequence[float] | None) -> Tensor:
    """Scores after the stages that look at the distribution, each row's in the order of its `compat`."""
    needed = _needed(rows).difference(_EDITS)
    if not needed:
        return scores_BV
    orders = {row.settings.compat for row in rows}
    for compat in orders:
        # the rows of other orders pass through untouched: they are given no settings
        own = [row if row.settings.compat == compat else None for row in rows] if len(orders) > 1 else rows
        for stage in ORDERS[compat]:
            if stage in needed:
                scores_BV = _shape(stage, scores_BV, own, coins)
    return scores_BV


def _shape(
    stage: str, scores_BV: Tensor, rows: Sequence[Row | None], coins: Sequence[float] | None
) -> Tensor:
    using = [row if row is not None and stage in row.settings.stages else None for row in rows]
    if stage in _CUT:
        keep, name = _CUT[stage]
        return keep(scores_BV, _each(using, lambda row: getattr(row.settings, name)))
    if stage == "temperature":
        return cut.scale(scores_BV, _each(using, _temperature))
    if stage == "dynamic_temperature":
        return cut.scale_dynamically(scores_BV, _each(using, _dynamic))
    if stage == "mirostat":
        for version, keep in ((1, cut.keep_mirostat_1), (2, cut.keep_mirostat_2)):
            own = [row if row is not None and row.settings.mirostat == version else None for row in using]
            scores_BV = keep(scores_BV, _each(own, _mu))
        return scores_BV
    if coins is None:
        return scores_BV
    acts = zip(using, coins, strict=True)
    acting = [row if row is not None and coin < row.settings.xtc_probability else None for row, coin in acts]
    return cut.exclude_top(scores_BV, _each(acting, lambda row: row.settings.xtc_threshold))


def _needed(rows: Sequence[Row]) -> set[str]:
    return set().union(*(row.settings.stages for row in rows))


def _each(rows: Iterable[Row | None], read: Callable) -> list:
    return [None if row is None else read(row) for row in rows]


def _temperature(row: Row) -> float | None:
    return None if "dynamic_temperature" in row.settings.stages else row.settings.temperature


def _dynamic(row: Row) -> tuple[float, float, float]:
    s = row.settings
    return s.temperature, s.dynamic_temperature, s.dynamic_temperature_exponent


def _mu(row: Row) -> float:
    return 2 * row.settings.mirostat_tau if row.mirostat is None else row.mirostat


def _draws_and_coins(rows: Sequence[Row], uniforms: Uniforms) -> tuple[list[float], list[float]]:
    """(the numbers to draw with, those that decide whether XTC acts), one for each row; the latter may lack.

    Where a row with XTC has one number u only, it decides, and what is left of it draws: given u < p, u / p
    is uniform again.
    """
    if "xtc" not in _needed(rows) and not any(isinstance(given, tuple) for given in uniforms):
        return list(uniforms), []
    draws, coins = [], []
    for row, given in zip(rows, uniforms, strict=True):
        at, coin = given if isinstance(given, tuple) else (given, given)
        if not isinstance(given, tuple) and "xtc" in row.settings.stages:
            p = row.settings.xtc_probability
            at = coin / p if coin < p else (coin - p) / (1 - p)
        draws.append(at)
        coins.append(coin)
    return draws, coins


def _column(rows: Sequence[Row], chosen: Sequence[int], like: Tensor) -> Tensor:
    """bool [B, 1]: which rows are among `chosen`."""
    column = torch.zeros(len(rows), 1, dtype=torch.bool)
    column[list(chosen)] = True
    return column.to(like.device, non_blocking=True)


def draw(scores_BV: Tensor, uniforms: Sequence[float]) -> Tensor:
    """The token at which each row's cumulative probability passes its uniform number, int64 [B].

    In float64, so that rare tokens of a large vocabulary keep their share; a token of probability 0 is
    never drawn.
    """
    cumulative = scores_BV.double().softmax(-1).cumsum(-1)
    at = torch.tensor(uniforms, dtype=torch.float64).to(cumulative.device, non_blocking=True)[:, None]
    # a uniform next to 1 may round up to the total, which no token passes
    total = cumulative[:, -1:]
    at = torch.minimum(at * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, at, right=True)[:, 0]


def log_probabilities(scores_BV: Tensor, tokens_B: Tensor) -> Tensor:
    """The model's own log-probability of each row's token (natural log, temperature 1, nothing cut off)."""
    return scores_BV.gather(1, tokens_B[:, None])[:, 0] - scores_BV.logsumexp(-1)


def check(token: int) -> int:
    """The token, or TwofoldError for the -1 and -2 of `choose`."""
    if token == -2:
        raise TwofoldError(
            "No token can be chosen: what is allowed, banned and asked for (allowed ids, bad words, n-grams, "
            "the minimum length, a grammar's mask) leaves none. Loosen one of them."
        )
    if token < 0:
        raise TwofoldError(
            "The model's scores are not numbers (NaN or infinite), so no token can be chosen. Its weights "
            "are damaged or its training has diverged; take an earlier checkpoint."
        )
    return token
