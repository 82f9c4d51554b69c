"""run.py as a person uses it: alone in a folder with its parameter file, without Twofold, without torch."""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import torch

from twofold.models.load import load_model
from twofold.tokens.chat import encode_chat
from twofold.twofiles import run

# Run a program with an interpreter that refuses all but the standard library and NumPy.
ALONE = """
import importlib.abc, runpy, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in ("numpy", "sitecustomize", "usercustomize"):
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Refuse())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
COMMAND = [sys.executable, "-I", "-c", ALONE, "run.py"]


def start(folder: Path, *arguments: str, given: str | bytes = "", **more) -> subprocess.CompletedProcess:
    given = given.encode() if isinstance(given, str) else given
    environment = {"PATH": os.environ["PATH"], "OPENBLAS_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        timeout=60,
        env=environment,
        **more,
    )
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in done.err, done.err
    return done


@pytest.fixture
def two(exported, tmp_path):
    """A function that gives an empty folder with nothing but the two files."""

    def copy(name: str = "tied", type: str = "q8_0") -> Path:
        for file in ("run.py", "model.gguf"):
            shutil.copy(exported(name, type) / file, tmp_path)
        return tmp_path

    return copy


def greedy(folder: Path, ids: list[int], count: int, stops: set[int]) -> list[int]:
    """What the product's Transformer takes as best, one token after another, without a cache."""
    model, _, _ = load_model(folder)
    found = []
    with torch.no_grad():
        for _ in range(count):
            token = int(model(torch.tensor([ids + found]))[0, -1].argmax())
            if token in stops:
                break
            found.append(token)
    return found


def test_the_program_is_500_lines_at_most():
    assert len(Path(run.__file__).read_text(encoding="utf-8").splitlines()) <= 500


def test_the_program_is_python_3_9():
    ast.parse(Path(run.__file__).read_text(encoding="utf-8"), feature_version=(3, 9))


def test_the_interpreter_of_these_tests_has_neither_twofold_nor_torch(tmp_path):
    (tmp_path / "run.py").write_text(
        "for name in ('twofold', 'torch', 'tokenizers'):\n"
        "    try:\n        __import__(name)\n    except ImportError:\n        print('no', name)\n"
    )
    assert start(tmp_path).out.split() == ["no", "twofold", "no", "torch", "no", "tokenizers"]


@pytest.mark.parametrize("type", ["f32", "f16", "bf16", "q8_0"])
def test_the_self_test_passes_where_twofold_is_not_installed(type, two):
    done = start(two(type=type), "--selftest")
    assert done.returncode == 0
    assert done.out.startswith("self-test passed: ")
    assert start(two(type=type), "selftest").out == done.out


def test_the_self_test_fails_when_a_weight_is_another(two):
    folder = two(type="f32")
    path = folder / "model.gguf"
    data = bytearray(path.read_bytes())
    data[-5000:-2000] = bytes(3000)
    path.write_bytes(data)
    done = start(folder, "selftest")
    assert done.returncode == 1
    assert "self-test FAILED" in done.err


@pytest.mark.parametrize("temperature", ["0", "1"])
def test_weights_that_are_no_numbers_are_told(temperature, two):
    folder = two(type="f32")
    path = folder / "model.gguf"
    data = bytearray(path.read_bytes())
    data[-5000:-2000] = b"\xff" * 3000  # NaN
    path.write_bytes(data)
    done = start(folder, "generate", "The", "--temperature", temperature)
    assert done.returncode == 1
    assert "weights are damaged" in done.err


def test_generate_at_temperature_0_says_what_the_transformer_holds_best(two, folders, tokenizer):
    done = start(two(type="f32"), "generate", "Once upon", "--temperature", "0", "--max-tokens", "12")
    ids = tokenizer.encode("Once upon", start=True)
    expected = greedy(folders / "tied", ids, 12, {tokenizer.im_end, tokenizer.end_of_text})
    assert done.out == "Once upon" + tokenizer.decode(expected) + "\n"
    assert done.err.strip() == "[stopped after 12 tokens]"


