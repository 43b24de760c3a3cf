"""Clips with a white flash and a beep at the same times, and where both are in a file."""

from fractions import Fraction

import av
import numpy as np

from tests.video.making import need

RATE, SAMPLES = 25, 48_000
BEEP = 0.04
"""Seconds, as long as the one white image."""


def make_flashes(path, at=(1, 2, 3), seconds=4, sound="aac", layout="mono", reordered=3):
    """A clip of 25 fps, with a key frame every second and so many B-frames in a row; times in seconds."""
    need("libx264", sound)
    with av.open(str(path), "w") as output:
        options = {"g": str(RATE), "sc_threshold": "0", "bf": str(reordered)}
        video = output.add_stream("libx264", rate=RATE, options=options)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        audio = output.add_stream(sound, rate=SAMPLES, layout=layout, options={"strict": "experimental"})
        output.start_encoding()
        packets = [*_beeps(audio, at, seconds), *_flashes(video, at, seconds)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return path


def _flashes(stream, at, seconds):
    white = {round(time * RATE) for time in at}
    for index in range(round(seconds * RATE)):
        image = np.full((32, 32, 3), 255 if index in white else 20, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, RATE)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _beeps(stream, at, seconds):
    signal = np.zeros(round(seconds * SAMPLES), np.int16)
    count = round(BEEP * SAMPLES)
    beep = (20_000 * np.sin(2 * np.pi * 1000 * np.arange(count) / SAMPLES)).astype(np.int16)
    for time in at:
        signal[round(time * SAMPLES) :][:count] = beep
    for begin in range(0, len(signal), 1024):
        frame = av.AudioFrame.from_ndarray(signal[None, begin : begin + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLES, begin, Fraction(1, SAMPLES)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def flashes(path):
    """Seconds at which a file shows white images, by its time stamps."""
    with av.open(str(path)) as container:
        return [
            float(frame.pts * frame.time_base)
            for frame in container.decode(video=0)
            if frame.to_ndarray(format="gray").mean() > 150
        ]


def beeps(path):
    """Seconds at which beeps begin in a file, by its time stamps."""
    loud = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            signal = np.abs(frame.to_ndarray().astype(float)) / (1 if "flt" in frame.format.name else 2**15)
            loudest = (signal if frame.format.is_planar else signal.reshape(frame.samples, -1).T).max(axis=0)
            begin = float(frame.pts * frame.time_base)
            loud += [begin + index / frame.sample_rate for index in np.flatnonzero(loudest > 0.2)]
    return [time for before, time in zip([-1.0, *loud], loud, strict=False) if time - before > 5 * BEEP]
