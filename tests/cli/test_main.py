"""The face: help at once, messages instead of tracebacks, exit codes that scripts can rely on."""

import os
import signal
import subprocess
import sys

import pytest

import twofold
from twofold import __main__ as face
from twofold.cli import app, pages
from twofold.errors import DataError, FileError, Interrupted, UsageError

HEAVY = ("cyclopts", "torch", "numpy", "rich", "transformers", "tokenizers", "pyarrow", "prompt_toolkit")


def run_twofold(*arguments, **options):
    """Run `python -m twofold …` and return the finished process."""
    return subprocess.run(
        [sys.executable, "-m", "twofold", *arguments], capture_output=True, text=True, timeout=60, **options
    )


def test_importing_twofold_loads_nothing_heavy():
    code = f"import sys, twofold; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize(
    "arguments",
    [[], ["--help"], ["--version"], ["create", "--help"], ["text", "village", "-h"], ["creat", "-h"]],
)
def test_help_and_version_load_nothing_heavy(arguments):
    code = (
        f"import sys; from twofold.__main__ import main; main({arguments!r}); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "[]"


def test_loading_the_command_line_loads_no_command():
    targets = [command.target.partition(":")[0] for command in app.COMMANDS]
    code = (
        "import sys; from twofold.cli.app import build_app; build_app(); "
        f"print([name for name in {[*targets, 'torch', 'numpy']!r} if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_loading_every_command_loads_no_torch():
    code = (
        "import sys; from twofold.cli.reference import render_all; render_all(); "
        "print([name for name in ('torch', 'transformers', 'pyarrow', 'tokenizers') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_no_arguments_show_the_first_page(capsys):
    assert face.main([]) == 0
    bare = capsys.readouterr().out
    assert face.main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert "twofold COMMAND" in bare
    assert "\x1b" not in bare


@pytest.mark.parametrize(
    "arguments", [["inspect", "--help"], ["inspect", "-h"], ["help", "inspect"], ["inspect", "x", "--help"]]
)
def test_every_way_to_ask_for_a_page_shows_the_same_page(arguments, capsys):
    assert face.main(arguments) == 0
    assert capsys.readouterr().out.startswith("Usage: twofold inspect")


def test_a_group_alone_shows_its_commands(capsys):
    assert face.main(["text"]) == 0
    assert "village" in capsys.readouterr().out


def test_version(capsys):
    assert face.main(["--version"]) == 0
    assert capsys.readouterr().out == f"twofold {twofold.__version__}\n"


def test_a_missing_page_file_is_made_up_for(monkeypatch, tmp_path, capsys):
    assert face.main(["inspect", "--help"]) == 0
    packaged = capsys.readouterr().out
    monkeypatch.setattr(pages, "FILE", tmp_path / "none.json")
    assert face.main(["inspect", "--help"]) == 0
    assert capsys.readouterr().out == packaged


def test_colour_is_for_terminals_and_for_those_who_force_it(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    face.main(["inspect", "--help"])
    coloured = capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    face.main(["inspect", "--help"])
    plain = capsys.readouterr().out
    assert "\x1b[1m" in coloured
    assert plain == pages.without_colour(coloured)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["crate"], "create"),
        (["crate", "--minutes", "3", "--output", "x"], "create"),
        (["completion", "--instal"], "--install"),
        (["completion", "bsh"], "bash"),
        (["text", "vilage"], "village"),
    ],
)
def test_a_slip_is_named_and_the_nearest_word_suggested(arguments, hint, capsys):
    assert face.main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("twofold: ")
    assert hint in err
    assert "--help" in err
    assert len(err.splitlines()) == 1


def command_that(monkeypatch, behaviour):
    """Make `twofold inspect x …` do `behaviour`."""
    monkeypatch.setattr(app, "run", lambda arguments: behaviour())


def raiser(error):
    """A function that raises `error`."""

    def behaviour():
        raise error

    return behaviour


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such size"), 2),
        (FileError("Cannot read x"), 3),
        (DataError("empty"), 4),
        (Interrupted("saved"), 130),
    ],
)
def test_errors_for_people_are_one_message_and_an_exit_code(monkeypatch, capsys, error, code):
    command_that(monkeypatch, raiser(error))
    assert face.main(["inspect", "a", "b"]) == code
    assert capsys.readouterr().err == f"twofold: {error}\n"


