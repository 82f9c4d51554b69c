"""The Hugging Face hub's library, loaded when it is used, and its faults in words for people.

What is asked of the hub, where its files are kept and who may see them is the library's own affair, with its own
settings: HF_HOME, HF_HUB_CACHE, HF_HUB_OFFLINE, HF_TOKEN, HF_ENDPOINT.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from twofold.errors import FileError, UsageError

PREFIX = "hf://"


def library(doing: str) -> ModuleType:
    """`huggingface_hub`. Raises UsageError, beginning with what cannot be done without it."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise UsageError(f"{doing} needs huggingface_hub. Install it: pip install 'twofold[hub]'.") from error
    return huggingface_hub


def cache_folder() -> Path:
    """Where the library keeps what it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).expanduser()


def refusal(error: Exception, kind: str, repository: str, revision: str | None = None) -> FileError | None:
    """What to say where the hub answered and the answer is no; None for any other fault.

    kind: "data set" or "model"."""
    from huggingface_hub.errors import (
        DisabledRepoError,
        GatedRepoError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return FileError(
            f"The {kind} {repository} is handed out only to those who accepted its terms: do so at "
            f"{_page(kind, repository)}, then log in with `hf auth login` or set HF_TOKEN."
        )
    if is_unknown(error):
        return FileError(
            f"There is no {kind} {repository} on the hub, or it is private. Check its name, or log in: hf auth login."
        )
    if isinstance(error, RevisionNotFoundError):
        return FileError(
            f"The {kind} {repository} has no revision {revision or 'main'!r}. Its branches and tags are listed at "
            f"{_page(kind, repository)}; without a revision the newest is taken."
        )
    if isinstance(error, DisabledRepoError):
        return FileError(f"The hub has disabled the {kind} {repository}.")
    return None


def is_unknown(error: Exception) -> bool:
    """Whether the hub answered that it has no such repository, or none to be seen."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    return isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)


def is_offline() -> bool:
    """Whether the hub is not to be asked."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def reason(error: Exception) -> str:
    """Why the hub could not be asked: the first line of an error, without a full stop."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")


def _page(kind: str, repository: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/{'datasets/' if kind == 'data set' else ''}{repository}"
