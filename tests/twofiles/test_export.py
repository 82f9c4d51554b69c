"""The export: what other programs find in it, and what it refuses."""

import json
from dataclasses import replace

import gguf
import jinja2
import numpy as np
import pytest
import torch

from twofold.cli.export import export as export_command
from twofold.errors import FileError, UsageError
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.from_gguf import open_gguf
from twofold.models.gguf import read_gguf
from twofold.models.load import load_model
from twofold.models.transformer import Transformer
from twofold.tokens.chat import CHAT_TEMPLATE, render
from twofold.twofiles.export import export


def metadata(folder) -> dict:
    return read_gguf(folder / "model.gguf").metadata


def test_the_folder_holds_the_two_files_and_what_goes_with_them(exported):
    names = sorted(path.name for path in exported().iterdir())
    assert names == ["Modelfile", "README.txt", "model.gguf", "run.c", "run.py"]


@pytest.mark.parametrize(("name", "chat"), [("tied", True), ("base", False)])
def test_metadata_is_named_as_llama_cpps_converter_names_it(name, chat, exported, tokenizer):
    found = metadata(exported(name, "q8_0"))
    expected = {
        "general.architecture": "qwen3",
        "general.type": "model",
        "general.file_type": int(gguf.LlamaFileType.MOSTLY_Q8_0),
        "general.quantization_version": gguf.GGML_QUANT_VERSION,
        "qwen3.context_length": 128,
        "qwen3.embedding_length": 64,
        "qwen3.block_count": 2,
        "qwen3.feed_forward_length": 96,
        "qwen3.attention.head_count": 4,
        "qwen3.attention.head_count_kv": 2,
        "qwen3.attention.key_length": 32,
        "qwen3.attention.value_length": 32,
        "qwen3.rope.freq_base": 50_000.0,
        "qwen3.vocab_size": tokenizer.vocab_size,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "qwen2",
        "tokenizer.ggml.bos_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.eos_token_id": tokenizer.im_end if chat else tokenizer.end_of_text,
        "tokenizer.ggml.padding_token_id": tokenizer.end_of_text,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }
    assert {key: found[key] for key in expected} == expected
    assert found["qwen3.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)
    assert found["tokenizer.ggml.tokens"] == list(tokenizer.pieces)
    assert found["tokenizer.ggml.merges"] == list(tokenizer.merges)
    kinds = found["tokenizer.ggml.token_type"].tolist()
    assert kinds[-9:] == [3, 3, 3, 4, 4, 4, 4, 4, 4]
    assert set(kinds[:-9]) <= {1, 3}


def test_every_key_is_one_that_the_gguf_package_knows_or_ours(exported):
    known = {
        value.replace("{arch}", "qwen3")
        for group in vars(gguf.Keys).values()
        if isinstance(group, type)
        for value in vars(group).values()
        if isinstance(value, str)
    }
    ours = {f"twofold.unicode.{name}" for name in ("letters", "numbers", "spaces")}
    ours |= {f"twofold.selftest.{name}" for name in ("prompt", "tokens")}
    assert metadata(exported("tied", "q8_0")).keys() - known == ours


@pytest.mark.parametrize(("name", "tied"), [("tied", True), ("untied", False)])
def test_tensors_are_named_as_llama_cpp_names_them(name, tied, exported):
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 2)
    model, _, _ = load_model(exported(name, "f32") / "model.gguf")
    expected = {names.get_name(key, try_suffixes=(".weight",)) for key in model.state_dict()}
    if tied:
        expected.discard("output.weight")
    reader = gguf.GGUFReader(exported(name, "f32") / "model.gguf")
    assert {tensor.name for tensor in reader.tensors} == expected


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_matrices_are_of_the_type_asked_for_and_norms_are_float32(type, exported, folders):
    reader = gguf.GGUFReader(exported("tied", type) / "model.gguf")
    model, _, _ = load_model(folders / "tied")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, 2)
    weights = {
        names.get_name(name, try_suffixes=(".weight",)): tensor.numpy()
        for name, tensor in model.state_dict().items()
    }
    assert len(reader.tensors) == len(weights)
    for tensor in reader.tensors:
        weight = weights[tensor.name]
        kind = gguf.GGMLQuantizationType[type.upper()] if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        assert tensor.tensor_type == kind
        expected = gguf.quants.quantize(weight, kind)
        np.testing.assert_array_equal(np.asarray(tensor.data).view(np.uint8), expected.view(np.uint8))


