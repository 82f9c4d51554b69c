"""Conversations to fine-tune on, from a village, from files, or drawn from plain text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from twofold.errors import DataError
from twofold.text.documents import Conversation, Message
from twofold.text.packing import shuffled
from twofold.text.packing_chat import PackedConversations
from twofold.tokens.chat import encode_chat
from twofold.tokens.tokenizer import Tokenizer
from twofold.training.batches import RowBatches
from twofold.training.loop import Data
from twofold.training.settings import FINETUNING_EPOCHS, FINETUNING_STEPS, TrainSettings

_REQUESTS = ("Go on: {}", "Continue this text: {}", "{}", "What comes next? {}")
_SENTENCE = re.compile(r"(?<=[.!?。…])[\"'”’»)]*\s+")
_SHORTEST, _LONGEST = 20, 400  # characters of a request and of an answer


def continuations(documents: Iterable[str], count: int) -> Iterator[Conversation]:
    """Conversations from plain text alone: the user gives a passage, the assistant goes on with it.

    What a text without conversations can teach of the form: whose turn it is, and when to stop.
    """
    made = 0
    for document in documents:
        for paragraph in document.split("\n\n"):
            sentences = _SENTENCE.split(" ".join(paragraph.split()))
            for opening, answer in zip(sentences[::4], sentences[1::4], strict=False):
                if _SHORTEST <= len(opening) <= _LONGEST and _SHORTEST <= len(answer) <= _LONGEST:
                    request = _REQUESTS[made % len(_REQUESTS)].format(opening)
                    yield Conversation((Message("user", request), Message("assistant", answer)), "text")
                    made += 1
                    if made == count:
                        return


def usual_steps(data: Data) -> int:
    """How long to fine-tune when nobody says: some epochs, and enough steps where those are few."""
    return max(round(FINETUNING_EPOCHS / data.batches.epoch(1)), FINETUNING_STEPS)


def chat_data(
    conversations: Sequence[Conversation],
    tokenizer: Tokenizer,
    settings: TrainSettings,
) -> Data:
    """What the loop needs to fine-tune: conversations packed whole into rows, learned on the assistant's
    tokens alone. The card says how many were cut or left out because they are longer than a row.
    """
    if not conversations:
        raise DataError("There is no conversation to learn from.")
    order = shuffled(len(conversations), settings.seed, 2**32)
    encoded = []
    learned = 0
    for place in order.tolist():
        ids, is_learned = encode_chat(tokenizer, conversations[place].messages)
        encoded.append((np.array(ids), np.array(is_learned, bool)))
        learned += sum(is_learned)
    packed = PackedConversations(encoded, settings.row_tokens, seed=settings.seed)
    card: dict[str, Any] = {
        "conversations": len(conversations),
        "learned_tokens": learned,
        "truncated": packed.truncated,
        "skipped": packed.skipped,
        "sources": count_sources(conversations),
    }
    return Data(RowBatches(packed, settings.batch_rows), card=card)


def count_sources(conversations: Iterable[Conversation]) -> dict[str, int]:
    """How many conversations came from each file (or made-up kind), the twenty largest."""
    counts: dict[str, int] = {}
    for conversation in conversations:
        name = conversation.source.partition(":")[0] or "unnamed"
        counts[name] = counts.get(name, 0) + 1
    return dict(islice(sorted(counts.items(), key=lambda item: -item[1]), 20))
