"""Every family of models against `transformers`, which made the folders; `benchmarks/families.py` measures more."""

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from twofold.errors import FileError, UsageError
from twofold.models import gguf_config, gguf_names
from twofold.models.hf_config import FULL, SLIDING
from twofold.models.language_model import Ask
from twofold.models.torch_model import TorchLanguageModel
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import families
import family_files


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    yield
    transformers.logging.set_verbosity_warning()
    transformers.logging.enable_progress_bar()


def model_of(row, seed=0, **changes):
    """A random model of `transformers` with some settings as said."""
    known = families.ROWS[row]
    changed = families.Row(known.config, lambda rng: {**known.settings(rng), **changes})
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.ROWS, row, changed)
        return families.random_model(row, np.random.default_rng(seed))


def opened(theirs, folder):
    theirs.save_pretrained(folder)
    return families.opened(folder)


@torch.no_grad()
def whole_row(model, tokens):
    return model(torch.tensor([tokens]))[0]


@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("row", families.ROWS)
def test_every_way_through_equals_transformers(row, seed):
    found = families.differences(row, seed)
    assert found["load"] == 0
    assert max(found[name] for name in ("logits", "cache", "batch", "save")) <= 5e-5, found


MATTERS = [  # a family, a model of it, what is changed after opening
    ("Llama, linear", {}, {"rope_scaling": None}),
    ("Llama, yarn", {}, {"rope_scaling": None}),
    ("Llama, llama3", {}, {"rope_scaling": None}),
    ("Llama, longrope", {}, {"rope_scaling": None}),
    ("Llama 2", {}, {"rope_theta": 300.0}),
    ("Llama 2", {}, {"rms_norm_eps": 0.1}),
    ("Llama 2", {}, {"hidden_act": "gelu"}),
    ("GPT-2", {"activation_function": "gelu_new"}, {"hidden_act": "relu"}),
    ("Mistral", {"sliding_window": 9}, {"sliding_window": 8}),
    ("Mistral", {"sliding_window": 9}, {"sliding_window": 10}),
    ("SmolLM3", {"no_rope_layers": [1, 1], "num_hidden_layers": 2}, {"no_rope_layers": (1, 0)}),
    ("Gemma 2", {"attn_logit_softcapping": 3.0}, {"attn_logit_softcapping": None}),
    ("Gemma 2", {"final_logit_softcapping": 3.0}, {"final_logit_softcapping": None}),
    ("Gemma 2", {"query_pre_attn_scalar": 7}, {"query_pre_attn_scalar": 8}),
    ("Gemma 3", {"layer_types": [SLIDING, FULL], "num_hidden_layers": 2}, {"layer_types": (FULL, SLIDING)}),
    ("Gemma 3", {"layer_types": [SLIDING] * 2, "num_hidden_layers": 2}, {"rope_local_base_freq": 77.0}),
]


@pytest.mark.parametrize(("row", "made", "change"), MATTERS)
def test_a_setting_that_is_passed_over_would_be_seen(tmp_path, row, made, change):
    ours = opened(model_of(row, 5, **made), tmp_path)
    other = Transformer(replace(ours.config, **change))
    other.load_state_dict(ours.state_dict())
    tokens = families.text(ours, np.random.default_rng(0), 60, 60)
    assert (whole_row(other, tokens) - whole_row(ours, tokens)).abs().max() > 1e-3
    for model in (ours, other):
        paged = TorchLanguageModel(model, context_length=families.LONGEST)
        memory = paged.new_memory()
        scores = paged.scores(memory, [Ask(memory.new(), tokens, 60)])
        if model.config.rope_scaling is None or model.config.rope_scaling.rope_type != "longrope":
            assert (scores - whole_row(model, tokens)).abs().max() <= 5e-5


@pytest.mark.parametrize("row", families.ROWS)
def test_counts_are_of_the_module(row, tmp_path):
    ours = opened(model_of(row, 3), tmp_path)
    assert ours.config.count_parameters() == sum(p.numel() for p in ours.parameters())
    matrices = sum(p.numel() for name, p in ours.named_parameters() if p.ndim == 2 and "embed_" not in name)
    if ours.config.tie_word_embeddings:
        matrices += ours.output_weight.numel()
    assert ours.config.matmul_parameters() == matrices


def test_dynamic_positions_beyond_the_context(tmp_path):
    theirs = model_of("Llama, dynamic", 1, head_dim=16, max_position_embeddings=40)
    ours = opened(theirs, tmp_path)
    for length in (30, 40, 41, 90):
        tokens = families.text(ours, np.random.default_rng(length), length, length)
        fresh = transformers.AutoModelForCausalLM.from_pretrained(
            tmp_path
        ).eval()  # it keeps what it once saw
        assert (whole_row(ours, tokens) - families.expected(fresh, tokens)).abs().max() <= 5e-5
    assert TorchLanguageModel(ours).context_length == 40


