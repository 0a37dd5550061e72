"""The settings of a training: one YAML file, checked to the line.

.. code-block:: yaml

    model: small
    data: [demo, "folder:motions:music"]
    steps: 20000
    batch: 16
    network:
      mixer: mamba
    validation:
      clips: 8

What is left out has its default. ``recipe: released`` stands for all settings of the released training code
(`RECIPES`); what is set beside it has precedence. A mistake is an error that names file, line and field, what was given
and what is allowed. `TrainingConfig.hash` covers what decides the weights; settings that decide only when something is
written (`SCHEDULING`) may change between two calls that continue one run.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from macebench.errors import UserError
from macebench.media import file_sha256
from macebench.models.training._located import Located, read_settings, with_changes
from macebench.protocol import canonical_json
from macebench.registry import unknown

if TYPE_CHECKING:
    from macebench.models.motion_expert.config import MotionExpertConfig

Guidance = Literal["paper", "thu-ml", "released", "cfg"]
DROP: dict[str, float] = {"paper": 0.1, "thu-ml": 0.1, "released": 0.0, "cfg": 0.25}
"""Share of samples whose music is taken away, by form of guidance (spec of the forms: `macebench.models.diffusion`)."""
SCHEDULING = frozenset(
    {"steps", "save_every", "validate_every", "log_every", "device", "threads", "validation", "half", "tensorboard"}
)
"""Fields that may differ between two calls that continue one run."""
LATER: dict[str, Any] = {"decay": "matrices"}
"""Fields that runs of older versions do not have, and what they did."""
RECIPES: dict[str, dict[str, Any]] = {
    "released": {
        "model": "released", "guidance": "released", "loss": "released", "optimizer": "adan", "batch": 128, "lr": 4e-4,
        "lr_final": 1.0, "warmup": 0, "weight_decay": 0.02, "decay": "all", "clip": None, "ema_decay": 0.9999,
        "ema_warmup": False, "genre_drop": 0.0,
    }
}  # fmt: skip
"""Settings that `recipe` stands for: what the public training code of MACE-Dance (AMAP-ML/MACE-Dance) does."""
_HINT = "`macebench train motion-expert --print-config` prints every setting with its meaning."


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LossSettings(_Settings):
    """Weights of the four losses; the defaults are those of EDGE and of the released code."""

    reconstruction: float = Field(0.636, ge=0, description="All channels of the motion.")
    velocity: float = Field(2.964, ge=0, description="Velocities.")
    joints: float = Field(0.646, ge=0, description="Joint positions.")
    foot: float = Field(10.942, ge=0, description="Speed of feet that the network says are on the ground.")


class ValidationSettings(_Settings):
    """What is measured on held-out windows."""

    batches: int = Field(2, ge=0, description="Batches that the losses are measured on.")
    times: tuple[int, ...] = Field((50, 250, 500, 750), description="Diffusion times of those losses, 0 to 999.")
    clips: int = Field(4, ge=0, description="Dances that are sampled and scored; 0 samples none.")
    frames: int | None = Field(None, ge=30, description="Frames of a sampled dance; none: those of a window.")
    ddim_steps: int = Field(10, ge=1, le=1000, description="Denoising steps of a sample.")
    beta: float = Field(0.75, gt=0, le=1, description="Guidance temperature of a sample.")
    scale: float = Field(2.0, ge=0, description="Guidance scale of a sample, for guidance cfg.")
    protocol: str = Field("motion3d-fixed/1", description="Protocol of the scores.")

    @model_validator(mode="after")
    def _times_exist(self) -> ValidationSettings:
        if any(not 0 <= time <= 999 for time in self.times):
            raise ValueError("times must be from 0 to 999")
        return self


class TrainingConfig(_Settings):
    """All settings of a training."""

    model: str = Field("small", description="Preset of the network: paper, released, small or tiny.")
    network: dict[str, Any] = Field(default_factory=dict, description="Fields of the preset that are changed.")
    start_from: str | None = Field(None, description="Weights (.safetensors) to begin with; none: the seed's own.")
    data: tuple[str, ...] = Field(
        ("demo",),
        description="demo, demo:N:SECONDS, cmu:DIR:N, aist:DIR, finedance:DIR, folder:MOTIONS:MUSIC, NAME:TEXT of a "
        "registered source, or built training sets.",
    )
    horizon: int | None = Field(None, ge=8, description="Frames of a window; none: those of the preset.")
    steps: int = Field(20_000, ge=1, description="Updates of the weights.")
    batch: int = Field(16, ge=1, description="Windows of one step and device.")
    optimizer: Literal["adamw", "adan"] = Field("adamw", description="adamw or adan (the released code's).")
    lr: float = Field(4e-4, gt=0, description="Highest learning rate.")
    lr_final: float = Field(0.05, ge=0, le=1, description="Share of the learning rate that is left at the end.")
    warmup: int = Field(200, ge=0, description="Steps over which the learning rate rises from 0.")
    weight_decay: float = Field(0.02, ge=0, description="Decoupled weight decay.")
    decay: Literal["matrices", "all"] = Field(
        "matrices", description="What weight decay is for: matrices, or all parameters (the released code's)."
    )
    clip: float | None = Field(1.0, gt=0, description="Largest norm of the gradient; none: any.")
    ema_decay: float = Field(0.9999, ge=0, lt=1, description="Decay of the running mean of the weights.")
    ema_warmup: bool = Field(True, description="Use a smaller decay in the first updates, (1 + k) / (10 + k).")
    guidance: Guidance = Field("paper", description="Form of training: paper, thu-ml, released (GFT) or cfg.")
    drop: float | None = Field(
        None, ge=0, le=1, description="Share of samples without music; none: 0.1, released 0, cfg 0.25."
    )
    genre_drop: float = Field(0.1, ge=0, le=1, description="Share of samples whose genre is taken away.")
    loss: Literal["paper", "released"] = Field("paper", description="Form of the losses.")
    loss_weights: LossSettings = Field(default_factory=LossSettings, description="Weights of the losses.")
    bad_gradients: Literal["stop", "skip"] = Field(
        "stop", description="What a loss or gradient that is no number does."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of everything that is drawn.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 needs a GPU.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto takes a GPU when there is one.")
    threads: int | None = Field(None, ge=1, description="CPU threads; none: what torch takes.")
    save_every: int = Field(500, ge=1, description="Steps between two checkpoints.")
    validate_every: int = Field(1000, ge=0, description="Steps between two validations; 0: only at the end.")
    log_every: int = Field(50, ge=1, description="Steps between two lines on the screen.")
    validation: ValidationSettings = Field(default_factory=ValidationSettings, description="Held-out windows.")
    half: bool = Field(True, description="Write the finished weights in half precision.")
    tensorboard: bool = Field(False, description="Write TensorBoard events too.")

    @model_validator(mode="before")
    @classmethod
    def _one_source_is_a_list(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and isinstance(values.get("data"), str):
            return {**values, "data": [values["data"]]}
        return values

    @model_validator(mode="after")
    def _consistent(self) -> TrainingConfig:
        if not self.data or not all(self.data):
            raise ValueError("data must name at least one set")
        if self.guidance == "released" and self.drop:
            raise ValueError("drop must be 0 or none with guidance released, which takes no music away")
        return self

    @property
    def drop_share(self) -> float:
        """Share of samples whose music is taken away."""
        return DROP[self.guidance] if self.drop is None else self.drop

    def network_config(self) -> MotionExpertConfig:
        """The network's settings: the preset, what is changed of it, and the form of guidance.

        Raises:
            UserError: there is no such preset, or a changed field is wrong.
        """
        from macebench.models.motion_expert.config import PRESETS, MotionExpertConfig

        if self.model not in PRESETS:
            raise UserError(f"model is {self.model!r}; allowed are {', '.join(sorted(PRESETS))}.", hint=_HINT)
        guidance = "cfg" if self.guidance == "cfg" else "gft"
        if self.network.get("guidance", guidance) != guidance:
            message = f"network.guidance is {self.network['guidance']!r}, but guidance is {self.guidance!r}."
            raise UserError(message, hint="Set guidance alone; the network follows it.")
        values = PRESETS[self.model].model_dump() | self.network | {"guidance": guidance}
        try:
            return MotionExpertConfig.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ("network", *map(str, first["loc"]))
            raise _NetworkError(key, _said(key, first, list(MotionExpertConfig.model_fields))) from error

    def window_frames(self) -> int:
        """Frames of a training window."""
        return self.horizon or self.network_config().horizon_frames

    def plain(self) -> dict[str, Any]:
        """JSON values that `config_from_plain` takes."""
        return self.model_dump(mode="json")

    @property
    def hash(self) -> str:
        """SHA-256 of what decides the weights."""
        values = {name: value for name, value in self.plain().items() if name not in SCHEDULING}
        if self.start_from is not None:
            values["start_from"] = file_sha256(self.start_from)
        values = {name: value for name, value in values.items() if name not in LATER or value != LATER[name]}
        values |= {"network": self.network_config().model_dump(mode="json"), "steps": self.steps}
        return hashlib.sha256(canonical_json(values).encode()).hexdigest()

    def learning_rate(self, step: int) -> float:
        """The learning rate of step `step` (from 0): linear warm-up, then half a cosine down to `lr_final`."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        share = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.lr * (self.lr_final + (1 - self.lr_final) * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