@pytest.mark.parametrize("name", ["tied", "untied", "base"])
def test_a_float32_export_comes_back_bit_for_bit(name, exported, folders):
    model, tokenizer, info = load_model(folders / name)
    again, tokenizer_again, info_again = load_model(exported(name, "f32") / "model.gguf")
    assert again.config == model.config
    assert tokenizer_again.fingerprint == tokenizer.fingerprint
    assert (info_again.chat, info_again.stop_ids) == (info.chat, info.stop_ids)
    for key, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key


def test_a_gguf_can_be_exported_again_as_another_type(exported, tmp_path):
    source = exported("tied", "f32") / "model.gguf"
    export(source, tmp_path / "again", type="q8_0", name="tied-q8_0")
    assert (tmp_path / "again/model.gguf").read_bytes() == (
        exported("tied", "q8_0") / "model.gguf"
    ).read_bytes()


def test_an_export_of_the_same_model_is_the_same_to_the_byte(exported, folders, tmp_path):
    export(folders / "tied", tmp_path / "tied-q8_0", type="q8_0")
    for name in ("model.gguf", "run.py", "run.c", "Modelfile", "README.txt"):
        assert (tmp_path / "tied-q8_0" / name).read_bytes() == (exported("tied", "q8_0") / name).read_bytes()


def test_rows_that_are_not_whole_blocks_become_f16(tokenizer, tmp_path):
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=48, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, intermediate_size=64,
    )  # fmt: skip
    save_folder(tmp_path / "hf", Transformer(config), tokenizer, chat=False)
    export(tmp_path / "hf", tmp_path / "two")
    types = {name: tensor.type for name, tensor in read_gguf(tmp_path / "two/model.gguf").tensors.items()}
    assert types["blk.0.ffn_gate.weight"] == 1  # rows of 48
    assert types["blk.0.ffn_down.weight"] == 8  # rows of 64


def test_rows_of_the_embedding_beyond_the_tokens_are_named_as_unused(tokenizer, tmp_path):
    rows = tokenizer.vocab_size + 64
    config = TransformerConfig(
        vocab_size=rows, hidden_size=32, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        head_dim=32, intermediate_size=32,
    )  # fmt: skip
    save_folder(tmp_path / "hf", Transformer(config), tokenizer, chat=True)
    export(tmp_path / "hf", tmp_path / "two")
    found = metadata(tmp_path / "two")
    assert len(found["tokenizer.ggml.tokens"]) == rows
    assert found["tokenizer.ggml.token_type"].tolist()[tokenizer.vocab_size :] == [5] * 64
    model, again, _ = load_model(tmp_path / "two/model.gguf")
    assert again.fingerprint == tokenizer.fingerprint
    assert model.config.vocab_size == rows


def test_the_self_test_only_holds_tokens_that_lead_clearly(opened):
    for type in ("f32", "f16", "bf16", "q8_0"):
        session = opened("tied", type)
        values = session.file.values
        prompt, told = values["twofold.selftest.prompt"], values["twofold.selftest.tokens"].tolist()
        given = [*session.tokenizer.begin, *session.tokenizer.encode(prompt)]
        tokens, leads = session.greedy(prompt, len(told) - len(given))
        assert told[: len(given)] == given
        assert tokens == told
        assert 1 <= len(leads) == len(told) - len(given) <= 64
        assert min(leads) > 0.01


