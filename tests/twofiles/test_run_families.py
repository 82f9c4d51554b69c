"""run.py with public files of other families: against transformers, and their tokenizers' own library."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tokenizers
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from twofold.models.from_gguf import Contents
from twofold.models.gguf import read_gguf, write_gguf
from twofold.models.load import load_model
from twofold.models.quantize import TensorType
from twofold.models.to_gguf import plan
from twofold.twofiles import run

IDS = np.random.default_rng(0).integers(0, 440, 60)
CONFIGS = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config, "qwen3": transformers.Qwen3Config,
           "mistral": transformers.MistralConfig}  # fmt: skip
SHAPE = dict(vocab_size=640, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             intermediate_size=512, max_position_embeddings=128, rope_theta=10_000.0)  # fmt: skip
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip


@pytest.fixture
def made(tokenizer, tmp_path):
    """A function (family, recipe, settings) -> (transformers' model of the stored weights, the file)."""

    def make(family: str, recipe: str = "f32", **more) -> tuple[transformers.PreTrainedModel, Path]:
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(CONFIGS[family](**{**SHAPE, **more})).eval()
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.data.normal_(0, 0.5)
            elif parameter.ndim == 1:
                parameter.data.uniform_(0.5, 1.5)
            else:
                parameter.data.normal_(0, 0.06)
        model.save_pretrained(tmp_path / "theirs")
        tokenizer.save(tmp_path / "theirs")
        ours, _, _ = load_model(tmp_path / "theirs")
        weights = {name: tensor.numpy() for name, tensor in ours.state_dict().items()}
        planned = plan(Contents(ours.config, weights, tokenizer, (0,), False), recipe, name="tiny")
        path = tmp_path / "model.gguf"
        write_gguf(path, planned.metadata, planned.entries())
        if recipe != "f32":
            stored = load_model(path)[0].state_dict()
            assert not model.load_state_dict(stored, strict=False).unexpected_keys
        return model, path

    return make


def session(path: Path) -> run.Session:
    return run.Session(SimpleNamespace(model=str(path), seed=0, temperature=0.0, max_tokens=0, system=None))


@pytest.mark.parametrize(
    ("family", "recipe", "more"),
    [
        ("llama", "f32", {}),
        ("llama", "f16", {"tie_word_embeddings": True}),
        ("llama", "f32", {"head_dim": 40}),
        ("llama", "f32", {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
        ("llama", "f32", {"rope_scaling": LLAMA3}),
        ("llama", "q4_0", {}),
        ("qwen2", "f32", {}),
        ("qwen2", "bf16", {"num_key_value_heads": 4}),
        ("qwen2", "q4_0", {"tie_word_embeddings": True}),
        ("qwen3", "q8_0", {"head_dim": 64}),
        ("qwen3", "q4_0", {"head_dim": 64}),
        ("mistral", "f32", {"sliding_window": 4096}),
    ],
    ids=str,
)
def test_logits_are_those_of_transformers(family, recipe, more, made):
    model, path = made(family, recipe, **more)
    kinds = {TensorType(tensor.type).name for tensor in read_gguf(path).tensors.values()}
    assert kinds == {"F32"} | ({"Q4_0", "Q6_K"} if recipe == "q4_0" else {recipe.upper()})
    with torch.no_grad():
        expected = model(torch.tensor(IDS)[None]).logits[0].numpy()
    opened = session(path)
    memory = run.Memory(opened.model)
    pieces = [opened.model.read([int(i) for i in piece], memory) for piece in np.split(IDS, [1, 2, 30])]
    found = opened.model.output.times(np.concatenate(pieces))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_a_window_is_where_the_context_ends(made):
    _, path = made("mistral", sliding_window=48)
    assert session(path).model.context == 48


def changed(path: Path, to: Path, *, without: str = "", more=(), **values) -> Path:
    """The file with other values (None takes one away) and tensors."""
    source = read_gguf(path)
    metadata = dict(source.metadata)
    for key, value in values.items():
        name = key.replace("__", ".")
        metadata.pop(name, None) if value is None else metadata.update({name: value})
    tensors = [
        (t.name, TensorType(t.type), t.raw, t.shape) for t in source.tensors.values() if t.name != without
    ]
    write_gguf(to, metadata, [*tensors, *more])
    return to


def test_what_a_file_leaves_out_has_its_usual_meaning(made, tmp_path):
    model, path = made("llama", num_key_value_heads=4)
    short = changed(
        path, tmp_path / "short.gguf", llama__attention__head_count_kv=None, llama__attention__key_length=None,
        llama__attention__value_length=None, llama__rope__dimension_count=None, llama__rope__freq_base=None,
    )  # fmt: skip
    with torch.no_grad():
        expected = model(torch.tensor(IDS)[None]).logits[0].numpy()
    opened = session(short)
    found = opened.model.output.times(opened.model.read(IDS.tolist(), run.Memory(opened.model)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"general__architecture": "gemma2"}, "gemma2"),
        ({"llama__rope__scaling__type": "yarn"}, "no model that can be computed"),
        ({"llama__rope__scaling__type": "linear"}, "no model that can be computed"),
        ({"llama__rope__dimension_count": 32}, "no model that can be computed"),
        ({"llama__attention__head_count_kv": 3}, "no model that can be computed"),
        ({"llama__attention__head_count": 0}, "no model that can be computed"),
        ({"llama__block_count": 3}, "there must be blk.2.attn_norm"),
        ({"llama__block_count": 1}, "holds blk.1.attn_norm.weight"),
        ({"without": "blk.0.attn_k.weight"}, "there must be blk.0.attn_k"),
        ({"more": [("blk.0.ffn_up.bias", TensorType.F32, bytes(4 * 512), (512,))]}, "ffn_up.bias"),
        (
            {"more": [("blk.0.attn_q.bias", TensorType.F32, bytes(4 * 256), (256,))]},
            "there must be blk.0.attn_k.bias",
        ),
        ({"more": [("rope_freqs.weight", TensorType.F32, bytes(4 * 31), (31,))]}, "there must be rope_freqs"),
    ],
    ids=str,
)
def test_what_cannot_be_computed_is_told(values, message, made, tmp_path):
    _, path = made("llama")
    with pytest.raises(run.Problem, match=message):
        session(changed(path, tmp_path / "other.gguf", **values))


@pytest.mark.parametrize("without", ["blk.1.attn_q_norm.weight", "blk.1.attn_v.bias"])
def test_a_family_has_all_of_its_parts(without, made, tmp_path):
    _, path = made(
        "qwen3" if "norm" in without else "qwen2", **({"head_dim": 64} if "norm" in without else {})
    )
    with pytest.raises(run.Problem, match="there must be"):
        session(changed(path, tmp_path / "other.gguf", without=without))


# ---- Text. ----
HARD = ["'s", "'S", "'LL", "'vE", "’s", "''s", " 's", " ", "  ", "\n", "\r\n", "\t", "\xa0", "\u3000", "a", "Z", "é",
        "村", "7", "½", "²", "12345678", "12 34", "a  1", " 5", "\n\n x", "  \n  y", "!", "...", "🙂", "_",
        "<|im_end|>", "ĠĊ", "  123", "\n7"]  # fmt: skip
texts = st.lists(
    st.one_of(st.sampled_from(HARD), st.text(alphabet="aé村 \n'1!", max_size=6)), max_size=25
).map("".join)
LLAMA = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")  # fmt: skip


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "smollm", "qwen2", "deepseek-r1-qwen"])
def test_patterns_cut_as_their_libraries_do(name, exported, opened, tmp_path):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    split = {"llama-bpe": LLAMA}.get(name, LLAMA.replace("{1,3}", ""))
    cut = {
        "gpt-2": gpt2,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2]),
    }.get(name) or pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), byte_level])
    path = changed(exported() / "model.gguf", tmp_path / "m.gguf", tokenizer__ggml__pre=name)
    known = read_gguf(path).metadata
    vocabulary = {piece: i for i, piece in enumerate(known["tokenizer.ggml.tokens"])}
    merges = [tuple(merge.split(" ")) for merge in known["tokenizer.ggml.merges"]]
    library = tokenizers.Tokenizer(
        tokenizers.models.BPE(vocabulary, merges, ignore_merges=name == "llama-bpe")
    )
    library.pre_tokenizer = cut
    ours = session(path).tokenizer

    @settings(max_examples=300, deadline=None)
    @given(texts)
    def check(text):
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids
        assert b"".join(ours.bytes[i] for i in ours.encode(text)).decode() == text

    check()


