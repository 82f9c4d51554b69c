"""Bits per byte, divergence and agreement: against sums over all tokens in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import twofold
from twofold.errors import UsageError
from twofold.evaluation.compare import evaluate, stored_bytes
from twofold.models.config import TransformerConfig
from twofold.models.convert import convert
from twofold.models.folder import save_folder
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only
from twofold.tokens.train import train_tokenizer

CONTEXT = 64
WORDS = "a village by the sea, the baker and her grey cat: once upon a time they were happy there, "
WORDS = (WORDS + "in those quiet days of long ago. ") * 9
TEXT = "The baker's cat sleeps by the oven. 村 Grüße, " * 4


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model, one a little beside it, one with a wider matrix and one with another tokenizer."""
    root = tmp_path_factory.mktemp("models")
    config = TransformerConfig(
        vocab_size=320, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
        head_dim=16, intermediate_size=64, max_position_embeddings=CONTEXT,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3) if parameter.ndim == 2 else None
    save_folder(root / "one", model, bytes_only(320), chat=False)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    save_folder(root / "near", model, bytes_only(320), chat=False)
    wider = Transformer(replace(config, vocab_size=384))
    save_folder(root / "wider", wider, bytes_only(320), chat=False)
    save_folder(root / "other", wider, train_tokenizer([WORDS], 320), chat=False)
    return root


def rows(model, tokens):
    """(scores, token) of each token once, read by hand in the documented windows."""
    start, room, done = model.tokenizer.end_of_text, CONTEXT - 1, 0
    while done < len(tokens):
        back = min(done, room // 2)
        window = [start, *tokens[done - back : done - back + room]]
        with torch.no_grad():
            scores = model.model.transformer(torch.tensor([window]))[0].double().log_softmax(-1).numpy()
        for place in range(back + 1, len(window)):
            yield scores[place - 1], window[place]
        done += len(window) - 1 - back


def test_the_numbers_are_those_of_a_plain_sum(folders):
    one, near = twofold.load(folders / "one"), twofold.load(folders / "near")
    tokens = one.tokenizer.encode(TEXT)
    assert len(tokens) > 2 * CONTEXT
    told = []
    found = evaluate(near, TEXT, against=one, progress=lambda done, total: told.append((done, total)))
    pairs = list(zip(rows(near, tokens), rows(one, tokens), strict=True))
    divergences = [float((np.exp(p) * (p - q)).sum()) for (q, _), (p, _) in pairs]
    size = len(TEXT.encode())
    assert (found.tokens, found.bytes) == (len(tokens), size)
    bits = [-sum(s[0][s[1]] for s in side) / math.log(2) / size for side in zip(*pairs, strict=True)]
    assert found.bits_per_byte == pytest.approx(bits[0], abs=1e-5)
    assert found.other_bits_per_byte == pytest.approx(bits[1], abs=1e-5)
    assert found.divergence == pytest.approx(np.mean(divergences), rel=1e-4)
    error = np.std(divergences, ddof=1) / math.sqrt(len(tokens))
    assert found.divergence_error == pytest.approx(error, rel=1e-4)
    assert found.agreement == np.mean([q.argmax() == p.argmax() for (q, _), (p, _) in pairs])
    assert 0.1 < found.agreement < 1
    assert told[-1] == (len(tokens), len(tokens))


def test_bits_per_byte_are_those_of_score(folders):
    model = twofold.load(folders / "one")
    assert evaluate(model, TEXT).bits_per_byte == pytest.approx(model.score(TEXT).bits_per_byte, abs=1e-6)
    assert evaluate(model, TEXT).divergence is None


def test_a_model_is_not_apart_from_itself(folders):
    model = twofold.load(folders / "one")
    found = evaluate(model, TEXT, against=model)
    assert (found.divergence, found.divergence_error, found.agreement) == (0, 0, 1)


def test_fewer_bits_are_further_apart(folders, tmp_path):
    one = twofold.load(folders / "one")
    apart = []
    for recipe in ("f32", "f16", "q8_0", "q5_0", "q4_0"):
        convert(folders / "one", tmp_path / f"{recipe}.gguf", type=recipe)
        apart.append(evaluate(twofold.load(tmp_path / f"{recipe}.gguf"), TEXT, against=one).divergence)
    assert apart == sorted(apart)
    assert apart[0] == 0
    assert apart[1] < 1e-5 < apart[-1]


def test_what_cannot_be_compared_is_told(folders):
    one, other = twofold.load(folders / "one"), twofold.load(folders / "other")
    with pytest.raises(UsageError, match="other tokens"):
        evaluate(one, TEXT, against=other)
    with pytest.raises(UsageError, match="no text"):
        evaluate(one, "", against=one)


def test_rows_that_are_no_tokens_are_left_out(folders):
    found = evaluate(twofold.load(folders / "wider"), TEXT, against=twofold.load(folders / "one"))
    assert 0 < found.divergence < 20


def test_what_is_stored_is_counted(folders, tmp_path):
    convert(folders / "one", tmp_path / "m.gguf", type="q8_0")
    assert stored_bytes(tmp_path / "m.gguf") == (tmp_path / "m.gguf").stat().st_size
    assert stored_bytes(folders / "one") == (folders / "one" / "model.safetensors").stat().st_size
