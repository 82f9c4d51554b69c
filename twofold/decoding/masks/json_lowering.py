"""A JSON Schema rewritten into the part of it that llguidance holds exactly; anything else is refused.

llguidance 1.9.1 (MIT) refuses much honestly, but not all. It skips keywords that its draft does not know
(a typing error, `dependentRequired` in draft 7), loses `additionalItems` behind another keyword, reads
patterns as Rust does, rounds numbers beyond 2^53, follows `$ref` past `~1` and `$id`, obeys an `x-guidance`
that switches its checks off, and dies on a long chain of references. Here each keyword is looked at under
the schema's own draft, and what comes out has one shape whatever came in: numbers and patterns checked,
references numbered under `$defs`, arrays as `prefixItems` and `items`, keywords of one kind side by side.
"""

from __future__ import annotations

from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from twofold.decoding.masks.json_formats import FORMATS
from twofold.decoding.masks.json_values import (
    check_constant,
    check_multiples,
    check_name,
    count,
    number,
    refuse,
    shown,
)
from twofold.decoding.masks.pattern import search_match

DEEPEST = 60  # schemas within schemas, references followed
MOST_SCHEMAS = 20_000
MOST_PROPERTIES = 2_000  # of one object
MOST_ITEMS = 10_000  # of one array, where a count asks for them
MOST_COUNTED = 100_000  # of all arrays together

DRAFTS = {
    "http://json-schema.org/draft-06/schema": 6,
    "http://json-schema.org/draft-07/schema": 7,
    "https://json-schema.org/draft/2019-09/schema": 2019,
    "https://json-schema.org/draft/2020-12/schema": 2020,
}
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
_ANNOTATIONS = {
    *("$schema", "$id", "$comment", "$defs", "definitions", "$anchor", "$dynamicAnchor", "$recursiveAnchor"),
    *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
}
_KEYWORDS = {
    *("type", "const", "enum", "$ref", "allOf", "anyOf", "oneOf"),
    *("minLength", "maxLength", "pattern", "format"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems", "prefixItems", "items", "additionalItems"),
    *("properties", "patternProperties", "additionalProperties", "required"),
    *("minProperties", "maxProperties"),
}
_LATER = "a mask would have to remember the text before"
_UNHELD = {
    "not": "a mask can only hold what must be, not what must not",
    "if": "a mask would have to know the whole value before it is written; use anyOf with both cases",
    "then": "see `if`",
    "else": "see `if`",
    "contains": "a mask would have to count the items that fit",
    "minContains": "see `contains`",
    "maxContains": "see `contains`",
    "uniqueItems": _LATER,
    "dependencies": _LATER,
    "dependentRequired": _LATER,
    "dependentSchemas": _LATER,
    "propertyNames": "use patternProperties with additionalProperties: false",
    "unevaluatedItems": "use items, beside no other keyword that looks at the same array",
    "unevaluatedProperties": "use additionalProperties, beside no $ref, allOf, anyOf or oneOf",
    "$dynamicRef": "use $ref",
    "$recursiveRef": "use $ref",
    "contentEncoding": "use pattern for the letters it allows",
    "contentMediaType": "a mask cannot read what the text holds",
    "contentSchema": "a mask cannot read what the text holds",
    "$vocabulary": "it belongs in a schema of schemas",
    "x-guidance": "it would switch checks off",
    "nullable": 'use type: ["…", "null"]',
}


def lower(schema: Any) -> Any:
    """The schema as llguidance should read it. Raises UsageError, which names the keyword and its place."""
    lowering = _Lowering(schema)
    result = lowering.schema(schema, "#", 0)
    lowering.finish()
    if isinstance(result, bool):
        result = {} if result else refuse("#", "false", "it allows nothing")
    result = dict(result)
    if lowering.definitions:
        result["$defs"] = lowering.definitions
    _refuse_endless(result)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **result}


