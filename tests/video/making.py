"""Small clips encoded with PyAV whose frames show their own number."""

import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tokenflow.video.scheduling import usual_scheduling

BITS = 8
WIDTH, HEIGHT = 64, 32
LIGHT, DARK = 230, 25

CODECS = [
    ("libx264", "yuv420p", "clip.mp4"),
    ("libx264", "yuv420p", "clip.ts"),
    ("libx264", "yuv444p", "clip.mkv"),
    ("libx265", "yuv420p10le", "clip.mp4"),
    ("libvpx-vp9", "yuv420p", "clip.webm"),
    ("libsvtav1", "yuv420p", "clip.mp4"),
    ("prores_ks", "yuv422p10le", "clip.mov"),
    ("mjpeg", "yuvj420p", "clip.avi"),
    ("mpeg4", "yuv420p", "clip.avi"),
    ("mpeg2video", "yuv420p", "clip.mpg"),
    ("ffv1", "bgr0", "clip.mkv"),
    ("gif", "rgb8", "clip.gif"),
    ("apng", "rgb24", "clip.apng"),
]
"""Encoder, pixel format and file name of clips that cover every supported codec."""


def numbered(number, width=WIDTH, height=HEIGHT):
    """An image (height width 3) of two rows of four blocks: the bits of a number, light for 1."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)]).reshape(2, BITS // 2)
    rows = np.arange(height) * 2 // height
    columns = np.arange(width) * (BITS // 2) // width
    grey = np.where(bits[rows][:, columns], LIGHT, DARK).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def number(image):
    """The number in an image of any size that `numbered` drew."""
    height, width, _ = image.shape
    bits = [
        image[
            (2 * row + 1) * height // 4 - height // 16 : (2 * row + 1) * height // 4 + height // 16 + 1,
            (2 * column + 1) * width // 8 - width // 32 : (2 * column + 1) * width // 8 + width // 32 + 1,
        ].mean()
        > (LIGHT + DARK) / 2
        for row in range(2)
        for column in range(BITS // 2)
    ]
    return sum(1 << bit for bit, light in enumerate(bits) if light)


def flat(colour, width=WIDTH, height=HEIGHT):
    """An image (height width 3) of one colour."""
    return np.broadcast_to(np.array(colour, dtype=np.uint8), (height, width, 3)).copy()


def need(*encoders):
    """Skip the test if PyAV was built without one of these encoders."""
    for encoder in encoders:
        if encoder not in av.codecs_available:
            pytest.skip(f"this build of PyAV has no encoder {encoder}")


def make(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction | int = 25,
    times: Sequence[Fraction] | None = None,
    end: Fraction | None = None,
    sound: str | None = None,
    layout: str = "mono",
    seconds: float | None = None,
    options: Mapping[str, str] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    tags: Mapping[str, int] | None = None,
    convert: Mapping[str, object] | None = None,
    container: str | None = None,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Encode images (H W 3 or 4) and, if `sound` names a codec, audio: `seconds` of it, by default one per 25 images.

    `end` is the time at which the last image ends; it needs `times`, and turns off reordering.
    """
    need(codec, *filter(None, [sound]))
    if codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "0")  # the first encoder in a process decides for all later ones
    images = list(images)
    with av.open(str(path), "w", format=container, options=dict(container_options or {})) as output:
        video = output.add_stream(codec, rate=rate, options=dict(options or {}))
        video.height, video.width = images[0].shape[:2]
        video.pix_fmt = pixel_format
        if times:
            video.codec_context.time_base = Fraction(1, 90_000)
        if end:
            video.codec_context.max_b_frames = 0
        if aspect:
            video.codec_context.sample_aspect_ratio = aspect
        for name, value in (tags or {}).items():
            setattr(video.codec_context, name, value)
        if rotation:
            video.set_display_rotation(rotation)
        audio = output.add_stream(sound, rate=48_000, layout=layout) if sound else None
        with usual_scheduling():
            output.start_encoding()
        if audio:
            output.mux(list(_sweep(audio, seconds or len(images) / 25)))
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgba" if image.shape[-1] == 4 else "rgb24")
            frame = frame.reformat(format=pixel_format, **(convert or {}))
            if times:
                frame.pts, frame.time_base = round(times[index] * 90_000), Fraction(1, 90_000)
            else:
                frame.pts, frame.time_base = index, 1 / Fraction(rate)
            output.mux(video.encode(frame))
        for packet in video.encode(None):
            if times and end and packet.pts == round(times[-1] * 90_000):
                packet.duration = round((end - times[-1]) * 90_000)
            output.mux(packet)
    return path


def adobe_rgb() -> bytes:
    """An ICC profile (version 2) with the primaries and the gamma of Adobe RGB (1998)."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 2**16)) for value in values)

    white = fixed(0.9642, 1, 0.8249)  # D50
    curve = b"curv\0\0\0\0" + struct.pack(">IH2x", 1, 563)  # 2.2 in units of 1/256
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 6) + b"Adobe\0" + b"\0" * 82,
        b"cprt": b"text\0\0\0\0none\0\0\0\0",
        b"wtpt": b"XYZ \0\0\0\0" + white,
        b"rXYZ": b"XYZ \0\0\0\0" + fixed(0.60974, 0.31111, 0.01947),
        b"gXYZ": b"XYZ \0\0\0\0" + fixed(0.20528, 0.62567, 0.06087),
        b"bXYZ": b"XYZ \0\0\0\0" + fixed(0.14919, 0.06322, 0.74457),
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve),
    }
    table, body, begin = b"", b"", 132 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, begin + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12x4s28x", begin + len(body), b"none", 2**25 + 2**20, b"mntr", b"RGB ", b"XYZ ", b"acsp"
    )
    return (header + white).ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def tiff_of_12_bits(value: int, side: int = 8) -> bytes:
    """A greyscale TIFF of one value, 0 to 4095, packed into 12 bits per pixel."""
    row = int(format(value, "012b") * side, 2).to_bytes(side * 12 // 8, "big")
    tags = {256: side, 257: side, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: len(row) * side}
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, content) for tag, content in tags.items())
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(row) * side) + row * side + directory


def write_pngs(folder: Path | str, images: Iterable[np.ndarray]) -> None:
    """Save images (H W 3, uint8) as `frame_00000.png` and so on in a folder, which is created if missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(Path(folder, f"frame_{index:05d}.png"))


def _sweep(stream, seconds):
    """Packets of a rising tone, which sounds different at every moment."""
    time = np.arange(round(48_000 * seconds)) / 48_000
    samples = (8000 * np.sin(2 * np.pi * (200 + 700 * time) * time)).astype(np.int16)
    for begin in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, begin : begin + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, begin, Fraction(1, 48_000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def sound_of(path):
    """The stored audio packets of a clip: start in seconds and bytes of each."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(packet.pts * packet.time_base, bytes(packet)) for packet in container.demux(stream) if packet.size]
