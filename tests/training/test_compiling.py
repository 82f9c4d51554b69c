"""The step is compiled where that was tried and is faster, and never where it cannot be."""

import shutil
import signal

import pytest
import torch

from twofold.errors import Interrupted, TrainingError
from twofold.training import loop
from twofold.training.compiling import Remembered, cannot_compile
from twofold.training.progress import Silent
from twofold.training.run_folder import read_rows


class InductorError(Exception):
    """Named as torch names it."""


class Told(Silent):
    def __init__(self):
        self.lines = []

    def tell(self, message):
        self.lines.append(message)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "twofold" / "compiling.json"


@pytest.fixture
def compiled(monkeypatch):
    """What torch.compile was called with; it gives the function back as it is."""
    calls = []

    def compile_(function, **options):
        calls.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    return calls


@pytest.fixture
def no_compiler(monkeypatch):
    def compile_(function, **options):
        def fail(*arguments):
            raise InductorError("No working C++ compiler found")

        return fail

    monkeypatch.setattr(torch, "compile", compile_)


def times(monkeypatch, *seconds):
    found = iter(seconds)
    monkeypatch.setattr(loop, "seconds_of", lambda step, tries=3: next(found))


def long_run(monkeypatch):
    """Every run is held to be long enough."""
    monkeypatch.setattr(loop._Loop, "seconds_ahead", lambda self: 1e6)


def test_a_short_run_is_not_compiled(run_training, tmp_path, compiled, cache):
    record, _ = run_training(tmp_path / "run", steps=2)
    assert record["result"]["compiled"] is False
    assert not compiled
    assert not cache.exists()


@pytest.mark.parametrize(("seconds", "pays"), [((1.0, 0.5), True), ((1.0, 0.99), False)])
def test_a_long_run_tries_both_and_the_next_one_remembers(
    run_training, tmp_path, monkeypatch, compiled, seconds, pays
):
    long_run(monkeypatch)
    times(monkeypatch, *seconds)
    told = Told()
    record, _ = run_training(tmp_path / "first", steps=2, progress=told)
    assert record["result"]["compiled"] is pays
    assert f"{seconds[0] / seconds[1]:.2f} times as fast" in told.lines[-1]
    times(monkeypatch)  # a second try would find no time
    again, _ = run_training(tmp_path / "second", steps=2, progress=(told := Told()))
    assert again["result"]["compiled"] is pays
    assert any("faster here before" in line for line in told.lines) is pays


def test_another_shape_is_another_question(run_training, tmp_path, monkeypatch, compiled):
    long_run(monkeypatch)
    times(monkeypatch, 1.0, 0.5, 1.0, 2.0)
    assert run_training(tmp_path / "a", steps=2)[0]["result"]["compiled"] is True
    assert run_training(tmp_path / "b", steps=2, micro_rows=4)[0]["result"]["compiled"] is False


def test_without_a_compiler_a_run_goes_on_and_says_so(
    run_training, tmp_path, monkeypatch, no_compiler, cache
):
    long_run(monkeypatch)
    told = Told()
    record, model = run_training(tmp_path / "run", steps=4, progress=told)
    assert record["result"]["compiled"] is False
    assert "no C++ compiler" in told.lines[-1]
    assert not cache.exists()
    plain = run_training(tmp_path / "plain", steps=4, compile="no")[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_memory_of_a_compiler_that_is_gone_does_not_stop_a_run(
    run_training, tmp_path, monkeypatch, no_compiler
):
    long_run(monkeypatch)
    monkeypatch.setattr(Remembered, "get", lambda self: True)
    told = Told()
    record, _ = run_training(tmp_path / "run", steps=2, progress=told)
    assert record["result"]["compiled"] is False
    assert "any more" in told.lines[-1]


def test_what_must_be_compiled_and_cannot_be_is_told(run_training, tmp_path, no_compiler):
    with pytest.raises(TrainingError, match=r"C\+\+ compiler.*--compile no"):
        run_training(tmp_path / "run", steps=2, compile="yes")


def test_other_faults_are_not_taken_for_a_missing_compiler(run_training, tmp_path, compiled):
    def broken(model, batch):
        raise ZeroDivisionError

    assert not cannot_compile(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run_training(tmp_path / "run", steps=2, compile="yes", objective=broken)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 3}'])
def test_a_damaged_memory_is_none(tmp_path, content):
    remembered = Remembered("shape", tmp_path)
    remembered.path.write_text(content)
    assert remembered.get() is None
    remembered.put(True)
    assert Remembered("shape", tmp_path).get() is True
    assert Remembered("other shape", tmp_path).get() is None


@pytest.mark.filterwarnings("ignore")  # torch's own, while it compiles
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_compiled_it_learns_the_same_and_resumes_bit_for_bit(run_training, tmp_path):
    class Stop(Silent):
        def update(self, row):
            signal.raise_signal(signal.SIGINT)

    record, model = run_training(tmp_path / "compiled", steps=15, compile="yes")
    assert record["result"]["compiled"] is True
    run_training(tmp_path / "plain", steps=15, compile="no")
    losses = [
        [row["loss"] for row in read_rows(tmp_path / name / "metrics.jsonl") if "loss" in row]
        for name in ("compiled", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
    with pytest.raises(Interrupted):
        run_training(tmp_path / "stopped", steps=15, compile="yes", progress=Stop())
    again = run_training(tmp_path / "stopped", steps=15, compile="yes", resume=True)[1]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
