"""`twofold export`: take a model away as two files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def export(
    model: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    type: Literal["q8_0", "q4_0", "f16", "bf16", "f32"] = "q8_0",
    name: str | None = None,
) -> None:
    """Take a model away as two files that run wherever Python and NumPy are.

    Writes two files into a folder: model.gguf, which holds everything that was learned (weights,
    tokenizer, chat template), and run.py, 500 lines that use it. Twofold itself is not needed there:
    `python run.py` talks, and generate, score and selftest do what they say. Other programs open model.gguf
    too (llama.cpp, LM Studio). Beside them lie run.c, which does what run.py does, faster, once a C compiler has
    made a program of it; a Modelfile for Ollama; and a README.txt.

    MODEL is a run folder, a Hugging Face folder, another .gguf, or a model of the hub (owner/name).

    Parameters
    ----------
    output
        The folder to write. An earlier export there is replaced; other people's files are not.
    type
        How weights are kept. q8_0 takes a quarter of f32's space and changes answers hardly; q4_0 half of
        that, and changes them; bf16 and f16 take half; f32 changes nothing. `twofold convert` knows more.
    name
        The model's name, as other programs show it. By default the folder's.
    """
    from twofold.twofiles.export import export as write_two_files

    done = write_two_files(model, output, type=type, name=name)
    kind = "an assistant" if done.chat else "a model that goes on with text"
    print(
        f"{done.folder}: {kind}, {done.parameters:,} parameters in {done.bytes / 1e6:,.1f} MB ({done.type})"
    )
    if not done.selftest_tokens:
        print("It carries no self-test: no word that it would choose is clearly ahead of the next.")
    print(f'Talk with it:  python {done.folder / "run.py"}' if done.chat else
          f'Try it:  python {done.folder / "run.py"} generate "Once upon a time"')  # fmt: skip
