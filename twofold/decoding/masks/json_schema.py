"""The text is JSON that a JSON Schema accepts (drafts 6, 7, 2019-09, 2020-12; `$schema` says which).

The schema is checked and rewritten first (`json_lowering.py`), because a keyword that is ignored makes a
weaker mask; then llguidance holds it. What a mask writes is a little less than what the schema accepts:
- an object's keys come in the order of `properties`, then of `required`, then any others;
- an integer has no fraction or exponent (`1`, not `1.0`), and bounded numbers no exponent;
- characters stand as themselves, with \\" \\\\ \\b \\f \\n \\r \\t and no \\uXXXX: llguidance 1.9.1 lets an open
  object write a named key as "\\u0066oo" and then skips its schema, so that spelling is off everywhere.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from twofold.decoding.masks.json_lowering import lower
from twofold.decoding.masks.matcher import MatcherState, compile_grammar
from twofold.decoding.masks.vocabulary import MaskVocabulary
from twofold.errors import UsageError

MOST_CHARACTERS = 500_000  # of a schema as text
_MEANINGS = {
    "oneOf constraints": "`oneOf` cannot be held: only where the options plainly exclude each other (different "
    "types, or different constants of a required property) can a mask tell that just one holds. Use anyOf.",
    "patternProperty regexes": "`patternProperties` cannot be held: a name might match two of the patterns. "
    "Make them exclude each other.",
    "min/maxProperties": "`minProperties` or `maxProperties` cannot be held beside properties that are not "
    "required. Name them in required.",
    "circular references": "`$ref` cannot be held: it leads back to itself with other keywords beside it.",
    "schema too large": "`allOf` and `anyOf`, multiplied out, make too many cases. Make it smaller.",
    "recursion limit": "objects and lists stand too deep in each other. Move inner ones to $defs.",
    "Unsatisfiable schema": "keywords contradict each other, so it allows no text at all. Check them.",
}
_ESCAPES = 'nrbtf\\"'


@dataclass(frozen=True)
class JsonSchema:
    """JSON that `schema` accepts: a dict, its text, or True for any JSON object.

    `most_space`: how many spaces and line ends may stand together between the signs; None for any number,
    which leaves a model free to write spaces for ever; 0 for compact JSON.
    """

    schema: dict[str, Any] | str | bool
    most_space: int | None = None

    def compile(self, vocabulary: MaskVocabulary) -> MatcherState:
        """The state before the first token. Raises UsageError, which names the keyword."""
        if self.most_space is not None and not 0 <= self.most_space <= 1000:
            raise UsageError(f"most_space must be between 0 and 1,000, or None, not {self.most_space}.")
        schema = lower(self._read())
        options: dict[str, Any] = {"json_allowed_escapes": _ESCAPES}
        if self.most_space:
            options["whitespace_pattern"] = rf"[\x20\x0A\x0D\x09]{{1,{self.most_space}}}"
        else:
            options["whitespace_flexible"] = self.most_space is None
        text = json.dumps({**schema, "x-guidance": options})
        try:
            return compile_grammar(f"start: %json {text}", vocabulary, "The JSON schema")
        except UsageError as error:
            raise UsageError(_plainly(str(error))) from None

    def _read(self) -> Any:
        if self.schema is True:
            return {"type": "object"}
        if isinstance(self.schema, str):
            return read_json(self.schema)
        try:
            text = json.dumps(self.schema)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"The JSON schema is not JSON: {error}.") from None
        return read_json(text)


def _plainly(message: str) -> str:
    """llguidance's refusal with the keyword that is meant."""
    for said, meant in _MEANINGS.items():
        if said in message:
            return f"The JSON schema's {meant}"
    return message.replace("failed to compile JSON schema: ", "")


def read_json(text: str) -> Any:
    """A schema's text as Python values. Raises UsageError, also for keys given twice and for NaN."""
    if len(text) > MOST_CHARACTERS:
        raise UsageError(f"A JSON schema may have {MOST_CHARACTERS:,} characters, no more. Make it smaller.")

    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((twin, _),) = Counter(key for key, _ in pairs).most_common(1)
            raise ValueError(f"the key {twin!r:.60} stands twice in one object")
        return found

    def no_constant(name: str) -> None:
        raise ValueError(f"{name} is no JSON number")

    try:
        return json.loads(text, object_pairs_hook=no_twins, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The JSON schema is not JSON: {error}.") from None
