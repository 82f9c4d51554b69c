"""The tokenizer within a GGUF's metadata: written and read again, with equal ids; what is amiss is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from twofold.errors import FileError, UsageError
from twofold.tokens.gguf import from_metadata, to_metadata
from twofold.tokens.patterns import CUTS
from twofold.tokens.piece_codec import PieceCodec
from twofold.tokens.sentencepiece_file import Kind, Piece, PieceModel
from twofold.tokens.special import Config, roles_of
from twofold.tokens.tokenizer import Tokenizer, bytes_only

sys.path.insert(0, str(Path(__file__).parent))
from kinds import NASTY, TEXT, content_of

PRE = {"gpt2": "gpt-2", "llama3": "llama-bpe", "qwen2": "qwen2", "o200k": "gpt-4o", "digits": "starcoder"}


def as_read(metadata):
    """As `read_gguf` gives it: numbers in arrays."""
    numbers = ("tokenizer.ggml.token_type", "tokenizer.ggml.scores")
    kinds = {"tokenizer.ggml.scores": np.float32}
    return {
        key: np.array(v, kinds.get(key, np.int32)) if key in numbers else v for key, v in metadata.items()
    }


@pytest.fixture(scope="module", params=list(PRE))
def both(request, sample_text, tmp_path_factory):
    """One that was opened from its tokenizer.json, and the same through a GGUF's metadata."""
    folder = tmp_path_factory.mktemp("gguf")
    content = content_of(request.param, sample_text)
    content["normalizer"] = None  # which a GGUF does not have
    (folder / "tokenizer.json").write_text(json.dumps(content))
    config = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ messages[0].content }}"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    opened = Tokenizer.load(folder)
    metadata = to_metadata(opened, 600)
    assert metadata["tokenizer.ggml.pre"] == PRE[request.param]
    return opened, from_metadata(as_read(metadata), "it")


@settings(max_examples=60, deadline=None)
@given(TEXT)
def test_a_byte_level_vocabulary_gives_the_same_ids(both, text):
    opened, again = both
    assert again.encode(text) == opened.encode(text)
    assert again.encode_named(text) == opened.encode_named(text)
    assert again.decode(again.encode(text)) == opened.decode(opened.encode(text))


def test_its_roles_are_the_same_and_rows_without_tokens_are_left_out(both):
    opened, again = both
    assert again.vocab_size == opened.vocab_size
    for role in ("start", "end_of_text", "stop", "template"):
        assert getattr(again.roles, role) == getattr(opened.roles, role)


def test_our_own_kind_stays_our_own(tokenizer):
    metadata = to_metadata(tokenizer, 520, chat=True)
    assert len(metadata["tokenizer.ggml.tokens"]) == 520
    assert metadata["tokenizer.ggml.eos_token_id"] == tokenizer.im_end
    again = from_metadata(as_read(metadata), "it")
    assert again.is_own
    assert again.fingerprint == tokenizer.fingerprint
    assert from_metadata(as_read(to_metadata(bytes_only())), "it").fingerprint == bytes_only().fingerprint


def pieces_of(sample_text):
    words = sorted({"▁" + word for word in sample_text.split()})[:60]
    parts = dict.fromkeys(part for word in words for end in range(2, len(word) + 1) for part in [word[:end]])
    letters = dict.fromkeys("▁" + "".join(words).replace("▁", ""))
    names = [Piece("<unk>", 0, Kind.UNKNOWN), Piece("<s>", 0, Kind.CONTROL), Piece("</s>", 0, Kind.CONTROL)]
    names += [Piece(f"<0x{byte:02X}>", 0, Kind.BYTE) for byte in range(256)]
    names += [Piece("<|user|>", 0, Kind.USER_DEFINED)]
    joined = [*parts, *letters]
    return (*names, *(Piece(text, float(-place)) for place, text in enumerate(joined)))


def test_a_vocabulary_of_pieces_gives_the_same_ids(sample_text):
    model = PieceModel(pieces_of(sample_text), byte_fallback=True, squeezed=False)
    codec = PieceCodec(model, "it")
    ids = {piece: token for token, piece in enumerate(codec.pieces)}
    config = Config({"bos_token": "<s>", "eos_token": "</s>"}, adds_start=True)
    opened = Tokenizer.of(codec, roles_of(ids, config))
    metadata = to_metadata(opened)
    assert metadata["tokenizer.ggml.model"] == "llama"
    again = from_metadata(as_read(metadata), "it")
    assert again.start_ids == opened.start_ids == (1,)
    assert [again.encode(text) for text in NASTY] == [opened.encode(text) for text in NASTY]
    assert again.codec.model.pieces == model.pieces


@pytest.mark.parametrize("pre", sorted(CUTS))
def test_every_cut_that_has_a_name_can_be_read(tokenizer, pre):
    metadata = as_read(to_metadata(tokenizer)) | {
        "tokenizer.ggml.pre": pre, "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip
    opened = from_metadata(metadata, "it")
    for text in NASTY:
        assert opened.decode(opened.encode(text)) == opened.codec._library.decode(
            opened.codec._library.encode(
                text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            ).ids
        )


def test_what_ends_an_answer_is_gathered(tokenizer):
    metadata = as_read(to_metadata(tokenizer)) | {
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.ggml.eot_token_id": 505,
        "tokenizer.ggml.eom_token_id": 99_999,
    }
    opened = from_metadata(metadata, "it")
    assert opened.stop_ids == (503, 505)
    assert opened.start_ids == ()


def test_what_a_gguf_has_no_words_for_is_refused(sample_text, tmp_path):
    for kind in ("unusual", "unigram", "wordpiece"):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content_of(kind, sample_text)))
        with pytest.raises(UsageError, match="GGUF"):
            to_metadata(Tokenizer.load(tmp_path))


CHANGES = {
    "another kind": {"model": "magic"},
    "no kind": {"model": None},
    "another cut": {"pre": "magic", "add_bos_token": False},
    "no tokens": {"tokens": None},
    "tokens that are numbers": {"tokens": [1, 2]},
    "a token twice": {"tokens": ["a"] * 512},
    "fewer kinds than tokens": {"token_type": np.array([1, 1], np.int32)},
    "kinds that are texts": {"token_type": ["1"] * 512},
    "no merges": {"merges": None, "add_bos_token": False},
    "a merge of one": {"merges": ["abc"], "add_bos_token": False},
    "a merge of numbers": {"merges": [1], "add_bos_token": False},
    "a merge of nothing known": {"merges": ["qqq zzz"], "add_bos_token": False},
    "an end that is a text": {"eos_token_id": "</s>", "add_bos_token": False},
    "scores that are no numbers": {"model": "llama", "scores": np.array([np.nan] * 512, np.float32)},
    "a kind of token that is not known": {"model": "llama", "token_type": np.array([9] * 512, np.int32)},
}


@pytest.mark.parametrize("change", CHANGES)
def test_damaged_metadata_is_refused(tokenizer, change):
    metadata = as_read(to_metadata(tokenizer))
    metadata |= {f"tokenizer.ggml.{name}": value for name, value in CHANGES[change].items()}
    with pytest.raises(FileError, match="it"):
        from_metadata({key: value for key, value in metadata.items() if value is not None}, "it")


def test_a_template_that_is_no_text_is_refused(tokenizer):
    metadata = as_read(to_metadata(tokenizer)) | {
        "tokenizer.chat_template": 3, "tokenizer.ggml.add_bos_token": False,
    }  # fmt: skip
    with pytest.raises(FileError, match="no text"):
        from_metadata(metadata, "it")
