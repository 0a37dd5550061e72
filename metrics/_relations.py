"""The 32 relational features of Müller as one table, shared by every geometric variant.

Each row asks one yes-or-no question of a frame; a clip's feature is the share of its frames (without the first
one) that answer yes. What the five kinds mean in space or in the picture is up to the variant; the joints,
the order and the thresholds are those of google/aistplusplus_api (`features/manual.py`), which adapts
Müller, Röder and Clausen, "Efficient content-based retrieval of motion capture data", SIGGRAPH 2005.

Kinds and their joints (a fourth joint of `move` is ignored by every public implementation and left out here):

- ``move(a, b, c)``: c moves relative to a along a to b.
- ``nmove(a, b, c, d)``: d moves relative to a along the normal of a, b, c.
- ``plane(a, b, c, p)``: p is beyond the plane a, b, c.
- ``nplane(a, b, q, p)``: p is beyond the plane through q with normal a to b.
- ``angle(a, b, c, d)``: the angle of a to b against c to d is in a range of degrees.
- ``fast(a)``: a moves.

Rows 4 and 5 are the same question in every public implementation, and are kept so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["move", "nmove", "plane", "nplane", "angle", "fast"]
Length = Literal["hl", "sw", "hw"]


@dataclass(frozen=True)
class Relation:
    """One relational feature.

    Attributes:
        kind: What is asked.
        joints: SMPL-24 names, or ``zero``, ``y_unit``, ``minus_y_unit``, ``y_min`` (the lowest point).
        factor: Threshold in units of `length` (unused by ``angle``).
        length: ``hl`` upper arm, ``sw`` shoulder width, ``hw`` hip width.
        degrees: Range of ``angle``.
    """

    kind: Kind
    joints: tuple[str, ...]
    factor: float = 0.0
    length: Length = "hl"
    degrees: tuple[float, float] = (0.0, 0.0)


def _angle(joints: str, low: float, high: float) -> Relation:
    return Relation("angle", tuple(joints.split()), degrees=(low, high))


def _relation(kind: Kind, joints: str, factor: float, length: Length = "hl") -> Relation:
    return Relation(kind, tuple(joints.split()), factor, length)


RELATIONS: tuple[Relation, ...] = (
    _relation("nmove", "neck rhip lhip rwrist", 1.8),
    _relation("nmove", "neck lhip rhip lwrist", 1.8),
    _relation("nplane", "chest neck neck rwrist", 0.2),
    _relation("nplane", "chest neck neck lwrist", 0.2),
    _relation("move", "belly chest chest", 1.8),
    _relation("move", "belly chest chest", 1.8),
    _angle("relbow rshoulder relbow rwrist", 0, 110),
    _angle("lelbow lshoulder lelbow lwrist", 0, 110),
    _relation("nplane", "lshoulder rshoulder lwrist rwrist", 2.5, "sw"),
    _relation("move", "lwrist rwrist rwrist", 1.4),
    _relation("move", "rwrist root lwrist", 1.4),
    _relation("move", "lwrist root rwrist", 1.4),
    _relation("fast", "rwrist", 2.5),
    _relation("fast", "lwrist", 2.5),
    _relation("plane", "root lhip ltoes rankle", 0.38),
    _relation("plane", "root rhip rtoes lankle", 0.38),
    _relation("nplane", "zero y_unit y_min rankle", 1.2),
    _relation("nplane", "zero y_unit y_min lankle", 1.2),
    _relation("nplane", "lhip rhip lankle rankle", 2.1, "hw"),
    _angle("rknee rhip rknee rankle", 0, 110),
    _angle("lknee lhip lknee lankle", 0, 110),
    _relation("fast", "rankle", 2.5),
    _relation("fast", "lankle", 2.5),
    _angle("neck root rshoulder relbow", 25, 180),
    _angle("neck root lshoulder lelbow", 25, 180),
    _angle("neck root rhip rknee", 50, 180),
    _angle("neck root lhip lknee", 50, 180),
    _relation("plane", "rankle neck lankle root", 0.5),
    _angle("neck root zero y_unit", 70, 110),
    _relation("nplane", "zero minus_y_unit y_min rwrist", -1.2),
    _relation("nplane", "zero minus_y_unit y_min lwrist", -1.2),
    _relation("fast", "root", 2.3),
)

# Rest pose of SMPL in metres: the lengths that all public implementations take instead of the dancer's own.
REST_LSHOULDER_M = (0.199113488, 0.236807942, -0.0180702247)
REST_RSHOULDER_M = (-0.191692337, 0.236928746, -0.0123055102)
REST_LELBOW_M = (0.454445392, 0.221158922, -0.0410167128)
REST_LHIP_M = (0.0564076714, -0.323069185, 0.0109197125)
REST_RHIP_M = (-0.0624834076, -0.331302464, 0.0150412619)
