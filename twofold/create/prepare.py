"""Text → corpus → tokenizer and token shards. Each leaves a whole folder or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from twofold.files import atomic_folder
from twofold.text.corpus import Corpus
from twofold.text.held_out import HeldOutRows
from twofold.text.packing import PackedRows
from twofold.text.shards import Shards, write_shards
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.train import train_tokenizer
from twofold.training.batches import RowBatches
from twofold.training.loop import Data
from twofold.training.settings import TrainSettings

_BATCH_BYTES = 8 << 20  # of text encoded at once


def prepare_tokens(
    corpus: Corpus, folder: Path, vocab_size: int, tokenizer: Tokenizer | None = None
) -> Tokenizer:
    """Train a tokenizer on the corpus's training side (unless one is given), and encode both sides.

    Leaves `folder` with the tokenizer's files and shards in `train/` and `held_out/`.
    """
    if tokenizer is None:
        tokenizer = train_tokenizer(corpus.documents("train"), vocab_size)
    with atomic_folder(folder) as partial:
        tokenizer.save(partial)
        for side in ("train", "held_out"):
            write_shards(
                _encoded(tokenizer, corpus.documents(side)),
                partial / side,
                vocab_size=tokenizer.vocab_size,
                tokenizer_fingerprint=tokenizer.fingerprint,
                text_bytes=corpus.sizes(side).tolist(),
            )
    return tokenizer


def _encoded(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """Each text's tokens, after what starts every sequence."""
    start = np.array(tokenizer.start_ids or tokenizer.ends(chat=False), np.int32)
    for batch in _batches(texts):
        for tokens in tokenizer.encode_batch(batch):
            yield np.concatenate((start, tokens))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while batch := list(islice(texts, 1)):
        size = len(batch[0])
        while size < _BATCH_BYTES and (more := list(islice(texts, 64))):
            batch += more
            size += sum(map(len, more))
        yield batch


def pretraining_data(folder: Path, tokenizer: Tokenizer, settings: TrainSettings, card: dict) -> Data:
    """What the loop needs, from a folder that `prepare_tokens` left. `card`: the corpus's.

    The shards' digests are checked: a changed byte would be learned, or measured by, and nobody would know."""
    shards = {
        side: Shards.open(folder / side, tokenizer.fingerprint, verify=True) for side in ("train", "held_out")
    }
    train, length = shards["train"], settings.row_tokens
    packed = PackedRows(train, length, seed=settings.seed)
    glance = HeldOutRows(shards["held_out"], length, most_tokens=settings.evaluation_tokens)
    card = {
        **{
            key: card[key]
            for key in ("documents", "bytes", "train", "held_out", "split", "sources", "sha256")
        },
        "tokens": train.total_tokens,
        "vocabulary": tokenizer.vocab_size,
        "bytes_per_token": round(train.text_bytes / train.total_tokens, 3),
        "tokenizer": tokenizer.fingerprint,
    }
    return Data(
        RowBatches(packed, settings.batch_rows),
        HeldOutRows(shards["held_out"], length),
        glance,
        train.text_bytes / train.total_tokens,
        card,
    )


def has(path: Path) -> bool:
    """Whether a stage has left its result there."""
    return os.path.lexists(path)