def test_longrope_has_one_set_of_speeds_in_memory(tmp_path):
    ours = opened(model_of("Llama, longrope", 2), tmp_path)
    original = ours.config.rope_scaling.original_max_position_embeddings
    assert TorchLanguageModel(ours).context_length == original < families.LONGEST
    tokens = families.text(ours, np.random.default_rng(0), original, original)
    for context, equal in ((None, True), (original, True), (original + 1, False)):
        model = TorchLanguageModel(ours, context_length=context)
        memory = model.new_memory()
        scores = model.scores(memory, [Ask(memory.new(), tokens, len(tokens))])
        assert ((scores - whole_row(ours, tokens)).abs().max() <= 5e-5) == equal
    with pytest.raises(UsageError, match=f"{families.LONGEST + 1:,} tokens was asked for"):
        TorchLanguageModel(ours, context_length=families.LONGEST + 1)


def test_learned_positions_have_an_end(tmp_path):
    ours = opened(model_of("GPT-2"), tmp_path)
    with pytest.raises(UsageError, match=f"learned {families.LONGEST} positions"):
        ours(torch.zeros((1, families.LONGEST + 1), dtype=torch.long))


@pytest.mark.parametrize("row", families.ROWS)
def test_half_precision_is_as_near_as_theirs(tmp_path, row):
    theirs = model_of(row, 4)
    half = copy.deepcopy(theirs)
    for parameter in half.parameters():  # not their positions
        parameter.data = parameter.data.bfloat16()
    theirs.load_state_dict(half.state_dict())
    half.config.dtype = torch.bfloat16
    half.save_pretrained(tmp_path)
    ours = families.opened(tmp_path, None)
    assert ours.output_weight.dtype == torch.bfloat16
    tokens = families.text(ours, np.random.default_rng(0), 40, 30)
    exact = families.expected(theirs, tokens)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    off = (families.expected(reference, tokens).float() - exact).pow(2).mean().sqrt()
    paged = TorchLanguageModel(ours, context_length=families.LONGEST if "longrope" not in row else None)
    memory = paged.new_memory()
    if len(tokens) <= paged.context_length:
        scores = paged.scores(memory, [Ask(memory.new(), tokens, len(tokens))])
        assert (scores - exact).pow(2).mean().sqrt() <= 1.5 * off
    assert (whole_row(ours, tokens).float() - exact).pow(2).mean().sqrt() <= 1.5 * off


def rewritten(folder, change):
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, {"format": "pt"})


def test_other_names_of_gpt2_open(tmp_path):
    theirs = model_of("GPT-2", 6)
    ours = opened(theirs, tmp_path)
    buffers = {}
    for layer in range(ours.config.num_hidden_layers):
        buffers[f"h.{layer}.attn.bias"] = torch.ones((1, 1, 8, 8), dtype=torch.uint8)
        buffers[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    rewritten(tmp_path, lambda w: {n.removeprefix("transformer."): x for n, x in w.items()} | buffers)
    again = families.opened(tmp_path)
    assert all(torch.equal(x, again.state_dict()[name]) for name, x in ours.state_dict().items())
    rewritten(tmp_path, lambda w: w | {"transformer.wte.weight": w["wte.weight"].clone()})
    with pytest.raises(FileError, match=r"wte\.weight' is also in"):
        families.opened(tmp_path)


def test_buffers_of_old_llamas_are_passed_over(tmp_path):
    ours = opened(model_of("Llama 2", 6), tmp_path)
    rewritten(tmp_path, lambda w: w | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)})
    assert torch.equal(families.opened(tmp_path).output_weight, ours.output_weight)
    rewritten(tmp_path, lambda w: w | {"model.layers.0.self_attn.rotary.inv_freq": torch.ones(4)})
    with pytest.raises(FileError, match=r"unexpectedly.*rotary\.inv_freq"):
        families.opened(tmp_path)


def test_the_text_part_of_a_gemma_that_sees(tmp_path):
    text = model_of("Gemma 3", 7, final_logit_softcapping=None)
    sees = transformers.SiglipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14,
    )  # fmt: skip
    config = transformers.Gemma3Config(
        text_config=text.config.to_dict(), vision_config=sees.to_dict(), mm_tokens_per_image=4,
        tie_word_embeddings=text.config.tie_word_embeddings,
    )  # fmt: skip
    theirs = transformers.Gemma3ForConditionalGeneration(config).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(std=0.2)
    theirs.save_pretrained(tmp_path)
    ours = families.opened(tmp_path)
    assert ours.config.model_type == "gemma3_text"
    tokens = families.text(ours, np.random.default_rng(0), 40)
    assert (whole_row(ours, tokens) - families.expected(theirs, tokens)).abs().max() <= 1e-4


