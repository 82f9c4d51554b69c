"""A small text, its shards, and runs on them that take a second or two."""

import numpy as np
import pytest
import torch

from twofold.models.config import TransformerConfig
from twofold.models.transformer import Transformer
from twofold.text.held_out import HeldOutRows
from twofold.text.packing import PackedRows
from twofold.text.shards import write_shards
from twofold.tokens.tokenizer import bytes_only
from twofold.training.batches import RowBatches
from twofold.training.loop import Data, train
from twofold.training.settings import TrainSettings

ROW = 32


@pytest.fixture(scope="session")
def tokenizer():
    return bytes_only()


@pytest.fixture(scope="session")
def shards(tokenizer, tmp_path_factory):
    """Train and held-out shards of counting rhymes: easy, but not trivial."""
    folder = tmp_path_factory.mktemp("shards")
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    made = {}
    for side, numbers in (("train", range(300)), ("held_out", range(300, 320))):
        texts = [" ".join(words[(n * k) % 10] for k in range(3 + n % 9)) + "." for n in numbers]
        ids = [np.array(tokenizer.encode(text, start=True)) for text in texts]
        made[side] = write_shards(
            ids,
            folder / side,
            vocab_size=tokenizer.vocab_size,
            tokenizer_fingerprint=tokenizer.fingerprint,
            text_bytes=[len(text.encode()) for text in texts],
        )
    return made


@pytest.fixture
def make_model(tokenizer):
    def make(seed=0, **changes):
        torch.manual_seed(seed)
        sizes = dict(
            vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, head_dim=16, intermediate_size=64, max_position_embeddings=ROW,
        )  # fmt: skip
        return Transformer(TransformerConfig(**{**sizes, **changes}))

    return make


@pytest.fixture
def data(shards):
    train_shards = shards["train"]
    held_out = HeldOutRows(shards["held_out"], ROW)
    return Data(
        RowBatches(PackedRows(train_shards, ROW, seed=1), 8),
        held_out,
        held_out,
        train_shards.text_bytes / train_shards.total_tokens,
        {"documents": len(train_shards)},
    )


@pytest.fixture
def run_training(make_model, tokenizer, data):
    """Train a fresh model of seed 0 in `folder`; returns (record, model)."""

    def run(folder, *, resume=False, data=data, progress=None, objective=None, **changes):
        settings = TrainSettings(
            **{"steps": 30, "batch_rows": 8, "row_tokens": ROW, "log_steps": 5, "evaluations": 2, **changes}
        )
        model = make_model()
        options = {"objective": objective} if objective else {}
        record = train(folder, model, tokenizer, data, settings, resume=resume, progress=progress, **options)
        return record, model

    return run
