"""Known damages of dance, each at five strengths: what `macebench selftest` and calibration rows are made of.

A degradation changes evidence that is already there: pose tracks, 3-D motions, beat times and frame statistics. Nothing
is decoded or estimated again. Where the picture that belongs to a changed pose is not known, the frame statistics are
missing with the reason `NO_PICTURE`.

- It is deterministic: noise is seeded by the clip's own hash, so that adding a clip changes no other.
- It uses the same noise at every strength, scaled: a stronger one is more of the same.
- It touches the clip itself and, where it needs another dancer or other music, one more: the next clip, half the set
  away, that has what is asked for.

| name | what happens | strength |
|---|---|---|
| jitter | white noise on every joint of every frame | its deviation, as a share of the dancer's height |
| freeze | from some moment on the dancer holds still | share of the clip's time that is held |
| foot-skate | the whole body glides on a circle (4 s a turn), planted feet with it | speed in m/s |
| time-shift | the music is late by part of a beat, the dance is not | share of the median beat distance |
| wrong-music | from some moment on the music is another clip's | share of the clip's time |
| half-speed | the beginning of the dance, slower | share of the speed that is lost: 0.5 is half speed |
| mirror | the dance in a mirror, left and right exchanged | share of the clips that are mirrored |
| two-second-loop | the dance starts over and over, cross-faded for 0.2 s | loops a second: 0.5 is a 2-s loop |
| scale | the dancer is larger | share added to the size |
| translation | the dancer stands further to the side, all the time | metres along x |
| dropped-joints | each joint drops out once a second, each at its own time | share of its time that a joint is gone |
| identity-swap | the tracker jumps to another clip's dancer every 2 s (2-D only) | share of the time on the other one |

In 2-D a dropped joint is missing; a motion in space knows no missing joint, so there it stays where it was. A pixel
is worth as many metres as the dancer's torso says (half a metre); of the circle of foot-skate the picture shows the
part along x. Mirroring is a matter of the whole clip, so its strength is a share of clips: a clip is mirrored when the
number that its hash draws in [0, 1) is below the strength.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from macebench.baselines import _degrade_motion as in_space
from macebench.baselines import _degrade_pose as in_picture
from macebench.types import Array, Beats, Clip, Evidence, FloatArray, Missing, Motion, PoseTrack

Part = Literal["pose", "motion", "music", "frames"]
Apply = Callable[[Sequence[Evidence], int, float], Evidence]

NO_PICTURE = "calibration has no picture"
NO_OTHER_MUSIC = "no other music in the set"
NO_MUSIC_BEATS = "no music beats"
FRAME_DIFFERENCE = "frame_difference"
FADE_S = 0.2
CIRCLE_S = 4.0
DROP_EVERY_S = 1.0
SWAP_EVERY_S = 2.0


@dataclass(frozen=True)
class Degradation:
    """A known damage.

    Attributes:
        name: As in the table of the module's docstring.
        summary: One line for people.
        strengths: Five numbers, increasing.
        unit: What the strength counts.
        applies_to: Parts of the evidence that it changes: ``pose``, ``motion``, ``music``, ``frames``.
        apply: ``(evidence, index, strength)`` to the changed evidence of clip `index`. What a clip lacks stays missing.
    """

    name: str
    summary: str
    strengths: tuple[float, float, float, float, float]
    unit: str
    applies_to: tuple[Part, ...]
    apply: Apply

    def touches(self, track: str) -> bool:
        """Whether it changes what a protocol of `track` (``video-2d``, ``motion-3d``) measures."""
        own = {"video-2d": "pose", "motion-3d": "motion"}.get(track)
        return own in self.applies_to or "music" in self.applies_to


def _generator(clip: Clip, purpose: str) -> np.random.Generator:
    """Noise of one clip for one purpose."""
    return np.random.default_rng([zlib.crc32(clip.sha256.encode()), zlib.crc32(purpose.encode())])


def _others(evidence: Sequence[Evidence], index: int) -> list[int]:
    """The other clips in the order in which they are asked: from half the set away on."""
    count = len(evidence)
    return [(index + max(count // 2, 1) + step) % count for step in range(count)]


def _without_picture(own: Evidence) -> Evidence:
    """The clip without frame statistics: what its picture would be is not known."""
    return own.replace(frames=Missing(NO_PICTURE)) if isinstance(own.frames, Mapping) else own


def _jitter(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    seed = zlib.crc32(own.clip.sha256.encode())
    if isinstance(own.pose, PoseTrack):
        own = own.replace(pose=in_picture.jittered(own.pose, strength, np.random.default_rng(seed)))
    if isinstance(own.motion, Motion):
        own = own.replace(motion=in_space.jittered(own.motion, strength, np.random.default_rng(seed)))
    return _without_picture(own)


def _freeze(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    frames = own.frames
    if isinstance(frames, Mapping):
        frames = {n: _still_from(v, _onset(len(v) + 1, strength)) for n, v in frames.items() if n == FRAME_DIFFERENCE}
    own = own.replace(frames=frames)
    if isinstance(own.pose, PoseTrack) and own.pose.present.any():
        onset = in_picture.nearest_present(own.pose, _onset(len(own.pose), strength))
        own = own.replace(pose=in_picture.at_frames(own.pose, np.minimum(np.arange(len(own.pose)), onset)))
    if isinstance(own.motion, Motion) and len(own.motion):
        onset = _onset(len(own.motion), strength)
        own = own.replace(motion=in_space.at_frames(own.motion, np.minimum(np.arange(len(own.motion)), onset)))
    return own


def _onset(count: int, share: float) -> int:
    """The frame that is held to the end."""
    return round((count - 1) * (1.0 - share))


def _still_from(differences: FloatArray, frame: int) -> FloatArray:
    return np.where(np.arange(len(differences)) < frame, differences, 0.0)


def hold_middle(own: Evidence) -> Evidence:
    """The clip with its middle pose (in 2-D the nearest in which somebody is) for the whole time."""
    frames = own.frames
    if isinstance(frames, Mapping):
        frames = {name: np.zeros_like(value) for name, value in frames.items() if name == FRAME_DIFFERENCE}
    own = own.replace(frames=frames)
    if isinstance(own.pose, PoseTrack) and own.pose.present.any():
        middle = in_picture.nearest_present(own.pose, len(own.pose) // 2)
        own = own.replace(pose=in_picture.at_frames(own.pose, np.full(len(own.pose), middle)))
    if isinstance(own.motion, Motion) and len(own.motion):
        middle = len(own.motion) // 2
        own = own.replace(motion=in_space.at_frames(own.motion, np.full(len(own.motion), middle)))
    return own


def _foot_skate(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    phase = _generator(own.clip, "foot-skate").uniform(0.0, 2.0 * np.pi)
    if isinstance(own.pose, PoseTrack):
        path = _circle(own.pose.times_s, strength, phase)
        own = own.replace(pose=in_picture.moved(own.pose, path[:, 0]))
    if isinstance(own.motion, Motion):
        path = _circle(np.arange(len(own.motion)) / own.motion.fps, strength, phase)
        own = own.replace(motion=in_space.moved(own.motion, path))
    return _without_picture(own)


def _circle(times_s: FloatArray, speed: float, phase: float) -> FloatArray:
    """(T, 3) metres on a horizontal circle that is run through at `speed` m/s, from its own start."""
    turn = 2.0 * np.pi / CIRCLE_S
    angle = turn * times_s + phase
    path = np.stack([np.cos(angle), np.zeros_like(angle), np.sin(angle)], axis=1) * (speed / turn)
    return np.asarray(path - path[:1])


def _time_shift(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if isinstance(own.music, Missing):
        return own
    beats = own.music.times_s
    if len(beats) < 2:
        return own.replace(music=Missing(NO_MUSIC_BEATS))
    step = float(np.median(np.diff(beats)))
    late = np.concatenate([beats[:1] - (1.0 - strength) * step, beats + strength * step])
    kept = late[(late >= 0) & (late <= own.music.duration_s)]
    return own.replace(music=Beats(kept, own.music.duration_s))


def _wrong_music(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    for place in _others(evidence, index):
        other = evidence[place]
        if isinstance(other.music, Beats) and _music_id(other) != _music_id(own):
            return own.replace(music=_from_then_on(own.music, other.music, strength))
    return own.replace(music=Missing(NO_OTHER_MUSIC))


def _from_then_on(own: Beats | Missing, other: Beats, share: float) -> Beats:
    """The clip's own beats, and in the last `share` of the time those of the other music."""
    if isinstance(own, Missing) or share >= 1.0:
        return other
    cut = own.duration_s * (1.0 - share)
    late = other.times_s[(other.times_s >= cut) & (other.times_s <= own.duration_s)]
    return Beats(np.concatenate([own.times_s[own.times_s < cut], late]), own.duration_s)


