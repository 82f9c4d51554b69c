"""One row of a batch of scores: what its choice depends on beside the scores themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from twofold.decoding.sampling import Sampling


@dataclass(slots=True)
class Row:
    """What one row of scores needs. Lists of tokens are read faster if they are int64 arrays.

    `prompt`, `chosen`: tokens read and tokens chosen so far, only looked at if the settings ask for it.
    `allowed`: bool [V], from a mask, or None; tokens beyond its end are not allowed. `stop_ids`: what
    `min_tokens` forbids. `mirostat`: its state mu in bits; None at the start.
    """

    settings: Sampling
    prompt: Sequence[int] = ()
    chosen: Sequence[int] = ()
    allowed: np.ndarray | None = None
    stop_ids: frozenset[int] = frozenset()
    mirostat: float | None = None

    def history(self, window: int | None = None) -> np.ndarray:
        """The prompt and what was chosen, int64 [T]; only the newest `window` tokens."""
        prompt, chosen = self.prompt, self.chosen
        if window is not None:
            chosen = chosen[-window:]
            prompt = prompt[max(0, len(prompt) - (window - len(chosen))) :]
        return np.concatenate([np.asarray(prompt, np.int64), np.asarray(chosen, np.int64)])
