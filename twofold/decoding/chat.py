"""A conversation with a model: it remembers the turns, answers piece by piece, and fits the context.

Faces (the terminal, later a server) show it; they keep nothing of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from twofold.decoding.sampling import Sampling
from twofold.decoding.session import MAX_TOKENS, LoadedModel
from twofold.errors import UsageError


class ChatSession:
    """`messages` are the turns so far, without the system message: {"role", "content"}.

    `left_out` counts the oldest ones that no longer fit the context and are not shown to the model.
    """

    def __init__(
        self,
        model: LoadedModel,
        *,
        system: str | None = None,
        settings: Sampling = Sampling(),  # noqa: B008 - frozen
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        self.model = model
        self.system = system
        self.settings = settings
        self.max_tokens = max_tokens
        self.messages: list[dict[str, str]] = []
        self.left_out = 0
        self._answers = 0

    def ask(self, text: str) -> Iterator[str]:
        """Say `text`; the answer in pieces. What was said when the iterator ends, or is closed early, is
        the answer that is remembered; a turn without any answer is forgotten.

        Raises UsageError, and forgets the turn, if it does not fit the context even alone.
        """
        prompt = self._fit([*self.messages, {"role": "user", "content": text}])
        return self._answer(prompt, text)

    def retry(self) -> Iterator[str]:
        """Answer the last turn again, otherwise. Raises UsageError if there is none."""
        if len(self.messages) < 2:
            raise UsageError("There is nothing to answer again yet.")
        text = self.messages[-2]["content"]
        prompt = self._fit(self.messages[:-1])
        del self.messages[-2:]
        return self._answer(prompt, text)

    def reset(self) -> None:
        """Forget all turns; the system message stays."""
        self.messages.clear()
        self.left_out = 0

    def transcript(self) -> list[dict[str, str]]:
        """All messages, the system message first."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self.messages

    def _answer(self, prompt: list[int], text: str) -> Iterator[str]:
        settings = self.settings
        if settings.seed is not None:  # another answer for each turn, the same for the same turns
            settings = replace(settings, seed=settings.seed + self._answers)
        self._answers += 1
        said: list[str] = []
        pieces = self.model.pieces([prompt], settings=settings, max_tokens=self.max_tokens, begins=True)
        try:
            with closing(pieces):
                for _, piece, _ in pieces:
                    if piece:
                        said.append(piece)
                        yield piece
        finally:
            if answer := "".join(said):
                self.messages.append({"role": "user", "content": text})
                self.messages.append({"role": "assistant", "content": answer})

    def _fit(self, messages: list[dict[str, str]]) -> list[int]:
        """The prompt for the newest turns that leave room for an answer; sets `left_out`."""
        context = self.model.model.context_length
        room = context - min(self.max_tokens, context // 4)
        system = [{"role": "system", "content": self.system}] if self.system else []
        for start in range(0, len(messages), 2):  # a turn and its answer go together
            prompt = self.model.start_chat(system + messages[start:])
            if len(prompt) <= room:
                self.left_out = start
                return prompt
        raise UsageError(
            f"This turn{' with the system message' if system else ''} has {len(prompt):,} tokens. The "
            f"model's context holds {context:,}, of which {context - room:,} are kept for the answer. "
            f"Shorten it."
        )
