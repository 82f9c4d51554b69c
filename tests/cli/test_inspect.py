"""`twofold inspect` says what a model is, and says it of any GGUF file without loading the weights."""

import json

import numpy as np
import pytest

from twofold.__main__ import main
from twofold.cli.facts import description_of, facts_from
from twofold.errors import UsageError
from twofold.models.gguf import write_gguf
from twofold.models.quantize import TensorType


def weights(*shape):
    """(data, shape) of a tensor of ones."""
    return np.ones(shape, np.float32), shape


@pytest.fixture
def gguf_file(tmp_path):
    path = tmp_path / "model.gguf"
    metadata = {
        "general.architecture": "qwen3",
        "general.name": "A \x1b[31mred\x1b[0m name",
        "qwen3.block_count": 1,
        "qwen3.embedding_length": 32,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": ["a", "b", "c"],
    }
    tensors = [
        ("token_embd.weight", TensorType.Q8_0, *weights(64, 32)),
        ("blk.0.attn_q.weight", TensorType.F16, *weights(32, 32)),
        ("blk.0.ffn_up.weight", TensorType.F16, *weights(64, 32)),
        ("output_norm.weight", TensorType.F32, *weights(32)),
    ]
    write_gguf(path, metadata, tensors)
    return path


@pytest.fixture
def model_folder(tmp_path):
    from twofold.models.config import TransformerConfig
    from twofold.models.folder import save_folder
    from twofold.models.transformer import Transformer
    from twofold.text.world import Village, VillageSettings
    from twofold.tokens.train import train_tokenizer

    village = Village(VillageSettings(villagers=8))
    tokenizer = train_tokenizer([document.text for document in village.documents(20_000)], 320)
    config = TransformerConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, intermediate_size=64,
    )  # fmt: skip
    model = Transformer(config)
    save_folder(tmp_path / "run", model, tokenizer, chat=True)
    return tmp_path / "run", model, tokenizer


def test_a_gguf_file_is_told_by_its_parts_and_precisions(gguf_file):
    facts = facts_from(description_of(gguf_file))
    assert facts.parameters == {"embedding": 2048, "attention": 1024, "feed_forward": 2048, "norms": 32}
    assert facts.bytes["in Q8_0"] == 64 * 34
    assert facts.bytes["in F16"] == (1024 + 2048) * 2
    assert facts.bytes["in F32"] == 32 * 4
    assert facts.bytes["on disk"] == gguf_file.stat().st_size
    assert facts.shape["layers"] == 1
    assert facts.tokenizer["tokens"] == 3


def test_names_from_a_file_do_not_steer_the_terminal(gguf_file, capsys):
    assert main(["inspect", str(gguf_file), "--quick"]) == 0
    out = capsys.readouterr().out
    assert "red" in out
    assert "\x1b" not in out