def _music_id(evidence: Evidence) -> str:
    return evidence.clip.music_sha256 or evidence.clip.sha256


def _half_speed(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    frames = own.frames
    if isinstance(frames, Mapping):
        frames = {name: _repeated(v, strength) for name, v in frames.items() if name == FRAME_DIFFERENCE}
    own = own.replace(frames=frames)
    if isinstance(own.pose, PoseTrack):
        own = own.replace(pose=in_picture.slowed(own.pose, strength))
    if isinstance(own.motion, Motion):
        own = own.replace(motion=in_space.slowed(own.motion, strength))
    return own


def _repeated(differences: FloatArray, slowness: float) -> FloatArray:
    """Frame differences when pictures are shown longer: 0 where the picture stays."""
    shown = np.floor(np.arange(len(differences) + 1) * (1.0 - slowness) + 1e-9).astype(np.intp)
    return np.where(np.diff(shown) > 0, differences[shown[:-1]] if len(differences) else differences, 0.0)


def _mirror(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if _generator(own.clip, "mirror").random() >= strength:
        return own
    if isinstance(own.pose, PoseTrack):
        own = own.replace(pose=in_picture.mirrored(own.pose))
    if isinstance(own.motion, Motion):
        own = own.replace(motion=in_space.mirrored(own.motion))
    return own


def _loop(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if isinstance(own.pose, PoseTrack) and len(own.pose) > 1:
        own = own.replace(pose=in_picture.blended(own.pose, *_again(len(own.pose), own.pose.fps, 1.0 / strength)))
    if isinstance(own.motion, Motion) and len(own.motion):
        plan = _again(len(own.motion), own.motion.fps, 1.0 / strength)
        own = own.replace(motion=in_space.blended(own.motion, *plan))
    return _without_picture(own)


def _again(count: int, fps: float, length_s: float) -> tuple[Array, Array, FloatArray]:
    """Frames to fade from and to, and the share of the second, of a motion that starts again every `length_s`.

    After each jump the motion goes on as if there had been none for `FADE_S`, ever fainter.
    """
    length, fade = max(2, round(length_s * fps)), max(1, round(FADE_S * fps))
    frame = np.arange(count)
    place = frame % length
    fading = (frame >= length) & (place < fade)
    onward = np.where(fading, np.minimum(length + place, count - 1), place)
    return onward, place, np.where(fading, (place + 1) / (fade + 1), 1.0)


def _scale(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if isinstance(own.pose, PoseTrack):
        own = own.replace(pose=in_picture.scaled(own.pose, 1.0 + strength))
    if isinstance(own.motion, Motion):
        own = own.replace(motion=in_space.scaled(own.motion, 1.0 + strength))
    return _without_picture(own)


def _translation(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if isinstance(own.pose, PoseTrack):
        own = own.replace(pose=in_picture.moved(own.pose, np.asarray(strength)))
    if isinstance(own.motion, Motion):
        own = own.replace(motion=in_space.moved(own.motion, np.array([strength, 0.0, 0.0])))
    return _without_picture(own)


def _dropped_joints(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    rng = _generator(own.clip, "dropped-joints")
    if isinstance(own.pose, PoseTrack) and len(own.pose):
        lost = _gaps(own.pose.times_s, strength, DROP_EVERY_S, own.pose.keypoints.shape[1], rng)
        own = own.replace(pose=in_picture.dropped(own.pose, lost))
    if isinstance(own.motion, Motion) and len(own.motion):
        times = np.arange(len(own.motion)) / own.motion.fps
        lost = _gaps(times, strength, DROP_EVERY_S, own.motion.joints.shape[1], rng)
        own = own.replace(motion=in_space.held(own.motion, lost))
    return own


def _gaps(times_s: FloatArray, share: float, every_s: float, columns: int, rng: np.random.Generator) -> Array:
    """(T, columns) true in one gap of `share` of each `every_s` seconds; a larger share keeps the smaller's gaps."""
    place = (times_s - times_s[0]) / every_s
    slot = np.floor(place).astype(np.intp)
    start = rng.random((int(slot[-1]) + 1, columns))[slot] * (1.0 - share)
    inside = (place - slot)[:, None]
    return np.asarray((inside >= start) & (inside < start + share))


def _identity_swap(evidence: Sequence[Evidence], index: int, strength: float) -> Evidence:
    own = evidence[index]
    if not isinstance(own.pose, PoseTrack) or not len(own.pose):
        return own
    for place in _others(evidence, index):
        other = evidence[place]
        fits = isinstance(other.pose, PoseTrack) and other.pose.skeleton == own.pose.skeleton and len(other.pose) > 0
        if fits and isinstance(other.pose, PoseTrack) and other.clip.sha256 != own.clip.sha256:
            rng = _generator(own.clip, "identity-swap")
            where = _gaps(own.pose.times_s, strength, SWAP_EVERY_S, 1, rng)[:, 0]
            return own.replace(pose=in_picture.swapped(own.pose, other.pose, where))
    return own


_BODY: tuple[Part, ...] = ("pose", "motion")
_BODY_AND_PICTURE: tuple[Part, ...] = ("pose", "motion", "frames")
_ALL = (
    Degradation("jitter", "Noise on every joint of every frame", (0.001, 0.002, 0.005, 0.01, 0.02),
                "of the height", _BODY_AND_PICTURE, _jitter),
    Degradation("freeze", "The dancer stops and holds still", (0.2, 0.4, 0.6, 0.8, 1.0),
                "of the time", _BODY_AND_PICTURE, _freeze),
    Degradation("foot-skate", "The body glides over the floor", (0.1, 0.2, 0.4, 0.8, 1.6),
                "m/s", _BODY_AND_PICTURE, _foot_skate),
    Degradation("time-shift", "The music comes late", (0.1, 0.2, 0.3, 0.4, 0.5),
                "of a beat", ("music",), _time_shift),
    Degradation("wrong-music", "The music of another clip", (0.2, 0.4, 0.6, 0.8, 1.0),
                "of the time", ("music",), _wrong_music),
    Degradation("half-speed", "The dance is too slow", (0.1, 0.2, 0.3, 0.4, 0.5),
                "slower", _BODY_AND_PICTURE, _half_speed),
    Degradation("mirror", "Left and right are exchanged", (0.2, 0.4, 0.6, 0.8, 1.0),
                "of the clips", _BODY, _mirror),
    Degradation("two-second-loop", "The dance starts again and again", (0.25, 0.33, 0.5, 1.0, 2.0),
                "loops/s", _BODY_AND_PICTURE, _loop),
    Degradation("scale", "The dancer is larger", (0.04, 0.08, 0.12, 0.16, 0.2),
                "larger", _BODY_AND_PICTURE, _scale),
    Degradation("translation", "The dancer stands elsewhere", (0.2, 0.4, 0.6, 0.8, 1.0),
                "m", _BODY_AND_PICTURE, _translation),
    Degradation("dropped-joints", "Joints drop out for moments", (0.05, 0.1, 0.2, 0.3, 0.4),
                "of the time", _BODY, _dropped_joints),
    Degradation("identity-swap", "The tracker jumps to another dancer", (0.1, 0.2, 0.3, 0.4, 0.5),
                "of the time", ("pose",), _identity_swap),
)  # fmt: skip

DEGRADATIONS: Mapping[str, Degradation] = MappingProxyType({item.name: item for item in _ALL})
"""Every degradation by name, in the order of the table above."""
