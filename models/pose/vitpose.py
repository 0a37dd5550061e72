"""ViTPose: top-down keypoints of one person with a vision transformer; the accurate pose back end.

RT-DETR (R50, Objects365 and COCO) finds the persons of each frame, `macebench.models.pose.follow.Follower` keeps to
one of them by overlap, and ViTPose gives the 17 COCO keypoints of that person's box. Both networks are those of
transformers with weights of the hub (``macebench weights pull vitpose``); everything around them is
`macebench.models.pose.vitpose_steps`, so that neither torchvision nor a hub connection is needed.

Preprocessing: RT-DETR takes the picture resized to 640x640 (antialiased bilinear) in [0, 1]; ViTPose takes the box
widened to 3:4 and by a quarter, at 192x256, with ImageNet mean and deviation. Heat maps are decoded with DARK. There
is no flip test and no smoothing over time. Confidence is the heat map's peak, limited to [0, 1]. Without a person box
a frame is missing; a clip with a person in no frame is ``Missing("no person")``.

Sizes: ``b`` is ViTPose-B simple; ``s``, ``l`` and ``h`` are ViTPose+ (a mixture of experts, of which the COCO expert
is used).

Frames are collected into batches of `batch_size` across calls, so that the result does not depend on how they are
handed over. Another `batch_size` changes the order of sums inside the networks: by less than 0.01 pixels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from macebench.errors import UserError
from macebench.models.pose import vitpose_steps as steps
from macebench.models.pose.follow import Follower
from macebench.people import PeopleCounter
from macebench.pose import NO_PERSON
from macebench.protocol import PoseBackend
from macebench.registry import pose_backend
from macebench.types import Clip, FloatArray, Missing, PoseTrack
from macebench.weights import find, loading, path_of, sha256_of

SIZES = {"s": "plus-small", "b": "base-simple", "l": "plus-large", "h": "plus-huge"}
DEVICES = ("auto", "cpu", "cuda")
DETECTOR = "rtdetr-r50"
_PARTS = ("config", "preprocessor", "model")
_COCO_EXPERT = 0


@pose_backend("vitpose")
class ViTPose:
    """The pose back end ``vitpose``; see the module's docstring.

    Args:
        size: ``s``, ``b``, ``l`` or ``h``.
        device: ``cpu``, ``cuda``, or ``auto`` (cuda where there is one).
        box_score_min: Score in [0, 1] that a person's box needs.
        box_iou_min: Overlap in [0, 1] with the last box that the same person needs.
        patience_s: Seconds that a lost person is waited for.
        batch_size: Frames that go through a network at once.

    Raises:
        UserError: a setting outside its range.
    """

    needs_frames = True

    def __init__(
        self,
        *,
        size: str = "b",
        device: str = "auto",
        box_score_min: float = 0.5,
        box_iou_min: float = 0.3,
        patience_s: float = 0.5,
        batch_size: int = 8,
    ) -> None:
        _one_of("size", size, tuple(SIZES))
        _one_of("device", device, DEVICES)
        self.size, self.device = size, device
        self.limits = {"box_score_min": float(box_score_min), "box_iou_min": float(box_iou_min)}
        self.limits["patience_s"] = float(patience_s)
        for name, value in self.limits.items():
            top = 1.0 if name != "patience_s" else 60.0
            if not 0.0 <= value <= top:
                raise UserError(f"pose setting {name} is {value}, allowed is 0 to {top:g}.")
        if int(batch_size) < 1:
            raise UserError(f"pose setting batch_size is {batch_size}, allowed is 1 and more.")
        self.batch_size = int(batch_size)
        self._networks: Networks | None = None

    def describe(self) -> PoseBackend:
        """What goes into the protocol's hash.

        Raises:
            WeightsMissingError: the weights are not there, and neither is their hash in the table.
        """
        names = [f"{model}-{part}" for model in (DETECTOR, f"vitpose-{self.size}") for part in _PARTS]
        hashes = "\n".join(sha256_of(name) for name in names)
        return PoseBackend(
            name="vitpose",
            model=f"vitpose-{SIZES[self.size]}",
            weights_sha256=hashlib.sha256(hashes.encode()).hexdigest(),
            input_size=steps.INPUT_SIZE,
            settings={**self.limits, "detector": DETECTOR, "decoder": "dark"},
        )

    def missing_weights(self) -> list[str]:
        """The weights files that are not on this machine; those of the pose network first."""
        names = [f"{model}-{part}" for model in (f"vitpose-{self.size}", DETECTOR) for part in _PARTS]
        return [name for name in names if not find(name).path.is_file()]

    def start(self, clip: Clip, width: int, height: int) -> ViTPoseSession:
        """Begin a clip of `width` x `height` pixels.

        Raises:
            WeightsMissingError: with the command that gets the weights.
            UserError: transformers is missing, there is no such device, or the weights do not fit.
        """
        return ViTPoseSession(self, self._loaded(), width, height)

    def people_counter(self) -> PeopleCounter:
        """A counter of RT-DETR's boxes: see `macebench.models.pose.people`."""
        from macebench.models.pose.people import ViTPosePeople

        return ViTPosePeople(self._loaded, self.describe(), self.batch_size)

    def _loaded(self) -> Networks:
        if self._networks is None:
            self._networks = Networks(f"vitpose-{self.size}", self.device)
        return self._networks


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(f"pose setting {name} is {value!r}, allowed are {', '.join(allowed)}.")


