r"""How much of JSON Schema the masks hold, and whether they hold it right: the JSON-Schema-Test-Suite.

    python benchmarks/json_schema_suite.py json-schema-draft7.jsonl.gz json-schema-draft2020-12.jsonl.gz

Each line of a file is one schema with its tests: {"file", "description", "schema", "tests": [{"description",
"data", "valid"}]}. A schema is compiled or refused by a keyword. Each test of a compiled schema is written
as JSON (compact, with Python's separators, and indented; characters as themselves) and walked through the
mask token by token, once with the tokenizer's tokens and once byte by byte; the mask accepts it if every
token was allowed and the text may end. It should accept exactly the valid ones:

- a *false accept* is an invalid instance that the mask lets be written: there must be none;
- a *false reject* is a valid one that it does not. Where the same instance is accepted with its keys in
  another order, only the order of keys was at fault (a mask fixes it). Under `format`, the mask's pattern is
  narrower than the standard's rule, or the suite takes formats for notes that ask for nothing. The rest is
  notation: numbers or characters that a mask writes in one way only (1, never 1.0; no \u0001).

`--output FILE` writes the table there too. The suite is MIT, © 2012 Julian Berman.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from twofold.decoding.masks import JsonSchema, MaskState, MaskVocabulary
from twofold.errors import TwofoldError, UsageError
from twofold.tokens.tokenizer import Tokenizer
from twofold.tokens.train import train_tokenizer

DRAFT_OF_FILE = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
MOST_ORDERS = 5040


class Suite:
    """What one file came to."""

    def __init__(self, path: Path, tokenizer: Tokenizer) -> None:
        self.path = path
        self.vocabulary = MaskVocabulary(tokenizer, tokenizer.vocab_size, [tokenizer.end_of_text])
        self.schemas = self.compiled = self.right = self.tests = self.right_tests = 0
        self.refused: Counter[str] = Counter()
        self.false_accepts: list[str] = []
        self.false_rejects: dict[str, list[str]] = {"order of keys": [], "format": [], "notation": []}
        self.micros: list[float] = []
        self.compile_ms: list[float] = []

    def run(self) -> None:
        """Every schema of the file."""
        with gzip.open(self.path, "rt", encoding="utf-8") as lines:
            for line in lines:
                self.one(json.loads(line))

    def one(self, case: dict[str, Any]) -> None:
        """One schema and its tests."""
        self.schemas += 1
        schema = case["schema"]
        draft = next(uri for name, uri in DRAFT_OF_FILE.items() if name in self.path.name)
        if isinstance(schema, dict):
            schema = {"$schema": draft, **schema}
        started = time.perf_counter()
        try:
            state = JsonSchema(json.dumps(schema)).compile(self.vocabulary)
        except UsageError as error:
            self.refused[keyword_of(str(error))] += 1
            return
        self.compile_ms.append(1e3 * (time.perf_counter() - started))
        self.compiled += 1
        right = True
        for test in case["tests"]:
            self.tests += 1
            verdicts = {self.accepts(state, text, whole) for text, whole in spellings(test["data"])}
            if verdicts == {test["valid"]}:
                self.right_tests += 1
                continue
            right = False
            name = f"{case['file']}: {case['description']}: {test['description']}: {json.dumps(test['data'])[:80]}"
            if not test["valid"]:
                self.false_accepts.append(name)
            else:
                ordered = any(
                    self.accepts(state, json.dumps(other, ensure_ascii=False), True)
                    for other in orders(test["data"])
                )
                other = "format" if "format" in case["file"] else "notation"
                self.false_rejects["order of keys" if ordered else other].append(name)
        self.right += right

    def accepts(self, state: MaskState, text: str, whole: bool) -> bool:
        """Whether the mask lets `text` be written and then end."""
        data = text.encode("utf-8", "surrogatepass")
        tokens = self.vocabulary.tokenizer.encode(text) if whole else [self.byte(byte) for byte in data]
        for token in [*tokens, self.vocabulary.stop_ids[0]]:
            started = time.perf_counter()
            allowed = state.allowed()
            if not allowed[token]:
                return False
            state = state.advance(token)
            self.micros.append(1e6 * (time.perf_counter() - started))
        return True

    def byte(self, byte: int) -> int:
        """The token of one byte."""
        return self.vocabulary.tokens_of(bytes((byte,)))[0]

    def row(self) -> str:
        """The file's line of the table."""
        wrong = {why: len(names) for why, names in self.false_rejects.items()}
        p50, p99 = np.percentile(self.micros, (50, 99))
        c50, c99 = np.percentile(self.compile_ms, (50, 99))
        cells = [
            self.path.name.removesuffix(".jsonl.gz"),
            self.schemas,
            f"{self.compiled} ({100 * self.compiled / self.schemas:.0f} %)",
            f"{self.right} ({100 * self.right / self.compiled:.0f} %)",
            self.tests,
            len(self.false_accepts),
            wrong["order of keys"],
            wrong["format"],
            wrong["notation"],
            f"{p50:.1f} / {p99:.1f}",
            f"{c50:.2f} / {c99:.2f}",
        ]
        return "| " + " | ".join(map(str, cells)) + " |"


