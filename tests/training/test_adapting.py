"""Training an adapter: the model stays, the adapter learns, stops and goes on, and opens as a model."""

import json

import pytest
import torch

import twofold
from twofold.create.single import finetune
from twofold.errors import Interrupted, UsageError
from twofold.models.adapter_files import read_adapter
from twofold.models.block_linear import BlockLinear
from twofold.models.convert import convert
from twofold.models.folder import save_folder
from twofold.models.load import load_frozen, load_model
from twofold.models.lora import LoraSettings, attached
from twofold.training import adapting
from twofold.training.adapting import NewAdapter, unlearned
from twofold.training.loop import train
from twofold.training.objectives import IGNORE, Batch
from twofold.training.parallel import Layout
from twofold.training.run_folder import read_rows
from twofold.training.settings import TrainSettings

from .conftest import ROW


@pytest.fixture
def base(make_model, tokenizer, tmp_path):
    """A model in a folder, with blocks of 32 weights."""
    model = make_model(seed=5)
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2 and "embed" not in name:
            parameter.data.normal_(std=0.1)
    save_folder(tmp_path / "base", model, tokenizer, chat=False)
    return tmp_path / "base"


@pytest.fixture
def adapt(data, tmp_path):
    """Train an adapter beside the model at `path`; returns (record, model)."""

    def run(folder, path, *, resume=False, progress=None, layout=None, adapter=None, **changes):
        model, tokenizer, _ = load_frozen(path)
        settings = TrainSettings(
            **{"steps": 20, "batch_rows": 8, "row_tokens": ROW, "log_steps": 5, "adapter_lr": 0.02, **changes}
        )
        new = NewAdapter(LoraSettings(**{"rank": 4, **(adapter or {})}), str(path))
        record = train(
            folder, model, tokenizer, data, settings,
            resume=resume, progress=progress, layout=layout, adapter=new,
        )  # fmt: skip
        return record, model

    return run


@pytest.mark.parametrize("adapter", [{}, {"dora": True}, {"targets": ("q_proj", "up_proj"), "dropout": 0.1}])
def test_it_learns_and_the_model_stays(adapt, base, tmp_path, adapter):
    before = load_model(base)[0].state_dict()
    record, model = adapt(tmp_path / "run", base, steps=60, adapter=adapter)
    losses = [row["loss"] for row in read_rows(tmp_path / "run" / "metrics.jsonl") if "loss" in row]
    assert losses[-1] < losses[0] - 0.1
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert record["adapter"]["rank"] == 4
    assert sorted(path.name for path in (tmp_path / "run").glob("*.safetensors")) == [
        "adapter_model.safetensors"
    ]


def test_the_run_folder_opens_as_the_model_that_was_trained(adapt, base, tmp_path, data):
    _, model = adapt(tmp_path / "run", base)
    tokens = torch.arange(1, 30)[None]
    with torch.no_grad():
        opened, _, info = load_model(tmp_path / "run")
        assert torch.allclose(opened(tokens), model(tokens), atol=1e-4)
        assert not torch.allclose(opened(tokens), load_model(base)[0](tokens), atol=1e-2)
    assert info.path == tmp_path / "run"
    assert twofold.load(tmp_path / "run").generate("one ", max_tokens=3, temperature=0) is not None


def test_a_stopped_run_goes_on_to_the_same_adapter(adapt, base, tmp_path):
    from .test_loop import StopAt

    _, straight = adapt(tmp_path / "a", base, precision="float32")
    with pytest.raises(Interrupted):
        adapt(tmp_path / "b", base, precision="float32", progress=StopAt(10))
    kept = next((tmp_path / "b" / "checkpoints").glob("*/model.safetensors"))
    assert kept.stat().st_size < sum(p.stat().st_size for p in base.glob("*.safetensors")) / 2
    _, stopped = adapt(tmp_path / "b", base, precision="float32", resume=True)
    for name, change in attached(straight).changes.items():
        other = attached(stopped).changes[name]
        assert torch.equal(change.a, other.a)
        assert torch.equal(change.b, other.b)


