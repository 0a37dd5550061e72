"""BlazePose: one person, 33 landmarks, on a CPU in real time; the default pose back end.

The pipeline of MediaPipe Pose, model "full", written anew from its public description
(`macebench.models.pose.blazepose_steps` names the sources); only the two networks are Google's. For each frame:

1. Without a region, the detector (224x224, the whole picture letterboxed) looks for persons; of the blended
   candidates the one with the largest score times size is taken, and its hip centre and body circle make the region.
2. The landmark network (256x256, the region turned upright) gives 39 points, a person flag and heat maps. Points are
   moved to the centre of mass of their heat map.
3. The two auxiliary points 33 and 34 make the next frame's region. When a frame fails the guard below, the detector
   runs on the same frame once more.

There is no smoothing over time: metrics of motion need raw tracks.

Guard. The detector is no people counter and takes cartoon animals for persons, with a person flag above 0.99. What
gives them away is blurred heat maps. A frame has a pose only when the flag is at least `presence_min`, the region's
side lies between 5 % and 800 % of the picture's longer side, and the *sharpness* (mean over the joints with a
confidence above 0.5 of the heat map's peak) is at least `sharpness_start` for a newly detected person and
`sharpness_keep` for a tracked one. Measured sharpness, lowest to highest frame: a person doing exercises 0.76 to
0.86, drawn dancers of `macebench.render` 0.68 to 0.92, a talking head 0.86 to 0.94, the same after heavy compression
0.61 to 0.86, Big Buck Bunny 0.28 to 0.64. A clip with a pose in fewer than `person_share_min` of its frames has no
person.

Confidence is ``sigmoid(visibility) * sigmoid(presence)`` of a landmark: the chance that the joint is not hidden,
times the chance that it lies inside the picture. Joints that the network places outside the picture keep their
place and have a confidence near 0.

Results depend on the frames alone, not on batches. Each network runs on one thread (XNNPACK): same machine class,
same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.models.pose import blazepose_steps as steps
from macebench.people import PeopleCounter
from macebench.pose import NO_PERSON
from macebench.protocol import PoseBackend
from macebench.registry import pose_backend
from macebench.types import Clip, FloatArray, Missing, PoseTrack
from macebench.weights import find, path_of, sha256_of

DETECTOR, LANDMARK = "blazepose-detector", "blazepose-landmark-full"
REGION_SHARE_MIN, REGION_SHARE_MAX = 0.05, 8.0
CONFIDENT = 0.5
_N_ANCHORS, _N_VALUES, _N_HEATMAP = 2254, 195, 64 * 64 * steps.N_LANDMARKS
_COCO = list(steps.COCO17_IN_BLAZEPOSE)


class _Network:
    """One network with one picture as its input; its outputs are told apart by their number of values."""

    def __init__(self, weights: str) -> None:
        path = path_of(weights)
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise UserError("BlazePose needs ai-edge-litert.", hint='pip install "macebench[pose]"') from error
        try:
            with _quiet():
                self._interpreter: Any = Interpreter(model_path=str(path), num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise UserError(f"weights file {path} cannot be loaded: {error}") from error
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = {int(np.prod(item["shape"])): item["index"] for item in self._interpreter.get_output_details()}

    def run(self, picture: NDArray[np.float32]) -> None:
        """Feed one (S, S, 3) picture."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()

    def output(self, n_values: int) -> NDArray[np.float32]:
        """A copy of the output that has so many values, without its leading axis."""
        return np.asarray(self._interpreter.get_tensor(self._outputs[n_values])[0], dtype=np.float32)


class Landmarks(NamedTuple):
    """What the landmark network says of one region.

    Attributes:
        flag: Person flag in [0, 1].
        sharpness: Of the heat maps, in [0, 1]; see the module.
        points: (39, 2) pixels of the picture.
        confidence: (39,) in [0, 1].
    """

    flag: float
    sharpness: float
    points: FloatArray
    confidence: FloatArray


