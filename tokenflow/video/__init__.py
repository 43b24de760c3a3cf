"""Video files and frames: streaming reader, writer, and resizing between clip and model."""

from tokenflow.video.encoders import holds
from tokenflow.video.geometry import ResizeMode, fit_size, resize, restore
from tokenflow.video.reader import ClipInfo, Frame, clip_files, probe, read_frames
from tokenflow.video.video import Part, Sound, Video
from tokenflow.video.writer import VideoWriter

__all__ = [
    "ClipInfo",
    "Frame",
    "Part",
    "ResizeMode",
    "Sound",
    "Video",
    "VideoWriter",
    "clip_files",
    "fit_size",
    "holds",
    "probe",
    "read_frames",
    "resize",
    "restore",
]