def test_a_word_that_is_a_token_is_not_put_together_from_others(exported, tmp_path):
    """As in Llama 3's vocabulary, where merges lead past some tokens."""
    source = exported() / "model.gguf"
    tokens = list(read_gguf(source).metadata["tokenizer.ggml.tokens"])
    place = tokens.index("z")
    assert "zqzqz" not in tokens
    kinds = read_gguf(source).metadata["tokenizer.ggml.token_type"]
    unused = next(i for i, kind in enumerate(kinds) if kind == 1 and len(tokens[i]) > 6)
    for name, expected in (("llama-bpe", [unused]), ("qwen2", None)):
        tokens[unused] = "zqzqz"
        merges = [
            m for m in read_gguf(source).metadata["tokenizer.ggml.merges"] if "".join(m.split(" ")) in tokens
        ]
        path = changed(source, tmp_path / "m.gguf", tokenizer__ggml__pre=name, tokenizer__ggml__tokens=tokens,
                       tokenizer__ggml__merges=merges)  # fmt: skip
        found = session(path).tokenizer.encode("zqzqz")
        assert found == expected if expected else found[0] == place


def test_llama_begins_every_text_unless_the_file_says_not(exported, tmp_path):
    for pre, value, begins in (
        ("llama-bpe", None, True),
        ("llama-bpe", False, False),
        ("gpt-2", None, False),
    ):
        path = changed(exported() / "model.gguf", tmp_path / "m.gguf", tokenizer__ggml__pre=pre,
                       tokenizer__ggml__add_bos_token=value)  # fmt: skip
        assert bool(session(path).tokenizer.begin) == begins
