"""One lazy registry for everything that can be added in one file.

A name is found, in this order: among what decorators registered in this process (also by
`--plugin file.py`), in the built-in tables ``name -> "module:attr"``, among the entry points
``macebench.metrics``, ``macebench.models`` and so on. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, TypeVar

from macebench.errors import DuplicateNameError, UnknownNameError, UserError
from macebench.types import Better

Group = Literal["metrics", "features", "statistics", "models", "datasets", "dances", "stages", "poses"]
T = TypeVar("T")
MAX_LISTED = 8
_PLUGIN = "macebench_plugin_"

BUILTIN: dict[str, dict[str, str]] = {
    "metrics": {
        "fid_k": "macebench.metrics.motion2d:fid_k",
        "fid_g": "macebench.metrics.motion2d:fid_g",
        "div_k": "macebench.metrics.motion2d:div_k",
        "div_g": "macebench.metrics.motion2d:div_g",
        "bas": "macebench.metrics.motion2d:bas",
        "kid_k_2d": "macebench.metrics.motion2d:kid_k_2d",
        "kid_g_2d": "macebench.metrics.motion2d:kid_g_2d",
        "fid_infinity_k_2d": "macebench.metrics.motion2d:fid_infinity_k_2d",
        "fid_infinity_g_2d": "macebench.metrics.motion2d:fid_infinity_g_2d",
        "fid_k_3d": "macebench.metrics.motion3d:fid_k_3d",
        "fid_g_3d": "macebench.metrics.motion3d:fid_g_3d",
        "div_k_3d": "macebench.metrics.motion3d:div_k_3d",
        "div_g_3d": "macebench.metrics.motion3d:div_g_3d",
        "kid_k_3d": "macebench.metrics.motion3d:kid_k_3d",
        "kid_g_3d": "macebench.metrics.motion3d:kid_g_3d",
        "fid_infinity_k_3d": "macebench.metrics.motion3d:fid_infinity_k_3d",
        "fid_infinity_g_3d": "macebench.metrics.motion3d:fid_infinity_g_3d",
        "bas_3d": "macebench.metrics.motion3d:bas_3d",
        "fsr_3d": "macebench.metrics.motion3d:fsr_3d",
        "pfc_3d": "macebench.metrics.motion3d:pfc_3d",
        "foot_contact_3d": "macebench.metrics.motion3d:foot_contact_3d",
        "activity_2d": "macebench.metrics.activity:activity_2d",
        "activity_3d": "macebench.metrics.activity:activity_3d",
        "temporal_flickering": "macebench.metrics.flicker:temporal_flickering",
        "imaging_quality": "macebench.metrics.vbench:imaging_quality",
        "aesthetic_quality": "macebench.metrics.vbench:aesthetic_quality",
        "subject_consistency": "macebench.metrics.vbench:subject_consistency",
        "background_consistency": "macebench.metrics.vbench:background_consistency",
        "motion_smoothness": "macebench.metrics.vbench:motion_smoothness",
        "ms_flow": "macebench.metrics.vbench:ms_flow",
        "dynamic_degree": "macebench.metrics.vbench:dynamic_degree",
        "identity_drift": "macebench.metrics.identity:identity_drift_score",
        "video_foot_slide": "macebench.metrics.video_feet:video_foot_slide",
        "psnr": "macebench.metrics.pixels:psnr_score",
        "ssim": "macebench.metrics.pixels:ssim_score",
        "l1": "macebench.metrics.pixels:l1_score",
        "lpips_alex": "macebench.metrics.pixels:lpips_alex",
        "lpips_vgg": "macebench.metrics.pixels:lpips_vgg",
        "fvd": "macebench.metrics.pixels:fvd_score",
        "fvd_infinity": "macebench.metrics.pixels:fvd_infinity_score",
    },
    "features": {
        "kinetic_2d": "macebench.metrics.motion2d:kinetic_2d",
        "geometric_2d": "macebench.metrics.motion2d:geometric_2d",
        "kinetic_3d": "macebench.metrics.motion3d:kinetic_3d",
        "geometric_3d": "macebench.metrics.motion3d:geometric_3d",
        "i3d_16": "macebench.metrics.pixels:i3d_16",
    },
    "statistics": {
        "frame_difference": "macebench.metrics.flicker:FrameDifference",
        "flow_interpolation": "macebench.metrics.flow_statistics:FlowInterpolation",
        "flow_magnitude": "macebench.metrics.flow_statistics:FlowMagnitude",
        "frame_times": "macebench.metrics.identity:FrameTimes",
        "clip_l14": "macebench.models.appearance.statistics:ClipL14",
        "clip_b32": "macebench.models.appearance.statistics:ClipB32",
        "dino_b16": "macebench.models.appearance.statistics:DinoB16",
        "musiq": "macebench.models.appearance.statistics:MusiqSpaq",
        "amt_s": "macebench.models.appearance.amt:AmtS",
        "pair_differences": "macebench.metrics.pixels:PairDifferences",
        "pair_ssim": "macebench.metrics.pixels:PairSsim",
        "pair_lpips_alex": "macebench.models.appearance.paired:PairLpipsAlex",
        "pair_lpips_vgg": "macebench.models.appearance.paired:PairLpipsVgg",
        "i3d_16": "macebench.models.appearance.paired:I3DClips",
    },
    "models": {
        "ground-truth": "macebench.baselines.calibration:GroundTruth",
        "random-music": "macebench.baselines.calibration:RandomMusic",
        "time-shifted": "macebench.baselines.calibration:TimeShifted",
        "frozen": "macebench.baselines.calibration:Frozen",
        "jitter": "macebench.baselines.calibration:Jitter",
        "half-speed": "macebench.baselines.calibration:HalfSpeed",
        "mirrored": "macebench.baselines.calibration:Mirrored",
        "two-second-loop": "macebench.baselines.calibration:TwoSecondLoop",
        "foot-skate": "macebench.baselines.calibration:FootSkate",
        "identity-swap": "macebench.baselines.calibration:IdentitySwap",
        "random-phrases": "macebench.models.retrieval:RandomPhrases",
        "nearest-music": "macebench.models.retrieval:NearestMusic",
        "motion-expert": "macebench.models.motion_expert.generators:MotionExpertModel",
        "mace-dance": "macebench.models.motion_expert.generators:MaceDance",
    },
    "datasets": {"demo": "macebench.demo.dataset:build_demo_dataset"},
    "dances": {
        "demo": "macebench.dances.sources:DemoSource",
        "cmu": "macebench.dances.sources:CmuSource",
        "aist": "macebench.dances.sources:AistSource",
        "finedance": "macebench.dances.sources:FineDanceSource",
        "folder": "macebench.dances.sources:FolderSource",
    },
    "stages": {
        "probe": "macebench.curation.stages.probe:Probe",
        "shots": "macebench.curation.stages.shots:Shots",
        "motion": "macebench.curation.stages.motion:MotionStage",
        "person": "macebench.curation.stages.person:Person",
        "windows": "macebench.curation.stages.windows:Windows",
    },
    "poses": {
        "blazepose": "macebench.models.pose.blazepose:BlazePose",
        "vitpose": "macebench.models.pose.vitpose:ViTPose",
        "precomputed": "macebench.models.pose.precomputed:Precomputed",
        "mmpose": "macebench.models.pose.mmpose:MMPose",
    },
}

_ENTRY_POINT_GROUPS = {"metrics", "features", "statistics", "models", "datasets", "dances", "stages", "poses"}
_registered: dict[str, dict[str, Any]] = {group: {} for group in BUILTIN}


@dataclass(frozen=True)
class Column:
    """One value that a metric reports.

    Attributes:
        name: Column name in `clips.parquet`, `result.json` and the leaderboard.
        unit: Unit, ``"1"`` for a pure number.
        better: Which direction is better.
        summary: One line for people.
        weight: Another column of the same clip metric: a set's value is the mean over clips weighted by it. None weighs
            all clips the same.
    """

    name: str
    unit: str = "1"
    better: Better = "reference"
    summary: str = ""
    weight: str | None = None


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    A *clip* metric is ``compute(evidence, protocol) -> float | Mapping[str, float]``; it raises
    `Unscorable` when the clip has no value, and its scores are means over clips.
    A *set* metric names a `feature` and is ``compute(generated, reference, protocol) -> float`` on two
    `FeatureSet`s.

    Attributes:
        name: Registered name.
        compute: The function.
        columns: What it reports; the first one is the main value.
        needs: Of ``pose``, ``motion``, ``music`` and ``frames:<statistic>``; decides what is computed at all. Also
            ``picture``: it looks at the reference picture under a protocol that has one (`macebench.identity`).
        feature: Name of the feature of a set metric, or None for a clip metric.
        version: Part of the cache key; raise it when a value changes.
    """

    name: str
    compute: Callable[..., Any]
    columns: tuple[Column, ...]
    needs: frozenset[str]
    feature: str | None = None
    version: int = 1


