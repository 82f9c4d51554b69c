"""`twofold eval`: how well a model predicts a text, and how far it is from another."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from twofold.cli.opening import PLAIN, Model, Opening
from twofold.cli.terminal import counting, json_line, read_text


def evaluate(
    model: Model,
    /,
    *,
    text: str,
    against: Path | None = None,
    opened: Opening = PLAIN,
    as_json: Annotated[bool, Parameter("--json", negative="")] = False,
) -> None:
    """Measure what a change of a model costs, for example fewer bits a weight.

    Reads a text with a model, and beside it with another that has the same tokenizer: the one it was made
    from. Prints the bits per byte of both, the mean divergence of what MODEL predicts from what the other
    does (in nats a token, with its standard error; 0 is no difference), in what share of places both would
    choose the same token, and how large their files are.

    A text longer than the context is read in windows that overlap by half.

    Parameters
    ----------
    text
        A file with text in UTF-8, which the models have not learned; - reads standard input.
    against
        The other model; --adapter, --context and --engine are for MODEL only.
    as_json
        Print the result as JSON, for scripts.
    """
    content = read_text(text)
    from twofold.evaluation.compare import evaluate as compare
    from twofold.evaluation.compare import stored_bytes

    loaded = opened.load(model)
    other = None if against is None else PLAIN.load(against)
    with counting("tokens") as tell:
        result = compare(loaded, content, against=other, progress=tell)
    sizes = {"stored_bytes": stored_bytes(model, opened.adapter)}
    if against is not None:
        sizes["other_stored_bytes"] = stored_bytes(against)
    if as_json:
        fields = {name: value for name, value in asdict(result).items() if value is not None}
        print(json_line(fields | sizes))
        return
    print(f"{result.bits_per_byte:.4f} bits per byte over {result.tokens:,} tokens, {result.bytes:,} bytes")
    print(f"{sizes['stored_bytes'] / 1e6:,.1f} MB of weights")
    if against is None:
        return
    print(
        f"{against}: {result.other_bits_per_byte:.4f} bits per byte, "
        f"{sizes['other_stored_bytes'] / 1e6:,.1f} MB of weights"
    )
    print(
        f"{result.divergence:.5f} ± {result.divergence_error:.5f} nats per token apart; "
        f"the same choice before {result.agreement:.2%} of tokens"
    )