@pytest.mark.parametrize("type", ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_over_a_base_in_blocks_the_numbers_are_those_over_its_decoded_weights(adapt, base, tmp_path, type):
    convert(base, tmp_path / "base.gguf", type=type)
    convert(tmp_path / "base.gguf", tmp_path / "decoded")
    model, _, _ = load_frozen(tmp_path / "base.gguf")
    kinds = {module.encoding.name for module in model.modules() if isinstance(module, BlockLinear)}
    assert type.upper() in kinds
    a, blocks = adapt(tmp_path / "a", tmp_path / "base.gguf", precision="float32", steps=8)
    b, plain = adapt(tmp_path / "b", tmp_path / "decoded", precision="float32", steps=8)
    assert a["result"]["held_out_bits_per_byte"] == pytest.approx(
        b["result"]["held_out_bits_per_byte"], rel=1e-4
    )
    for name, change in attached(blocks).changes.items():
        assert torch.allclose(change.b, attached(plain).changes[name].b, atol=1e-3)
    opened, _, _ = load_model(tmp_path / "a")
    tokens = torch.arange(1, 30)[None]
    with torch.no_grad():
        assert torch.allclose(opened(tokens), blocks(tokens), atol=1e-4)


def test_an_adapter_on_an_adapter_opens_as_both(adapt, base, tmp_path):
    adapt(tmp_path / "first", base)
    _, model = adapt(tmp_path / "second", tmp_path / "first")
    tokens = torch.arange(1, 30)[None]
    with torch.no_grad():
        assert torch.allclose(load_model(tmp_path / "second")[0](tokens), model(tokens), atol=1e-4)


def test_what_cannot_be_divided_is_refused(adapt, base, tmp_path):
    with pytest.raises(UsageError, match="--tensor"):
        adapt(tmp_path / "run", base, layout=Layout(tensor=2))
    assert not (tmp_path / "run").exists()


def test_conversations_teach_an_adapter_its_ends(base, tmp_path):
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    (tmp_path / "chat.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 20)
    finetune(
        tmp_path / "run", base, [tmp_path / "chat.jsonl"], {"steps": 3, "batch_rows": 2, "seed": 1},
        adapter=LoraSettings(rank=2, dora=True),
    )  # fmt: skip
    model = twofold.load(base, adapters={"polite": tmp_path / "run"})
    assert not model.is_chat
    polite = model.adapters["polite"]
    assert polite.is_chat
    assert model.tokenizer.im_end in polite.stop_ids
    assert model.tokenizer.im_end not in model.stop_ids
    alone = twofold.load(tmp_path / "run")
    asked = [{"role": "user", "content": "Hi"}]
    assert polite.chat(asked, temperature=0, max_tokens=8) == alone.chat(asked, temperature=0, max_tokens=8)
    assert read_adapter(tmp_path / "run", alone.model.transformer.config).base == str(base)


def chat_batch(tokenizer):
    """Two rows of a conversation, of which the answer and its end are learned."""
    row = [
        tokenizer.im_start,
        *tokenizer.encode("Hi"),
        tokenizer.im_end,
        *tokenizer.encode("Yes."),
        tokenizer.im_end,
    ]
    inputs = torch.tensor([row[:-1]] * 2)
    targets = torch.tensor([row[1:]] * 2)
    targets[:, :4] = IGNORE
    return Batch(inputs, targets)


@pytest.mark.parametrize(("score", "met"), [(-30.0, False), (30.0, True)])
def test_special_tokens_that_were_never_met_are_found(make_model, tokenizer, monkeypatch, score, met):
    model, batch = make_model(), chat_batch(tokenizer)

    def logits(hidden):
        scores = torch.zeros(*hidden.shape[:-1], tokenizer.vocab_size)
        scores[..., tokenizer.im_end] = score
        return scores

    monkeypatch.setattr(model, "logits", logits)
    found = unlearned(model, tokenizer, batch)
    assert set(found) == (set() if met else {tokenizer.im_start, tokenizer.im_end})
    batch.targets[batch.targets == tokenizer.im_end] = IGNORE
    assert unlearned(model, tokenizer, batch) == ()


def test_tokens_that_were_never_met_are_learned_beside_the_layers(
    make_model, tmp_path, monkeypatch, tokenizer
):
    model = make_model(seed=5, max_position_embeddings=64)
    save_folder(tmp_path / "base", model, tokenizer, chat=False)
    base = tmp_path / "base"
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]
    (tmp_path / "chat.jsonl").write_text((json.dumps({"messages": turns}) + "\n") * 20)
    ids = (tokenizer.im_start, tokenizer.im_end)
    monkeypatch.setattr(adapting, "unlearned", lambda *_: ids)
    settings = {"steps": 250, "batch_rows": 4, "seed": 1, "embedding_lr": 0.02, "adapter_lr": 0.02}
    finetune(
        tmp_path / "run", base, [tmp_path / "chat.jsonl"], settings,
        adapter=LoraSettings(rank=2),
    )  # fmt: skip
    assert json.loads((tmp_path / "run" / "run.json").read_text())["tokens"] == list(ids)
    alone = twofold.load(tmp_path / "run")
    asked = [{"role": "user", "content": "Hi"}]
    assert alone.chat(asked, temperature=0, max_tokens=20) == "Yo"
    rows = read_adapter(tmp_path / "run", alone.model.transformer.config).rows["model.embed_tokens"]
    assert rows.ids == ids
    before = load_model(base)[0].model.embed_tokens.weight
    after = alone.model.transformer.model.embed_tokens.weight
    assert not torch.allclose(after[list(ids)], before[list(ids)], atol=1e-2)
    assert torch.equal(after[: ids[0]], before[: ids[0]])
    among = twofold.load(base, adapters={"polite": tmp_path / "run"})
    assert among.adapters["polite"].chat(asked, temperature=0, max_tokens=20) == "Yo"
    assert among.generate("one", temperature=0, max_tokens=5) == twofold.load(base).generate(
        "one", temperature=0, max_tokens=5
    )
