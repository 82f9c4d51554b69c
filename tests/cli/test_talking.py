"""generate, score and chat as people meet them: whole processes, a real terminal, hostile models."""

import io
import itertools
import json
import os
import shutil
import subprocess
import sys
import time

import pexpect
import pytest
import torch

import twofold
from twofold import __main__ as face
from twofold.cli.terminal import harmless, json_line
from twofold.models.config import TransformerConfig
from twofold.models.folder import save_folder
from twofold.models.transformer import Transformer
from twofold.tokens.tokenizer import bytes_only

TOKENIZER = bytes_only()
V = TOKENIZER.vocab_size


def save_bigrams(folder, follows, *, context=4000, chat=True):
    """A Transformer whose next token depends on the last one alone: blocks that add nothing (as they begin
    their life), one channel for each token, and the table as output matrix."""
    config = TransformerConfig(
        vocab_size=V, hidden_size=V, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1,
        head_dim=2, intermediate_size=1, max_position_embeddings=context, tie_word_embeddings=False,
    )  # fmt: skip
    model = Transformer(config)
    model.model.embed_tokens.weight.data = torch.eye(V)
    table = torch.zeros(V, V)
    for token, following in follows.items():
        table[following, token] = 30 / V**0.5
    model.lm_head.weight.data = table
    save_folder(folder, model, TOKENIZER, chat=chat)
    return folder


def chain(text, *, first="\n", last=None):
    """token → next token, for an answer `text` of different bytes after `first`; `last` None: im_end."""
    ids = [*TOKENIZER.encode(first + text), TOKENIZER.im_end if last is None else TOKENIZER.encode(last)[0]]
    assert len(set(ids[:-1])) == len(ids) - 1
    return dict(itertools.pairwise(ids))


@pytest.fixture(scope="module")
def greeter(tmp_path_factory):
    return save_bigrams(tmp_path_factory.mktemp("talk") / "greeter", chain("Hi you."), context=120)


@pytest.fixture(scope="module")
def chatterer(tmp_path_factory):
    """It never stops by itself."""
    follows = chain("abcdefghijklmnopqrstuvwxyz", last="a")
    return save_bigrams(tmp_path_factory.mktemp("talk") / "chatterer", follows, context=30_000)


@pytest.fixture(scope="module")
def attacker(tmp_path_factory):
    follows = chain("\x1b]0;pwn\x07\x9d\u202e!")
    return save_bigrams(tmp_path_factory.mktemp("talk") / "attacker", follows)


@pytest.fixture
def talk(monkeypatch, capsys):
    """talk(command, arguments…, said=bytes) -> (exit code, standard output, standard error)."""

    def run(*arguments, said=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(said)))
        code = face.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return run


# generate


def test_generate_prints_the_prompt_and_what_follows(greeter, capsys):
    assert face.main(["generate", str(greeter), "A: H"]) == 0
    assert capsys.readouterr().out == "A: Hi you.\n"


def test_generate_takes_several_prompts_in_order(greeter, capsys):
    face.main(["generate", str(greeter), "y", "H", "-n", "2", "--max-tokens", "4"])
    assert capsys.readouterr().out == (
        "[1 of 4]\nyou.\n\n[2 of 4]\nyou.\n\n[3 of 4]\nHi yo\n\n[4 of 4]\nHi yo\n"
    )


def test_generate_gives_json_for_scripts(greeter, capsys):
    face.main(["generate", str(greeter), "H", "y", "--json", "--stop", "yo"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["prompt"], line["text"], line["finish"]) for line in lines] == [
        ("H", "i ", "stop"),
        ("y", "ou.", "stop"),
    ]
    assert lines[0]["tokens"] == 4
    assert all(-1 < line["log_probability"] <= 0 for line in lines)


def test_generate_reads_a_prompt_from_standard_input(greeter, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("é\nH\n".encode())))
    assert face.main(["generate", str(greeter), "-"]) == 0
    assert capsys.readouterr().out == "é\nHi you.\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"ab\xff")))
    assert face.main(["generate", str(greeter), "-"]) == 2
    assert "byte 2" in capsys.readouterr().err


