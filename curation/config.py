"""The settings of a curation: one YAML file, checked to the line.

.. code-block:: yaml

    seed: 0
    stages: [probe, shots, motion, person, windows]
    motion:
      min: 0.002
    encode:
      crf: 20

There is one section for each stage (the fields of its frozen config dataclass), one for ``encode`` and one for
``splits``; what is left out has its default. A mistake is an error that names file, line and field, what was given and
what is allowed.

Fields have a *scope*, the entry ``scope`` of their metadata: ``clips`` (the default: the field decides what is in a
clip), ``tables`` (it decides what is written about clips) or ``run`` (it decides nothing of the data set).
`CurateConfig.clips_hash` covers the first, `CurateConfig.hash` the first two.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from macebench import registry
from macebench.curation._ranges import FROM_ZERO, check_ranges
from macebench.curation._yaml import Located, parse_value, parse_yaml
from macebench.curation.cut import EncodeConfig
from macebench.curation.render import RenderConfig
from macebench.curation.splits import SplitConfig
from macebench.curation.stage import ObservingStage
from macebench.errors import UserError
from macebench.protocol import canonical_json

DEFAULT_STAGES = ("probe", "shots", "motion", "person", "windows")
VERSION = 2
"""Raised when the pipeline makes other clips of the same settings."""
_TABLES, _RUN = {"scope": "tables"}, {"scope": "run"}
_HINT = "`macebench curate --print-config` prints every setting with its meaning."
_DOCUMENTED = re.compile(r"(\w[\w, ]*): (.*)")


@dataclass(frozen=True)
class GeneralConfig:
    """Settings of the whole run.

    Attributes:
        seed: Seed of every stage and of the splits where their section names none.
        max_side: Pixels of the longer side of the pictures that the stages see; larger ones are made smaller.
        genre: Genre of sources whose table names none.
        licence: Licence of sources whose table names none.
        consent: Consent basis of sources whose table names none.
        pairing: How music and dance belong together where the table does not say: original or edited.
        max_thumbnails: Thumbnails of kept clips at most, and as many of rejected spans.
        decode_s: Seconds that a decoder may keep us waiting for one source.
        decode_per_s: The same for each second of video, on top.
        source_s: Seconds that one source may take in all; after that its worker is ended.
        source_per_s: The same for each second of video, on top.
        gpus: Share of a GPU that one worker needs on a Ray cluster.
    """

    seed: int = 0
    max_side: int = 640
    genre: str = field(default="unknown", metadata=_TABLES)
    licence: str = field(default="unknown", metadata=_TABLES)
    consent: str = field(default="unknown", metadata=_TABLES)
    pairing: str = field(default="original", metadata=_TABLES)
    max_thumbnails: int = field(default=120, metadata=_TABLES)
    decode_s: float = field(default=120.0, metadata=_RUN)
    decode_per_s: float = field(default=4.0, metadata=_RUN)
    source_s: float = field(default=900.0, metadata=_RUN)
    source_per_s: float = field(default=60.0, metadata=_RUN)
    gpus: float = field(default=0.0, metadata=_RUN)

    def __post_init__(self) -> None:
        ranges = {"seed": FROM_ZERO, "max_side": (64, math.inf), "max_thumbnails": FROM_ZERO, "gpus": FROM_ZERO}
        check_ranges("", self, ranges)
        for name in ("decode_s", "decode_per_s", "source_s", "source_per_s"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name} is {getattr(self, name):g}, allowed is above 0.")


@dataclass(frozen=True)
class CurateConfig:
    """All settings.

    Attributes:
        general: Settings of the whole run.
        stages: Names of the stages in order.
        sections: Stage -> its frozen config; None for a stage without settings.
        encode: How clips are cut and encoded (`macebench.curation.cut.EncodeConfig`).
        splits: How clips are divided (`macebench.curation.splits`).
        render: How motions are drawn (`macebench.curation.render.RenderConfig`); decides what the sources are, and is
            part of no hash here.
    """

    general: GeneralConfig
    stages: tuple[str, ...]
    sections: Mapping[str, Any]
    encode: EncodeConfig
    splits: SplitConfig
    render: RenderConfig

    def plain(self, scopes: Iterable[str] = ("clips", "tables", "run")) -> dict[str, Any]:
        """JSON values: what `config_from_plain` takes. Only fields of these scopes."""
        wanted = frozenset(scopes)
        values = _plain(self.general, wanted) | {"stages": list(self.stages)}
        for name in self.stages:
            if self.sections[name] is not None:
                values[name] = _plain(self.sections[name], wanted)
        values["encode"] = _plain(self.encode, wanted)
        if "tables" in wanted:
            values["splits"] = _plain(self.splits, wanted)
        if "run" in wanted:
            values["render"] = _plain(self.render, frozenset({"clips", "run"}))
        return values

    @cached_property
    def clips_hash(self) -> str:
        """SHA-256 of what decides clips: settings, stages' code, version of the pipeline."""
        import macebench

        code = {made.name: _code(made) for made in self.make_stages()}
        made = {"version": VERSION, "macebench": macebench.__version__, "code": code, "config": self.plain(("clips",))}
        return _sha256(made)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of what decides the data set."""
        return _sha256({"clips": self.clips_hash, "config": self.plain(("clips", "tables"))})

    @cached_property
    def encode_hash(self) -> str:
        """SHA-256 of what decides a clip of given start and end."""
        return _sha256({"version": VERSION, "encode": _plain(self.encode, frozenset({"clips"}))})

    def make_stages(self) -> list[Any]:
        """The stages with their settings."""
        made = []
        for name in self.stages:
            config = self.sections[name]
            found = registry.get("stages", name)
            made.append(found() if config is None else found(config))
        return made


def load_config(path: Path | None = None, changes: Sequence[str] = ()) -> CurateConfig:
    """Settings from a YAML file and changes to it.

    Args:
        path: The file, or None for the defaults.
        changes: ``section.field=value`` or ``field=value``; the value is YAML.

    Raises:
        UserError: the first mistake, with file, line and field.
    """
    located = Located({}, {}, "settings")
    if path is not None:
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"config {path} cannot be read: {error}.", hint=_HINT) from error
        located = parse_yaml(text, str(path))
    return build_config(with_changes(located, changes))


def config_from_plain(values: Mapping[str, Any], changes: Sequence[str] = ()) -> CurateConfig:
    """Settings that `CurateConfig.plain` returned, with changes as in `load_config`."""
    return build_config(with_changes(Located(dict(values), {}, "settings"), changes))


def with_changes(located: Located, changes: Sequence[str]) -> Located:
    """Values with ``section.field=value`` put over them."""
    values: dict[str, Any] = {
        key: dict(value) if isinstance(value, dict) else value for key, value in located.values.items()
    }
    places = dict(located.places)
    for change in changes:
        name, equals, text = change.partition("=")
        keys = tuple(name.strip().split("."))
        if not equals or not all(keys) or len(keys) > 2:
            raise UserError(f"--set {change!r} is not section.field=value.", hint=_HINT)
        places[keys] = f"--set {change}"
        if len(keys) == 1:
            values[keys[0]] = parse_value(text)
            continue
        section = values.setdefault(keys[0], {})
        if not isinstance(section, dict):
            raise UserError(f"--set {change!r}: {keys[0]} is no section.", hint=_HINT)
        section[keys[1]] = parse_value(text)
    return Located(values, places, located.name)


def build_config(located: Located) -> CurateConfig:
    """Checked settings. Raises `UserError` with the place of the first mistake."""
    stages = _stages(located)
    types = {"encode": EncodeConfig, "splits": SplitConfig, "render": RenderConfig}
    _check_names(located, stages, types)
    top = {f.name for f in dataclasses.fields(GeneralConfig)}
    general = _build(GeneralConfig, {k: v for k, v in located.values.items() if k in top}, located, ())
    sections: dict[str, Any] = {}
    for name in stages:
        kind = config_type(name)
        sections[name] = None if kind is None else _section(name, kind, located, general.seed)
        if kind is None and name in located.values:
            raise located.error((name,), f"stage {name} has no settings.", _HINT)
    made = {name: _section(name, kind, located, general.seed) for name, kind in types.items()}
    return CurateConfig(general, stages, sections, made["encode"], made["splits"], made["render"])


def config_type(stage: str) -> type[Any] | None:
    """The config dataclass of a registered stage, or None."""
    config = registry.get("stages", stage)().config
    return type(config) if dataclasses.is_dataclass(config) and not isinstance(config, type) else None


def in_force(section: Any) -> dict[str, Any]:
    """Field -> the value that holds, of a section's dataclass.

    A field whose None stands for another value has that value here: the dataclass says so in its attribute
    ``in_force``, field -> value.
    """
    values = {} if section is None else _plain(section, frozenset({"clips", "tables", "run"}))
    return values | dict(getattr(section, "in_force", {}))


def _stages(located: Located) -> tuple[str, ...]:
    names = located.values.get("stages", list(DEFAULT_STAGES))
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise located.error(("stages",), f"stages is {names!r}; a list of names is allowed.", _HINT)
    for name in names:
        if name not in registry.names("stages"):
            error = registry.unknown("stage", name, registry.names("stages"), "macebench ls stages")
            raise located.error(("stages",), error.message, error.hint)
        if names.count(name) > 1:
            raise located.error(("stages",), f"stage {name} stands twice in stages.", _HINT)
    return tuple(names)


def _check_names(located: Located, stages: Sequence[str], types: Mapping[str, Any]) -> None:
    """Refuse a name at the top that is nothing."""
    fields = [f.name for f in dataclasses.fields(GeneralConfig)]
    known = [*fields, "stages", *types, *registry.names("stages")]
    for name in located.values:
        if name not in known:
            error = registry.unknown("setting", name, known, "macebench curate --print-config")
            raise located.error((name,), f"{error.message} Allowed are {', '.join([*fields, *stages, *types])}.", _HINT)


def _section(name: str, kind: type[Any], located: Located, seed: int) -> Any:
    values = located.values.get(name)
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise located.error((name,), f"{name} is {values!r}; a section with fields is allowed.", _HINT)
    if "seed" in {f.name for f in dataclasses.fields(kind)}:
        values = {"seed": seed, **values}
    return _build(kind, values, located, (name,))


def _build(kind: type[Any], values: Mapping[str, Any], located: Located, where: tuple[str, ...]) -> Any:
    """An instance of a dataclass from JSON values, strictly."""
    names = [f.name for f in dataclasses.fields(kind) if f.init]
    types = typing.get_type_hints(kind)
    for name in values:
        if name not in names:
            error = registry.unknown("field", name, names, "macebench curate --print-config")
            text = f"{'.'.join((*where, name))}: {error.message} Allowed are {', '.join(names)}."
            raise located.error((*where, name), text, _HINT)
    checked = {name: _checked(kind, types[name], name, value, located, where) for name, value in values.items()}
    try:
        return kind(**checked)
    except UserError as error:
        raise located.error(_blamed(error.message, values, where), error.message, error.hint) from error
    except ValueError as error:
        raise located.error(
            _blamed(str(error), values, where), f"{'.'.join(where) or 'settings'}: {error}.", _HINT
        ) from error


def _checked(
    kind: type[Any], wanted: Any, name: str, value: Any, located: Located, where: tuple[str, ...]
) -> Any:  # fmt: skip
    """A value of the type that the field says; nothing is converted but whole numbers to real ones."""
    from pydantic import TypeAdapter, ValidationError

    full, meaning = ".".join((*where, name)), field_docs(kind).get(name, "")
    hint = f"{full}: {meaning}" if meaning else _HINT
    try:
        return TypeAdapter(wanted).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = "; ".join(dict.fromkeys(item["msg"][:1].lower() + item["msg"][1:] for item in error.errors()))
        text = f"{full} is {json.dumps(value)}: {said}."
        raise located.error((*where, name), text, hint) from error
    except TypeError as error:
        raise located.error((*where, name), f"{full} is {value!r}: no plain value.", hint) from error


def _blamed(message: str, values: Mapping[str, Any], where: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the given fields a message names."""
    for name in values:
        if re.search(rf"\b{re.escape(name)}\b", message):
            return (*where, name)
    return where