def test_interrupts_are_one_line_and_130(monkeypatch, capsys):
    command_that(monkeypatch, raiser(KeyboardInterrupt()))
    assert face.main(["inspect", "a", "b"]) == 130
    assert capsys.readouterr().err == "twofold: stopped.\n"


def test_a_fault_of_ours_is_one_line_and_its_traceback_is_kept(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    command_that(monkeypatch, raiser(ZeroDivisionError("division by zero")))
    assert face.main(["inspect", "a", "b"]) == 70
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert "fault in Twofold" in err
    (kept,) = tmp_path.glob("twofold-fault-*.txt")
    assert str(kept) in err
    assert "ZeroDivisionError: division by zero" in kept.read_text(encoding="utf-8")
    assert "Traceback" in kept.read_text(encoding="utf-8")


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("TWOFOLD_DEBUG", "1")
    command_that(monkeypatch, raiser(ZeroDivisionError("division by zero")))
    with pytest.raises(ZeroDivisionError):
        face.main(["inspect", "a", "b"])


@pytest.mark.parametrize(("result", "code"), [(None, 0), (3, 3), ("text", 0), (True, 0)])
def test_what_a_command_returns_is_the_exit_code_when_it_is_a_number(monkeypatch, result, code):
    monkeypatch.setattr(app, "build_app", lambda: lambda arguments: result)
    assert app.run([]) == code


@pytest.mark.parametrize("arguments", [("--help",), ("completion", "bash")])
def test_a_reader_that_went_away_ends_us_quietly(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "twofold", *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_break_nothing(closed):
    for arguments, code in (("--help", 0), ("completion fish", 0), ("inspect /nothing/here", 3)):
        command = f"exec {sys.executable} -m twofold {arguments} {closed}"
        assert subprocess.run(["bash", "-c", command], timeout=60).returncode == code


def test_a_full_disk_under_standard_output_is_a_message():
    for arguments in (["--help"], ["completion", "fish"]):
        with open("/dev/full", "wb") as full:
            command = [sys.executable, "-m", "twofold", *arguments]
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 3
        assert done.stderr.startswith("twofold: Cannot write standard output: the disk is full")
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 9 bytes")]
)
def test_too_little_memory_is_a_message(monkeypatch, capsys, error):
    command_that(monkeypatch, raiser(error))
    assert face.main(["inspect", "a", "b"]) == 1
    assert "memory" in capsys.readouterr().err


def test_a_terminal_without_unicode_gets_question_marks_not_a_traceback():
    done = run_twofold("…", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert done.stderr.startswith("twofold: there is no command")


def test_control_c_while_a_command_runs_is_130(tmp_path):
    script = (
        "import sys, time; from twofold.cli import app; from twofold.__main__ import main\n"
        "def wait(arguments): print('ready', flush=True); time.sleep(30)\n"
        "app.run = wait; sys.exit(main(['inspect', 'a', 'b']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "twofold: stopped.\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_commands(shell, capsys):
    assert face.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "inspect" in script
    assert "village" in script


def test_the_bash_completion_script_is_valid_bash():
    script = run_twofold("completion", "bash").stdout
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=30)


def test_completion_installs_into_the_home_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert face.main(["completion", "--install"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    assert list(tmp_path.rglob("*fish*"))


def test_an_unknown_shell_is_asked_for(monkeypatch, capsys):
    monkeypatch.setenv("SHELL", "/bin/nosuchshell")
    assert face.main(["completion"]) == 2
    assert "twofold completion bash" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", ["inspect {}", "export {} -o x", "report {}", "text show {}", "train a.txt -o {}"]
)
def test_a_path_that_the_system_refuses_is_a_message(arguments, capsys):
    assert face.main(arguments.format("x" * 5000).split()) == 3
    assert "File name too long" in capsys.readouterr().err
