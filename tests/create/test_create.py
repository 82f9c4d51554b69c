"""`create` from end to end on a tiny village and a tiny text: whole, resumable, and clear about what is amiss."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch

from twofold.create import pipeline
from twofold.create.conversations import chat_data, continuations, usual_steps
from twofold.create.pipeline import create
from twofold.create.prepare import pretraining_data
from twofold.create.questions import quick
from twofold.create.settings import CreateSettings
from twofold.errors import DataError, FileError, Interrupted, UsageError
from twofold.models import c_model
from twofold.models.c_library import COMPILERS, NoCompiler
from twofold.models.c_model import CLanguageModel
from twofold.models.torch_model import TorchLanguageModel
from twofold.text.world import Village, VillageSettings
from twofold.tokens.tokenizer import Tokenizer, bytes_only
from twofold.training import presets
from twofold.training.presets import Plan
from twofold.training.progress import Silent
from twofold.training.settings import FINETUNING_EPOCHS, FINETUNING_STEPS, TrainSettings
from twofold.training.shapes import PRESETS

TINY = CreateSettings(
    minutes=0.03, preset="nano", villagers=8, megabytes=0.12, conversations=60, questions=9, type="f16"
)


def make(folder, settings=TINY, watch=None):
    told = []
    page = create(folder, settings, say=told.append, watch=watch or (lambda name: Silent()))
    return page, told


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("create") / "demo"
    page, told = make(folder)
    return folder, page, told


def test_everything_is_there(demo):
    folder, page, _ = demo
    for path in (
        "text/card.json", "tokens/tokenizer.json", "base/model.safetensors", "base/samples.json",
        "assistant/model.safetensors", "scores.json", "two-files/model.gguf", "two-files/run.py", "talk.json",
    ):  # fmt: skip
        assert (folder / path).is_file(), path
    assert "exactly right about people met only in pretraining" in page.read_text()


def test_the_scores_hold_every_question_with_both_answers(demo):
    folder, _, _ = demo
    groups = json.loads((folder / "scores.json").read_text())["groups"]
    assert set(groups) == {
        f"{kind}/{lang}" for kind in ("held_out", "taught", "new_words") for lang in ("en", "es")
    }
    for group in groups.values():
        assert 0 < group["chance"] < 1
        for one in group["questions"]:
            assert one["accepted"]
            for model in ("base", "assistant"):
                assert isinstance(one[model]["right"], bool)


def test_questions_are_asked_with_run_c_and_with_torch_where_it_cannot_be(demo, monkeypatch):
    path, threads = demo[0] / "assistant", torch.get_num_threads()
    with quick(path) as model:
        kind = CLanguageModel if any(map(shutil.which, COMPILERS)) else TorchLanguageModel
        assert isinstance(model.model, kind)
        first = model.generate("The", max_tokens=10, temperature=0)
    assert torch.get_num_threads() == threads

    def no_compiler():
        raise NoCompiler("There is no C compiler here.")

    monkeypatch.setattr(c_model, "library", no_compiler)
    with quick(path) as model:
        assert isinstance(model.model, TorchLanguageModel)
        assert model.generate("The", max_tokens=10, temperature=0) == first


def test_the_two_files_run_by_themselves(demo):
    folder, _, _ = demo
    two = folder / "two-files"
    done = subprocess.run(
        [sys.executable, "-I", str(two / "run.py"), "score", "-"], input="The baker of the village.",
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bits per byte" in done.stdout


def test_done_again_it_makes_nothing_anew(demo):
    folder, _, _ = demo
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("model.*")}
    _, told = make(folder)
    assert not any(line.startswith(("Pretraining", "Fine-tuning", "Tokens")) for line in told)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("model.*")}


def test_other_settings_do_not_overwrite_it(demo):
    folder, _, _ = demo
    with pytest.raises(UsageError, match="villagers: 8 before, 9 now"):
        make(folder, CreateSettings(**{**TINY.__dict__, "villagers": 9}))


@pytest.mark.parametrize("content", ["5", "null", "[]", '{"a": [1]}', '[{"role": 5}]'])
@pytest.mark.parametrize("name", ["timeline.json", "scores.json", "base/samples.json"])
def test_a_file_of_another_shape_is_named_and_can_be_made_again(demo, tmp_path, name, content):
    folder = tmp_path / "copy"
    shutil.copytree(demo[0], folder)
    (folder / name).write_text(content)
    if (name, content) != ("base/samples.json", "[]"):  # no samples are none
        with pytest.raises(FileError, match=rf"{name} is damaged.*Remove it"):
            make(folder)
    (folder / name).unlink()
    make(folder)


@pytest.mark.parametrize("side", ["train", "held_out"])
def test_tokens_that_were_changed_are_not_learned_from(demo, tmp_path, side):
    shutil.copytree(demo[0] / "tokens", tmp_path / "tokens")
    path = tmp_path / "tokens" / side / "shard-00000.bin"
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(FileError, match="SHA-256"):
        pretraining_data(tmp_path / "tokens", Tokenizer.load(tmp_path / "tokens"), TrainSettings(steps=1), {})


def test_the_village_is_as_large_as_there_is_time_to_learn_about(tmp_path, monkeypatch):
    def stop(*arguments, **options):
        raise FileError("enough")

    monkeypatch.setattr(pipeline, "build_corpus", stop)
    for tokens, villagers in (
        (1_000, pipeline.FEWEST),
        (100 * pipeline.TOKENS_PER_VILLAGER, 100),
        (10**12, pipeline.MOST),
    ):
        told = []
        monkeypatch.setattr(
            pipeline, "plan", lambda *_, tokens=tokens, **__: Plan("nano", 1e9, tokens, 8, 2048)
        )
        with pytest.raises(FileError, match="enough"):
            create(tmp_path / "out", CreateSettings(), say=told.append)
        assert f"a made-up village of {villagers} people" in told[-1]
        assert not any((tmp_path / "out").iterdir())


def test_an_assistant_gets_the_time_that_its_tokens_take():
    flops = PRESETS["nano"].config().flops_per_token(PRESETS["nano"].row_tokens)
    found = [
        pipeline.share_for_answers(Plan("nano", presets.COMPILED * speed * flops, 1, 16, 4096), 10)
        for speed in (1e9, 12_500, 100)  # tokens a second
    ]
    assert found == [0.1, pytest.approx(pipeline.FINETUNE_TOKENS / 12_500 / 600), 0.2]


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"x")
    with pytest.raises(UsageError, match="holds other things"):
        make(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_stopped_in_pretraining_it_goes_on(tmp_path):
    class Stop(Silent):
        def update(self, row):
            signal.raise_signal(signal.SIGINT)

    settings = CreateSettings(**{**TINY.__dict__, "text": (str(sample_text(tmp_path)),)})
    with pytest.raises(Interrupted, match="The same command goes on"):
        make(tmp_path / "out", settings, lambda name: Stop())
    assert not (tmp_path / "out" / "base" / "run.json").exists()
    page, told = make(tmp_path / "out", settings)
    assert told[0].startswith("Going on")
    assert page.is_file()
    talk = json.loads((tmp_path / "out" / "talk.json").read_text())
    assert [message["role"] for message in talk][:2] == ["user", "assistant"]


def test_a_stage_that_fails_leaves_nothing_half_made(tmp_path, monkeypatch):
    def broken(*args, **options):
        raise FileError("Cannot write: the disk is full.")

    monkeypatch.setattr(pipeline, "prepare_tokens", broken)
    settings = CreateSettings(**{**TINY.__dict__, "text": (str(sample_text(tmp_path)),)})
    with pytest.raises(FileError, match="disk is full"):
        make(tmp_path / "out", settings)
    assert not (tmp_path / "out" / "tokens").exists()


def sample_text(folder):
    path = folder / "story.txt"
    documents = Village(VillageSettings(villagers=6, languages=("en",))).documents(60_000)
    path.write_text("<|endoftext|>".join(document.text for document in documents))
    return path


@pytest.mark.parametrize(
    ("content", "error", "word"),
    [
        (b"", DataError, "empty"),
        (b"Too short.", DataError, "only 10 bytes"),
        (b"\x00\x01\x02binary" * 500, DataError, "NUL bytes"),
        (b"caf\xe9 " * 1000, DataError, "UTF-8"),
    ],
)
def test_text_that_cannot_be_used_is_named(tmp_path, content, error, word):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(error, match=f"(?i){word}") as caught:
        make(tmp_path / "out", CreateSettings(**{**TINY.__dict__, "text": (str(tmp_path / "bad.txt"),)}))
    assert "bad.txt" in str(caught.value) or content == b"Too short."
    assert not (tmp_path / "out" / "text").exists()
    assert make(tmp_path / "out", CreateSettings(**{**TINY.__dict__, "text": (str(sample_text(tmp_path)),)}))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"minutes": 0}, "minutes"),
        ({"preset": "huge"}, "huge"),
        ({"chat": ("x.jsonl",)}, "--text"),
        ({"text": ("-", "-")}, "once"),
        ({"megabytes": -1}, "megabytes"),
    ],
)
def test_impossible_settings_are_named(change, word):
    with pytest.raises(UsageError, match=word):
        CreateSettings(**change)


def test_continuations_are_neighbouring_sentences_of_the_text():
    text = "The first sentence is quite long enough. The second sentence follows it at once. A third one. Fourth."
    (conversation,) = continuations([text], 5)
    user, assistant = conversation.messages
    assert user.content.endswith("The first sentence is quite long enough.")
    assert assistant.content == "The second sentence follows it at once."


def test_fine_tuning_goes_some_times_over_many_conversations_and_long_enough_over_few():
    settings = TrainSettings(steps=1, batch_rows=2, row_tokens=64)
    talk = list(Village(VillageSettings(villagers=10)).conversations(2000))
    many, few = chat_data(talk, bytes_only(), settings), chat_data(talk[:5], bytes_only(), settings)
    assert many.batches.epoch(usual_steps(many)) == pytest.approx(FINETUNING_EPOCHS, rel=0.01)
    assert usual_steps(few) == FINETUNING_STEPS


def test_no_conversations_is_an_error():
    with pytest.raises(DataError, match="no conversation"):
        chat_data([], bytes_only(), TrainSettings(steps=1))