class _Lowering:
    """One schema on its way: its draft, the references met, and what it has asked for in all."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.draft = 2020
        if isinstance(root, dict) and "$schema" in root:
            named = root["$schema"]
            self.draft = DRAFTS.get(named.rstrip("#") if isinstance(named, str) else "", 0)
            if not self.draft:
                refuse("#", "$schema", f"{shown(named)} is not one of the drafts 6, 7, 2019-09 and 2020-12")
        self.definitions: dict[str, Any] = {}
        self.names: dict[str, str] = {}  # a reference's target → its name in `definitions`
        self.in_place: dict[str, set[str]] = {}  # a target → the targets that it stands for at once
        self.schemas = self.counted = 0
        self.multiples: list[Any] = []

    def finish(self) -> None:
        """What can only be said of the whole."""
        check_multiples(self.multiples)
        try:
            TopologicalSorter(self.in_place).prepare()
        except CycleError as error:
            refuse(error.args[1][0], "$ref", "it leads back to itself without an object or array between")

    def schema(self, node: Any, path: str, depth: int, inside: str = "#") -> Any:
        """One schema rewritten. `inside` is the target that it belongs to without a step into a value."""
        if isinstance(node, bool):
            return node
        if not isinstance(node, dict):
            refuse(path, shown(node), "a schema must be an object, true or false")
        self.schemas += 1
        if self.schemas > MOST_SCHEMAS:
            refuse(path, "schema", f"a mask may use {MOST_SCHEMAS:,} schemas in all, no more")
        if depth > DEEPEST:
            refuse(path, "schema", f"schemas and references may lead {DEEPEST} deep, no more; flatten them")
        self._check_keywords(node, path)
        simple: dict[str, Any] = {}
        if "type" in node:
            simple["type"] = self._types(node["type"], path)
        extra = self._string(node, path, simple)
        self._number(node, path, simple)
        self._array(node, path, depth, simple)
        self._object(node, path, depth, simple)
        if "const" in node:
            simple["const"] = check_constant(node["const"], path)
        if "enum" in node:
            if not isinstance(node["enum"], list) or not node["enum"]:
                refuse(path, "enum", "it must be a list of at least one value")
            simple["enum"] = [check_constant(value, path) for value in node["enum"]]
        if "$ref" in node:
            simple["$ref"] = self._reference(node, path, depth, inside)
        for keyword in ("allOf", "anyOf", "oneOf"):
            options = node.get(keyword)
            if keyword in node:
                if not isinstance(options, list) or not options:
                    refuse(path, keyword, "it must be a list of at least one schema")
                simple[keyword] = [
                    self.schema(option, f"{path}/{keyword}/{place}", depth + 1, inside)
                    for place, option in enumerate(options)
                ]
        if extra:
            simple["allOf"] = [*extra, *simple.get("allOf", [])]
        return simple

    def _check_keywords(self, node: dict[str, Any], path: str) -> None:
        """Refuse every keyword that would be ignored."""
        for keyword in node:
            if keyword in _ANNOTATIONS or keyword in _KEYWORDS:
                continue
            if keyword.startswith("x-") and keyword != "x-guidance":
                continue
            if keyword in _UNHELD:
                if self._is_held(keyword, node, self.draft):
                    continue
                refuse(path, keyword, _UNHELD[keyword])
            refuse(path, keyword, "it is no keyword of JSON Schema that a mask knows; is it spelled right?")
        if path != "#" and ("$id" in node or "$schema" in node):
            refuse(path, "$id", "a schema with its own name or draft may not stand within another")
        if "$ref" in node and self.draft < 2019:
            beside = [key for key in node if key != "$ref" and (key in _KEYWORDS or key in _UNHELD)]
            if beside:
                refuse(
                    path, beside[0], "beside $ref it means nothing before draft 2019-09; put both in allOf"
                )
        new = [key for key in ("prefixItems",) if key in node and self.draft < 2020]
        old = [key for key in ("additionalItems",) if key in node and self.draft >= 2020]
        for keyword in new + old:
            refuse(
                path, keyword, f"draft {self.draft} does not know it; set $schema to the draft that is meant"
            )

    @staticmethod
    def _is_held(keyword: str, node: dict[str, Any], draft: int) -> bool:
        """Whether a keyword that cannot be held in general asks for nothing here, or for what can be."""
        if keyword == "uniqueItems":
            return node[keyword] is False
        if keyword == "if":
            return "then" not in node and "else" not in node
        if keyword in ("then", "else"):
            return "if" not in node
        if keyword in ("minContains", "maxContains"):
            return "contains" not in node
        if keyword in ("unevaluatedProperties", "unevaluatedItems"):  # alone, it is what `additional…` says
            return node[keyword] is True or (
                draft >= 2019 and not any(key in node for key in ("$ref", "allOf", "anyOf", "oneOf", "if"))
            )
        return keyword in ("dependentRequired", "dependencies", "dependentSchemas") and node[keyword] == {}

    def _types(self, types: Any, path: str) -> Any:
        for name in types if isinstance(types, list) else [types]:
            if name not in _TYPES:
                refuse(path, "type", f"{shown(name)} is none of {', '.join(_TYPES)}")
        if types == []:
            refuse(path, "type", "the list is empty, so nothing is allowed")
        # An integer is a number too, so both say no more than "number".
        if isinstance(types, list):
            return [name for name in dict.fromkeys(types) if name != "integer" or "number" not in types]
        return types

    def _string(self, node: dict[str, Any], path: str, simple: dict[str, Any]) -> list[dict[str, Any]]:
        """Lengths and pattern into `simple`; gives what must stand in an allOf beside."""
        for keyword in ("minLength", "maxLength"):
            if keyword in node:
                simple[keyword] = count(node[keyword], path, keyword, 1_000_000)
        if "pattern" in node:
            simple["pattern"] = self._pattern(node["pattern"], path, "pattern")
        if "format" not in node:
            return []
        if not isinstance(node["format"], str) or node["format"] not in FORMATS:
            known = ", ".join(FORMATS)
            refuse(
                path, "format", f"{shown(node['format'])} is none that a mask holds ({known}); use pattern"
            )
        pattern, longest = FORMATS[node["format"]]
        written = {"pattern": self._pattern(pattern, path, "format")}
        return [written if longest is None else {**written, "maxLength": longest}]

    @staticmethod
    def _pattern(pattern: Any, path: str, keyword: str) -> str:
        if not isinstance(pattern, str):
            refuse(path, keyword, "a pattern must be text")
        what = f"The JSON schema's `{keyword}` at {path}"
        return f"^{search_match(pattern, what)}$"

    def _number(self, node: dict[str, Any], path: str, simple: dict[str, Any]) -> None:
        for keyword in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"):
            if keyword in node:
                simple[keyword] = number(node[keyword], path, keyword)
        if "multipleOf" in simple:
            self.multiples.append(simple["multipleOf"])
            if simple["multipleOf"] <= 0:
                refuse(path, "multipleOf", "it must be above 0")

    def _array(self, node: dict[str, Any], path: str, depth: int, simple: dict[str, Any]) -> None:
        for keyword in ("minItems", "maxItems"):
            if keyword in node:
                simple[keyword] = count(node[keyword], path, keyword, MOST_ITEMS)
                self.counted += simple[keyword]
                if self.counted > MOST_COUNTED:
                    refuse(path, keyword, f"all counts of items together may be {MOST_COUNTED:,}, no more")
        first, rest = node.get("prefixItems"), node.get("items")
        where = ("prefixItems", "items")
        if isinstance(rest, list):
            if self.draft >= 2020:
                refuse(path, "items", "a list is no schema since draft 2020-12; use prefixItems")
            first, rest = rest, node.get("additionalItems")
            where = ("items", "additionalItems")
        if rest is None and node.get("unevaluatedItems", True) is not True:
            rest = node["unevaluatedItems"]
            where = (where[0], "unevaluatedItems")
        if first is not None:
            if not isinstance(first, list) or not first:
                refuse(path, where[0], "it must be a list of at least one schema")
            simple["prefixItems"] = [
                self.schema(item, f"{path}/{where[0]}/{place}", depth + 1, "")
                for place, item in enumerate(first)
            ]
        if rest is not None:
            simple["items"] = self.schema(rest, f"{path}/{where[1]}", depth + 1, "")

    def _object(self, node: dict[str, Any], path: str, depth: int, simple: dict[str, Any]) -> None:
        for keyword in ("properties", "patternProperties"):
            if keyword not in node:
                continue
            named = node[keyword]
            if not isinstance(named, dict):
                refuse(path, keyword, "it must be an object of schemas")
            if len(named) > MOST_PROPERTIES:
                refuse(path, keyword, f"an object may name {MOST_PROPERTIES:,}, no more")
            write: Callable[[str], str] = (
                (lambda name: check_name(name, path))
                if keyword == "properties"
                else (lambda name: self._pattern(name, path, "patternProperties"))
            )
            lowered: dict[str, Any] = {}
            for name, value in named.items():
                written = write(name)
                if written in lowered:
                    refuse(path, keyword, f"{shown(name)} says the same as one before it")
                lowered[written] = self.schema(value, f"{path}/{keyword}/{name}", depth + 1, "")
            simple[keyword] = lowered
        rest = next((key for key in ("additionalProperties", "unevaluatedProperties") if key in node), None)
        if rest is not None:
            simple["additionalProperties"] = self.schema(node[rest], f"{path}/{rest}", depth + 1, "")
        required = node.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            refuse(path, "required", "it must be a list of names")
        if required:
            simple["required"] = [check_name(name, path) for name in dict.fromkeys(required)]
        for keyword in ("minProperties", "maxProperties"):
            if keyword in node:
                simple[keyword] = count(node[keyword], path, keyword, MOST_PROPERTIES)
        if simple.get("minProperties", 0) > len(simple.get("required", ())) + 1:
            refuse(
                path, "minProperties", "one name could be written twice to reach it; name them in required"
            )

    def _reference(self, node: dict[str, Any], path: str, depth: int, inside: str) -> str:
        reference = node["$ref"]
        target = self._target(reference, path)
        if inside:
            self.in_place.setdefault(inside, set()).add(reference)
        if reference not in self.names:
            name = self.names[reference] = f"d{len(self.names)}"
            self.definitions[name] = True  # holds its place while it is rewritten
            self.definitions[name] = self.schema(target, reference, depth + 1, reference)
        return f"#/$defs/{self.names[reference]}"

    def _target(self, reference: Any, path: str) -> Any:
        """What a reference points at, within this schema. JSON Pointer (RFC 6901) in a URL's fragment."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            refuse(path, "$ref", f"{shown(reference)} is not within this schema; use #/$defs/…")
        from urllib.parse import unquote

        target = self.root
        for step, part in enumerate(reference.split("/")[1:]):
            part = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(target, dict) and step and ("$id" in target or "$schema" in target):
                refuse(
                    path, "$ref", f"{shown(reference)} leads through a schema with a name of its own ($id)"
                )
            if isinstance(target, dict) and part in target:
                target = target[part]
            elif isinstance(target, list) and part.isdecimal() and int(part) < len(target):
                target = target[int(part)]
            else:
                refuse(path, "$ref", f"{shown(reference)} is not in this schema")
        return target


