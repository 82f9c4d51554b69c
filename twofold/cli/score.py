"""`twofold score`: how well a model predicts a text."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from twofold.cli.opening import PLAIN, Model, Opening
from twofold.cli.terminal import json_line, read_text


def score(
    model: Annotated[Model, Parameter(name=["--model"])],
    text: Annotated[str, Parameter(name=["--text"])],
    *,
    opened: Opening = PLAIN,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Measure how well a model predicts a text, in bits per byte.

    Prints the log-probability of the whole text and what that makes for each byte: the size to which a
    perfect compressor could bring the text with this model. Lower is better; 8 is knowing nothing. The
    figure does not depend on the tokenizer, so that models can be compared by it.

    A text longer than the model's context is read in windows that overlap by half.

    Parameters
    ----------
    text
        A file with text in UTF-8; - reads standard input.
    as_json
        Print the result as JSON, for scripts.
    """
    content = read_text(text)
    result = opened.load(model).score(content)
    if as_json:
        fields = {
            "log_probability": result.log_probability,
            "tokens": result.tokens,
            "bytes": result.bytes,
            "bits_per_byte": result.bits_per_byte,
        }
        print(json_line(fields))
        return
    print(f"{result.bits_per_byte:.4f} bits per byte")
    print(f"{result.log_probability:,.2f} nats for {result.tokens:,} tokens, {result.bytes:,} bytes")
