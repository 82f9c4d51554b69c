"""Chat templates of others, run with suspicion: Jinja in its sandbox, with bounded time, memory and output.

A template comes with a model from a stranger. Jinja's immutable sandbox keeps it from the program; what it
leaves open is work without end: ranges in ranges, texts that double, numbers with millions of digits. So every
turn of a loop, call, filter, join and sum is counted before it is done, and so are the characters it makes.
The functions and the settings of whitespace are those of `transformers`, for which templates are written.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from itertools import islice
from typing import Any

from jinja2 import TemplateError, nodes, pass_context
from jinja2.ext import Extension, loopcontrols
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError
from jinja2.utils import Namespace

from twofold.errors import DataError

LONGEST_TEMPLATE = 1 << 18  # characters; the longest in use have about 20,000
SECONDS = 5.0
_MOST_STEPS = 2_000_000
_CHARACTERS = 1 << 23  # that may be made, beside 64 times those of the conversation
_MOST_PARTS = 100_000  # of a list of lists of lists, all told
_MOST_BITS = 4_096  # of a number
_WIDEST = 1_000
# Around what {% generation %} marks; these two are no characters, and no text that comes in holds them.
BEGIN_ANSWER, END_ANSWER = "\U0010fffe", "\U0010ffff"

_TEXT_METHODS = (
    "capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit islower isnumeric isspace "
    "istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit "
    "rstrip split splitlines startswith strip swapcase title upper"
)
_METHODS = (
    (str, frozenset(_TEXT_METHODS.split())),
    (Mapping, frozenset(("get", "items", "keys", "values"))),
    ((list, tuple), frozenset(("count", "index"))),
)
# Not those that make much of little (batch, center, format, slice, …), nor those for pages of HTML.
_FILTERS = (
    "abs capitalize count d default dictsort e escape first float groupby int items last length list lower map max min "
    "reject rejectattr reverse safe select selectattr sort title trim unique upper wordcount"
)


class _TooMuch(Exception):
    """The template's work has no end, or too late a one."""


class _Work:
    """What a template may still do."""

    def __init__(self, given: int) -> None:
        self.steps = _MOST_STEPS
        self.longest = _CHARACTERS + 4 * given
        self.characters = 8 * _CHARACTERS + 64 * given
        self.until = time.monotonic() + SECONDS

    def spend(self, steps: int = 1, characters: int = 0) -> None:
        """Raise _TooMuch if that is more than is left."""
        self.steps -= steps
        self.characters -= characters
        if characters > self.longest or self.characters < 0:
            raise _TooMuch("it makes a text that is far too long")
        if self.steps < 0 or time.monotonic() > self.until:
            raise _TooMuch("it goes on and on")


_WORK: ContextVar[_Work] = ContextVar("work")


def _spend(steps: int = 1, characters: int = 0) -> None:
    _WORK.get().spend(steps, characters)


def _size(value: Any) -> int:
    """Characters of a value as text, about; every part of a list of lists counts as often as it is in it."""
    size, stack, parts = 0, [value], 0
    while stack:
        found = stack.pop()
        parts += 1
        if parts > _MOST_PARTS:
            raise _TooMuch("it makes a list that is far too long")
        if isinstance(found, str):
            size += len(found)
        elif isinstance(found, Mapping):
            stack += [*found.keys(), *found.values()]
        elif isinstance(found, list | tuple | set):
            stack += islice(found, _MOST_PARTS)
        else:
            size += 8
    _spend(parts)
    return size


def _made(value: Any) -> Any:
    """A list, tuple or mapping that the template makes, if it is not too large."""
    _size(value)
    return value


def _counted(values: Any) -> Any:
    """What a loop goes over, each item counted; what has no length is put into a list."""
    if isinstance(values, Undefined):
        return values
    if not hasattr(values, "__len__"):
        values = list(islice(values, _MOST_PARTS + 1))
        if len(values) > _MOST_PARTS:
            raise _TooMuch("it goes over far too many things")
    _spend(len(values) + 1)
    return values


@pass_context  # or Jinja would do it once, when it compiles
def _spent(context: Any, text: str, characters: int) -> str:
    """Nothing; the template's own text in a loop is counted."""
    _spend(1, characters)
    return text


def _join(values: Any, between: str = "", attribute: Any = None) -> str:
    values = _counted(values)
    if attribute is not None:
        values = [
            value[attribute] if isinstance(value, Mapping) else getattr(value, attribute, "")
            for value in values
        ]
    parts = [value if isinstance(value, str) else _text(value) for value in values]
    _spend(1, sum(map(len, parts)) + len(str(between)) * len(parts))
    return str(between).join(parts)


def _text(value: Any) -> str:
    _spend(1, _size(value))
    return str(value)


