"""Reference pictures: whom a dancer should look like, where a person gives a picture instead of the first frame.

``--identity`` names one picture, or a folder with a picture called like each clip, ``<clip id>.png`` (or .jpg, .jpeg,
.webp). The protocol that is resolved with it says ``identity_reference: picture``, so its hash differs from that of the
first frame. Which picture belongs to a clip is, like the clip's music, a matter of the clip and not of the protocol.

One picture is that of the evaluated clips. Reference clips show other people, so with one picture they have none, and
the reference set has no value of its own to compare with. From a folder they take the picture that is called like them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from macebench.clips import SOUND_SUFFIXES, VIDEO_SUFFIXES, inside
from macebench.errors import MediaError, UserError
from macebench.media.stills import SUFFIXES
from macebench.protocol import PICTURE, Protocol
from macebench.registry import Metric
from macebench.types import Clip, Missing

NEED = "picture"
"""What a metric needs that looks at the reference picture under a protocol with one."""
NO_PICTURE = "no reference picture"
SEVERAL = "more than one reference picture"
ALLOWED = ", ".join(SUFFIXES)
_OTHER_FILES = {*VIDEO_SUFFIXES, *SOUND_SUFFIXES, ".json", ".txt", ".csv", ".npz", ".npy"}


@dataclass(frozen=True)
class Picture:
    """A picture file and the SHA-256 of its bytes."""

    path: Path
    sha256: str


Found = Picture | Missing


@dataclass(frozen=True)
class Pictures:
    """The pictures of a run.

    Attributes:
        generated: By the ids of the evaluated clips; or why a clip has none.
        reference: By the ids of the reference set.
    """

    generated: Mapping[str, Found] = field(default_factory=dict)
    reference: Mapping[str, Found] = field(default_factory=dict)

    def of(self, clip: Clip, role: Literal["generated", "reference"]) -> Found:
        """The picture of a clip, or why it has none."""
        known = self.generated if role == "generated" else self.reference
        return known.get(clip.clip_id, Missing(NO_PICTURE))

    @property
    def designed_absence(self) -> str:
        """The reason that reference clips have by design: with one picture they have none. Empty with a folder."""
        return NO_PICTURE if self.generated and not self.reference else ""

    @property
    def files(self) -> list[Picture]:
        """All different pictures, by content."""
        every = (*self.generated.values(), *self.reference.values())
        return list({item.sha256: item for item in every if isinstance(item, Picture)}.values())


def with_pictures(
    path: Path | None, protocols: Sequence[Protocol], chosen: Sequence[Sequence[Metric]]
) -> tuple[Protocol, ...]:
    """The protocols as a run with these reference pictures scores them: those that follow an identity say so.

    Raises:
        UserError: none of them does, or one wants pictures and there are none.
    """
    if path is None:
        wrong = [item.id for item in protocols if item.identity_reference == PICTURE]
        if wrong:
            raise UserError(f"{', '.join(wrong)} needs a reference picture.",
                            hint="--identity names one, or a folder with one called like each clip.")  # fmt: skip
        return tuple(protocols)
    follows = [any(NEED in metric.needs for metric in metrics) for metrics in chosen]
    if not any(follows):
        raise UserError(
            f"--identity: {', '.join(item.id for item in protocols)} has no metric that follows an identity.",
            hint="Score under --protocol video-referee/1, or add --metric identity_drift.",
        )
    pairs = zip(protocols, follows, strict=True)
    return tuple(item.model_copy(update={"identity_reference": PICTURE}) if yes else item for item, yes in pairs)


def find_pictures(path: Path, generated: Sequence[Clip], reference: Sequence[Clip]) -> Pictures:
    """The picture of each clip.

    Args:
        path: One picture, which is that of all evaluated clips; or a folder.
        generated: The evaluated clips.
        reference: The reference set's clips; they have a picture only in a folder.

    Raises:
        UserError: the picture is missing, of another suffix or cannot be read; or no picture in the folder is called
            like an evaluated clip.
    """
    path = Path(path)
    if not path.is_dir():
        single = _single(path)
        return Pictures({clip.clip_id: single for clip in generated})
    folder = _Folder(path)
    found = Pictures(*({clip.clip_id: folder.find(clip.clip_id) for clip in clips} for clips in (generated, reference)))
    if not any(item != Missing(NO_PICTURE) for item in found.generated.values()):
        raise UserError(
            f"no picture in {path} has the name of one of the {len(generated)} clips.",
            hint=f"It must be called like the clip, for example {generated[0].clip_id}.png (allowed: {ALLOWED}).",
        )
    return found


def _single(path: Path) -> Picture:
    """One picture, decoded once to be sure that it is one."""
    from macebench.media import Decoder, file_sha256

    hint = f"--identity takes a picture ({ALLOWED}), or a folder with one called like each clip."
    if not path.is_file():
        raise UserError(f"--identity {path} does not exist.", hint=hint)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--identity {path} is no picture: allowed are {ALLOWED}.", hint=hint)
    try:
        with Decoder() as decoder:
            decoder.picture(path)
        return Picture(path, file_sha256(path))
    except (MediaError, OSError) as error:
        reason = str(error) if isinstance(error, MediaError) else error.strerror
        raise UserError(f"--identity {path} cannot be read: {reason}.", hint=hint) from error


class _Folder:
    """Finds pictures by clip id; each sub-folder is listed once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._listed: dict[str, dict[str, list[str]]] = {}

    def find(self, clip_id: str) -> Found:
        """The picture called like a clip, or why there is none."""
        from macebench.media import file_sha256

        below, _, stem = clip_id.rpartition("/")
        names = self._names(below).get(stem, [])
        fitting = [name for name in names if Path(name).suffix.lower() in SUFFIXES]
        if len(fitting) != 1:
            return Missing(SEVERAL if fitting else _reason_without(names))
        path = inside(self._root, f"{below}/{fitting[0]}" if below else fitting[0])
        try:
            return Picture(path, file_sha256(path))
        except OSError:
            return Missing(unusable("cannot be read"))

    def _names(self, below: str) -> dict[str, list[str]]:
        """Names of the files in a sub-folder, sorted, by their stem."""
        if below not in self._listed:
            place = inside(self._root, below) if below else self._root
            found: dict[str, list[str]] = {}
            for name in sorted(os.listdir(place)) if place.is_dir() else ():
                found.setdefault(Path(name).stem, []).append(name)
            self._listed[below] = found
        return self._listed[below]


def _reason_without(names: Collection[str]) -> str:
    """Why files that are called like a clip are no picture of it."""
    others = sorted({Path(name).suffix.lower() for name in names} - _OTHER_FILES - {""})
    return unusable(f"{others[0]} is none of {ALLOWED}") if others else NO_PICTURE


def unusable(reason: str) -> str:
    """Why a clip's picture is not there, as it is counted."""
    return f"reference picture: {reason}"
