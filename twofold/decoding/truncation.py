"""Stages that look at the distribution: each cuts tokens off, or changes how flat it is.

Pure functions over scores [B, V], with a setting for each row, None where the row does not use the stage:
such rows come back as they were, and cost nothing. A cut is a score of -inf. None leaves a row empty.

Sources: dynamic temperature (llama.cpp, pull request 4972); top-k (arXiv 1805.04833); top-p (1904.09751);
min-p (2407.01082); typical (2202.00666); epsilon and eta (2210.15191); top-n-sigma (2411.07641); XTC
(text-generation-webui, pull request 6335); mirostat (2007.14966). Definitions as in transformers, else as in
llama.cpp, up to ties: tokens with equal scores stay or go together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

_NEVER = float("-inf")
_SMALLEST = 1e-30  # temperature: below it a quotient could be infinite, and the divisor 0
_MIROSTAT_BEST = 100  # tokens from which mirostat 1 estimates how fast probabilities fall
_BITS = 1 / math.log(2)


def on_rows(scores_BV: Tensor, settings: Sequence, change: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """`change(scores [K, V], settings [K, 1])` for the K rows whose setting is not None, the others as before.

    Settings may be tuples of n numbers: [K, 1, n].
    """
    rows = [row for row, setting in enumerate(settings) if setting is not None]
    if not rows:
        return scores_BV
    device = scores_BV.device
    set_K = torch.tensor([settings[row] for row in rows], dtype=scores_BV.dtype)
    set_K1 = set_K.to(device, non_blocking=True)[:, None]
    if len(rows) == len(settings):
        return change(scores_BV, set_K1)
    at_K = torch.tensor(rows).to(device, non_blocking=True)
    return scores_BV.index_copy(0, at_K, change(scores_BV[at_K], set_K1))


def scale(scores_BV: Tensor, temperature: Sequence[float | None]) -> Tensor:
    """Scores divided by each row's temperature; 0 counts as 1 (the best token stays the best)."""
    wanted = [None if t in (None, 0, 1) else max(t, _SMALLEST) for t in temperature]
    return on_rows(scores_BV, wanted, lambda scores_KV, t_K1: scores_KV / t_K1)


def scale_dynamically(scores_BV: Tensor, dynamic: Sequence[tuple[float, float, float] | None]) -> Tensor:
    """Scores divided by a temperature between two, by how unsure the row is.

    For each row (temperature, range, exponent): temperature - range (at least 0) where one token has all the
    probability, temperature + range where all tokens that are left have the same.
    """

    def divide(scores_KV: Tensor, set_K1: Tensor) -> Tensor:
        temperature_K1, range_K1, exponent_K1 = set_K1.unbind(-1)
        low_K1 = (temperature_K1 - range_K1).clamp_min(0)
        most_K1 = (scores_KV > _NEVER).sum(-1, keepdim=True).log().clamp_min(_SMALLEST)
        unsure_K1 = (_entropy(scores_KV.softmax(-1)) / most_K1).clamp(0, 1)
        wanted_K1 = low_K1 + (temperature_K1 + range_K1 - low_K1) * unsure_K1**exponent_K1
        return scores_KV / wanted_K1.clamp_min(_SMALLEST)

    return on_rows(scores_BV, dynamic, divide)


def keep_top_k(scores_BV: Tensor, top_k: Sequence[int | None]) -> Tensor:
    """Only tokens as good as each row's k-th best; ties with it stay."""
    wanted = [None if k is None or k >= scores_BV.shape[1] else k for k in top_k]
    most = max((k for k in wanted if k is not None), default=0)

    def cut(scores_KV: Tensor, k_K1: Tensor) -> Tensor:
        lowest_K1 = scores_KV.topk(most, dim=-1).values.gather(1, k_K1.long() - 1)
        return scores_KV.masked_fill(scores_KV < lowest_K1, _NEVER)

    return on_rows(scores_BV, wanted, cut)


def keep_top_p(scores_BV: Tensor, top_p: Sequence[float | None]) -> Tensor:
    """Only each row's nucleus: the fewest best tokens that reach top_p."""

    def cut(scores_KV: Tensor, p_K1: Tensor) -> Tensor:
        ordered, tokens = scores_KV.sort(dim=-1, descending=True, stable=True)
        probabilities = ordered.softmax(-1)
        before = probabilities.cumsum(-1) - probabilities  # what the better tokens reach without this one
        outside = before >= p_K1
        outside[:, 0] = False
        return scores_KV.masked_fill(torch.zeros_like(outside).scatter(1, tokens, outside), _NEVER)

    # rounding may reach 1 early
    return on_rows(scores_BV, [None if p == 1 else p for p in top_p], cut)


def keep_min_p(scores_BV: Tensor, min_p: Sequence[float | None]) -> Tensor:
    """Only tokens at least min_p times as probable as the best one."""

    def cut(scores_KV: Tensor, p_K1: Tensor) -> Tensor:
        return scores_KV.masked_fill(scores_KV < p_K1.log() + scores_KV.amax(-1, keepdim=True), _NEVER)

    return on_rows(scores_BV, [p or None for p in min_p], cut)


def keep_typical(scores_BV: Tensor, typical_p: Sequence[float | None]) -> Tensor:
    """Only the tokens whose surprise is nearest to the entropy, as many as reach typical_p together."""

    def cut(scores_KV: Tensor, mass_K1: Tensor) -> Tensor:
        log_KV = scores_KV.log_softmax(-1)
        p_KV = log_KV.exp()
        away_KV = (log_KV + _entropy(p_KV)).abs()
        ordered_KV, tokens_KV = away_KV.sort(-1)
        short_KV = p_KV.gather(1, tokens_KV).cumsum(-1) < mass_K1
        last_K1 = short_KV.sum(-1, keepdim=True).clamp_max(scores_KV.shape[1] - 1)
        return scores_KV.masked_fill(away_KV > ordered_KV.gather(1, last_K1), _NEVER)

    return on_rows(scores_BV, typical_p, cut)


