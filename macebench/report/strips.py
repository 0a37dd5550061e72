"""Frame strips: a few pictures of a clip with its pose drawn over them.

Pictures are read again from the video, through the decoder process, and only when the file still has the hash that
was scored. Otherwise the pose is drawn on an empty picture; without a pose either, a line says why there is nothing.
"""

from __future__ import annotations

import base64
import math
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.clips import inside
from macebench.errors import MediaError, UserError
from macebench.media import Decoder, file_sha256
from macebench.report.markup import Html, el, join
from macebench.results import POSES_FOLDER
from macebench.skeleton import COCO17, COCO17_EDGES, coco25_to_coco17
from macebench.types import FloatArray, PoseTrack

N_PICTURES = 6
LONGEST_S = 30.0
_STORED_HEIGHT = 176
_SHOWN_HEIGHT = 144
_JPEG_QUALITY = 72
_CONFIDENCE_MIN = 0.3


@dataclass(frozen=True)
class Picture:
    """One picture of a strip: a JPEG, or None for an empty one.

    Attributes:
        time_s: Seconds after the clip's first picture.
        width: Pixels of the video.
        height: Pixels of the video.
        jpeg: Bytes of a smaller copy.
    """

    time_s: float
    width: int
    height: int
    jpeg: bytes | None


def clip_strip(clip_id: str, sha256: str, duration_s: float, video: str, run: Path, decoder: Decoder) -> Html:
    """The strip of one clip, with a line that says where its pictures come from when they are not the video's.

    `video` is a path relative to the folder `run`, or an absolute one.
    """
    pose = read_pose(run, clip_id)
    span = duration_s if duration_s > 0 else _pose_span(pose)
    times = picture_times(span)
    pictures, problem = _video_pictures(run, video, sha256, times, decoder)
    if not pictures and pose is not None:
        pictures = [Picture(time_s, pose.width, pose.height, None) for time_s in times]
    parts: list[Html] = []
    if pictures:
        parts.append(el("div", *(_picture(item, pose) for item in pictures), class_="strip"))
    lines = [f"No pictures: {problem}."] if problem else []
    lines += ["No pose."] if pose is None else []
    if lines:
        parts.append(el("p", " ".join(lines), class_="muted small"))
    return join(parts)


def picture_times(span_s: float, count: int = N_PICTURES) -> list[float]:
    """Times of `count` pictures, evenly over the first `LONGEST_S` seconds of a clip of `span_s` seconds."""
    span = min(span_s, LONGEST_S) if math.isfinite(span_s) and span_s > 0 else 0.0
    return [(index + 0.5) / count * span for index in range(count)] if span else [0.0]


def _pose_span(pose: PoseTrack | None) -> float:
    return float(pose.times_s[-1]) if pose is not None and len(pose) else 0.0


