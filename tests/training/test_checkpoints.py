"""Damaged checkpoints are named and passed over; a full or closed disk loses nothing."""

import errno
import os
import resource
import signal

import pytest
import torch

from twofold.errors import FileError, Interrupted
from twofold.training import checkpoints
from twofold.training.checkpoints import list_checkpoints, load_checkpoint, save_checkpoint
from twofold.training.optimizers import Optimizer
from twofold.training.settings import TrainSettings


@pytest.fixture
def two_checkpoints(make_model, tmp_path):
    """A run folder with checkpoints of steps 1 and 2, the model and optimizer of step 2."""
    model = make_model()
    optimizer = Optimizer(model, TrainSettings(steps=5))
    for step in (1, 2):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizer.step(1.0)
        save_checkpoint(tmp_path, model, optimizer, {"step": step})
    return tmp_path, model, optimizer


def fresh(make_model):
    model = make_model(seed=9)
    return model, Optimizer(model, TrainSettings(steps=5))


def test_the_newest_is_loaded_whole(two_checkpoints, make_model):
    run, model, optimizer = two_checkpoints
    other, its_optimizer = fresh(make_model)
    assert load_checkpoint(run, other, its_optimizer, print)["step"] == 2
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(t, its_optimizer.tensors()[n]) for n, t in optimizer.tensors().items())


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone", "empty"])
def test_a_damaged_newest_gives_way_to_the_one_before(two_checkpoints, make_model, name, damage):
    run, _, _ = two_checkpoints
    path = list_checkpoints(run)[-1] / name
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        raw[len(raw) // 2] ^= 0x55
        path.write_bytes({"cut": raw[: len(raw) // 2], "flipped": raw, "empty": b""}[damage])
    told = []
    state = load_checkpoint(run, *fresh(make_model), told.append)
    assert state["step"] == 1
    assert "step-00000001" in told[0]
    assert name.split(".", maxsplit=1)[0] in told[0]
    assert [path.name for path in list_checkpoints(run)] == ["step-00000001"]


def test_when_none_is_sound_it_says_so(two_checkpoints, make_model):
    run, _, _ = two_checkpoints
    for path in list_checkpoints(run):
        (path / "state.json").write_text("{")
    with pytest.raises(FileError, match=r"None of the run's checkpoints") as error:
        load_checkpoint(run, *fresh(make_model), print)
    assert "step-00000001" in str(error.value)
    assert "step-00000002" in str(error.value)


def test_only_the_newest_two_are_kept(two_checkpoints):
    run, model, optimizer = two_checkpoints
    save_checkpoint(run, model, optimizer, {"step": 123})
    assert [path.name for path in list_checkpoints(run)] == ["step-00000002", "step-00000123"]


def test_a_half_written_one_is_never_read(two_checkpoints, make_model, monkeypatch):
    run, model, optimizer = two_checkpoints

    def dies(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(run, model, optimizer, {"step": 3})
    assert load_checkpoint(run, *fresh(make_model), print)["step"] == 2


def test_a_full_disk_is_told_and_the_older_checkpoints_stay(two_checkpoints, make_model, monkeypatch):
    run, model, optimizer = two_checkpoints

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="disk is full"):
        save_checkpoint(run, model, optimizer, {"step": 3})
    monkeypatch.undo()
    assert [path.name for path in (run / "checkpoints").iterdir() if "partial" in path.name] == []
    assert load_checkpoint(run, *fresh(make_model), print)["step"] == 2


def test_a_real_limit_on_writing_is_told_too(two_checkpoints):
    """The kernel itself refuses bytes beyond a limit, as a full disk does, in the middle of a file."""
    run, model, optimizer = two_checkpoints
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        with pytest.raises(FileError, match=r"Cannot write"):
            save_checkpoint(run, model, optimizer, {"step": 3})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in list_checkpoints(run)] == ["step-00000001", "step-00000002"]


def test_a_run_in_a_file_place_is_refused(run_training, tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(FileError, match="in the way"):
        run_training(tmp_path / "run")


def test_a_resume_whose_only_checkpoint_is_damaged_keeps_everything(run_training, tmp_path):
    class Stop:
        def tell(self, message):
            pass

        def update(self, row):
            signal.raise_signal(signal.SIGINT)

        def close(self):
            pass

    with pytest.raises(Interrupted):
        run_training(tmp_path / "run", progress=Stop())
    (path,) = list_checkpoints(tmp_path / "run")
    (path / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(FileError, match="damaged"):
        run_training(tmp_path / "run", resume=True)
    assert list_checkpoints(tmp_path / "run") == [path]


@pytest.mark.parametrize("content", ["[]", "null", "5"])
def test_settings_of_another_shape_are_named(run_training, tmp_path, content):
    run_training(tmp_path / "run")
    (tmp_path / "run" / "run.json").unlink()
    (tmp_path / "run" / "settings.json").write_text(content)
    with pytest.raises(FileError, match=r"settings\.json is damaged"):
        run_training(tmp_path / "run", resume=True)
