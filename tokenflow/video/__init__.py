"""Video files and frames: streaming reader, writer, and resizing between clip and model."""

from tokenflow.video.encoders import holds
from tokenflow.video.geometry import ResizeMode, fit_size, resize, restore
from tokenflow.video.reader import ClipInfo, Frame, clip_files, probe, read_frames
from tokenflow.video.writer import VideoWriter

__all__ = [
    "ClipInfo",
    "Frame",
    "ResizeMode",
    "VideoWriter",
    "clip_files",
    "fit_size",
    "holds",
    "probe",
    "read_frames",
    "resize",
    "restore",
]