class _NetworkError(UserError):
    """A mistake in the section ``network``; knows its key."""

    def __init__(self, key: tuple[str, ...], message: str, *, hint: str = _HINT) -> None:
        super().__init__(message, hint=hint)
        self.key = key


def load_config(path: Path | None = None, changes: Sequence[str] = ()) -> TrainingConfig:
    """Settings from a YAML file and changes to it.

    Args:
        path: The file, or None for the defaults.
        changes: ``field=value`` or ``section.field=value``; the value is YAML.

    Raises:
        UserError: the first mistake, with file, line and field.
    """
    located = Located({}, {}, "settings") if path is None else read_settings(path, _HINT)
    return build_config(with_changes(located, changes, _HINT))


def config_from_plain(values: Mapping[str, Any], changes: Sequence[str] = ()) -> TrainingConfig:
    """Settings that `TrainingConfig.plain` returned, with changes as in `load_config`."""
    return build_config(with_changes(Located(dict(values), {}, "settings"), changes, _HINT))


def build_config(located: Located) -> TrainingConfig:
    """Checked settings. Raises `UserError` with the place of the first mistake."""
    try:
        config = TrainingConfig.model_validate(_with_recipe(located))
    except ValidationError as error:
        first = error.errors()[0]
        key = tuple(str(part) for part in first["loc"] if not isinstance(part, int))
        if not key:  # a check of the whole names its field in the text
            key = tuple(name for name in TrainingConfig.model_fields if name in first["msg"])[:1]
        raise UserError(f"{located.place(key)}: {_said(key, first, _fields(key))}", hint=_HINT) from error
    try:
        config.network_config()
    except _NetworkError as error:
        raise UserError(f"{located.place(error.key)}: {error.message}", hint=error.hint) from error
    except UserError as error:
        key = ("network",) if error.message.startswith("network") else ("model",)
        raise UserError(f"{located.place(key)}: {error.message}", hint=error.hint) from error
    return config