class Networks:
    """Detector and landmark network, with what surrounds each of them."""

    def __init__(self, detector: _Network, landmark: _Network) -> None:
        self.detector, self.landmark = detector, landmark
        self._anchors = steps.anchor_centres()

    @classmethod
    def load(cls) -> Networks:
        """The networks from their checked files.

        Raises:
            WeightsMissingError: with the command that gets the weights.
            UserError: ai-edge-litert is missing, or a file does not load.
        """
        return cls(_Network(DETECTOR), _Network(LANDMARK))

    def detect(self, picture: NDArray[np.float32], score_min: float) -> FloatArray:
        """(N, 13) blended candidates of `blazepose_steps.blend` in one (224, 224, 3) picture in [0, 1]."""
        self.detector.run(picture * 2 - 1)
        regressors, logits = self.detector.output(_N_ANCHORS * 12), self.detector.output(_N_ANCHORS)[:, 0]
        return steps.blend(steps.decode_detections(regressors, logits, self._anchors, score_min))

    def landmarks(self, frame: NDArray[np.uint8], region: steps.Region, *, refine: bool = True) -> Landmarks:
        """Landmarks of the person in a region of an (H, W, 3) picture."""
        side = steps.LANDMARK_SIZE
        self.landmark.run(steps.crop(frame, region, side))
        flag = float(self.landmark.output(1)[0])
        values = self.landmark.output(_N_VALUES).astype(np.float64).reshape(steps.N_LANDMARKS, 5)
        heatmaps = self.landmark.output(_N_HEATMAP)
        confidence = steps.sigmoid(values[:, 3]) * steps.sigmoid(values[:, 4])
        sharpness = steps.sharpness(heatmaps[:, :, _COCO], confidence[_COCO], CONFIDENT)
        points = values[:, :2] / side
        if refine:
            points = steps.refine(points, heatmaps)
        return Landmarks(flag, sharpness, steps.to_picture(points * side, region, side), confidence)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the line that the library writes to standard error for each network away from the user's screen."""
    sys.stderr.flush()
    saved, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nothing)


@pose_backend("blazepose")
class BlazePose:
    """The pose back end ``blazepose``; see the module's docstring.

    Args:
        detector_score_min: Score in [0, 1] that a detected person needs.
        presence_min: Person flag in [0, 1] that a frame needs.
        sharpness_start: Heat map sharpness in [0, 1] that a newly detected person needs.
        sharpness_keep: Heat map sharpness in [0, 1] that a tracked person needs.
        person_share_min: Share of frames with a pose below which the clip has no person.
        refine: Move landmarks to the centre of mass of their heat map.

    Raises:
        UserError: a threshold outside [0, 1].
    """

    needs_frames = True

    def __init__(
        self,
        *,
        detector_score_min: float = 0.5,
        presence_min: float = 0.5,
        sharpness_start: float = 0.65,
        sharpness_keep: float = 0.55,
        person_share_min: float = 0.05,
        refine: bool = True,
    ) -> None:
        thresholds = {
            "detector_score_min": float(detector_score_min),
            "presence_min": float(presence_min),
            "sharpness_start": float(sharpness_start),
            "sharpness_keep": float(sharpness_keep),
            "person_share_min": float(person_share_min),
        }
        for name, value in thresholds.items():
            if not 0.0 <= value <= 1.0:
                raise UserError(f"pose setting {name} is {value}, allowed is 0 to 1.")
        self.thresholds = thresholds
        self.refine = bool(refine)
        self._networks: Networks | None = None

    def describe(self) -> PoseBackend:
        """What goes into the protocol's hash; needs no weights, their hashes are known."""
        hashes = "\n".join(sha256_of(name) for name in (DETECTOR, LANDMARK))
        return PoseBackend(
            name="blazepose",
            model="mediapipe-pose-full",
            weights_sha256=hashlib.sha256(hashes.encode()).hexdigest(),
            input_size=(steps.LANDMARK_SIZE, steps.LANDMARK_SIZE),
            settings={**self.thresholds, "refine": self.refine},
        )

    def missing_weights(self) -> list[str]:
        """The weights files that are not on this machine."""
        return [name for name in (DETECTOR, LANDMARK) if not find(name).path.is_file()]

    def start(self, clip: Clip, width: int, height: int) -> BlazePoseSession:
        """Begin a clip of `width` x `height` pixels.

        Raises:
            WeightsMissingError: with the command that gets the weights.
        """
        return BlazePoseSession(self, self._loaded(), width, height)

    def people_counter(self) -> PeopleCounter:
        """A counter with the thresholds of this back end: see `macebench.models.pose.people`."""
        from macebench.models.pose.people import BlazePosePeople

        return BlazePosePeople(self._loaded, self.describe(), self.thresholds)

    def _loaded(self) -> Networks:
        if self._networks is None:
            self._networks = Networks.load()
        return self._networks


