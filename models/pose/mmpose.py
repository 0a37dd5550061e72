"""mmpose in an interpreter of its own, which the user names.

mmpose pins versions that macebench cannot share (mmcv with compiled operators, OpenCV with windows), so it is never
imported here: ``<python> mmpose_worker.py <job folder>`` runs it on the video file, and every person of every frame
comes back in ``result.npz`` (see `macebench.models.pose.mmpose_worker`; `macebench.process` names the convention).
One of the persons is kept by `macebench.models.pose.follow.Follower`.

The worker reads the file by itself; the frames that macebench decodes give the timestamps and the size of the
picture. When the two do not see the same number of frames of the same size, the clip has no poses, because nobody
could say which timestamp belongs to which pose.

A model must give the 17 keypoints of COCO. Confidence is mmpose's keypoint score, limited to [0, 1].
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.models.pose import mmpose_worker
from macebench.models.pose.follow import Follower
from macebench.pose import NO_PERSON
from macebench.process import ChildResult, result_path, run_job
from macebench.protocol import PoseBackend
from macebench.registry import pose_backend
from macebench.types import Array, Clip, FloatArray, Missing, PoseTrack

WORKER = Path(mmpose_worker.__file__)
RESULT_FILE = "result.npz"
RESULT_BYTES_MAX = 512 * 2**20
NEEDS = (
    "Make an environment with mmpose (`pip install -U openmim && mim install mmengine mmcv mmdet mmpose`) and name "
    "its interpreter: python=/path/to/env/bin/python."
)
_SHAPES = {"frame": (), "box": (4,), "score": (), "keypoints": (17, 2), "confidence": (17,)}


@pose_backend("mmpose")
class MMPose:
    """The pose back end ``mmpose``; see the module's docstring.

    Args:
        python: Interpreter in which mmpose can be imported.
        config: Model alias (``human``), config name or config file of mmpose.
        checkpoint: Weights file; empty means the one that mmpose's model index names for `config`.
        device: As mmpose takes it: ``cpu``, ``cuda``, ``cuda:0``.
        box_score_min: Score in [0, 1] that a person's box needs.
        box_iou_min: Overlap in [0, 1] with the last box that the same person needs.
        patience_s: Seconds that a lost person is waited for.
        timeout_s: Seconds that one clip may take.

    Raises:
        UserError: the interpreter or the checkpoint does not exist.
    """

    needs_frames = True

    def __init__(
        self,
        *,
        python: Path | str,
        config: str = "human",
        checkpoint: Path | str = "",
        device: str = "cpu",
        box_score_min: float = 0.3,
        box_iou_min: float = 0.3,
        patience_s: float = 0.5,
        timeout_s: float = 3600.0,
    ) -> None:
        self.python = Path(python).expanduser()
        if not self.python.is_file():
            raise UserError(f"mmpose interpreter {self.python} does not exist.", hint=NEEDS)
        self.checkpoint = str(checkpoint)
        if self.checkpoint and not Path(self.checkpoint).is_file():
            raise UserError(f"mmpose checkpoint {self.checkpoint} does not exist.")
        self.config, self.device, self.timeout_s = config, device, float(timeout_s)
        self.limits = {
            "box_score_min": float(box_score_min),
            "box_iou_min": float(box_iou_min),
            "patience_s": float(patience_s),
        }

    def describe(self) -> PoseBackend:
        """What goes into the protocol's hash: the contents of checkpoint and config file, where they are files.

        Without a checkpoint file the weights are those of mmpose's model index; their hash is not known here and
        only the config's name is hashed.
        """
        total = hashlib.sha256(self.config.encode() if not Path(self.config).is_file() else b"")
        for name in (self.config, self.checkpoint):
            if name and Path(name).is_file():
                with Path(name).open("rb") as file:
                    total.update(hashlib.file_digest(file, "sha256").digest())
        return PoseBackend(
            name="mmpose",
            model=Path(self.config).stem,
            weights_sha256=total.hexdigest(),
            input_size=(0, 0),
            settings=dict(self.limits),
        )

    def start(self, clip: Clip, width: int, height: int) -> MMPoseSession:
        """Begin a clip of `width` x `height` pixels."""
        return MMPoseSession(self, clip, width, height)


class MMPoseSession:
    """One clip: timestamps are collected, the work is done at the end."""

    def __init__(self, owner: MMPose, clip: Clip, width: int, height: int) -> None:
        self._owner, self._clip, self._size = owner, clip, (width, height)
        self._times: list[float] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the timestamps of the next frames, in seconds."""
        self._times += [float(value) for value in times_s]

    def finish(self) -> PoseTrack | Missing:
        """The track, or why there is none.

        Raises:
            UserError: mmpose cannot be imported by the interpreter.
        """
        owner = self._owner
        job = {
            "video": str(self._clip.path.resolve()),
            "config": owner.config,
            "checkpoint": owner.checkpoint,
            "device": owner.device,
        }
        with tempfile.TemporaryDirectory(prefix="macebench-mmpose-") as name:
            folder = Path(name)
            child = run_job(owner.python, WORKER, folder, job, timeout_s=owner.timeout_s, needs=NEEDS)
            if child.returncode == mmpose_worker.NO_MMPOSE:
                raise UserError(f"{owner.python} cannot import mmpose: {_last_line(child)}", hint=NEEDS)
            if not child.ok:
                return Missing(f"mmpose failed ({child.reason()})")
            try:
                fields = _read(folder)
            except (UserError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
                return Missing(f"mmpose wrote no valid result: {str(error).splitlines()[0]}")
        return self._track(fields)

    def _track(self, fields: dict[str, Array]) -> PoseTrack | Missing:
        """One person out of all."""
        n, size = int(fields["n_frames"]), tuple(int(value) for value in fields["size"])
        if n != len(self._times) or size != self._size:
            return Missing("mmpose saw other frames than the decoder")
        limits = self._owner.limits
        follower = Follower(limits["box_iou_min"], limits["patience_s"])
        keypoints, confidence = np.full((n, 17, 2), np.nan), np.zeros((n, 17))
        good = fields["score"] >= limits["box_score_min"]
        for index, time_s in enumerate(self._times):
            rows = np.flatnonzero((fields["frame"] == index) & good)
            person = follower.choose(fields["box"][rows], fields["score"][rows], time_s)
            if person is not None:
                keypoints[index] = fields["keypoints"][rows[person]]
                confidence[index] = np.clip(fields["confidence"][rows[person]], 0.0, 1.0)
        if not np.isfinite(keypoints).any():
            return Missing(NO_PERSON)
        return PoseTrack(keypoints, confidence, np.array(self._times), *self._size)


def _last_line(child: ChildResult) -> str:
    lines = child.stderr_tail.strip().splitlines()
    return lines[-1][:300] if lines else "it says nothing"


def _read(folder: Path) -> dict[str, Array]:
    """The checked fields of the worker's result.

    Raises:
        UserError: missing or too large.
        ValueError: a field is missing or has the wrong shape or type.
    """
    path = result_path(folder, RESULT_FILE, size_max=RESULT_BYTES_MAX)
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > RESULT_BYTES_MAX:
            raise ValueError("too large")
    with np.load(path, allow_pickle=False) as file:
        absent = sorted({*_SHAPES, "n_frames", "size"} - set(file.files))
        if absent:
            raise ValueError(f"{absent[0]} is missing")
        fields: dict[str, Array] = {name: file[name] for name in (*_SHAPES, "n_frames", "size")}
    n = len(fields["frame"]) if fields["frame"].ndim == 1 else -1
    for name, shape in _SHAPES.items():
        value = fields[name]
        if value.shape != (n, *shape) or value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise ValueError(f"{name} has shape {value.shape} and type {value.dtype}")
    if fields["n_frames"].shape != () or fields["size"].shape != (2,):
        raise ValueError("n_frames or size has a wrong shape")
    return fields
