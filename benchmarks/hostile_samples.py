"""Valid small files of every kind that Twofold opens, from which `hostile_files.py` makes hostile ones."""

from __future__ import annotations

import base64
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save

from twofold.models.adapter_files import save_adapter
from twofold.models.config import TransformerConfig
from twofold.models.convert import convert
from twofold.models.families import FAMILIES
from twofold.models.folder import save_folder
from twofold.models.from_gguf import Contents
from twofold.models.gguf import header, write_gguf
from twofold.models.gguf_config import ARCHITECTURES
from twofold.models.hf_config import FULL, SLIDING
from twofold.models.lora import LoraSettings, attach, attached
from twofold.models.quantize import BLOCKS, TensorType, row_bytes
from twofold.models.rope import RopeScaling
from twofold.models.transformer import Transformer
from twofold.models.weight_files import INDEX, WEIGHTS
from twofold.tokens.gguf import to_metadata
from twofold.tokens.patterns import GPT2, LLAMA3, RANK_FILES
from twofold.tokens.sentencepiece_file import Kind, Model, Piece, PieceModel, write_model
from twofold.tokens.tokenizer import Tokenizer, bytes_only
from twofold.tokens.vocabulary import BYTE_TO_LETTER
from twofold.twofiles.export import unicode_ranges

Files = dict[str, Any]  # name -> bytes, or what stands there instead of a file
_WORDS = ("a", "b", "c", "e", "t", "h", "▁", "th", "▁a", "▁th", "the", "▁the")
_TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\\n' + m['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def config_of(family: str, **changes: Any) -> TransformerConfig:
    """A tiny model of a family; the settings that only some have are set where it has them."""
    settings = FAMILIES[family].settings
    given: dict[str, Any] = dict(
        model_type=family, vocab_size=24, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2 if FAMILIES[family].learned_positions else 1, head_dim=16, intermediate_size=32,
        max_position_embeddings=64, rms_norm_eps=1e-5,
    )  # fmt: skip
    if "sliding_window" in settings and family not in ("qwen2", "qwen3", "smollm3"):
        given["sliding_window"] = 8
    if family in ("gemma2", "gemma3_text"):
        given["layer_types"] = (SLIDING, FULL)
    for cap in ("attn_logit_softcapping", "final_logit_softcapping"):
        if cap in settings and FAMILIES[family].defaults.get(cap):
            given[cap] = 30.0
    return TransformerConfig(**{**given, **changes})


def random_model(config: TransformerConfig) -> Transformer:
    """Random weights, all of them, so that norms are not all one."""
    model, dice = Transformer(config), torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.2, generator=dice)
    return model.eval()


# ---- tokenizers ------------------------------------------------------------------------------------------


def piece_model(kind: Model, pieces: int = 24) -> PieceModel:
    """A SentencePiece model: control pieces, a byte or two, letters and words."""
    made = [
        Piece("<unk>", 0.0, Kind.UNKNOWN),
        Piece("<s>", 0.0, Kind.CONTROL),
        Piece("</s>", 0.0, Kind.CONTROL),
    ]
    made += [Piece(word, -1.0 - place) for place, word in enumerate(_WORDS)]
    made += [Piece(f"x{place}", -50.0, Kind.USER_DEFINED) for place in range(pieces - len(made))]
    return PieceModel(tuple(made), kind)


def piece_models() -> Iterator[PieceModel]:
    """One of each kind that a `.model` may be of."""
    yield piece_model(Model.BPE)
    yield piece_model(Model.UNIGRAM)
    yield with_bytes(piece_model(Model.BPE))
    yield replace(piece_model(Model.BPE), characters=character_map())


def with_bytes(model: PieceModel) -> PieceModel:
    """The same with the 256 bytes as pieces."""
    bytes_ = tuple(Piece(f"<0x{byte:02X}>", 0.0, Kind.BYTE) for byte in range(256))
    return replace(model, pieces=model.pieces + bytes_, byte_fallback=True)


def character_map() -> bytes:
    """A compiled table of replacements that holds one: "A" becomes "a"."""
    units = [0] * 512
    units[0] = 1 << 10  # the root's children lie behind it
    at = 1 ^ ord("A")
    units[at] = ord("A") | 1 << 8 | 2 << 10
    units[at ^ 2] = 1 << 31
    return struct.pack("<I", 4 * len(units)) + np.array(units, "<u4").tobytes() + b"a\0"


