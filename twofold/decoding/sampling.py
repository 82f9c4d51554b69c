"""The settings of a choice. Apart from what uses them, so that a command's help needs no torch.

What each stage does, its source and the order of them: `distribution`, `penalties` and `truncation`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import index
from typing import TYPE_CHECKING, Literal

from twofold.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

Compat = Literal["llama.cpp", "transformers", "mlx"]
Bias = tuple[tuple[int, float], ...]

_PLAIN = frozenset({"temperature", "top_k", "top_p", "min_p"})
_RULES = frozenset({"bias", "bans", "allowed"})
_PENALTIES = frozenset({"repetition", "counts", "dry"})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How one request chooses its tokens. None is "not set".

    "The history" is the prompt and the answer so far; "the answer" is without the prompt.
    """

    temperature: float = 0.8
    """Divides the scores: below 1 safer, above 1 wilder; 0 always takes the best token."""
    top_k: int | None = None
    """Only the k best tokens."""
    top_p: float | None = None
    """Only the best tokens that together have this probability (at least one)."""
    min_p: float | None = None
    """Only tokens with at least this fraction of the best one's probability."""
    seed: int | None = None
    """The same seed gives the same text; None draws a fresh one."""

    dynamic_temperature: float | None = None
    """The temperature moves by up to so much, down where the model is sure and up where it is not."""
    dynamic_temperature_exponent: float = 1.0
    """How unsure (entropy, 0 to 1, to this power) the model must be for the temperature to rise."""
    typical_p: float | None = None
    """Only the tokens nearest to the expected surprise that together have this probability."""
    epsilon_cutoff: float | None = None
    """Only tokens with at least this probability."""
    eta_cutoff: float | None = None
    """As epsilon_cutoff, but less is asked where the model is unsure."""
    top_n_sigma: float | None = None
    """Only tokens with a score at most so many standard deviations below the best."""
    xtc_probability: float | None = None
    """How often the top choices are excluded, so that a less expected token comes through."""
    xtc_threshold: float = 0.1
    """The probability that makes a top choice; the least probable of them stays."""
    mirostat: Literal[1, 2] | None = None
    """Steers how surprising the text is, by the first or second version of the method."""
    mirostat_tau: float = 5.0
    """The surprise aimed at, in bits a token."""
    mirostat_eta: float = 0.1
    """How fast mirostat corrects itself."""

    repetition_penalty: float | None = None
    """Scores of tokens in the history are divided (those below 0 multiplied) by this; 1 does nothing."""
    repetition_window: int | None = None
    """repetition_penalty looks at so many newest tokens of the history; None: all."""
    frequency_penalty: float | None = None
    """Subtracted from a token's score for each time that it is in the answer."""
    presence_penalty: float | None = None
    """Subtracted from a token's score once if it is in the answer."""
    no_repeat_ngram: int | None = None
    """No sequence of so many tokens comes twice in the history."""
    dry_multiplier: float | None = None
    """Subtracted (DRY) from the score of a token that would lengthen a repetition; grows with its length."""
    dry_base: float = 1.75
    """The factor by which the DRY penalty grows with each repeated token."""
    dry_allowed_length: int = 2
    """The DRY penalty begins where so many tokens are repeated already."""
    dry_window: int | None = None
    """DRY looks at so many newest tokens of the history; None: all."""
    dry_breakers: tuple[int, ...] = ()
    """Tokens at which a repetition ends for DRY, such as a line's end; they are never penalised."""

    bias: Mapping[int, float] | Bias = ()
    """Numbers added to the scores of tokens."""
    banned: tuple[int, ...] = ()
    """Tokens never chosen."""
    allowed: tuple[int, ...] | None = None
    """The only tokens that can be chosen; None: all."""
    bad_words: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that never come up: the last token of one is banned after the others."""
    min_tokens: int | None = None
    """No stop token is chosen before the answer has so many tokens."""
    compat: Compat | None = None
    """Apply the stages in the order of "llama.cpp", "transformers" or "mlx"; None: ours."""

    def __post_init__(self) -> None:
        """Make collections tuples, sorted where order means nothing. Raise UsageError, naming the setting."""
        for name, convert in _COLLECTIONS.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _converted(name, convert, getattr(self, name)))
        for name, (good, range_) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not _is(good, value):
                raise UsageError(f"{name} must be {range_}, and is {value}.")

    @cached_property
    def stages(self) -> frozenset[str]:
        """The names (as in `distribution.ORDERS`) of the stages that do anything for this row.

        At temperature 0 nothing that only shapes a draw; with mirostat in llama.cpp's way only the token
        rules and the temperature beside it, as there.
        """
        stages = {name for name, is_set in _STAGES.items() if is_set(self)}
        if self.temperature == 0:
            stages &= _RULES | _PENALTIES
        elif self.compat == "llama.cpp" and self.mirostat:
            stages &= _RULES | {"temperature", "mirostat"}  # its temperature is then never dynamic
        return frozenset(stages)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Tokens `banned`, `allowed` and biased (`bias`), int64, with the numbers to add as `bias_values`."""
        import numpy as np

        tokens = {"banned": self.banned, "allowed": self.allowed or (), "bias": [t for t, _ in self.bias]}
        arrays = {name: np.asarray(ids, np.int64) for name, ids in tokens.items()}
        return arrays | {"bias_values": np.asarray([number for _, number in self.bias], np.float32)}

    @property
    def is_plain(self) -> bool:
        """Whether temperature, top_k, top_p and min_p are all there is, so that no history is needed."""
        return self.stages <= _PLAIN