def _with_recipe(located: Located) -> dict[str, Any]:
    """The values, over those of the recipe that they name."""
    values = dict(located.values)
    if "recipe" not in values:
        return values
    name = values.pop("recipe")
    if not isinstance(name, str) or name not in RECIPES:
        message = f"{located.place(('recipe',))}: recipe is {name!r}; allowed are {', '.join(RECIPES)}."
        raise UserError(message, hint="Leave it out, or name one of these.")
    return RECIPES[name] | values


def _said(key: Sequence[str], error: Any, fields: Sequence[str]) -> str:
    """One sentence on a mistake that pydantic found."""
    name = ".".join(key) or "settings"
    if error["type"] == "extra_forbidden":
        near = unknown("field", key[-1], fields, "").message
        return f"{name}: {near} Allowed are {', '.join(fields)}."
    said = error["msg"][:1].lower() + error["msg"][1:]
    given = error["input"]
    shown = json.dumps(given, default=str) if not isinstance(given, dict) else "wrong"
    return f"{name} is {shown}: {said}."


def _fields(key: Sequence[str]) -> list[str]:
    """Names that are allowed beside the last one of `key`."""
    sections: dict[str, type[_Settings]] = {"loss_weights": LossSettings, "validation": ValidationSettings}
    return list(sections.get(key[0] if key[1:] else "", TrainingConfig).model_fields)


def config_text(config: TrainingConfig) -> str:
    """The settings as YAML with the meaning of each; `load_config` gives the same settings back."""
    head = "# Settings of macebench train motion-expert; what is left out has its default."
    return "\n".join([head, *_lines(config, "")]) + "\n"


def _lines(section: BaseModel, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        yield f"{indent}# {field.description}"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
        else:
            yield f"{indent}{name}: {json.dumps(value, ensure_ascii=True)}"