def test_generate_without_a_prompt_begins_a_text(greeter, capsys):
    assert face.main(["generate", str(greeter), "--max-tokens", "3", "--seed", "1"]) == 0
    assert face.main(["generate", str(greeter), "--max-tokens", "0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["text"] == ""


def test_generate_says_how_fast_it_was(greeter, capsys):
    face.main(["generate", str(greeter), "H", "--verbose"])
    seen = capsys.readouterr()
    assert seen.out == "Hi you.\n"
    assert "7 tokens in" in seen.err
    assert "tokens/s" in seen.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--temperature", "-1"], 2, "temperature"),
        (["--top-k", "0"], 2, "top_k"),
        (["--max-tokens", "-1"], 2, "max_tokens"),
        (["-n", "0"], 2, "-n"),
        (["--stop", ""], 2, "stop string"),
        (["x" * 500], 2, "context holds 120"),
        (["x" * 50, "--context", "40"], 2, "context holds 40"),
        (["--context", "121"], 2, "positions allow 1 to 120"),
        (["--decoder", "beem"], 2, "There are: sample"),
        (["--decoder", "beam:width=x"], 2, "must be a number"),
        (["--mask", "regex:("], 2, "("),
        (["--mask", "json:nothing.json"], 3, "nothing.json"),
        (["--mask", 'json:{"uniqueItems": true}'], 2, "uniqueItems"),
        (["--set", "heat=1"], 2, "There are: temperature"),
        (["--tree", "tree.html", "a", "b"], 2, "one prompt"),
        (["-", "-"], 2, "only once"),
    ],
)
def test_generate_tells_what_cannot_be(greeter, capsys, arguments, code, words):
    assert face.main(["generate", str(greeter), *arguments]) == code
    message = capsys.readouterr().err
    assert words in message
    assert "Traceback" not in message


