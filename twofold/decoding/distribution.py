"""Scores → distribution → choice: pure functions over a batch, each row with settings of its own.

The order is always: bans (scores of -inf), temperature, top-k, top-p, min-p, draw. Greedy is temperature 0.
A draw is one uniform number looked up in the cumulative distribution; each request brings its own numbers,
so that what it says does not depend on who is beside it.
Sources: top-k (arXiv 1805.04833); top-p (1904.09751); min-p (2407.01082).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from twofold.decoding.sampling import Sampling
from twofold.errors import TwofoldError

_NEVER = float("-inf")


def as_scores(scores: np.ndarray | Tensor) -> Tensor:
    """Any model's scores [B, V] as a float32 tensor where they lie."""
    tensor = torch.from_numpy(scores) if isinstance(scores, np.ndarray) else scores
    return tensor.float()


def scale(scores_BV: Tensor, temperature: Sequence[float]) -> Tensor:
    """Scores divided by each row's temperature; 0 counts as 1 (the best token stays the best)."""
    if all(t in (0, 1) for t in temperature):
        return scores_BV
    # below 1e-30 a quotient could be infinite, and the divisor 0
    divisor = torch.tensor([max(t or 1.0, 1e-30) for t in temperature], dtype=scores_BV.dtype)
    return scores_BV / divisor.to(scores_BV.device, non_blocking=True)[:, None]


def keep_top_k(scores_BV: Tensor, top_k: Sequence[int | None]) -> Tensor:
    """Scores with -inf for tokens worse than each row's k-th best; ties with it stay."""
    most = scores_BV.shape[1]
    wanted = [min(k or most, most) for k in top_k]
    if min(wanted) == most:
        return scores_BV
    best = scores_BV.topk(max(k for k in wanted if k < most), dim=-1).values
    lowest = scores_BV.new_full((len(wanted), 1), _NEVER)
    rows = [row for row, k in enumerate(wanted) if k < most]
    at = [wanted[row] - 1 for row in rows]
    lowest[rows, 0] = best[rows, at]
    return scores_BV.masked_fill(scores_BV < lowest, _NEVER)


def keep_top_p(scores_BV: Tensor, top_p: Sequence[float | None]) -> Tensor:
    """Scores with -inf for tokens outside each row's nucleus: the fewest best tokens that reach top_p."""
    if all(p is None or p == 1 for p in top_p):
        return scores_BV
    ordered, tokens = scores_BV.sort(dim=-1, descending=True, stable=True)
    probabilities = ordered.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities  # what the better tokens reach without this one
    limit = torch.tensor([1.0 if p is None else p for p in top_p], dtype=scores_BV.dtype)
    outside = before >= limit.to(scores_BV.device, non_blocking=True)[:, None]
    unlimited = torch.tensor([p is None or p == 1 for p in top_p])
    outside &= ~unlimited.to(scores_BV.device, non_blocking=True)[:, None]  # rounding may reach 1 early
    outside[:, 0] = False
    return scores_BV.masked_fill(torch.zeros_like(outside).scatter(1, tokens, outside), _NEVER)


def keep_min_p(scores_BV: Tensor, min_p: Sequence[float | None]) -> Tensor:
    """Scores with -inf for tokens less probable than min_p times the best one."""
    if not any(min_p):
        return scores_BV
    least = torch.tensor([p or 0.0 for p in min_p], dtype=scores_BV.dtype).log()
    least = least.to(scores_BV.device, non_blocking=True)[:, None] + scores_BV.amax(-1, keepdim=True)
    return scores_BV.masked_fill(scores_BV < least, _NEVER)


def choose(scores_BV: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """One token for each row, int64 [B], on the device of the scores.

    `uniforms`: a number in [0, 1) for each row; greedy rows do not look at theirs. A row with NaN, with
    +inf, or with nothing but -inf gets the token -1: `check` says so where the tokens are read.
    """
    best_value, best = scores_BV.max(-1)  # NaN wins, so the best value tells of any
    broken = ~best_value.isfinite()
    if any(s.temperature > 0 for s in settings):
        kept = scale(scores_BV, [s.temperature for s in settings])
        kept = keep_top_k(kept, [s.top_k for s in settings])
        kept = keep_top_p(kept, [s.top_p for s in settings])
        kept = keep_min_p(kept, [s.min_p for s in settings])
        drawn = draw(kept, uniforms)
        if any(s.temperature == 0 for s in settings):
            greedy = torch.tensor([s.temperature == 0 for s in settings])
            drawn = torch.where(greedy.to(best.device, non_blocking=True), best, drawn)
        best = drawn
    return best.masked_fill(broken, -1)


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
    """The token, or TwofoldError for the -1 of scores that are no distribution."""
    if token < 0:
        raise TwofoldError(
            "The model's scores are not numbers (NaN or infinite), so no token can be chosen. Its weights "
            "are damaged or its training has diverged; take an earlier checkpoint."
        )
    return token