def test_a_seed_gives_the_same_text_and_another_seed_another(two):
    folder = two()
    arguments = [
        "generate",
        "It",
        "--max-tokens",
        "20",
        "--top-k",
        "50",
        "--top-p",
        "0.95",
        "--min-p",
        "0.01",
    ]
    first, again, other = (start(folder, *arguments, "--seed", s).out for s in ("1", "1", "2"))
    assert first == again != other


def test_a_prompt_can_come_from_standard_input_and_be_empty(two):
    folder = two()
    assert start(folder, "generate", "-", "--max-tokens", "3", given="Grüße").out.startswith("Grüße")
    assert start(folder, "generate", "", "--max-tokens", "3").returncode == 0


def test_bytes_that_are_no_text_are_replaced_in_prompts(two):
    folder = two()
    done = start(folder, "generate", "-", "--max-tokens", "2", given=b"caf\xe9")
    assert done.returncode == 0
    assert done.out.startswith("caf\ufffd")
    assert start(folder, "chat", "--max-tokens", "2", given=b"\xff\xfe\n").returncode == 0


def test_options_may_stand_before_the_text(two):
    folder = two()
    before = start(folder, "generate", "--temperature", "0", "--max-tokens", "3", "The").out
    assert before == start(folder, "generate", "The", "--temperature", "0", "--max-tokens", "3").out


def test_generation_ends_where_the_context_does(opened, capsys):
    session = opened()
    session.tokenizer.stops = set()
    memory = run.Memory(session.model)
    assert session.say([1, 2, 3], memory) is not None
    assert memory.length == session.model.context - 1  # the last token is shown, and never read
    assert "context is full" in capsys.readouterr().err


def test_chat_answers_and_remembers_as_the_product_would(two, folders, tokenizer):
    stops = {tokenizer.im_end, tokenizer.end_of_text}
    done = start(two(type="f32"), "chat", "--temperature", "0", "--max-tokens", "6", "--system", "Be brief.",
                 given="Who's there?\nAnd\tthen?\n")  # fmt: skip
    messages = [{"role": "system", "content": "Be brief."}]
    answers, history = [], []
    for question in ("Who's there?", "And\tthen?"):
        messages.append({"role": "user", "content": question})
        ids, _ = encode_chat(tokenizer, messages, add_generation_prompt=True)
        if answers:  # the model's own tokens stand in the history, not its text encoded anew
            ids = history + tokenizer.encode("\n") + ids[-len_of_turn(tokenizer, question) :]
        found = greedy(folders / "tied", ids, 6, stops)
        history = [*ids, *found, tokenizer.im_end]
        answers.append(tokenizer.decode(found))
        messages.append({"role": "assistant", "content": answers[-1]})
    said = done.out.split("\n> ")
    assert said[1] == answers[0] + "\n"
    assert said[2] == answers[1] + "\n"
    assert said[3] == "\n"
    assert done.returncode == 0


def len_of_turn(tokenizer, question: str) -> int:
    turn = [{"role": "user", "content": question}]
    return (
        len(encode_chat(tokenizer, turn, add_generation_prompt=True)[0]) - 1
    )  # without the very first token


def test_reset_forgets(two):
    arguments = ["chat", "--temperature", "0", "--max-tokens", "6"]
    done = start(two(), *arguments, given="Hello there\n/reset\nHello there\n")
    said = done.out.split("\n> ")
    assert said[1] == said[3] != said[2]


def test_an_answer_ends_at_the_end_of_the_turn_which_is_not_shown(opened, tokenizer, capsys):
    session = opened()
    ids = tokenizer.encode("A cat")
    for end in (tokenizer.im_end, tokenizer.end_of_text):
        answer = iter([(token, None) for token in (*ids, end, *ids)])
        session.model.continuation = lambda *_, answer=answer: answer
        assert session.say([1], run.Memory(session.model)) == []
        assert capsys.readouterr().out == "A cat\n"
        assert [token for token, _ in answer] == ids  # nothing was asked for after the end


