"""A minimal way to write HTML and SVG in which forgetting to escape is impossible.

`el` escapes every child and attribute value, unless the child is `Html`, which only this module's functions
return. Control and text direction characters become a replacement mark.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_SHORT = 8
_VOID = {"br", "col", "hr", "img", "input", "link", "meta"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def esc(text: object) -> Html:
    """`text` for HTML content and attributes; `Html` comes back as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_CONTROL.sub("\ufffd", str(text)), quote=True))


def el(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. ``class_`` gives ``class``, ``data_sort`` gives ``data-sort``; None and False are left out.

    Example:
        >>> el("p", "<b>", class_="x", hidden=True)
        '<p class="x" hidden>&lt;b&gt;</p>'
    """
    parts = [name]
    for key, value in attributes.items():
        attribute = key.rstrip("_").replace("_", "-")
        if not _NAME.fullmatch(attribute):
            raise ValueError(f"{key!r} is no attribute name")
        if value is True:
            parts.append(attribute)
        elif value is not None and value is not False:
            parts.append(f'{attribute}="{esc(value)}"')
    start = f"<{' '.join(parts)}>"
    return Html(start if name in _VOID else f"{start}{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts one after the other, each escaped unless it is `Html`."""
    return Html(str(esc(between)).join(esc(part) for part in parts if part is not None))


def breakable(name: str) -> Html:
    """A name that may be broken into lines after each underscore, unless it is short."""
    if len(name) <= _SHORT:
        return esc(name)
    return join(name.split("_"), Html("_<wbr>"))