def byte_level(pattern: str = GPT2, **model: Any) -> dict[str, Any]:
    """A small `tokenizer.json` of the most usual kind."""
    letters = [BYTE_TO_LETTER[byte] for byte in b"abcdefght .,!\n"]
    pieces = ["<s>", "</s>", *letters, "th", "the", "Ġt", "Ġthe"]
    byte = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=True)
    start = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": name, **flags} for i, name in enumerate(pieces[:2])]
        + [{"id": len(pieces), "content": "<think>", **flags, "special": False}],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [start, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        },
        "decoder": byte,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {piece: i for i, piece in enumerate(pieces)},
            "merges": [["t", "h"], ["th", "e"], ["Ġ", "t"], ["Ġ", "the"]],
            **model,
        },
    }  # fmt: skip


def spaced() -> dict[str, Any]:
    """A `tokenizer.json` of pieces with ▁ for a space."""
    content = byte_level()
    pieces = ["<unk>", "<s>", "</s>", *_WORDS]
    content["added_tokens"] = [
        {**content["added_tokens"][0], "id": i, "content": name} for i, name in enumerate(pieces[:3])
    ]
    content["model"].update(
        vocab={piece: i for i, piece in enumerate(pieces)}, unk_token="<unk>", fuse_unk=True,
        merges=[["t", "h"], ["▁", "a"], ["▁", "th"], ["th", "e"], ["▁", "the"]],
    )  # fmt: skip
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    content["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]}
    content["pre_tokenizer"] = content["post_processor"] = None
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    content["decoder"] = {
        "type": "Sequence",
        "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip],
    }
    return content


def tokenizer_jsons() -> Iterator[dict[str, Any]]:
    """One of each kind that a `tokenizer.json` may be of."""
    yield byte_level()
    yield byte_level(LLAMA3, ignore_merges=True)
    yield byte_level(r"[aeiou]+|\s?[^\saeiou]+|\s+")  # a cut that only the library knows
    yield spaced()
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}
    yield {**spaced(), "normalizer": None, "pre_tokenizer": metaspace, "decoder": metaspace}
    words = ["[UNK]", "[CLS]", "[SEP]", "a", "##b", "the", "##s", "."]
    model = {"unk_token": "[UNK]", "vocab": {word: i for i, word in enumerate(words)}}
    flags = dict(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
    base = {
        **byte_level(),
        "added_tokens": [],
        "normalizer": {"type": "BertNormalizer", **flags},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    }
    marks = {"continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    yield {**base, "model": {"type": "WordPiece", **model, **marks}}
    yield {**base, "model": {"type": "WordLevel", **model}, "normalizer": None}
    unigram = [["<unk>", 0.0], *([word, -1.0 - place] for place, word in enumerate(_WORDS))]
    table = {"type": "Precompiled", "precompiled_charsmap": _base64(character_map())}
    yield {**spaced(), "added_tokens": [], "normalizer": table, "pre_tokenizer": metaspace, "decoder": metaspace,
           "model": {"type": "Unigram", "unk_id": 0, "vocab": unigram, "byte_fallback": False}}  # fmt: skip
    yield json.loads(own_json())


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def own_json() -> bytes:
    """The `tokenizer.json` of our own kind."""
    with tempfile.TemporaryDirectory() as folder:
        bytes_only().save(folder)
        return (Path(folder) / "tokenizer.json").read_bytes()


def tokenizer_config() -> dict[str, Any]:
    """What goes beside a tokenizer."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {"0": {"content": "<s>", "special": True}},
        "bos_token": "<s>",
        "eos_token": {"content": "</s>", "lstrip": False},
        "add_bos_token": True,
        "add_eos_token": False,
        "model_max_length": 1 << 20,
        "chat_template": _TEMPLATE,
    }


def rank_file() -> bytes:
    """Ranks in tiktoken's form: 256 bytes and two pairs."""
    tokens = [*(bytes([byte]) for byte in range(256)), b"th", b"the"]
    return "".join(f"{_base64(token)} {rank}\n" for rank, token in enumerate(tokens)).encode()


# ---- GGUF ------------------------------------------------------------------------------------------------


def gguf_of_all_types() -> bytes:
    """A GGUF with values of every type, and a tensor of each type that there is."""
    values = {f"a.{kind}": np.array([1, 0, 1], kind) for kind in "?bBhHiIqQfd"}
    values |= {f"b.{kind}": np.array(1, kind)[()] for kind in "?bBhHiIqQfd"}
    values |= {"general.architecture": "none", "texts": ["one", "", "zwei"], "text": "ä" * 9, "empty": []}
    tensors = [(f"t{kind}.weight", kind, (2, 256)) for kind in BLOCKS] + [("scalar", 0, (1,))]
    head = header(values, tensors)
    dice = np.random.default_rng(0)
    data = bytearray()
    for _, kind, shape in tensors:
        data += dice.bytes(row_bytes(kind, shape[-1]) * (2 if len(shape) > 1 else 1))
        data += bytes(-len(data) % 32)
    return head + bytes(data)


def gguf_tokenizers() -> list[Tokenizer]:
    """One of each kind that a GGUF may hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = [bytes_only()]
        for place, content in enumerate(
            (byte_level(normalizer=None), byte_level(LLAMA3, ignore_merges=True))
        ):
            content["normalizer"] = None
            (folder / f"{place}.json").write_text(json.dumps(content))
            found.append(Tokenizer.load(folder / f"{place}.json"))
        for place, model in enumerate(
            (piece_model(Model.BPE), with_bytes(piece_model(Model.BPE)), piece_model(Model.UNIGRAM))
        ):
            (folder / f"{place}.model").write_bytes(write_model(model))
            found.append(Tokenizer.load(folder / f"{place}.model"))
    return found


def gguf_of_tokenizers() -> Iterator[bytes]:
    """GGUFs that hold nothing but a tokenizer."""
    for tokenizer in gguf_tokenizers():
        yield header(to_metadata(tokenizer, chat=True), [])
    pieces = [*piece_model(Model.BPE).pieces, *with_bytes(piece_model(Model.BPE)).pieces[-256:]]
    yield header(
        {
            "tokenizer.ggml.model": "gemma4",
            "tokenizer.ggml.tokens": [piece.text for piece in pieces],
            "tokenizer.ggml.token_type": np.array([piece.kind for piece in pieces], np.int32),
            "tokenizer.ggml.merges": ["t h", "▁ a", "▁ th", "th e", "▁ the"],
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.ggml.unknown_token_id": 0,
        },
        [],
    )


def gguf_models() -> Iterator[bytes]:
    """Whole models: every family, some with stretched positions, some quantized, some with other tokenizers."""
    tokenizers = gguf_tokenizers()
    spm, own = tokenizers[3], tokenizers[0]
    llama3 = RopeScaling(
        rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    )  # fmt: skip
    long = RopeScaling(
        rope_type="longrope",
        original_max_position_embeddings=32,
        short_factor=(1.0,) * 8,
        long_factor=(2.0,) * 8,
    )
    yarn = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=16)
    for family in ARCHITECTURES:
        yield _gguf_model(config_of(family), spm, "f32")
    yield _gguf_model(config_of("llama", rope_scaling=llama3), spm, "f16")
    yield _gguf_model(config_of("phi3", rope_scaling=long), spm, "q8_0")
    yield _gguf_model(config_of("qwen3", rope_scaling=yarn, tie_word_embeddings=False), spm, "q4_0")
    yield _gguf_model(config_of("qwen3", vocab_size=320), own, "q8_0")
    wide = dict(hidden_size=256, intermediate_size=256, num_hidden_layers=1, head_dim=128)
    yield _gguf_model(config_of("llama", **wide), spm, "q4_k_m")


def gguf_two_files() -> Iterator[bytes]:
    """What run.py opens: its three families, its types."""
    for family, kind in (("llama", "f32"), ("qwen2", "q8_0"), ("qwen3", "q4_0"), ("qwen3", "f16")):
        yield _gguf_model(config_of(family, vocab_size=320), bytes_only(), kind, unicode_ranges())


def _gguf_model(
    config: TransformerConfig, tokenizer: Tokenizer, kind: str, more: dict[str, Any] | None = None
) -> bytes:
    model = random_model(config)
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    contents = Contents(config, weights, tokenizer, tokenizer.stop_ids, True, more or {})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        convert(contents, path, type=kind)
        return path.read_bytes()


def importance_matrix() -> bytes:
    """llama.cpp's imatrix, of two matrices."""
    dice, tensors = np.random.default_rng(0), []
    for matrix in ("blk.0.attn_q.weight", "blk.0.ffn_up.weight"):
        sums, count = dice.random((1, 32), np.float32), np.full((1, 1), 7, np.float32)
        tensors.append((f"{matrix}.in_sum2", TensorType.F32, sums, sums.shape))
        tensors.append((f"{matrix}.counts", TensorType.F32, count, count.shape))
    about = {"general.type": "imatrix", "imatrix.datasets": ["a.txt"], "imatrix.chunk_count": 3}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "imatrix.gguf"
        write_gguf(path, about, tensors)
        return path.read_bytes()


def old_importance_matrix() -> bytes:
    """The form before."""
    values, data = np.random.default_rng(0).random(32).astype("<f4").tobytes(), struct.pack("<i", 2)
    for name in (b"blk.0.attn_q.weight", b"blk.0.ffn_up.weight"):
        data += struct.pack("<i", len(name)) + name + struct.pack("<ii", 3, 32) + values
    return data + struct.pack("<ii", 3, 5) + b"a.txt"


# ---- Hugging Face folders --------------------------------------------------------------------------------


def configs() -> Iterator[dict[str, Any]]:
    """config.json of every family that opens, of stretched positions, and of some that are only described."""
    for family in FAMILIES:
        yield config_of(family).to_hf()
    yarn = RopeScaling(rope_type="yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=32.0)
    yield config_of("llama", rope_scaling=yarn).to_hf()
    llama = config_of("llama").to_hf()
    turns = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    turns |= {"original_max_position_embeddings": 32, "rope_theta": 5e5}
    yield {**llama, "rope_scaling": None, "rope_parameters": turns}
    long = {"type": "longrope", "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    yield {**config_of("phi3").to_hf(), "rope_scaling": long, "original_max_position_embeddings": 32}
    gemma = config_of("gemma3_text").to_hf()
    yield {"model_type": "gemma3", "text_config": gemma, "vision_config": {"hidden_size": 8}}
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    yield {**gemma, "rope_parameters": {FULL: full, SLIDING: {"rope_type": "default", "rope_theta": 1e4}}}
    yield {**llama, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    yield {**llama, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    falcon = {
        "model_type": "falcon",
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 2,
        "multi_query": True,
        "n_ctx": 64,
    }
    yield {**falcon, "vocab_size": 24, "layer_types": [SLIDING, FULL], "sliding_window": 8}


def folder_of(config: TransformerConfig, tokenizer: Tokenizer, *, shards: bool = False) -> Files:
    """The files of a Hugging Face folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_folder(folder, random_model(config), tokenizer, chat=False)
        files: Files = {path.name: path.read_bytes() for path in folder.iterdir()}
    if shards:
        tensors = load(files.pop(WEIGHTS))
        names = sorted(tensors)
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        weight_map = {}
        for number, half in enumerate(halves, 1):
            shard = f"model-{number:05}-of-00002.safetensors"
            files[shard] = save({name: tensors[name] for name in half})
            weight_map |= dict.fromkeys(half, shard)
        total = {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
        index = {"metadata": total, "weight_map": weight_map}
        files[INDEX] = json.dumps(index).encode()
    return files


def adapters() -> Iterator[Files]:
    """Adapters, each with its base beside it: plain, by the root of the rank, with magnitudes and joined matrices."""
    for family, settings in (
        ("llama", LoraSettings(rank=2, alpha=4.0)),
        ("gpt2", LoraSettings(rank=3, alpha=4.0, rslora=True)),
        ("phi3", LoraSettings(rank=2, alpha=4.0, dora=True, targets=("q_proj", "v_proj", "down_proj"))),
    ):
        model, dice = random_model(config_of(family)), torch.Generator().manual_seed(1)
        base = folder_of(model.config, pieces_tokenizer())
        attach(model, settings, tokens=[3, 5] if family == "llama" else ())
        adapter = attached(model)
        for change in adapter.changes.values():
            change.b.data.normal_(0, 0.2, generator=dice)
        with tempfile.TemporaryDirectory() as name:
            save_adapter(name, adapter, model, settings, "../base")
            files = {f"adapter/{path.name}": path.read_bytes() for path in Path(name).iterdir()}
        yield {**files, **{f"base/{name}": data for name, data in base.items()}}


def pieces_tokenizer(rows: int = 24) -> Tokenizer:
    """The tokenizer of the folders: SentencePiece."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.model"
        path.write_bytes(write_model(piece_model(Model.BPE, rows)))
        return Tokenizer.load(path)


def packed_torch(pickle: bytes) -> bytes:
    """A zip as torch.save writes it, around a pickle."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as packed:
        packed.writestr("archive/data.pkl", pickle)
        packed.writestr("archive/version", "3\n")
    return data.getvalue()


RANK_NAME = next(iter(RANK_FILES))  # a file of ranks is known by its name
