"""Video files and frames: a streaming reader, a writer, and the geometry between their sizes."""

from tokenflow.video.encoders import holds
from tokenflow.video.geometry import How, fit_size, resize, restore
from tokenflow.video.reader import ClipInfo, Frame, clip_files, probe, read_frames
from tokenflow.video.writer import VideoWriter

__all__ = [
    "ClipInfo",
    "Frame",
    "How",
    "VideoWriter",
    "clip_files",
    "fit_size",
    "holds",
    "probe",
    "read_frames",
    "resize",
    "restore",
]