def test_a_model_that_prefers_nothing_carries_no_self_test(tokenizer, tmp_path, capsys):
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, head_dim=32, intermediate_size=32,
    )  # fmt: skip
    model = Transformer(config)
    for parameter in model.parameters():
        parameter.data.zero_()
    save_folder(tmp_path / "hf", model, tokenizer, chat=True)
    export_command(tmp_path / "hf", output=tmp_path / "two")
    assert "carries no self-test" in capsys.readouterr().out
    assert not [key for key in metadata(tmp_path / "two") if "selftest" in key]


def test_the_stored_template_renders_what_the_product_renders(exported):
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(metadata(exported())["tokenizer.chat_template"])
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\n"}]
    rendered = template.render(messages=messages, add_generation_prompt=True, bos_token="<|endoftext|>")
    assert rendered == render(messages, add_generation_prompt=True)


def test_the_modelfile_of_an_assistant_holds_the_chat_form(exported):
    text = (exported() / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n")
    assert text.count('"""') == 2
    assert "<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n" in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER num_ctx 128" in text


def test_the_modelfile_and_read_me_of_a_base_model_speak_of_text(exported):
    assert '"""{{ .Prompt }}"""' in (exported("base") / "Modelfile").read_text()
    assert 'run.py generate "Once' in (exported("base") / "README.txt").read_text()
    assert "talk with it" in (exported("tied") / "README.txt").read_text()


def test_an_earlier_export_is_replaced_and_other_files_are_not(folders, tmp_path):
    folder = tmp_path / "two"
    export(folders / "tied", folder, type="f16")
    (folder / "notes.txt").write_text("mine")
    export(folders / "tied", folder, type="q8_0")
    assert metadata(folder)["general.file_type"] == 7
    assert sorted(p.name for p in folder.iterdir()) == [
        "Modelfile",
        "README.txt",
        "model.gguf",
        "notes.txt",
        "run.c",
        "run.py",
    ]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"README\.txt that is not of an export"):
        export(folders / "tied", mine)
    assert [path.name for path in mine.iterdir()] == ["README.txt"]
    with pytest.raises(UsageError, match="is a file"):
        export(folders / "tied", mine / "README.txt")


def test_faults_are_told_before_anything_is_written(folders, tmp_path):
    with pytest.raises(FileError, match="no model"):
        export(tmp_path / "none", tmp_path / "two")
    with pytest.raises(UsageError, match="q4"):
        export(folders / "tied", tmp_path / "two", type="q4")
    assert not (tmp_path / "two").exists()


def test_a_write_that_fails_leaves_no_model_and_no_rest(folders, tmp_path, monkeypatch):
    from twofold.twofiles import export as module

    def fail(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "compute_selftest", fail)
    with pytest.raises(KeyboardInterrupt):
        export(folders / "tied", tmp_path / "two")
    assert list((tmp_path / "two").iterdir()) == []


def test_weights_that_are_not_finite_are_refused(exported, tmp_path):
    contents = open_gguf(exported() / "model.gguf")
    contents = replace(contents, weights=dict(contents.weights))
    contents.weights["model.norm.weight"][3] = np.nan
    with pytest.raises(UsageError, match="finite"):
        export(contents, tmp_path / "two")
    assert list((tmp_path / "two").iterdir()) == []


def test_the_command_says_what_it_made_and_how_to_go_on(folders, tmp_path, capsys):
    export_command(folders / "base", output=tmp_path / "two", type="bf16", name="pond")
    out = capsys.readouterr().out
    assert "goes on with text" in out
    assert "(bf16)" in out
    assert f"{tmp_path / 'two' / 'run.py'} generate" in out
    assert metadata(tmp_path / "two")["general.name"] == "pond"
    assert json.loads((folders / "base/config.json").read_text())["vocab_size"]


def test_an_output_that_leads_nowhere_is_told(folders, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for place in ("file/x", "loop/x"):
        with pytest.raises(FileError, match="Cannot write"):
            export(folders / "tied", tmp_path / place)