class ViTPoseSession:
    """The state of one clip: frames that wait for a full batch, the person's last box, and what was found."""

    def __init__(self, owner: ViTPose, networks: Networks, width: int, height: int) -> None:
        self._score_min, self._batch_size = owner.limits["box_score_min"], owner.batch_size
        self._follower = Follower(owner.limits["box_iou_min"], owner.limits["patience_s"])
        self._networks, self._size = networks, (width, height)
        self._waiting: list[NDArray[np.uint8]] = []
        self._waiting_s: list[float] = []
        self._keypoints: list[FloatArray] = []
        self._confidence: list[FloatArray] = []
        self._times: list[float] = []

    def update(self, frames: NDArray[np.uint8], times_s: FloatArray) -> None:
        """Take the next (B, H, W, 3) RGB frames and their (B,) presentation timestamps in seconds.

        Raises:
            ValueError: the pictures do not have the size given at the start.
        """
        if frames.shape[1:] != (self._size[1], self._size[0], 3):
            raise ValueError(f"frames {frames.shape}, expected (B, {self._size[1]}, {self._size[0]}, 3)")
        for frame, time_s in zip(frames, times_s, strict=True):
            self._waiting.append(frame.copy())
            self._waiting_s.append(float(time_s))
            if len(self._waiting) == self._batch_size:
                self._work()

    def finish(self) -> PoseTrack | Missing:
        """The track, or ``Missing("no person")``."""
        self._work()
        keypoints = np.array(self._keypoints).reshape(-1, 17, 2)
        if not np.isfinite(keypoints).any():
            return Missing(NO_PERSON)
        confidence = np.array(self._confidence).reshape(-1, 17)
        return PoseTrack(keypoints, confidence, np.array(self._times), *self._size)

    def _work(self) -> None:
        """Run what waits through both networks."""
        if not self._waiting:
            return
        chosen: dict[int, FloatArray] = {}
        logits, shares = self._networks.detect(self._waiting)
        for index, time_s in enumerate(self._waiting_s):
            boxes, scores = steps.person_boxes(logits[index], shares[index], self._size, self._score_min)
            person = self._follower.choose(boxes, scores, time_s)
            if person is not None:
                chosen[index] = steps.crop_of_box(boxes[person])
        found = self._poses(chosen)
        for index in range(len(self._waiting)):
            points, confidence = found.get(index, (np.full((17, 2), np.nan), np.zeros(17)))
            self._keypoints.append(points)
            self._confidence.append(confidence)
        self._times += self._waiting_s
        self._waiting, self._waiting_s = [], []

    def _poses(self, crops: dict[int, FloatArray]) -> dict[int, tuple[FloatArray, FloatArray]]:
        """Keypoints in pixels and confidences of the persons in the waiting frames, by frame."""
        if not crops:
            return {}
        inputs = np.stack([steps.cut(self._waiting[index], crop) for index, crop in crops.items()])
        result = {}
        for (index, crop), heatmaps in zip(crops.items(), self._networks.heatmaps(inputs), strict=True):
            cells, confidence = steps.decode(heatmaps)
            result[index] = steps.to_picture(cells, crop, (heatmaps.shape[2], heatmaps.shape[1])), confidence
        return result