def test_characters_of_several_tokens_are_shown_whole(opened, tokenizer, capsys):
    session = opened()
    ids = [i for byte in "é🙂".encode() for i in range(256) if tokenizer.token_bytes(i) == bytes([byte])]
    assert len(ids) == 6
    session.model.continuation = lambda *_: iter(
        [(token, None) for token in (*ids, ids[2], tokenizer.im_end)]
    )
    session.say([1], run.Memory(session.model))
    assert capsys.readouterr().out == "é🙂\ufffd\n"  # the half character at the end is marked


def test_a_conversation_that_fills_the_context_says_so_and_goes_on(two):
    long = "village " * 60
    done = start(two(), "chat", "--max-tokens", "4", given=f"{long}\nHello\n{long}{long}\n/reset\nHello\n")
    assert done.err.count("do not fit") >= 1
    assert "/reset begins a new conversation" in done.err
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["tied", "untied"])
def test_score_equals_the_products(name, two, folders, tokenizer):
    import twofold

    text = "The baker didn't like cats. " * 30 + "🙂 村\n"  # several windows of 128 tokens
    folder = two(name, "f32")
    (folder / "story.txt").write_bytes(text.encode())
    done = start(folder, "score", "story.txt")
    expected = twofold.load(folders / name).score(text)
    total, bits = (float(word) for word in (done.out.split()[0], done.out.split()[2]))
    assert total == pytest.approx(expected.log_probability, rel=1e-5)
    assert bits == pytest.approx(expected.bits_per_byte, abs=1e-4)
    assert f"{expected.tokens} tokens, {len(text.encode())} bytes, in windows of 128 tokens" in done.out
    assert start(folder, "score", "-", given=text).out == done.out


def test_score_of_a_short_text_is_the_sum_over_its_tokens(two, folders, tokenizer):
    model, _, _ = load_model(folders / "tied")
    ids = tokenizer.encode("A grey cat.", start=True)
    with torch.no_grad():
        log_probabilities = model(torch.tensor([ids]))[0].double().log_softmax(-1)
    expected = sum(float(log_probabilities[i, token]) for i, token in enumerate(ids[1:]))
    total = float(start(two(type="f32"), "score", "-", given="A grey cat.").out.split()[0])
    assert total == pytest.approx(expected, abs=2e-3)


def test_info_tells_the_size(two):
    out = start(two(), "info").out
    assert "(F32, Q8_0)" in out
    assert "2 layers of 64" in out


def test_without_a_command_and_without_a_terminal_it_shows_its_help(two):
    done = start(two())
    assert done.returncode == 0
    assert "python run.py score" in done.out


FAULTS = [  # of whoever calls it, and what is said then; those of run.c too
    (["generate", "village " * 300], "do not fit"),
    (["score", "none.txt"], "No such file"),
    (["score"], "cannot read"),
    (["score", "."], "cannot read"),
    (["score", "-"], "nothing to score"),
    (["score", "model.gguf"], "UTF-8"),
    (["info", "--model", "none.gguf"], "No such file"),
    (["info", "--model", "."], "cannot open"),
    (["info", "--model", "run.py"], "does not begin with the letters GGUF"),
    (["info", "--model", "empty"], "cannot be used"),
    (["generate", "x", "--temperature", "-1"], "negative"),
    (["generate", "x", "--temperature", "nan"], "negative"),
    (["generate", "x", "--top-p", "1.5"], "above 1"),
    (["generate", "x", "--top-k", "-5"], "negative"),
    (["generate", "x", "--seed", "-5"], "negative"),
    (["generate", "x", "--seed", "one"], "invalid int"),
]