@dataclass(frozen=True)
class Feature:
    """A registered feature: ``compute(evidence, protocol) -> (F,)`` float64, or raises `Unscorable`."""

    name: str
    compute: Callable[..., Any]
    needs: frozenset[str]
    version: int = 1


def _register(group: str, name: str, value: T) -> T:
    """Put `value` under `name`; a second, different value under the same name is an error."""
    here = _identity(value)
    taken = _registered[group].get(name)
    owner = _identity(taken) if taken is not None else BUILTIN[group].get(name, here)
    if owner != here:
        raise DuplicateNameError(
            f"{group[:-1]} {name!r} is registered twice: by {owner} and by {here}.",
            hint="Give yours another name.",
        )
    _registered[group][name] = value
    return value


def _identity(value: Any) -> str:
    target = value.compute if isinstance(value, Metric | Feature) else value
    return f"{target.__module__}:{target.__qualname__}"


def metric(
    name: str,
    *,
    unit: str = "1",
    better: Better = "reference",
    needs: Iterable[str] = (),
    feature: str | None = None,
    columns: tuple[Column, ...] = (),
    version: int = 1,
) -> Callable[[T], T]:
    """Register a metric; see `Metric` for the signatures.

    Example:
        >>> from macebench.registry import metric
        >>> @metric("doctest-track-length", unit="frames", better="higher", needs=("pose",))
        ... def track_length(evidence, protocol):
        ...     return float(len(evidence.need_pose()))
    """

    def decorate(function: T) -> T:
        summary = next(iter((function.__doc__ or "").strip().splitlines()), "")
        main = columns or (Column(name, unit, better, summary),)
        _register("metrics", name, Metric(name, function, main, frozenset(needs), feature, version))  # type: ignore[arg-type]
        return function

    return decorate