def test_generate_searches_keeps_to_a_mask_and_explains(greeter, capsys):
    arguments = [
        "generate",
        str(greeter),
        "H",
        "--decoder",
        "beam:width=2,keep=2",
        "--mask",
        "choices:i|i you.",
    ]
    assert face.main([*arguments, "--explain"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("[answer 1 of 2]\nHi you.\n")
    assert "'i'               100.0 %  100.0 %" in out
    assert "the mask left e^" in out
    assert face.main([*arguments, "--json", "--explain"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["text"] == "i you."
    assert first["log_allowed"] <= 0
    assert [choice["text"] for choice in first["choices"]][:2] == ["i", " "]
    assert first["choices"][0]["alternatives"][0]["log_probability"] == pytest.approx(0, abs=1e-6)


def test_generate_writes_the_tree_of_a_search(greeter, tmp_path, capsys):
    page = tmp_path / "tree.html"
    assert face.main(["generate", str(greeter), "H", "--decoder", "beam", "--tree", str(page)]) == 0
    seen = capsys.readouterr()
    assert seen.out == "i you.\n"
    assert "tokens that were looked at" in seen.err
    assert page.read_text(encoding="utf-8").count('class="best"') == 7


def test_what_is_no_model_is_told(tmp_path, capsys):
    for command in (["generate", tmp_path, "x"], ["chat", tmp_path], ["score", tmp_path, __file__]):
        assert face.main([str(word) for word in command]) == 3
        assert "no model" in capsys.readouterr().err


def test_a_reader_that_went_away_ends_generate_quietly(chatterer):
    command = f"{sys.executable} -m twofold generate {chatterer} a --max-tokens 100000 | head -c 40"
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60)
    assert (done.stdout[:27], done.stderr) == (b"abcdefghijklmnopqrstuvwxyza", b"")


# What a model says must not steer the terminal


def test_harmless_text_shows_all_writing_and_nothing_that_steers():
    good = "Añejo\t中文 🙂 👩\u200d🔬 עברית\n\u00a0x"
    assert harmless(good) == good
    assert harmless("a\r\nb\rc") == "a\nbc"
    for bad in ("\x1b", "\x07", "\x00", "\x7f", "\x9b", "\u202e", "\u2066", "\u200f", "\ue000", "\ufeff"):
        assert harmless(f"a{bad}b") == "a\ufffdb"


def test_json_lines_are_harmless_and_say_the_same():
    value = {"text": "\x1b]0;x\x07\x9b\u202e 中文 🙂 \U000e0041\n"}
    line = json_line(value)
    assert line.isprintable()
    assert "中文" in line
    assert json.loads(line) == value


@pytest.mark.parametrize("arguments", [["generate", "\n"], ["generate", "\n", "--json"], ["chat"]])
def test_escape_sequences_of_a_model_do_not_reach_the_terminal(attacker, talk, arguments):
    command, *rest = arguments
    code, out, _ = talk(command, attacker, *rest, said=b"Hello\n")
    assert code == 0
    assert "]0;pwn" in out
    assert not set(out) & set("\x1b\x07\x9d\u202e")


def test_the_c_engine_says_the_same(greeter, tmp_path, talk):
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler here")
    assert talk("export", greeter, "-o", tmp_path / "two-files", "--type", "f32")[0] == 0
    code, out, _ = talk("generate", tmp_path, "A: H", "--engine", "c", "--temperature", "0")
    assert (code, out) == (0, "A: Hi you.\n")
    # a folder, without an export
    code, again, _ = talk("generate", greeter, "A: H", "--engine", "c", "--temperature", "0")
    assert (code, again) == (0, out)


# choose


def test_choose_prints_the_probability_of_each_choice(greeter, talk):
    code, out, _ = talk("choose", greeter, "H", "i you.", "x", "i yo!")
    assert code == 0
    first, *others = out.splitlines()
    assert first.startswith("'i you.' 100.00 % ████")
    assert len(others) == 2
    code, out, _ = talk("choose", greeter, "-", "i", "x", "--json", said=b"H\n")
    assert json.loads(out) == {"i": pytest.approx(1), "x": pytest.approx(0, abs=1e-9)}


def test_choose_asks_in_a_conversation(greeter, talk):
    code, out, _ = talk("choose", greeter, "Hello", "Hi you.", "No", "--ask")
    assert code == 0
    assert out.startswith("'Hi you.' 100.00 %")


def test_what_is_no_text_is_told_or_harmless(greeter, talk, monkeypatch):
    code, _, message = talk("choose", greeter, "-", "a", "b", said=b"\xff")
    assert code == 2
    assert "not text in UTF-8" in message
    assert talk("generate", greeter, "a", "--stop", "\udcff", "--max-tokens", 2)[0] == 0


@pytest.mark.parametrize("choices", [["one"], ["a", "a"], ["a", ""], ["a", "ab"]])
def test_choose_tells_what_cannot_be_compared(greeter, talk, choices):
    code, _, message = talk("choose", greeter, "H", *choices)
    assert code == 2
    assert "Traceback" not in message


# score


def test_score_prints_bits_per_byte(greeter, tmp_path, capsys, monkeypatch):
    file = tmp_path / "text.txt"
    file.write_text("Hi you. Hi you.")
    expected = twofold.load(greeter).score("Hi you. Hi you.")
    for arguments in ([str(file)], ["--text", str(file)]):
        assert face.main(["score", str(greeter), *arguments]) == 0
        assert capsys.readouterr().out.startswith(f"{expected.bits_per_byte:.4f} bits per byte\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(file.read_bytes())))
    assert face.main(["score", str(greeter), "-", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["log_probability"] == pytest.approx(expected.log_probability)
    assert (found["tokens"], found["bytes"]) == (15, 15)


@pytest.mark.parametrize(
    ("data", "code", "words"), [(b"", 4, "empty"), (b"a\xff", 4, "byte 1"), (None, 3, "no such")]
)
def test_score_tells_what_it_cannot_read(greeter, tmp_path, capsys, data, code, words):
    if data is not None:
        (tmp_path / "text").write_bytes(data)
    assert face.main(["score", str(greeter), str(tmp_path / "text")]) == code
    assert words in capsys.readouterr().err


# chat without a terminal


def test_each_line_of_standard_input_is_a_turn(greeter, talk):
    assert talk("chat", greeter, said=b"Hello\n\nWho are you?\r\n") == (0, "Hi you.\nHi you.\n", "")


def test_commands_work_without_a_terminal(greeter, talk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = ["/system Be kind.", "Hello", "/save out.jsonl", "//slash", "/save all.jsonl", "/reset", "/retry"]
    code, out, errors = talk("chat", greeter, said="\n".join([*lines, "/quit", "no"]).encode())
    assert (code, out) == (2, "Hi you.\nHi you.\n")
    assert "nothing to answer again" in errors
    system = {"role": "system", "content": "Be kind."}
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "messages": [
            system,
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi you."},
        ]
    }
    assert json.loads((tmp_path / "all.jsonl").read_text())["messages"][3]["content"] == "/slash"


def test_a_saved_conversation_is_never_overwritten(greeter, talk, tmp_path):
    (tmp_path / "here").write_text("precious")
    _, _, errors = talk("chat", greeter, said=f"Hi\n/save {tmp_path}/here\n/save\n/what\n".encode())
    assert "exists already" in errors
    assert "Say where" in errors
    assert talk("chat", greeter, said=b"Hi\n/save ~nobody/x\nHi\n")[1] == "Hi you.\n" * 2
    assert "There is no /what" in errors
    assert (tmp_path / "here").read_text() == "precious"


def test_the_oldest_turns_are_left_out_and_it_is_said(greeter, talk):
    said = b"Hello\n" * 5 + b"x" * 200 + b"\nBye\n"
    _, out, errors = talk("chat", greeter, "--max-tokens", "20", said=said)
    assert out == "Hi you.\n" * 6
    assert "no longer fit into the model's context of 120 tokens" in errors
    assert "Shorten it" in errors


def test_a_line_that_is_no_text_is_told(greeter, talk):
    code, out, errors = talk("chat", greeter, said=b"Hi\n\xff\n")
    assert (code, out) == (2, "Hi you.\n")
    assert "Line 2 of standard input" in errors


def test_chat_with_a_base_model_says_what_suits_it(tmp_path, talk):
    save_bigrams(tmp_path / "base", {}, chat=False)
    _, _, errors = talk("chat", tmp_path / "base", "--max-tokens", "3", said=b"Hi\n")
    assert "twofold generate" in errors


# chat in a terminal

READY = r"\x1b\[\?2004h"  # the prompt asks the terminal to mark pastes


def spawn(*arguments, home):
    environment = {**os.environ, "HOME": str(home), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    return pexpect.spawn(
        sys.executable,
        ["-m", "twofold", "chat", *map(str, arguments)],
        env=environment,
        encoding="utf-8",
        timeout=60,
        dimensions=(30, 120),
    )


def test_a_conversation_in_a_terminal(attacker, tmp_path):
    """Line editing, a paste of two lines, the history, Ctrl-C and Ctrl-D at the prompt; and nothing of what
    the model says steers the terminal."""
    answer = r"\x1b\[\?2004l(\S*\]0;pwn\S*!)\r\n"  # after the prompt has let go of the terminal
    terminal = spawn(attacker, home=tmp_path)
    terminal.expect("Ctrl-D to leave")
    typed = [
        "Hello",
        "Hallo\x7f\x7f\x7f\x7f\x1b[D\x1b[C\x7ftwo words",  # backspaces and arrows
        "\x1b[200~one\ntwo\x1b[201~",  # a paste
        "\x1b[A",  # the turn before
    ]
    for text in typed:
        terminal.expect(READY)
        terminal.send(f"{text}\r")
        terminal.expect(answer)
        assert terminal.match[1] == "\ufffd]0;pwn\ufffd\ufffd\ufffd!"
    terminal.expect(READY)
    terminal.send("/help\r")
    terminal.expect("/retry")
    terminal.expect(READY)
    terminal.send(f"/save {tmp_path}/said.jsonl\r")
    terminal.expect("Saved 8 messages")
    terminal.expect(READY)
    terminal.sendcontrol("c")
    terminal.expect("Ctrl-D leaves")
    terminal.expect(READY)
    terminal.sendcontrol("d")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
    said = json.loads((tmp_path / "said.jsonl").read_text())["messages"]
    assert [m["content"] for m in said[::2]] == ["Hello", "two words", "one\ntwo", "one\ntwo"]
    history = tmp_path / ".local" / "state" / "twofold" / "chat-history"
    assert "two words" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(chatterer, tmp_path):
    terminal = spawn(chatterer, "--max-tokens", "100000", home=tmp_path)
    for _ in range(2):
        terminal.expect(READY)
        terminal.send("go\r")
        terminal.expect("xyzabc")
        time.sleep(0.2)
        terminal.sendcontrol("c")
        terminal.expect(r"\(stopped\)")
    terminal.expect(READY)
    terminal.send("/quit\r")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