# ---- Files in the hands of others. ----
MOST = {
    "GPT-2": 1e-2,
    "Gemma": 1e-2,
    "Gemma 2": 1e-2,
    "Gemma 3": 1e-2,
}  # llama.cpp's GELU is a table of float16


@pytest.mark.parametrize("row", families.ROWS)
def test_a_gguf_gives_the_scores_of_the_model_to_us_and_to_llama_cpp(row):
    found = [families.differences(row, 100, family_files.GGUF)]
    while row != "Llama, dynamic" and isinstance(found[-1]["GGUF, llama.cpp"], str):
        found.append(families.differences(row, 100 + len(found), family_files.GGUF))
        assert len(found) < 60
    for one in found:
        ours, others = one["GGUF, ours"], one["GGUF, llama.cpp"]
        if isinstance(ours, str):
            assert "not written" in ours
            assert others == ours
        else:
            assert ours < 5e-5
            assert isinstance(others, str) or others < MOST.get(row, 5e-5)


@pytest.mark.parametrize(("row", "tied"), [("Gemma", False), ("Gemma 2", False), ("OLMo 2", True)])
def test_an_output_that_llama_cpp_does_not_take_is_told(row, tied, tmp_path):
    caps = {"attn_logit_softcapping": 30.0, "final_logit_softcapping": 20.0} if row == "Gemma 2" else {}
    model_of(row, 8, tie_word_embeddings=tied, attention_bias=False, **caps).save_pretrained(tmp_path)
    with family_files.written(tmp_path) as made:
        assert any("embedding" in note for note in made.notes)
        assert np.isinf(family_files.scores_of_llama_cpp(made.path, families.LONGEST, 400, [[1]])).all()


def test_settings_that_a_gguf_lost_would_be_seen(monkeypatch):
    monkeypatch.setattr(gguf_config._Reader, "positions", lambda self, found: {"rope_theta": 77.0})
    found = families.differences("Llama 2", 0, family_files.GGUF)
    assert found["GGUF, ours"] > 1e-3
    assert found["GGUF, llama.cpp"] < 5e-5


def test_rows_that_a_gguf_has_in_another_order_than_llama_cpp_would_be_seen(monkeypatch):
    monkeypatch.setattr(gguf_names, "_SIDE_BY_SIDE", ())
    found = families.differences("Llama 2", 0, family_files.GGUF)
    assert found["GGUF, ours"] < 5e-5
    assert found["GGUF, llama.cpp"] > 1e-3


@pytest.mark.parametrize("style", family_files.STYLES)
def test_tokenizers_and_chat_templates_give_the_ids_of_their_libraries(style):
    style, rng = family_files.STYLES[style], np.random.default_rng(5)
    with family_files.shipped(style, None) as folder:
        assert family_files.differing_texts(folder, rng, 40) == 0
        if style.template:
            assert family_files.differing_conversations(folder, style, rng, 20) == 0


def _other(content, config, what):
    """Change one thing in the two files of a tokenizer."""
    match what:
        case "whole words":
            content["model"]["ignore_merges"] = False
        case "normal form":
            content["normalizer"] = None
        case "first space":
            content["pre_tokenizer"]["prepend_scheme"] = "always"
        case "start":
            content["post_processor"] = None
        case "spaces after names":
            for token in content["added_tokens"]:
                token["rstrip"] = False
        case _:
            config["chat_template"] = config["chat_template"].replace(what, "")


@pytest.mark.parametrize(
    ("style", "what", "column"),
    [
        ("llama3", "whole words", "texts"),
        ("qwen2", "normal form", "texts"),
        ("mistral", "first space", "conversations"),
        ("gemma2", "start", "texts"),
        ("phi3", "spaces after names", "conversations"),
        ("llama2", ".strip()", "conversations"),
        ("llama3", "(indent=4)", "conversations"),
        ("qwen3", "\\n<tool_call>", "conversations"),
        ("smollm3", ".rstrip()", "conversations"),
        ("gemma3", " | trim", "conversations"),
    ],
)
def test_what_a_tokenizer_passed_over_would_be_seen(style, what, column, monkeypatch):
    load = Tokenizer.load

    def without(folder):
        """Ours opens files that lack one thing; theirs do not."""
        content, config = (
            json.loads((folder / n).read_text()) for n in ("tokenizer.json", "tokenizer_config.json")
        )
        _other(content, config, what)
        there = folder / "other"
        there.mkdir()
        (there / "tokenizer.json").write_text(json.dumps(content))
        (there / "tokenizer_config.json").write_text(json.dumps(config))
        return load(there)

    monkeypatch.setattr(family_files.Tokenizer, "load", without)
    style, rng = family_files.STYLES[style], np.random.default_rng(6)
    with family_files.shipped(style, None) as folder:
        if column == "texts":
            assert family_files.differing_texts(folder, rng, 100) > 0
        else:
            assert family_files.differing_conversations(folder, style, rng, 30) > 0
