"""Settings of a YAML file together with the line of each, so that a mistake can be named by its place."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from macebench.errors import UserError

Key = tuple[str, ...]


@dataclass(frozen=True)
class Located:
    """Values and where they stand.

    Attributes:
        values: The mapping at the top.
        places: Path of keys -> ``file, line 3`` or the option that set it.
        name: Of the whole, for a mistake without a place.
    """

    values: Mapping[str, Any]
    places: Mapping[Key, str]
    name: str

    def place(self, key: Key) -> str:
        """Where the value of `key` stands, or what is above it; the name of the whole where neither is known."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.places:
                return self.places[key[:length]]
        return self.name


def read_settings(path: Path, hint: str) -> Located:
    """The settings of a file.

    Raises:
        UserError: the file cannot be read, is no YAML or no mapping, or a key stands twice; with the line.
    """
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"config {path} cannot be read: {error}.", hint=hint) from error
    return parse_settings(text, str(path))


def parse_settings(text: str, name: str) -> Located:
    """The settings of a YAML text; errors as in `read_settings`."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        places = {} if node is None else dict(_places(node, (), name))
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{name}{line}: no YAML: {problem}.", hint="Check indentation, quotes and colons.") from error
    if not isinstance(values, dict | None):
        found = type(values).__name__
        raise UserError(f"{name}, line 1: settings are {found}, a mapping is allowed.", hint="Write `field: value`.")
    return Located(values or {}, places, name)


def _places(node: Any, above: Key, name: str) -> Iterator[tuple[Key, str]]:
    """The line of every key of nested mappings."""
    import yaml

    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key_node, value_node in node.value:
        key, place = str(key_node.value), f"{name}, line {key_node.start_mark.line + 1}"
        if key in seen:
            raise UserError(f"{place}: {'.'.join((*above, key))} stands twice.", hint="Remove one of the two.")
        seen.add(key)
        yield (*above, key), place
        yield from _places(value_node, (*above, key), name)


def with_changes(located: Located, changes: Sequence[str], hint: str) -> Located:
    """Settings with ``field=value`` or ``section.field=value`` put over them; the value is YAML.

    Raises:
        UserError: a change has another form, or names a section that is none.
    """
    values: dict[str, Any] = copy.deepcopy(dict(located.values))
    places = dict(located.places)
    for change in changes:
        name, equals, text = change.partition("=")
        keys = tuple(part.strip() for part in name.split("."))
        if not equals or not all(keys):
            raise UserError(f"--set {change!r} is not field=value.", hint=hint)
        holder = values
        for key in keys[:-1]:
            holder = holder.setdefault(key, {})
            if not isinstance(holder, dict):
                raise UserError(f"--set {change!r}: {key} has no fields.", hint=hint)
        holder[keys[-1]] = _value(text)
        places[keys] = f"--set {change}"
    return Located(values, places, located.name)


def _value(text: str) -> Any:
    """One value as YAML reads it; what is no YAML is text."""
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text