def keep_epsilon(scores_BV: Tensor, epsilon: Sequence[float | None]) -> Tensor:
    """Only tokens with a probability of epsilon or more, and the best."""

    def cut(scores_KV: Tensor, epsilon_K1: Tensor) -> Tensor:
        return _cut_but_best(scores_KV, scores_KV.softmax(-1) < epsilon_K1)

    return on_rows(scores_BV, epsilon, cut)


def keep_eta(scores_BV: Tensor, epsilon: Sequence[float | None]) -> Tensor:
    """Only tokens with a probability of min(epsilon, sqrt(epsilon) · e^-entropy) or more, and the best."""

    def cut(scores_KV: Tensor, epsilon_K1: Tensor) -> Tensor:
        p_KV = scores_KV.softmax(-1)
        return _cut_but_best(
            scores_KV, p_KV < torch.minimum(epsilon_K1, epsilon_K1.sqrt() * (-_entropy(p_KV)).exp())
        )

    return on_rows(scores_BV, epsilon, cut)


def keep_top_n_sigma(scores_BV: Tensor, sigmas: Sequence[float | None]) -> Tensor:
    """Only tokens with a score at most so many standard deviations (of the scores above -inf) below the best."""

    def cut(scores_KV: Tensor, sigmas_K1: Tensor) -> Tensor:
        gone_KV = scores_KV == _NEVER
        count_K1 = (~gone_KV).sum(-1, keepdim=True)
        mean_K1 = scores_KV.masked_fill(gone_KV, 0).sum(-1, keepdim=True) / count_K1
        away_KV = (scores_KV - mean_K1).masked_fill(gone_KV, 0)
        deviation_K1 = (away_KV.square().sum(-1, keepdim=True) / count_K1).sqrt()
        least_K1 = scores_KV.amax(-1, keepdim=True) - sigmas_K1 * deviation_K1
        return scores_KV.masked_fill(scores_KV < least_K1, _NEVER)

    return on_rows(scores_BV, sigmas, cut)


def exclude_top(scores_BV: Tensor, threshold: Sequence[float | None]) -> Tensor:
    """XTC where it acts: of the tokens with a probability of `threshold` or more only the least one stays."""

    def cut(scores_KV: Tensor, threshold_K1: Tensor) -> Tensor:
        top_KV = scores_KV.softmax(-1) >= threshold_K1
        least_K1 = scores_KV.masked_fill(~top_KV, math.inf).amin(-1, keepdim=True)
        return scores_KV.masked_fill(scores_KV > least_K1, _NEVER)

    return on_rows(scores_BV, threshold, cut)


def keep_mirostat_1(scores_BV: Tensor, mu: Sequence[float | None]) -> Tensor:
    """Only the k best tokens, k for a surprise of about mu bits if probabilities fall as in Zipf's law."""
    rows = [row for row, bits in enumerate(mu) if bits is not None]
    if not rows:
        return scores_BV
    log_KV = scores_BV[rows].log_softmax(-1).double()
    best = log_KV.topk(min(_MIROSTAT_BEST, log_KV.shape[1]), dim=-1).values.tolist()  # k is needed here
    top_k: list[int | None] = [None] * len(mu)
    for row, log_probabilities in zip(rows, best, strict=True):
        top_k[row] = _mirostat_k(log_probabilities, mu[row], scores_BV.shape[1])
    return keep_top_k(scores_BV, top_k)


def _mirostat_k(best: Sequence[float], mu: float, vocabulary: int) -> int:
    """How many tokens to keep, from the log-probabilities of the best ones in falling order."""
    best = [log for log in best if log > _NEVER]
    if len(best) < 2:
        return 1
    steps = [math.log((i + 2) / (i + 1)) for i in range(len(best) - 1)]
    falls = [better - worse for better, worse in pairwise(best)]
    exponent = sum(t * b for t, b in zip(steps, falls, strict=True)) / sum(t * t for t in steps)
    excess, size = exponent - 1, math.log(vocabulary)
    share = -math.expm1(-excess * size) / excess if abs(excess) > 1e-9 else size
    log_base = mu * math.log(2) - math.log(share)
    if exponent <= 0:  # all alike: either all surprise less than wanted, or none
        return vocabulary if log_base > 0 else 1
    return max(1, min(vocabulary, int(math.exp(min(log_base / exponent, size + 1)))))


def keep_mirostat_2(scores_BV: Tensor, mu: Sequence[float | None]) -> Tensor:
    """Only tokens with a surprise of mu bits or less, and the best."""

    def cut(scores_KV: Tensor, mu_K1: Tensor) -> Tensor:
        return _cut_but_best(scores_KV, -scores_KV.log_softmax(-1) * _BITS > mu_K1)

    return on_rows(scores_BV, mu, cut)


def _cut_but_best(scores_KV: Tensor, cut_KV: Tensor) -> Tensor:
    return scores_KV.masked_fill(cut_KV & (scores_KV < scores_KV.amax(-1, keepdim=True)), _NEVER)


def _entropy(p_KV: Tensor) -> Tensor:
    """Entropy of each row in nats [K, 1]."""
    return torch.special.entr(p_KV).sum(-1, keepdim=True)
