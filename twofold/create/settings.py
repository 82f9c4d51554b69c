"""What `twofold create` is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from twofold.errors import UsageError
from twofold.training.shapes import PRESETS


@dataclass(frozen=True, kw_only=True)
class CreateSettings:
    """Without `text`, a village is made up and learned. Paths are kept as they were given."""

    text: tuple[str, ...] = ()  # files, folders, -, hf://…
    chat: tuple[str, ...] = ()  # files of conversations to fine-tune on
    minutes: float = 12.0  # of training in all
    preset: str | None = None  # the model's size by name; None: by this machine's speed
    villagers: int | None = None  # None: as many as there is time to learn about
    megabytes: float = 32.0  # of text about the village
    conversations: int = 6000  # about the village
    questions: int = 300  # asked about each half of the village
    type: str = "q8_0"  # of the parameter file
    bad_files: str = "refuse"  # or "skip"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise UsageError naming the setting."""
        if not 0 < self.minutes < 1e6:
            raise UsageError(f"--minutes must be above 0, and is {self.minutes:g}.")
        if self.preset is not None and self.preset not in PRESETS:
            raise UsageError(f"There is no preset {self.preset!r}. Choose from: {', '.join(PRESETS)}.")
        if self.chat and not self.text:
            raise UsageError("--chat goes with --text: the village brings its own conversations.")
        if self.text.count("-") > 1:
            raise UsageError("Standard input (-) can be read only once.")
        if not 0 < self.megabytes <= 100_000:
            raise UsageError(f"--megabytes must be above 0 and at most 100,000, and is {self.megabytes:g}.")
        if self.conversations < 1 or self.questions < 1:
            raise UsageError("--conversations and --questions must be at least 1.")

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, lists instead of tuples."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}
