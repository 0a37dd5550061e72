"""The only door to video and sound files: reading, writing, and clocks.

`Decoder` reads untrusted files in a process with limits; `write_video` and `write_wav` write whole files or none;
`resample_track` brings a sequence with timestamps to a fixed rate; `find_media` and `file_sha256` list
and identify files.
"""

from macebench.media.decoder import Decoder
from macebench.media.files import file_sha256, find_media
from macebench.media.framefolder import FrameFolder, find_frame_folders, frame_folder
from macebench.media.timeline import resample_track
from macebench.media.values import FrameBatch, FrameCounts, Limits, Sound, VideoInfo
from macebench.media.writing import write_video, write_wav

__all__ = [
    "Decoder",
    "FrameBatch",
    "FrameCounts",
    "FrameFolder",
    "Limits",
    "Sound",
    "VideoInfo",
    "file_sha256",
    "find_frame_folders",
    "find_media",
    "frame_folder",
    "resample_track",
    "write_video",
    "write_wav",
]