class BlazePoseSession:
    """The state of one clip: the region of the person, and what was found so far."""

    def __init__(self, owner: BlazePose, networks: Networks, width: int, height: int) -> None:
        self._limits, self._refine = owner.thresholds, owner.refine
        self._networks = networks
        self._width, self._height = width, height
        self._region: steps.Region | None = None
        self._keypoints: list[FloatArray] = []
        self._confidence: list[FloatArray] = []
        self._times: list[float] = []
        self._found = 0

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) presentation timestamps in seconds.

        Raises:
            ValueError: the pictures do not have the size given at the start.
        """
        if frames.shape[1:] != (self._height, self._width, 3):
            raise ValueError(f"frames {frames.shape}, expected (B, {self._height}, {self._width}, 3)")
        for frame, time_s in zip(frames, times_s, strict=True):
            pose = self._pose(np.ascontiguousarray(frame))
            self._found += pose is not None
            points, confidence = pose if pose is not None else (np.full((17, 2), np.nan), np.zeros(17))
            self._keypoints.append(points)
            self._confidence.append(confidence)
            self._times.append(float(time_s))

    def finish(self) -> PoseTrack | Missing:
        """The track, or ``Missing("no person")``."""
        if not self._times or self._found < self._limits["person_share_min"] * len(self._times) or not self._found:
            return Missing(NO_PERSON)
        return PoseTrack(
            np.stack(self._keypoints), np.stack(self._confidence), np.array(self._times), self._width, self._height
        )

    def _pose(self, frame: NDArray[np.uint8]) -> tuple[FloatArray, FloatArray] | None:
        """Keypoints and confidences of one frame; moves the region on."""
        pose = None
        if self._region is not None:
            pose = self._landmarks(frame, self._region, self._limits["sharpness_keep"])
        if pose is None:
            self._region = self._detect(frame)
            if self._region is not None:
                pose = self._landmarks(frame, self._region, self._limits["sharpness_start"])
        if pose is None:
            self._region = None
            return None
        points, confidence = pose
        self._region = steps.region_of_circle(points[steps.HIP_CENTRE], points[steps.CIRCLE])
        return points[_COCO], confidence[_COCO]

    def _detect(self, frame: NDArray[np.uint8]) -> steps.Region | None:
        """The region of the most prominent person of a picture."""
        whole = steps.whole_picture(self._width, self._height)
        picture = steps.crop(frame, whole, steps.DETECTOR_SIZE)
        found = self._networks.detect(picture, self._limits["detector_score_min"])
        if not len(found):
            return None
        points = found[:, 5:].reshape(-1, 4, 2)
        radius = np.linalg.norm(points[:, 1] - points[:, 0], axis=1)
        best = points[int(np.argmax(found[:, 0] * radius))]
        centre, rim = steps.to_picture(best[:2] * steps.DETECTOR_SIZE, whole, steps.DETECTOR_SIZE)
        return steps.region_of_circle(centre, rim)

    def _landmarks(
        self, frame: NDArray[np.uint8], region: steps.Region, sharpness_min: float
    ) -> tuple[FloatArray, FloatArray] | None:
        """(39, 2) pixels and (39,) confidences inside a region, or None when the guard says no."""
        share = region[2] / max(self._width, self._height)
        if not REGION_SHARE_MIN <= share <= REGION_SHARE_MAX:
            return None
        found = self._networks.landmarks(frame, region, refine=self._refine)
        if found.flag < self._limits["presence_min"] or found.sharpness < sharpness_min:
            return None
        return found.points, found.confidence
