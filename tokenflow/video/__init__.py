"""Video files and frames: streaming reader, writer, and resizing between clip and model."""

from tokenflow.video.clip_file import ClipInfo, check_sound, clip_files, probe
from tokenflow.video.encoders import holds, holds_alpha
from tokenflow.video.formats import ANIMATIONS, default_codec
from tokenflow.video.geometry import ResizeMode, crop_like, fit_area, fit_size, resize, restore
from tokenflow.video.images.files import IMAGE_SUFFIXES
from tokenflow.video.reader import Frame, read_frames
from tokenflow.video.sound.muxer import SoundMode
from tokenflow.video.transparency import parse_colour, uncomposite
from tokenflow.video.video import Part, Sound, Video
from tokenflow.video.writer import VideoWriter

__all__ = [
    "ANIMATIONS",
    "IMAGE_SUFFIXES",
    "ClipInfo",
    "Frame",
    "Part",
    "ResizeMode",
    "Sound",
    "SoundMode",
    "Video",
    "VideoWriter",
    "check_sound",
    "clip_files",
    "crop_like",
    "default_codec",
    "fit_area",
    "fit_size",
    "holds",
    "holds_alpha",
    "parse_colour",
    "probe",
    "read_frames",
    "resize",
    "restore",
    "uncomposite",
]