HEAD = """| file | schemas | compiled | of those all right | tests | false accepts | false rejects: order of keys \
| format | notation | µs a token p50 / p99 | compile ms p50 / p99 |
|---|---|---|---|---|---|---|---|---|---|---|"""


def spellings(data: Any) -> list[tuple[str, bool]]:
    """An instance as JSON, and whether in whole tokens."""
    styles = ({"separators": (",", ":")}, {}, {"indent": 2})
    texts = dict.fromkeys(json.dumps(data, ensure_ascii=False, **style) for style in styles)
    return [(text, whole) for text in texts for whole in (True, False)]


def orders(data: Any) -> itertools.islice:
    """The same instance with the keys of its objects in other orders."""

    def every(value: Any) -> Any:
        if isinstance(value, list):
            return (list(items) for items in itertools.product(*map(every, value)))
        if isinstance(value, dict):
            return (
                dict(zip(keys, values, strict=True))
                for keys in itertools.permutations(value)
                for values in itertools.product(*(list(every(value[key])) for key in keys))
            )
        return iter([value])

    return itertools.islice(every(data), MOST_ORDERS)


def keyword_of(message: str) -> str:
    """What a refusal names: the keyword between backquotes, else what it says."""
    if "`" in message:
        return message.split("`")[1]
    return "(allows nothing)" if "no text" in message else message[:100]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--vocabulary", type=int, default=512)
    arguments = parser.parse_args()
    text = []
    for path in arguments.files:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            text += [json.dumps(json.loads(line)["tests"], ensure_ascii=False) for line in lines]
    tokenizer = train_tokenizer(
        [line.encode("utf-8", "replace").decode() for line in text], arguments.vocabulary
    )
    suites = [Suite(path, tokenizer) for path in arguments.files]
    for suite in suites:
        suite.run()
    report = [HEAD, *(suite.row() for suite in suites), ""]
    for suite in suites:
        kinds = ", ".join(f"{name} {count}" for name, count in suite.refused.most_common())
        report += [f"Refused in {suite.path.name}: {kinds}.", ""]
        for why, names in {"false accepts": suite.false_accepts, **suite.false_rejects}.items():
            if names:
                report += [f"{suite.path.name}, {why}:", *(f"- {name}" for name in names), ""]
    print("\n".join(report))
    if arguments.output:
        arguments.output.write_text("\n".join(report), encoding="utf-8")
    if any(suite.false_accepts for suite in suites):
        raise SystemExit(1)


if __name__ == "__main__":
    try:
        main()
    except TwofoldError as error:
        raise SystemExit(f"{error}") from None