def _ids(value: Iterable[int]) -> tuple[int, ...]:
    ids = tuple(sorted({index(token) for token in value}))
    if ids and ids[0] < 0:
        raise ValueError
    return ids


def _bias(value: Mapping[int, float] | Iterable[tuple[int, float]]) -> Bias:
    pairs = tuple(sorted((index(t), float(b)) for t, b in dict(value).items()))
    if not all(t >= 0 and -1e30 <= b <= 1e30 for t, b in pairs):
        raise ValueError
    return pairs


def _sequences(value: Iterable[Iterable[int]]) -> tuple[tuple[int, ...], ...]:
    sequences = tuple(tuple(index(token) for token in sequence) for sequence in value)
    if not all(sequence and min(sequence) >= 0 for sequence in sequences):
        raise ValueError
    return sequences


_KINDS = {
    _ids: "token ids of 0 or more",
    _bias: "numbers between -1e30 and 1e30 by token id of 0 or more",
    _sequences: "sequences, none empty, of token ids of 0 or more",
}
_COLLECTIONS = {"bias": _bias, "banned": _ids, "allowed": _ids, "bad_words": _sequences, "dry_breakers": _ids}


def _converted(name: str, convert: Callable, value: Iterable) -> tuple:
    try:
        return convert(value)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be {_KINDS[convert]}, and is {value!r}.") from None


def _is(good: Callable[[float], bool], value: object) -> bool:
    try:
        return good(value)
    except TypeError:  # not a number at all, or a fraction of a token
        return False


def _between(low: float, high: float) -> tuple[Callable[[float], bool], str]:
    return lambda x: low <= x <= high, f"between {low:g} and {high:g}"


_WHOLE = (lambda x: index(x) >= 1, "1 or more")
_FINITE = (lambda x: 0 <= x < math.inf, "0 or more")
_SHARE = (lambda x: 0 < x <= 1, "above 0 and at most 1")
_CUTOFF = (lambda x: 0 < x < 1, "above 0 and below 1")
_POSITIVE = (lambda x: 0 < x < math.inf, "above 0")
# wide enough for any use, and narrow enough that no score becomes infinite
_RANGES: dict[str, tuple[Callable, str]] = {
    "temperature": _FINITE,
    "top_k": _WHOLE,
    "top_p": _SHARE,
    "min_p": _between(0, 1),
    "seed": (lambda x: index(x) >= 0, "0 or more"),
    "dynamic_temperature": _FINITE,
    "dynamic_temperature_exponent": _FINITE,
    "typical_p": _SHARE,
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "top_n_sigma": _POSITIVE,
    "xtc_probability": _between(0, 1),
    "xtc_threshold": (lambda x: 0 < x <= 0.5, "above 0 and at most 0.5"),
    "mirostat": (lambda x: x in (1, 2), "1 or 2"),
    "mirostat_tau": _FINITE,
    "mirostat_eta": _FINITE,
    "repetition_penalty": _between(0.01, 100),
    "repetition_window": _WHOLE,
    "frequency_penalty": _between(-100, 100),
    "presence_penalty": _between(-100, 100),
    "no_repeat_ngram": _WHOLE,
    "dry_multiplier": _between(0, 1000),
    "dry_base": _between(1, 1000),
    "dry_allowed_length": _WHOLE,
    "dry_window": _WHOLE,
    "allowed": (lambda x: len(x) > 0, "at least one token"),
    "min_tokens": (lambda x: index(x) >= 0, "0 or more"),
    "compat": (lambda x: x in ("llama.cpp", "transformers", "mlx"), '"llama.cpp", "transformers" or "mlx"'),
}

_STAGES: dict[str, Callable[[Sampling], bool]] = {
    "bias": lambda s: bool(s.bias),
    "repetition": lambda s: s.repetition_penalty not in (None, 1),
    "counts": lambda s: bool(s.frequency_penalty or s.presence_penalty),
    "dry": lambda s: bool(s.dry_multiplier),
    "bans": lambda s: bool(s.banned or s.bad_words or s.min_tokens or s.no_repeat_ngram),
    "allowed": lambda s: s.allowed is not None,
    "temperature": lambda s: s.temperature != 1,
    "dynamic_temperature": lambda s: bool(s.dynamic_temperature),
    "top_n_sigma": lambda s: s.top_n_sigma is not None,
    "top_k": lambda s: s.top_k is not None,
    "top_p": lambda s: s.top_p not in (None, 1),
    "min_p": lambda s: bool(s.min_p),
    "typical": lambda s: s.typical_p not in (None, 1),
    "epsilon": lambda s: s.epsilon_cutoff is not None,
    "eta": lambda s: s.eta_cutoff is not None,
    "xtc": lambda s: bool(s.xtc_probability),
    "mirostat": lambda s: s.mirostat is not None,
}
