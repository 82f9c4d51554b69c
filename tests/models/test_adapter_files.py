"""Adapter folders from strangers: what opens, and what is refused by name."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from twofold.errors import FileError
from twofold.models.adapter_config import base_of, is_adapter
from twofold.models.adapter_files import read_adapter, save_adapter
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.load import load_model
from twofold.models.lora import LoraSettings, attach, attached
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

CONFIG = TransformerConfig(
    vocab_size=320, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
    num_key_value_heads=1, head_dim=16, max_position_embeddings=64, tie_word_embeddings=False,
)  # fmt: skip
STEM = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = Transformer(CONFIG)
    save_folder(tmp_path / "base", model, bytes_only(), chat=False)
    settings = LoraSettings(rank=2, targets=("q_proj", "down_proj"))
    attach(model, settings)
    for name, parameter in model.named_parameters():
        if name.endswith("lora.b"):
            parameter.data.normal_()
    (tmp_path / "adapter").mkdir()
    save_adapter(tmp_path / "adapter", attached(model), model, settings, str(tmp_path / "base"))
    return tmp_path / "adapter"


def change_config(folder, **values):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_tensors(folder, change):
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)


def test_alpha_and_rank_may_differ_from_matrix_to_matrix(folder):
    change_config(folder, alpha_pattern={"q_proj": 3, "^model.layers.1.mlp.down_proj": 5}, lora_alpha=8)
    changes = read_adapter(folder, CONFIG).changes
    assert changes["model.layers.0.self_attn.q_proj"].scale == 3 / 2
    assert changes["model.layers.0.mlp.down_proj"].scale == 8 / 2
    assert changes["model.layers.1.mlp.down_proj"].scale == 5 / 2
    change_config(folder, use_rslora=True)
    assert read_adapter(folder, CONFIG).changes["model.layers.0.mlp.down_proj"].scale == 8 / 2**0.5


def test_whole_tensors_of_its_own_take_the_place_of_the_bases(folder):
    norm, output = torch.randn(32), torch.randn(320, 32)
    whole = {"base_model.model.model.norm.weight": norm, "base_model.model.lm_head.weight": output}
    change_tensors(folder, lambda tensors: tensors | whole)
    model, _, _ = load_model(folder)
    assert torch.equal(model.model.norm.weight, norm)
    assert torch.equal(model.lm_head.weight, output)


def test_the_output_matrix_may_have_a_low_rank_change(folder):
    before = load_model(folder)[0].lm_head.weight
    a, b = torch.randn(2, 32), torch.randn(320, 2)
    stem = "base_model.model.lm_head"
    own = {
        f"{stem}.base_layer.weight": torch.zeros(320, 32)
    }  # as PEFT keeps it beside: the base's, which stays
    change_tensors(folder, lambda t: t | own | {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b})
    assert torch.allclose(load_model(folder)[0].lm_head.weight, before + 16 * b @ a, atol=1e-5)


def test_its_base_is_where_it_says_or_beside_it(folder, monkeypatch, tmp_path):
    assert base_of(folder) == str(tmp_path / "base")
    change_config(folder, base_model_name_or_path="../base")
    assert load_model(folder)[2].path == folder
    assert is_adapter(folder)
    assert not is_adapter(tmp_path / "base")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"peft_type": "IA3"}, "'IA3' is not supported"),
        ({"bias": "all"}, "bias = 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights = 'pissa'"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "alpha_pattern must give numbers for plain names"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"lora_alpha": "x"}, "the alpha of"),
        ({"lora_alpha": 10**400}, "the alpha of"),
        ({"lora_alpha": float("nan")}, "the alpha of"),
        ({"use_dora": True}, "must have a lora_magnitude_vector"),
        ({"use_dora": "yes"}, "use_dora must be true or false"),
        ({"base_model_name_or_path": None}, "does not say which model"),
        ({"base_model_name_or_path": "/nowhere\0"}, "is an adapter of"),
        ({"base_model_name_or_path": "."}, "does not open"),
    ],
)
def test_what_a_config_asks_that_is_not_understood_is_refused(folder, values, said):
    change_config(folder, **values)
    with pytest.raises(FileError, match=said.replace("(", r"\(").replace("+", r"\+").replace("$", r"\$")):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: {}, "changes nothing"),
        (lambda t: t | {"x": torch.ones(1)}, "'x' is no part of an adapter"),
        (lambda t: t | {f"{STEM}.lora_A.weight": torch.ones(2, 33)}, "belongs to another model"),
        (lambda t: t | {f"{STEM}.lora_A.weight": torch.ones(3, 32)}, "belongs to another model"),
        (lambda t: t | {f"{STEM}.lora_B.weight": torch.ones(64)}, "belongs to another model"),
        (lambda t: {k: v for k, v in t.items() if k != f"{STEM}.lora_A.weight"}, "belongs to another model"),
        (lambda t: t | {f"{STEM}.lora_A.weight": torch.full((2, 32), float("nan"))}, "NaN or infinity"),
        (lambda t: t | {f"{STEM}.lora_A.weight": torch.ones(2, 32, dtype=torch.int8)}, "is of type I8"),
        (lambda t: t | {f"{STEM.replace('0', '7')}.lora_A.weight": torch.ones(2, 32)}, "no part of an adapter"),
        (lambda t: t | {"base_model.model.model.norm.weight": torch.ones(31)}, "or of another shape"),
        (lambda t: t | {"base_model.model.model.norm.lora_A.weight": torch.ones(2, 32)}, "no matrix of a layer"),
        (
            lambda t: t | {
                "base_model.model.model.embed_tokens.lora_A.weight": torch.ones(2, 32),
                "base_model.model.model.embed_tokens.lora_B.weight": torch.ones(320, 2),
            },
            "no matrix of a layer",
        ),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit_are_refused(folder, change, said):
    change_tensors(folder, change)
    with pytest.raises(FileError, match=said):
        load_model(folder)


def test_an_embedding_that_is_also_the_output_cannot_be_replaced_alone(folder):
    tied = TransformerConfig(**{**CONFIG.__dict__, "tie_word_embeddings": True})
    embedding = {"base_model.model.model.embed_tokens.weight": torch.ones(320, 32)}
    change_tensors(folder, lambda tensors: tensors | embedding)
    assert "model.embed_tokens.weight" in read_adapter(folder, CONFIG).replaced
    with pytest.raises(FileError, match="output matrix as well"):
        read_adapter(folder, tied)


def test_damaged_and_pickled_files_are_refused(folder):
    path = folder / "adapter_model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(FileError, match="not a whole safetensors file"):
        load_model(folder)
    path.unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(FileError, match="pickle"):
        load_model(folder)
    (folder / "adapter_config.json").write_text("[" * 100_000)
    with pytest.raises(FileError, match=r"adapter_config\.json"):
        load_model(folder)


def test_adapters_of_each_other_are_refused(folder, tmp_path):
    change_config(folder, base_model_name_or_path=str(folder))
    with pytest.raises(FileError, match="without an end"):
        load_model(folder)


@pytest.fixture
def with_rows(folder):
    """The adapter with rows of two tokens for the embedding and the output."""
    change_config(folder, trainable_token_indices={"embed_tokens": [3, 5], "lm_head": [3, 5]})
    names = [
        f"base_model.model.{stem}.token_adapter.trainable_tokens_delta"
        for stem in ("model.embed_tokens", "lm_head")
    ]
    change_tensors(folder, lambda tensors: tensors | {name: torch.ones(2, 32) for name in names})
    return folder


def test_rows_of_tokens_are_put_in_their_places(with_rows):
    plain = load_model(with_rows.parent / "base")[0]
    found = load_model(with_rows)[0]
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        ours, base = found.state_dict()[name], plain.state_dict()[name]
        assert torch.equal(ours[[3, 5]], torch.ones(2, 32))
        assert torch.equal(ours[6:], base[6:])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ([3, 320], "vocabulary's 320"),
        ([3, -1], "vocabulary's 320"),
        ([3, "5"], "vocabulary's 320"),
        ([3, True], "vocabulary's 320"),
        ("35", "vocabulary's 320"),
        ([3, 3], "a token twice"),
        ([3], "do not fit"),
        ([3, 5, 7], "do not fit"),
        (None, "do not fit"),
        ({"lm_head": [3, 5]}, "do not fit"),
    ],
    ids=str,
)
def test_rows_that_do_not_fit_are_refused(with_rows, asked, message):
    change_config(with_rows, trainable_token_indices=asked)
    with pytest.raises(FileError, match=message):
        read_adapter(with_rows, CONFIG)


def test_rows_of_another_matrix_are_refused(with_rows):
    name = f"{STEM}.token_adapter.trainable_tokens_delta"
    change_tensors(with_rows, lambda tensors: tensors | {name: torch.ones(2, 32)})
    with pytest.raises(FileError, match="no rows of tokens"):
        read_adapter(with_rows, CONFIG)


def test_rows_that_are_missing_are_refused(with_rows):
    change_tensors(with_rows, lambda tensors: {k: v for k, v in tensors.items() if "lm_head" not in k})
    with pytest.raises(FileError, match="rows of lm_head do not fit"):
        read_adapter(with_rows, CONFIG)
