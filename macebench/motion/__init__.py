"""3-D motion files: reading, writing, frame rates, rotations.

`read_motion` and `write_motion` are in `macebench.motion.files`, which lists the formats; `resample_motion` changes
the frame rate by time. Pickled files are read by `macebench.motion.convert` alone, and only when the user asks for it.
"""

from macebench.motion.files import MOTION_REASONS, MOTION_SUFFIXES, read_motion, write_motion
from macebench.motion.resample import resample_motion

__all__ = ["MOTION_REASONS", "MOTION_SUFFIXES", "read_motion", "resample_motion", "write_motion"]
