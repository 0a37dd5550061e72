"""A metric and a calibration model that live in a package of their own."""

from macebench.protocol import Protocol
from macebench.registry import metric, model
from macebench.types import Evidence, Missing, ModelCard


@metric("plugin-track-length", unit="s", better="higher", needs=("pose",))
def track_length(evidence: Evidence, protocol: Protocol) -> float:
    """Seconds from the first to the last frame with a person."""
    track = evidence.need_pose()
    seen = track.times_s[track.present]
    return float(seen[-1] - seen[0])


@model("plugin-upside-down")
class UpsideDown:
    """Real clips turned upside down."""

    card = ModelCard("plugin-upside-down", "calibration", "Real clips upside down.")

    def transform(self, evidence: tuple[Evidence, ...], index: int) -> Evidence:
        """The clip with y mirrored."""
        own = evidence[index]
        if isinstance(own.pose, Missing):
            return own
        keypoints = own.pose.keypoints.copy()
        keypoints[..., 1] = own.pose.height - keypoints[..., 1]
        return own.replace(pose=own.pose.replace(keypoints=keypoints))
