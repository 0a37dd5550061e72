"""Which joint of a skeleton is which joint of SMPL-24, by name.

A name is taken apart into a side (left, right, none) and a part: ``mixamorig:LeftUpLeg``, ``lThigh``, ``L_Hip``,
``Bip01 L Thigh``, ``thigh_l`` and ``lhip`` are all "left" plus a word for the thigh. For each SMPL joint a list of
words is tried in order; a joint is used once. The lists cover cgspeed's conversions of CMU (both the MotionBuilder and
the Daz names), Mixamo, HumanIK, 3ds Max biped, Unreal, Second Life style and plain BVH names, and SMPL's own. When no
word fits exactly, a name that contains one is taken. The spine needs no names: it is the path from the hips to the
joint from which both arms and the head grow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

from macebench.errors import MediaError

UNKNOWN_SKELETON = "unknown skeleton"

_SIDED: dict[str, tuple[str, ...]] = {
    # a word that can mean two joints (foot, shoulder, hand, hip) stands last at the first and first at the second
    "hip": ("thigh", "upleg", "upperleg", "upperlegs", "femur", "hip"),
    "ankle": ("ankle", "foot"),
    "knee": ("shin", "calf", "knee", "lowleg", "lowerleg", "tibia", "leg"),
    "toes": ("toebase", "toes", "toe", "toe0", "ball", "foot"),
    "shoulder": ("shldr", "upperarm", "uparm", "arm", "humerus", "shoulder"),
    "elbow": ("forearm", "lowerarm", "lowarm", "elbow", "radius"),
    "inshoulder": ("collar", "clavicle", "collarbone", "inshoulder", "shoulder", "scapula"),
    "wrist": ("wrist", "hand"),
    "hand": ("hand", "handmiddle1", "mid1", "middle1", "middle01", "fingerbase", "finger2", "handmiddle", "hands"),
    "index": ("handindex1", "index1", "index01", "finger1", "handindex"),
    "pinky": ("handpinky1", "pinky1", "pinky01", "finger4", "handpinky"),
}
_HEAD = ("head",)
_EXACT_ONLY = frozenset({"hand", "index", "pinky", "toes"})
_OPTIONAL = frozenset({"toes", "inshoulder", "hand", "index", "pinky"})
_NEVER = re.compile(r"twist|roll|finger|thumb|index|mid|ring|pinky|nub|eye|jaw|helper|target|pole|ik$|end$|joint$|top")
_SIDES = {"l": "l", "left": "l", "r": "r", "right": "r"}
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_KNOWN = frozenset(word for words in _SIDED.values() for word in words)


def split_name(name: str) -> tuple[str, str]:
    """(side, part) of a joint's name: side ``l``, ``r`` or empty, part in lower case without separators.

    >>> split_name("mixamorig:LeftUpLeg"), split_name("lThigh"), split_name("upperarm_r"), split_name("linshoulder")
    (('l', 'upleg'), ('l', 'thigh'), ('r', 'upperarm'), ('l', 'inshoulder'))
    """
    bare = re.sub(r"^(bip|character|mixamorig)[0-9]*[ _]?", "", name.rsplit(":", 1)[-1].strip(), flags=re.I)
    words = [word.lower() for word in _WORDS.findall(bare)]
    for place, word in enumerate(words):
        if word in _SIDES:
            return _SIDES[word], "".join(words[:place] + words[place + 1 :])
    whole = "".join(words)
    for prefix in ("left", "right", "l", "r"):
        rest = whole.removeprefix(prefix)
        if rest != whole and rest in _KNOWN:
            return _SIDES[prefix], rest
    return "", whole


def match_joints(names: Sequence[str], parents: Sequence[int]) -> dict[str, int]:
    """Indices of the joints that play SMPL's parts.

    Args:
        names: J joint names.
        parents: J parent indices, parents before children, -1 for the root.

    Returns:
        SMPL joint name -> index: always ``root``, ``chest``, ``head`` and both sides of ``hip, knee, ankle, shoulder,
        elbow, wrist``; where there are such joints also ``neck``, both sides of ``toes, inshoulder, hand``, and
        ``lindex, lpinky, rindex, rpinky`` (first joints of these fingers).

    Raises:
        MediaError: ``unknown skeleton``; the detail lists what was not found, and the names there are.
    """
    parts = [split_name(name) for name in names]
    found: dict[str, int] = {}
    head = _best(parts, "", _HEAD, set(), exact=False)
    if head is not None:
        found["head"] = head
    for side in "lr":
        used: set[int] = set()
        for role, words in _SIDED.items():
            index = _best(parts, side, words, used, exact=role in _EXACT_ONLY)
            if index is not None:
                found[side + role] = index
                used.add(index)
    missing = [s + role for role in _SIDED if role not in _OPTIONAL for s in "lr" if s + role not in found]
    missing += [] if "head" in found else ["head"]
    if missing:
        _refuse(f"not found: {', '.join(missing)}", names)
    _check_chains(found, names, parents)
    _check_trunk(found, names, parents)
    return _with_spine(found, names, parents)


def _best(
    parts: Sequence[tuple[str, str]], side: str, words: Sequence[str], used: set[int], *, exact: bool
) -> int | None:
    """The joint that fits best, or None: whole words first, in the order of `words`."""
    mine = [(index, part) for index, (where, part) in enumerate(parts) if where == side and index not in used]
    for word in words:
        for index, part in mine:
            if part == word:
                return index
    if exact:
        return None
    for word in words:
        for index, part in mine:
            if word in part and not _NEVER.search(part):
                return index
    return None


def path_to_root(parents: Sequence[int], joint: int) -> list[int]:
    """The joint, its parent, and so on up to the root."""
    result = [joint]
    while parents[result[-1]] >= 0:
        result.append(parents[result[-1]])
    return result


def _check_chains(found: Mapping[str, int], names: Sequence[str], parents: Sequence[int]) -> None:
    """Each limb must hang together: the wrist below the elbow, the elbow below the shoulder, and so on."""
    for side in "lr":
        for chain in (("hip", "knee", "ankle", "toes"), ("inshoulder", "shoulder", "elbow", "wrist", "hand")):
            there = [side + role for role in chain if side + role in found]
            for upper, lower in pairwise(there):
                if found[upper] not in path_to_root(parents, found[lower])[1:]:
                    _refuse(f"{lower} ({names[found[lower]]}) is not below {upper} ({names[found[upper]]})", names)


def _check_trunk(found: Mapping[str, int], names: Sequence[str], parents: Sequence[int]) -> None:
    """No limb and not the head may grow from a limb."""
    limbs = {index for role, index in found.items() if role != "head"}
    for top in ("lhip", "rhip", "lshoulder", "rshoulder", "head"):
        collar = found.get(f"{top[0]}inshoulder") if top.endswith("shoulder") else None
        if (limbs - {collar}).intersection(path_to_root(parents, found[top])[1:]):
            _refuse(f"{top} ({names[found[top]]}) does not grow from the trunk", names)


def _with_spine(found: dict[str, int], names: Sequence[str], parents: Sequence[int]) -> dict[str, int]:
    def common(*roles: str) -> int:
        paths = [path_to_root(parents, found[role]) for role in roles]
        return next((joint for joint in paths[0] if all(joint in path for path in paths[1:])), -1)

    root, chest = common("lhip", "rhip", "head"), common("lshoulder", "rshoulder", "head")
    if root not in path_to_root(parents, chest):
        _refuse(f"the chest ({names[chest]}) is not above the hips ({names[root]})", names)
    result = {**found, "root": root, "chest": chest}
    if parents[found["head"]] != chest:
        result["neck"] = parents[found["head"]]
    return result


def _refuse(why: str, names: Sequence[str]) -> None:
    listed = ", ".join(name[:40] for name in names[:80])
    raise MediaError(UNKNOWN_SKELETON, f"{why}; the joints are: {listed}{' ...' if len(names) > 80 else ''}")