def _replace(text: Any, old: str, new: str, count: int = -1) -> str:
    text, old, new = _text(text), str(old), str(new)
    times = text.count(old) if old else len(text) + 1
    _spend(1, len(text) + (times if count is None or count < 0 else min(times, count)) * len(new))
    return text.replace(old, new, -1 if count is None else count)


def _indent(text: Any, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    text = _text(text)
    space = width if isinstance(width, str) else " " * min(int(width), _WIDEST)
    lines = text.split("\n")
    _spend(len(lines), len(text) + len(lines) * len(space))
    put = [space + line if (place or first) and (line or blank) else line for place, line in enumerate(lines)]
    return "\n".join(put)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: Any = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    _spend(
        1, 8 * _size(value) * (1 + (min(indent, _WIDEST) if isinstance(indent, int) else len(indent or "")))
    )
    if isinstance(indent, int) and indent > _WIDEST:
        raise _TooMuch("it indents by far too much")
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _sum(values: Any, attribute: Any = None, start: float = 0) -> Any:
    total = start
    for value in _counted(values):
        number = value[attribute] if attribute is not None else value
        if not isinstance(number, int | float) or not isinstance(total, int | float):
            raise TemplateError("only numbers can be summed")
        total += number
    return total


def _round(value: float, precision: int = 0, method: str = "common") -> float:
    if not 0 <= precision <= 20 or method != "common":
        raise TemplateError("numbers are rounded to at most 20 places")
    return round(float(value), precision)


def _raise(message: Any) -> None:
    raise TemplateError(str(message)[:2000])


def _now(form: str) -> str:
    if len(form) > 200 or re.search(r"%[^a-zA-Z%]", form):
        raise TemplateError("a form of time that is not known")
    return datetime.now().strftime(form)


def _dict(*parts: Any, **named: Any) -> dict:
    return _made(dict(*parts, **named))


class _Names(Namespace):
    """A namespace without names that begin with an underscore."""

    def __setitem__(self, name: str, value: Any) -> None:
        if str(name).startswith("_"):
            raise SecurityError("names that begin with an underscore are not for templates")
        super().__setitem__(name, value)


class _Generation(Extension):
    """{% generation %}…{% endgeneration %} around what the assistant says."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Any) -> nodes.Node:
        """The marks, and what stands between them."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        begin, end = (nodes.Output([nodes.TemplateData(mark)]) for mark in (BEGIN_ANSWER, END_ANSWER))
        return nodes.Scope([begin, *body, end]).set_lineno(line)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def wrap_str_format(self, value: Any) -> None:
        """Texts are not formatted: a form of ten letters can ask for a gigabyte of spaces."""

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, allowed in _METHODS:
            if isinstance(obj, kind):
                return attr in allowed
        if isinstance(obj, int | float | bytes | range | type) or obj is None:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call(self, context: Any, obj: Any, /, *values: Any, **named: Any) -> Any:
        _spend()
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name in ("join", "replace"):
            named = {key: value for key, value in named.items() if not key.startswith("_")}  # Jinja's own
        if isinstance(owner, str):
            if name == "join":
                return _join(*values, owner, **named)
            if name == "replace":
                return _replace(owner, *values, **named)
            _spend(1, len(owner))
        return super().call(context, obj, *values, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        rows = (str, list, tuple)
        if operator == "+" and isinstance(left, rows) and isinstance(right, rows):
            _spend(1, len(left) + len(right))
        elif operator == "*" and (isinstance(left, rows) or isinstance(right, rows)):
            row, times = (left, right) if isinstance(left, rows) else (right, left)
            _spend(1, len(row) * max(0, times) if isinstance(times, int) else 0)
        elif operator == "%" and isinstance(left, str):
            if re.search(r"\d{4}|\*", left):
                raise _TooMuch("it makes a text that is far too long")
            _spend(1, len(left) + _size(right))
        elif all(isinstance(value, int) for value in (left, right)):
            bits = left.bit_length()
            bits = bits * max(1, abs(right)) if operator == "**" else bits + right.bit_length()
            if bits > _MOST_BITS:
                raise _TooMuch("it makes a number that is far too large")
            _spend()
        result = super().call_binop(context, operator, left, right)
        return _made(result) if isinstance(result, list | tuple) else result


def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[_Generation, loopcontrols],
        optimized=False,
        finalize=lambda value: value if isinstance(value, Undefined) or value is None else _shown(value),
        cache_size=0,
    )
    environment.filters = {name: _watched(environment.filters[name]) for name in _FILTERS.split()}
    environment.filters |= {
        "join": _join, "replace": _replace, "indent": _indent, "tojson": _to_json, "sum": _sum, "round": _round,
        "_made": _made, "_counted": _counted, "_spent": _spent, "_join": _join, "string": _text,
    }  # fmt: skip
    environment.globals = {
        "range": environment.globals["range"], "dict": _dict, "namespace": _Names, "raise_exception": _raise,
        "strftime_now": _now,
    }  # fmt: skip
    return environment


def _shown(value: Any) -> Any:
    _spend(1, len(value) if isinstance(value, str) else _size(value))
    return value


def _watched(work: Any) -> Any:
    """A filter of Jinja's whose work is counted, with the marks by which Jinja knows what to pass to it."""

    def watched(*values: Any, **named: Any) -> Any:
        for value in values:
            if isinstance(value, str | list | tuple | dict | range):
                _spend(1 + len(value) // 16, 0)
        return work(*values, **named)

    watched.__dict__.update(getattr(work, "__dict__", {}))
    return watched


def _counting(tree: nodes.Template) -> nodes.Template:
    """The same template, that counts what it does."""
    for node in list(tree.find_all((nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block))):
        own_text = sum(len(data.data) for child in node.body for data in _texts(child))
        spent = nodes.Filter(nodes.Const(""), "_spent", [nodes.Const(own_text)], [], None, None)
        node.body = [nodes.Output([spent]), *node.body]
        if isinstance(node, nodes.For):
            node.iter = nodes.Filter(node.iter, "_counted", [], [], None, None)
    _replace_below(tree)
    return tree


def _texts(node: nodes.Node) -> list[nodes.TemplateData]:
    found = list(node.find_all(nodes.TemplateData))
    return [*found, node] if isinstance(node, nodes.TemplateData) else found


def _replace_below(tree: nodes.Node) -> None:
    """Lists that are made, and `~`, become filters that count."""
    stack = [tree]
    while stack:
        node = stack.pop()
        stack += node.iter_child_nodes()
        for name, value in node.iter_fields():
            if isinstance(value, nodes.Node):
                setattr(node, name, _replaced(value))
            elif isinstance(value, list):
                value[:] = [_replaced(item) if isinstance(item, nodes.Node) else item for item in value]


def _replaced(node: nodes.Node) -> nodes.Node:
    is_made = isinstance(node, nodes.List | nodes.Dict) or (
        isinstance(node, nodes.Tuple) and node.ctx == "load"
    )
    if isinstance(node, nodes.Concat):
        return nodes.Filter(nodes.List(node.nodes), "_join", [], [], None, None, lineno=node.lineno)
    if is_made:
        return nodes.Filter(node, "_made", [], [], None, None, lineno=node.lineno)
    return node


class Template:
    """A template, compiled. Safe to share between threads. Raises DataError for one that is none."""

    def __init__(self, source: str) -> None:
        if len(source) > LONGEST_TEMPLATE:
            raise DataError(
                f"The chat template has {len(source):,} characters; at most {LONGEST_TEMPLATE:,} are read."
            )
        token = _WORK.set(_Work(0))
        try:
            environment = _environment()
            tree = environment.parse(source)
            self.literals = tuple(
                {data.data for data in tree.find_all(nodes.TemplateData)}
                | {const.value for const in tree.find_all(nodes.Const) if isinstance(const.value, str)}
            )
            code = environment.compile(_counting(tree).set_environment(environment))
            self._template = environment.template_class.from_code(environment, code, environment.globals)
        except (TemplateError, _TooMuch, RecursionError, SyntaxError, MemoryError, ValueError) as error:
            raise DataError(f"The model's chat template cannot be read: {str(error)[:300]}.") from None
        finally:
            _WORK.reset(token)

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text that it makes of JSON-like `variables`. Raises DataError with what the template itself says
        against them, or where it fails or would not end."""
        token = _WORK.set(work := _Work(_given(variables)))
        parts: list[str] = []
        try:
            for part in self._template.generate(**variables):
                parts.append(part)
                work.spend(1, len(part))
        except TemplateError as error:
            raise DataError(f"The model's chat template says: {str(error)[:2000]}") from None
        except (_TooMuch, RecursionError, MemoryError, OverflowError) as error:
            reason = (
                str(error) if isinstance(error, _TooMuch | OverflowError) else "it calls itself without end"
            )
            raise DataError(f"The model's chat template was stopped: {reason}.") from None
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DataError(f"The model's chat template fails: {str(error)[:300]}.") from None
        finally:
            _WORK.reset(token)
        return "".join(parts)


def _given(variables: Mapping[str, Any]) -> int:
    """Characters in what is given, about."""
    size, stack = 0, [variables]
    while stack:
        found = stack.pop()
        if isinstance(found, str):
            size += len(found)
        elif isinstance(found, Mapping):
            stack += found.values()
        elif isinstance(found, list | tuple):
            stack += found
        else:
            size += 1
    return size
