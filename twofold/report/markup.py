"""HTML that is escaped by construction.

Key idea: `tag` escapes every child and attribute that is not already `Markup`, and only `tag` and `raw` make
`Markup`. So text from a model reaches the page as text whatever is in it, and nobody has to remember.
"""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import Any

VOID = frozenset({"br", "hr", "input", "link", "meta", "wbr"})

# Controls are errors in HTML (or unseen): they are shown as the symbols U+2400… made for that. A lone half
# of a surrogate pair cannot be written as UTF-8.
_SHOWN = {c: 0x2400 + c for c in range(32) if c not in (9, 10)} | {127: 0x2421}
_SHOWN |= dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000), 0xFFFE, 0xFFFF], 0xFFFD)


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def raw(text: str) -> Markup:
    """Trust `text` as HTML. Only for what this package itself wrote."""
    return Markup(text)


def escape(text: Any) -> Markup:
    """Any value as HTML text, safe between tags and inside a quoted attribute."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(str(text).replace("\r\n", "\n").translate(_SHOWN), quote=True))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """`<name attributes>children</name>`.

    Children: Markup stays, None is left out, lists are joined, all else is escaped. Attributes: `class_` is
    class, `_` becomes `-`; None and False are left out, True is an attribute without a value.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(f" {key}" if value is True else f' {key}="{escape(value)}"')
    parts.append(">")
    if name not in VOID:
        parts.append(join(children))
        parts.append(f"</{name}>")
    return Markup("".join(parts))


def join(children: Iterable[Any]) -> Markup:
    """Children one after another, as `tag` treats them."""
    parts = []
    for child in children:
        if child is None:
            continue
        if isinstance(child, (list, tuple)) or (
            isinstance(child, Iterable) and not isinstance(child, (str, dict))
        ):
            parts.append(join(child))
        else:
            parts.append(escape(child))
    return Markup("".join(parts))