class Networks:
    """Detector and ViTPose on a device."""

    def __init__(self, model: str, device: str) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise UserError("ViTPose needs transformers.", hint='pip install "macebench[pose]"') from error
        if device == "cuda" and not torch.cuda.is_available():
            raise UserError("there is no CUDA device on this machine.", hint="Use device=cpu or device=auto.")
        self.device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        self._detector = _load(transformers.RTDetrForObjectDetection, DETECTOR, self.device)
        self._model = _load(transformers.VitPoseForPoseEstimation, model, self.device)
        self._experts = int(getattr(self._model.config.backbone_config, "num_experts", 1))

    def detect(self, frames: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[Any], NDArray[Any]]:
        """(B, Q, C) class logits and (B, Q, 4) relative boxes of B pictures."""
        import torch

        with torch.inference_mode():
            pictures = detector_input(np.stack(frames)).to(self.device)
            output = self._detector(pixel_values=pictures)
            return output.logits.float().cpu().numpy(), output.pred_boxes.float().cpu().numpy()

    def heatmaps(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """(B, 17, 64, 48) heat maps of (B, 3, 256, 192) inputs."""
        import torch

        expert = torch.full((len(inputs),), _COCO_EXPERT, device=self.device) if self._experts > 1 else None
        with torch.inference_mode():
            output = self._model(torch.from_numpy(inputs).to(self.device), dataset_index=expert)
            return np.asarray(output.heatmaps.float().cpu().numpy())


def detector_input(frames: NDArray[np.uint8]) -> Any:
    """(B, 3, 640, 640) float32 tensor in [0, 1] of (B, H, W, 3) pictures, resized as Pillow's bilinear does."""
    import torch

    pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
    side = (steps.DETECTOR_SIZE, steps.DETECTOR_SIZE)
    resized = torch.nn.functional.interpolate(pictures, side, mode="bilinear", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255).div_(255)


def _load(kind: Any, name: str, device: str) -> Any:
    """A network of transformers from its checked local files."""
    with loading(*(f"{name}-{part}" for part in _PARTS)):
        folder = [path_of(f"{name}-{part}") for part in _PARTS][-1].parent
        _check_preprocessor(name)
        with _no_chatter():
            try:
                model, info = kind.from_pretrained(
                    str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
                )
            except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
                raise UserError(f"weights in {folder} cannot be loaded: {type(error).__name__}: {error}") from error
        wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        if wrong:
            raise UserError(f"weights in {folder} do not fit their config: {wrong[0]} and {len(wrong) - 1} more.")
    return model.to(device).eval()


def _check_preprocessor(name: str) -> None:
    """The published preprocessing must be the one that is implemented here.

    Raises:
        UserError: it is another one.
    """
    path = path_of(f"{name}-preprocessor")
    width, height = (steps.DETECTOR_SIZE,) * 2 if name == DETECTOR else steps.INPUT_SIZE
    try:
        size = json.loads(path.read_text("utf-8"))["size"]
        same = (size["width"], size["height"]) == (width, height)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no preprocessor configuration: {error!r}.") from error
    if not same:
        raise UserError(f"{path} wants pictures of {size}, this back end makes {width}x{height}.")


@contextmanager
def _no_chatter() -> Iterator[None]:
    """Without the progress bars and notes of transformers."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