def test_json_is_json(gguf_file, capsys):
    assert main(["inspect", str(gguf_file), "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"]["embedding"] == 2048


def test_a_folder_is_told_with_the_counts_that_torch_has(model_folder, capsys):
    folder, model, tokenizer = model_folder
    facts = facts_from(description_of(folder))
    assert sum(facts.parameters.values()) == sum(p.numel() for p in model.parameters())
    assert facts.bytes["F32"] == 4 * sum(p.numel() for p in model.parameters())
    assert facts.bytes["on disk"] == (folder / "model.safetensors").stat().st_size
    assert facts.tokenizer["tokens"] == tokenizer.vocab_size
    assert facts.kind == "a Hugging Face folder"
    assert main(["inspect", str(folder), "--quick"]) == 0
    out = capsys.readouterr().out
    for heading in ("Shape", "Parameters", "Bytes", "Tokenizer"):
        assert heading in out


def test_a_run_folder_also_tells_of_its_training(model_folder):
    folder, *_ = model_folder
    run = {"result": {"bits_per_byte": 1.25, "steps": 100}, "environment": {"python": "3.11"}}
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    facts = facts_from(description_of(folder))
    assert facts.kind == "a run folder"
    assert facts.training == {"bits_per_byte": 1.25, "steps": 100, "environment.python": "3.11"}


def test_what_create_left_opens_as_its_assistant(model_folder, tmp_path):
    folder, *_ = model_folder
    (tmp_path / "demo").mkdir()
    folder.rename(tmp_path / "demo" / "base")
    assert facts_from(description_of(tmp_path / "demo")).path == str(tmp_path / "demo" / "base")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\0\0\0" + b"\xff" * 16, b"not a model at all"])
def test_what_is_no_model_is_refused_with_a_message(tmp_path, content, capsys):
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    assert main(["inspect", str(path), "--quick"]) == 3
    err = capsys.readouterr().err
    assert str(path) in err
    assert "fault in Twofold" not in err


def test_a_missing_model_is_named(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none"), "--quick"]) == 3
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_the_folder_above_a_model_is_told_where_the_model_is(gguf_file, capsys):
    assert main(["inspect", str(gguf_file.parent), "--quick"]) == 3
    assert str(gguf_file) in capsys.readouterr().err


def test_a_damaged_run_record_is_a_message(model_folder, capsys):
    folder, *_ = model_folder
    (folder / "run.json").write_text("{", encoding="utf-8")
    assert main(["inspect", str(folder), "--quick"]) == 3
    assert "run.json" in capsys.readouterr().err


def test_a_size_by_name_is_planned_for_many_gpus(capsys):
    assert main(["inspect", "70b", "--devices", "1024", "--text-bytes", "10TB", "--json", "--quick"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["tokens"] == pytest.approx(10e12 / 4.2)
    assert plan["parameters"] == 70_941_700_096
    assert plan["memory"]["total"] < plan["device"]["memory"]
    cuts = plan["sharding"]
    assert cuts["replicas"] * cuts["shards"] * cuts["tensor_parallel"] == 1024
    assert plan["cost"] == pytest.approx(2.5 * 1024 * plan["seconds"] / 3600)


def test_the_plan_is_a_table_that_says_it_was_computed(capsys):
    assert main(["inspect", "1b", "--devices", "8", "--tokens", "20G", "--recompute", "yes", "--quick"]) == 0
    out = capsys.readouterr().out
    for piece in ("computed, not measured", "8 × H100 SXM", "20.0 G", "with layers recomputed", "(assumed)"):
        assert piece in out


def test_folder_its_config_and_its_gguf_have_one_plan(model_folder, tmp_path, capsys):
    from twofold.twofiles.export import export

    folder, *_ = model_folder
    export(folder, tmp_path / "two-files")
    plans = []
    for path in (folder, folder / "config.json", tmp_path / "two-files/model.gguf"):
        assert main(["inspect", str(path), "--devices", "2", "--json", "--quick"]) == 0
        plans.append(json.loads(capsys.readouterr().out)["plan"])
    assert plans[0] == plans[1] == plans[2]
    assert plans[0]["tokens"] == 20 * plans[0]["parameters"]


def test_a_folder_named_as_a_size_goes_before_the_size(model_folder, tmp_path, monkeypatch, capsys):
    folder, *_ = model_folder
    folder.rename(tmp_path / "1b")
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", "1b", "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out)["shape"]["layers"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tokens", "1T"], "--devices"),
        (["--devices", "8", "--tokens", "many"], "'many'"),
        (["--devices", "8", "--tokens", "1T", "--text-bytes", "1T"], "either"),
        (["--devices", "0"], "1 to 1,000,000"),
        (["--devices", "8", "--row-tokens", "0"], "1 row"),
        (["--devices", "8", "--utilisation", "2"], "utilisation"),
        (["--devices", "8", "--price", "nan"], "price"),
        (["--devices", "1", "--micro-rows", "4000"], "does not fit"),
    ],
)
def test_a_plan_that_cannot_be_is_one_message(options, said, capsys):
    assert main(["inspect", "1b", *options, "--quick"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert said in err
    assert len(err.splitlines()) == 1


def test_amounts_are_read_as_people_write_them():
    from twofold.cli.plan import amount

    written = {
        "1T": 1e12,
        "1.5t": 1.5e12,
        "300M": 3e8,
        "10TB": 1e13,
        "2.4e12": 2.4e12,
        "512": 512,
        "20 GB": 2e10,
    }
    assert {text: amount(text, "--tokens") for text in written} == written


@pytest.mark.parametrize("text", ["", "T", "-1T", "1Q", "1T2", "nan", "inf", "1e999", "10B", "٣T"])
def test_other_amounts_are_refused_by_the_name_of_their_option(text):
    from twofold.cli.plan import amount

    with pytest.raises(UsageError, match="--tokens takes a number"):
        amount(text, "--tokens")


@pytest.fixture
def quick_probes(monkeypatch):
    """This machine is measured in no time; what is foretold means nothing."""
    from twofold.evaluation import speed

    for name, value in (("CACHES", 1), ("TRY", 0.001), ("PROBE_TOKENS", 16)):
        monkeypatch.setattr(speed, name, value)
    for rates in (speed.torch_rates, speed.c_rates):
        rates.cache_clear()
    yield
    for rates in (speed.torch_rates, speed.c_rates):
        rates.cache_clear()


def test_the_card_tells_memory_and_operations_for_a_context_and_texts(capsys):
    assert main(["inspect", "70b", "--context", "8192", "--batch", "4", "--quick", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["bytes"]["F16 or BF16"] == 2 * 70_941_700_096
    half = card["memory"]["bytes"]["F16 or BF16"]
    assert half["keys_values"] == 4 * 8192 * 80 * 2 * 8 * 128 * 2
    assert half["all"] == half["weights"] + half["keys_values"] + half["working"]
    matrices = 70_941_700_096 - 1_339_392 - 151_936 * 8192
    assert card["operations"]["next"] == 2 * matrices + 4 * 80 * 64 * 128 * 8192
    assert not card["speed"]
    assert main(["inspect", "70b", "--quick"]) == 0
    assert "70.9 billion parameters at two bytes each: 142 GB" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--context", "0"], "--context"), (["--context", "9000"], "8,192"), (["--batch", "0"], "--batch")],
)
def test_costs_of_what_cannot_be_are_refused(options, said, capsys):
    assert main(["inspect", "70b", *options, "--quick"]) == 2
    assert said in capsys.readouterr().err


def test_speeds_are_foretold_at_each_precision_that_runs_here(model_folder, quick_probes, capsys):
    folder, *_ = model_folder
    assert main(["inspect", str(folder), "--batch", "2", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["speed"]["predicted"]
    assert [(row["engine"], row["precision"]) for row in rows] == [("torch", "f32"), ("torch", "bf16")]
    assert all(row["fits"] and min(row["prefill"], row["decode"], row["together"]) > 0 for row in rows)
    assert main(["inspect", str(folder), "--batch", "2"]) == 0
    out = capsys.readouterr().out
    for piece in ("F32, torch", "BF16, torch", "2 texts", "GFLOP/s"):
        assert piece in out


def test_what_does_not_fit_is_told_and_not_foretold(quick_probes, capsys, monkeypatch):
    from twofold.evaluation import speed

    monkeypatch.setattr(speed, "free_memory", lambda device: 10**9)
    assert main(["inspect", "1b"]) == 0
    assert "does not fit:" in capsys.readouterr().out
    assert main(["inspect", "1b", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["speed"]["predicted"]
    assert not any(row["fits"] or "prefill" in row for row in rows)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_measured_speed_stands_beside_the_foretold_one(
    model_folder, quick_probes, capsys, monkeypatch, precision
):
    from twofold.evaluation import speed

    monkeypatch.setattr(speed.measure, "__defaults__", (0.01,))
    folder, *_ = model_folder
    options = ["--measure", "--quick", "--context", "20", "--precision", precision]
    assert main(["inspect", str(folder), *options, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["speed"]
    assert found["measured"]["context"] == found["foretold"]["context"] <= 20
    assert min(found["measured"]["prefill"], found["measured"]["decode"]) > 0
    assert found["measured"]["precision"] == {"float32": "f32", "bfloat16": "bf16"}[precision]
    assert main(["inspect", str(folder), *options]) == 0
    out = capsys.readouterr().out
    assert ": measured" in out
    assert ": foretold" in out


def test_a_gguf_is_foretold_and_measured_through_run_c(
    model_folder, quick_probes, tmp_path, capsys, monkeypatch
):
    import shutil

    from twofold.evaluation import speed
    from twofold.models.c_library import COMPILERS
    from twofold.twofiles.export import export

    if not any(map(shutil.which, COMPILERS)):
        pytest.skip("there is no C compiler here")
    monkeypatch.setattr(speed.measure, "__defaults__", (0.01,))
    folder, *_ = model_folder
    export(folder, tmp_path / "two-files")
    path = str(tmp_path / "two-files/model.gguf")
    assert main(["inspect", path, "--measure", "--engine", "c", "--context", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["speed"]
    assert [(row["engine"], row["precision"]) for row in found["predicted"]][2:] == [("c", "q8_0")]
    assert found["measured"]["engine"] == "c"
    assert found["measured"]["decode"] > 0
    assert main(["inspect", str(folder), "--quick", "--measure", "--engine", "c", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)["speed"]["measured"]
    assert (measured["engine"], measured["precision"]) == ("c", "f32")


def test_what_cannot_be_measured_is_one_message(model_folder, capsys):
    assert main(["inspect", "1b", "--quick", "--measure"]) == 2
    assert "a size by name" in capsys.readouterr().err


def test_weights_that_are_cut_short_are_told_with_all_else(model_folder, capsys):
    folder, *_ = model_folder
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert main(["inspect", str(folder)]) == 3
    out = capsys.readouterr().out
    assert "Damaged" in out
    assert "cut short" in out
    assert "Parameters" in out
    assert main(["inspect", str(folder), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["faults"]


def test_a_tokenizer_that_does_not_open_is_a_note(model_folder, capsys):
    folder, *_ = model_folder
    (folder / "tokenizer.json").write_text("{", encoding="utf-8")
    assert main(["inspect", str(folder), "--quick"]) == 0
    assert "Its tokenizer does not open here" in capsys.readouterr().out