@pytest.mark.parametrize(("arguments", "message"), [*FAULTS, (["dance"], "invalid choice")])
def test_faults_are_told_in_a_line(arguments, message, two):
    folder = two()
    (folder / "empty").touch()
    done = start(folder, *arguments)
    assert done.returncode in (1, 2)
    assert message in done.err
    assert len(done.err.strip().splitlines()[-1]) < 400


def test_a_file_that_was_cut_short_is_named(two):
    folder = two()
    path = folder / "model.gguf"
    path.write_bytes(path.read_bytes()[:-3000])
    done = start(folder, "generate", "x")
    assert done.returncode == 1
    assert "model.gguf cannot be used" in done.err
    assert "should end at byte" in done.err


def test_a_reader_that_goes_away_is_no_fault(two):
    folder = two()
    command = " ".join(["'" + part.replace("'", "'\\''") + "'" for part in COMMAND])
    done = subprocess.run(
        ["bash", "-c", f"{command} generate The --max-tokens 100 --seed 1 --temperature 3 | head -c 5"],
        cwd=folder, capture_output=True, timeout=60,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["chat", "generate -", "score -", "info", ""])
def test_closed_standard_streams_are_no_fault(command, closed, two):
    line = f"exec {shlex.join(COMMAND)} {command} {closed}"
    done = subprocess.run(["bash", "-c", line], cwd=two(), input=b"Hi.", capture_output=True, timeout=60)
    assert done.returncode == (command == "score -" and "<&-" in closed)  # nothing to score
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr


@pytest.mark.parametrize(
    "arguments", ["generate The --max-tokens 3", "info", "selftest", "score run.py", "chat"]
)
def test_a_full_disk_under_the_output_is_told(arguments, two):
    line = f"exec {shlex.join(COMMAND)} {arguments} > /dev/full"
    done = subprocess.run(["bash", "-c", line], cwd=two(), input=b"Hi.\n", capture_output=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == b"run.py: cannot go on: No space left on device.\n"


def test_a_temperature_next_to_0_warns_of_nothing(two):
    done = start(two(), "generate", "The", "--max-tokens", "3", "--temperature", "1e-320")
    assert done.returncode == 0
    assert done.err == "[stopped after 3 tokens]\n"


def test_in_a_terminal_it_talks_stops_and_ends(two):
    folder = two()
    child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], "--max-tokens", "3"], cwd=str(folder), timeout=30,
                          encoding="utf-8", codec_errors="replace",
                          env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "TERM": "dumb"})  # fmt: skip
    child.expect("Talk with the model")
    child.expect("> ")
    child.sendline("Hello")
    child.expect("> ")
    child.sendcontrol("c")  # at the prompt: the end
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "Traceback" not in (child.before or "")


def test_ctrl_c_stops_an_answer_and_the_conversation_goes_on(opened, capsys):
    session = opened()

    def interrupted(tokens, memory, pick):
        session.model.read(tokens, memory)
        yield 40, None
        raise KeyboardInterrupt

    memory = run.Memory(session.model)
    session.model.continuation = interrupted
    assert session.say([1, 2, 3], memory) == [40]
    assert "stopped" in capsys.readouterr().err


def test_ctrl_c_before_any_answer_takes_the_message_back(opened, monkeypatch, capsys):
    session = opened()
    session.options.max_tokens = 3
    lines = iter(["first", "second"])
    lengths = []

    def typed(prompt):
        lengths.append(prompt)
        for line in lines:
            return line
        raise EOFError

    def interrupted(tokens, memory, pick):
        session.model.read(tokens[:2], memory)
        lengths.append((len(tokens), memory.length))
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("builtins.input", typed)
    session.model.continuation = interrupted
    session.chat()
    (first, read), (second, read_again) = [item for item in lengths if isinstance(item, tuple)]
    assert read == read_again == 2  # the second message begins where the first did
    assert abs(first - second) <= 3
    assert capsys.readouterr().err.count("stopped") == 2
