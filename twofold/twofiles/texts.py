"""The two small texts beside the two files: Ollama's Modelfile, and a README for whoever gets them."""

from __future__ import annotations

# Go's template language. Ollama puts the text's first token (<|endoftext|>) there itself, as the GGUF asks.
_CHAT_TEMPLATE = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""
_TEXT_TEMPLATE = "{{ .Prompt }}"


def modelfile(*, chat: bool, context: int) -> str:
    """The Modelfile with which `ollama create NAME -f Modelfile` takes the model in."""
    template = _CHAT_TEMPLATE if chat else _TEXT_TEMPLATE
    lines = [
        "FROM ./model.gguf",
        f'TEMPLATE """{template}"""',
        'PARAMETER stop "<|im_end|>"',
        'PARAMETER stop "<|endoftext|>"',
        f"PARAMETER num_ctx {context}",
        "PARAMETER temperature 0.8",
    ]
    return "\n".join(lines) + "\n"


def read_me(name: str, *, chat: bool) -> str:
    """What the folder is and how to use it, in a few lines."""
    first = "python run.py" + (" " * 26 if chat else ' generate "Once upon a time"')
    does = "talk with it" if chat else "let it go on with a text"
    return f"""{name}: a language model in two files.

model.gguf holds all that the model has learned; run.py uses it. Python 3.9 or newer and NumPy are enough
(pip install numpy).

    {first}    {does}
    python run.py score story.txt              how well it predicts a text
    python run.py selftest                     is the file whole, and does it compute rightly here?
    python run.py --help                       the rest

run.c does the same, faster, and needs a C compiler instead:

    cc -O3 -march=native run.c -o run -lm -lpthread && ./run --help

Other programs open model.gguf too, for example llama.cpp and LM Studio; for Ollama:

    ollama create {_plain(name)} -f Modelfile && ollama run {_plain(name)}
"""


def _plain(name: str) -> str:
    """A name that Ollama and a shell take."""
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in name.lower())
    return letters.strip("._-") or "model"
