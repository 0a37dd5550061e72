"""YAML that knows where each value stands.

Differs from PyYAML's safe loader in three ways: ``1e-3`` is a number, ``yes`` and ``on`` are text (as in YAML 1.2),
and a key that stands twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from macebench.errors import UserError

_FLOAT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_INTEGER = re.compile(r"[-+]?\d+")


@dataclass(frozen=True)
class Located:
    """Values and where they stand.

    Attributes:
        values: The mapping at the top.
        places: Path of keys -> ``file, line 3`` or the option that set it.
        name: Of the whole, for mistakes without a place.
    """

    values: Mapping[str, Any]
    places: Mapping[tuple[str, ...], str]
    name: str

    def error(self, path: tuple[str, ...], message: str, hint: str) -> UserError:
        """The error for a mistake at `path`, or at what is above it."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return UserError(f"{self.places[path[:length]]}: {message}", hint=hint)
        return UserError(f"{self.name}: {message}" if self.name != "settings" else message, hint=hint)


def parse_yaml(text: str, name: str) -> Located:
    """The mapping of a YAML text.

    Raises:
        UserError: no YAML, no mapping, or a key that stands twice; with the line.
    """
    import yaml

    try:
        loader = _loader(text)
        try:
            node = loader.get_single_node()
            places: dict[tuple[str, ...], str] = {}
            values = {} if node is None else _construct(loader, node, (), name, places)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{name}{line}: no YAML: {problem}.", hint="Check indentation, quotes and colons.") from error
    if not isinstance(values, dict):
        raise UserError(f"{name}, line 1: settings are {type(values).__name__}, a mapping is allowed.",
                        hint="Write `field: value` lines.")  # fmt: skip
    return Located(values, places, name)


def parse_value(text: str) -> Any:
    """One value as YAML reads it; what is no YAML is text."""
    import yaml

    loader = _loader(text)
    try:
        node = loader.get_single_node()
        return "" if node is None else loader.construct_document(node)
    except yaml.YAMLError:
        return text
    finally:
        loader.dispose()


def _construct(loader: Any, node: Any, path: tuple[str, ...], name: str, places: dict[tuple[str, ...], str]) -> Any:
    """The value of a node; mappings are walked to note their lines."""
    import yaml

    if not isinstance(node, yaml.MappingNode) or len(path) > 2:
        return loader.construct_object(node, deep=True)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = str(key_node.value)
        place = f"{name}, line {key_node.start_mark.line + 1}"
        if key in values:
            raise UserError(f"{place}: {'.'.join((*path, key))} stands twice.", hint="Remove one of the two.")
        places[(*path, key)] = place
        values[key] = _construct(loader, value_node, (*path, key), name, places)
    return values


def _loader(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML 1.2's numbers and booleans."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - overrides PyYAML's own
            first: [
                (tag, pattern)
                for tag, pattern in resolvers
                if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:int",
                               "tag:yaml.org,2002:timestamp")
            ]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }  # fmt: skip

    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(?:true|True|TRUE|false|False|FALSE)$"), None)
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"(?:{_INTEGER.pattern})$"), None)
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), None)
    return Loader(text)