def read_pose(run: Path, clip_id: str) -> PoseTrack | None:
    """The pose track that the run folder holds of a clip; None when there is none or it is broken."""
    try:
        path = inside(Path(run) / POSES_FOLDER, f"{clip_id}.npz")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return PoseTrack(
                stored["keypoints"], stored["confidence"], stored["times_s"],
                int(stored["width"]), int(stored["height"]), str(stored["skeleton"]),
            )  # fmt: skip
    except (UserError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def _video_pictures(
    run: Path, video: str, sha256: str, times: Sequence[float], decoder: Decoder
) -> tuple[list[Picture], str]:  # fmt: skip
    """Pictures at about `times`, and what went wrong."""
    problem = problem_of(run, video, sha256, "video")
    if problem:
        return [], problem
    pictures: list[Picture] = []
    try:
        _read_pictures(Path(run) / video, times, decoder, pictures)
    except MediaError as error:
        return pictures, "" if pictures else error.reason
    return pictures, ""


def problem_of(run: Path, path: str, sha256: str, what: str) -> str:
    """Why a clip's file cannot be shown; empty when it is the one that was scored.

    Args:
        run: Run folder.
        path: The file, relative to the run folder, or absolute; may be empty.
        sha256: Hash of the file that was scored.
        what: What the file is called.
    """
    file = Path(run) / path
    try:
        if not path or not file.is_file():
            return f"the {what} is not there any more" if path else f"the run does not say where the {what} is"
        return "" if file_sha256(file) == sha256 else f"the {what} has changed since it was scored"
    except (OSError, ValueError):
        return f"the {what} cannot be opened"


def _read_pictures(path: Path, times: Sequence[float], decoder: Decoder, into: list[Picture]) -> None:
    """Append the first picture at or after each time; stop when all are there."""
    waiting = list(times)
    step = times[1] - times[0] if len(times) > 1 else 1.0
    last: tuple[NDArray[np.uint8], float] | None = None
    for batch in decoder.frames(path, batch=8, max_fps=max(8.0 / step, 2.0)):
        for frame, time_s in zip(batch.frames, batch.times_s, strict=True):
            last = (frame, float(time_s))
            if waiting and time_s >= waiting[0] - 1e-6:
                into.append(_shrink(frame, float(time_s)))
                waiting = [item for item in waiting if item > time_s + 1e-6]
            if not waiting:
                return
    if last is not None and not into:
        into.append(_shrink(*last))


def _shrink(frame: NDArray[np.uint8], time_s: float) -> Picture:
    import cv2

    height, width = frame.shape[:2]
    scale = min(1.0, _STORED_HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
    good, data = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return Picture(time_s, width, height, data.tobytes() if good else None)


def _picture(picture: Picture, pose: PoseTrack | None) -> Html:
    width, height = picture.width, picture.height
    parts: list[Html] = [el("rect", class_="blank", width=width, height=height)]
    if picture.jpeg is not None:
        data = Html("data:image/jpeg;base64," + base64.b64encode(picture.jpeg).decode("ascii"))
        parts.append(el("image", href=data, width=width, height=height))
    if pose is not None and len(pose):
        index = int(np.argmin(np.abs(pose.times_s - picture.time_s)))
        parts.append(_skeleton(pose, index, width, height))
    label = f"Picture at {picture.time_s:.2f} seconds"
    shown = round(_SHOWN_HEIGHT * width / max(height, 1))
    drawing = el(
        "svg", *parts, viewBox=f"0 0 {width} {height}", width=shown, height=_SHOWN_HEIGHT, role="img", aria_label=label
    )
    return el("figure", drawing, el("figcaption", f"{picture.time_s:.2f} s"))


def _skeleton(pose: PoseTrack, index: int, width: int, height: int) -> Html:
    """Bones as lines: the dancer's left and right side differ in colour."""
    points = np.array(pose.keypoints[index : index + 1], dtype=np.float64)
    confidence = np.array(pose.confidence[index : index + 1])
    if pose.skeleton == "coco25":
        points, confidence = coco25_to_coco17(points), coco25_to_coco17(confidence)
    points = points * np.array([width / max(pose.width, 1), height / max(pose.height, 1)])
    seen = np.isfinite(points[0]).all(axis=1) & (confidence[0] >= _CONFIDENCE_MIN)
    lines: dict[str, list[str]] = {"left": [], "right": [], "middle": []}
    for one, two in COCO17_EDGES:
        if seen[one] and seen[two]:
            lines[_side(one, two)].append(f"M{_at(points[0, one])}L{_at(points[0, two])}")
    thickness = f"{max(width, height) / 110:.1f}"
    bones = [
        el("path", class_=f"bone {side}", d=Html("".join(parts)), stroke_width=thickness)
        for side, parts in lines.items()
        if parts
    ]
    return el("g", *bones, class_="pose")


def _side(one: int, two: int) -> str:
    names: list[str] = [COCO17[one][0], COCO17[two][0]]
    if names == ["l", "l"]:
        return "left"
    return "right" if names == ["r", "r"] else "middle"


def _at(point: FloatArray | Any) -> str:
    return f"{point[0]:.0f} {point[1]:.0f}"