def field_docs(kind: type[Any]) -> dict[str, str]:
    """What the docstring of a dataclass says of its fields, under ``Attributes:``."""
    _, _, text = (kind.__doc__ or "").partition("Attributes:\n")
    docs: dict[str, str] = {}
    names: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        found = _DOCUMENTED.fullmatch(stripped)
        if stripped and indent <= 8 and found:
            names = [name.strip() for name in found[1].split(",")]
            docs.update(dict.fromkeys(names, found[2]))
        elif stripped and indent > 8:
            docs.update({name: f"{docs[name]} {stripped}" for name in names})
        else:
            names = []
    return docs


def config_text(config: CurateConfig) -> str:
    """The settings as YAML with the meaning of each; `load_config` gives the same settings back."""
    lines = ["# Settings of macebench curate; what is left out has its default.", ""]
    lines += _lines(config.general, "")
    lines += ["", "# Names of the stages in order.", f"stages: [{', '.join(config.stages)}]"]
    parts = {**{name: config.sections[name] for name in config.stages}, "encode": config.encode}
    for name, section in {**parts, "splits": config.splits, "render": config.render}.items():
        if section is not None and dataclasses.fields(section):
            lines += ["", f"# {_first_line(section)}", f"{name}:", *_lines(section, "  ")]
    return "\n".join(lines) + "\n"


def _lines(section: Any, indent: str) -> Iterator[str]:
    docs = field_docs(type(section))
    for item in dataclasses.fields(section):
        if item.name in docs:
            yield f"{indent}# {docs[item.name]}"
        yield f"{indent}{item.name}: {json.dumps(_value(getattr(section, item.name)), ensure_ascii=True)}"


def _first_line(section: Any) -> str:
    return next(iter((type(section).__doc__ or "").strip().splitlines()), "")


def _plain(section: Any, scopes: frozenset[str]) -> dict[str, Any]:
    fields = dataclasses.fields(section)
    return {f.name: _value(getattr(section, f.name)) for f in fields if f.metadata.get("scope", "clips") in scopes}


def _value(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_value(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _code(stage: Any) -> dict[str, Any]:
    """What decides beside the settings: versions, the detector in use, the file of a stage that is not built in."""
    import inspect

    code: dict[str, Any] = {"version": getattr(stage, "version", 1)}
    if isinstance(stage, ObservingStage):
        code["observer"] = dict(stage.observer_settings())
    source = None if type(stage).__module__.startswith("macebench.") else inspect.getsourcefile(type(stage))
    if source:
        code["file"] = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return code