def feature(name: str, *, needs: Iterable[str] = (), version: int = 1) -> Callable[[T], T]:
    """Register a feature of one clip; see `Feature`."""

    def decorate(function: T) -> T:
        _register("features", name, Feature(name, function, frozenset(needs), version))  # type: ignore[arg-type]
        return function

    return decorate


def _decorator(group: Group, name: str) -> Callable[[T], T]:
    def decorate(value: T) -> T:
        return _register(group, name, value)

    return decorate


def frame_statistic(name: str) -> Callable[[T], T]:
    """Register a `FrameStatistic` class (with an integer `version`); metrics need it as ``frames:<name>``."""
    return _decorator("statistics", name)


def model(name: str) -> Callable[[T], T]:
    """Register a class: a `MotionModel`, a `VideoModel` or a `Calibration`."""
    return _decorator("models", name)


def dataset(name: str) -> Callable[[T], T]:
    """Register a function that builds a data set folder: ``build(out: Path, **options) -> Path``."""
    return _decorator("datasets", name)


def dances(name: str) -> Callable[[T], T]:
    """Register a class of training dances: ``items()`` as `macebench.models.training.data.Source` says."""
    return _decorator("dances", name)


def stage(name: str) -> Callable[[T], T]:
    """Register a curation `Stage` class."""
    return _decorator("stages", name)


def pose_backend(name: str) -> Callable[[T], T]:
    """Register a `PoseEstimator` class."""
    return _decorator("poses", name)


def _entry_points(group: str) -> dict[str, Any]:
    if group not in _ENTRY_POINT_GROUPS:
        return {}
    return {point.name: point for point in entry_points(group=f"macebench.{group}")}


def names(group: Group) -> list[str]:
    """All known names of a group, sorted; imports nothing."""
    return sorted({*_registered[group], *BUILTIN[group], *_entry_points(group)})


def origin(group: Group, name: str) -> str:
    """Where a name comes from: ``module:attr``, for `macebench ls`."""
    if name in BUILTIN[group]:
        return BUILTIN[group][name]
    if name in _registered[group]:
        return _identity(_registered[group][name])
    return str(_entry_points(group)[name].value)


def get(group: Group, name: str) -> Any:
    """The registered object called `name`.

    Raises:
        UnknownNameError: with the nearest names.
    """
    if name not in _registered[group]:
        _load(group, name)
    return _registered[group][name]


def get_metric(name: str) -> Metric:
    """The metric called `name`."""
    found = get("metrics", name)
    if not isinstance(found, Metric):
        raise UserError(f"metric {name!r} was registered without the @metric decorator.")
    return found


def get_feature(name: str) -> Feature:
    """The feature called `name`."""
    found = get("features", name)
    if not isinstance(found, Feature):
        raise UserError(f"feature {name!r} was registered without the @feature decorator.")
    return found


def _load(group: Group, name: str) -> None:
    target = BUILTIN[group].get(name)
    if target is not None:
        module, _, attribute = target.partition(":")
        value = getattr(importlib.import_module(module), attribute)
    elif name in _entry_points(group):
        value = _entry_points(group)[name].load()
    else:
        raise unknown(group[:-1], name, names(group), f"macebench ls {group}")
    _registered[group].setdefault(name, value)


def unknown(kind: str, name: str, known: Iterable[str], command: str) -> UnknownNameError:
    """The error for a name that nobody knows, with the nearest ones, or all where they are few."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    meant = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    if not near and len(names) <= MAX_LISTED:
        meant = f" Allowed: {', '.join(names)}."
    return UnknownNameError(f"unknown {kind} {name!r}.{meant}", hint=f"`{command}` lists them.")


def load_plugin(path: Path) -> None:
    """Run a Python file so that its decorators register what it holds.

    Raises:
        UserError: the file is not there or fails.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise UserError(f"plugin file {path} does not exist.", hint="--plugin takes a Python file.")
    module_name = f"{_PLUGIN}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if module_name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise UserError(f"plugin file {path} is not a Python file.", hint="--plugin takes a .py file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        del sys.modules[module_name]
        raise
    except Exception as error:
        del sys.modules[module_name]
        raise UserError(f"plugin file {path} failed: {type(error).__name__}: {error}") from error


def load_plugins(paths: Iterable[Path]) -> None:
    """`load_plugin` for each, as the first thing that a worker process does."""
    for path in paths:
        load_plugin(path)


def plugin_files() -> tuple[Path, ...]:
    """The files that `load_plugin` has run in this process, in their order."""
    return tuple(Path(str(module.__file__)) for name, module in sys.modules.items() if name.startswith(_PLUGIN))