def _refuse_endless(root: dict[str, Any]) -> None:
    """Refuse a schema whose every value holds another of its kind: it would never end."""
    definitions = root.get("$defs", {})
    ending: set[str] = set()

    def ends(node: Any) -> bool:
        if isinstance(node, bool):
            return node
        if "$ref" in node and node["$ref"].removeprefix("#/$defs/") not in ending:
            return False
        if not all(map(ends, node.get("allOf", ()))):
            return False
        if any(key in node and not any(map(ends, node[key])) for key in ("anyOf", "oneOf")):
            return False
        types = node.get("type", "any")
        if types == "object" or types == ["object"]:
            return all(ends(_property(node, name)) for name in node.get("required", ()))
        if types == "array" or types == ["array"]:
            items = [*node.get("prefixItems", ()), node.get("items", True)]
            return all(map(ends, items[: node.get("minItems", 0)]))
        return True

    known = -1
    while len(ending) > known:
        known = len(ending)
        for name, node in definitions.items():
            if name not in ending and ends(node):
                ending.add(name)
    if not ends(root):
        refuse("#", "$ref", "every value would hold another one like it, without end, or nothing is allowed")


def _property(node: dict[str, Any], name: str) -> Any:
    properties = node.get("properties", {})
    if name in properties:
        return properties[name]
    return True if node.get("patternProperties") else node.get("additionalProperties", True)
