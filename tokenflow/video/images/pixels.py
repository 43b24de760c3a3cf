"""The pixels of one image as a player shows them: upright, 8 bits, sRGB."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from tokenflow.errors import ClipError, TokenflowError

_UNSCALED_MODES = {"F": "floating-point numbers", "I": "32-bit integers"}
"""Pillow's greyscale modes without a defined value range."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
"""Tags of TIFF, and a value of the second."""


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image, with all errors as `ClipError`, also those while it is decoded."""
    try:
        with Image.open(path) as image:
            if image.mode in _UNSCALED_MODES:
                raise ClipError(
                    f"{path} stores pixels as {_UNSCALED_MODES[image.mode]}, for which no value is defined as white; "
                    "save it with 8 or 16 bits"
                )
            yield image
    except TokenflowError:
        raise
    except Exception as error:  # Pillow does not document which exceptions damaged files raise
        raise ClipError(
            f"{path} cannot be read ({error}); expected an image, as its name ends in {path.suffix}; "
            "if it is a video, rename it, for example to .mp4"
        ) from error


def to_video_frame(image: Image.Image) -> VideoFrame:
    """An upright frame, in RGB or RGBA, with the colours of sRGB."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):  # greyscale, which Pillow would clip instead of scaling
        upright = Image.fromarray(_eight_bits(np.asarray(upright), image))
    if image.has_transparency_data:
        transparent = upright.convert("RGBA")
        opaque = _to_srgb(transparent.convert("RGB"), image.info.get("icc_profile"))
        opaque.putalpha(transparent.getchannel("A"))
        return VideoFrame.from_ndarray(np.asarray(opaque), format="rgba")
    return VideoFrame.from_ndarray(np.asarray(_to_srgb(upright, image.info.get("icc_profile"))), format="rgb24")


def _to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """An RGB image, converted from its ICC profile; one that does not fit the image is ignored, as in browsers."""
    if image.mode in ("1", "P", "PA", "LA"):
        image = image.convert("RGB" if image.mode == "P" else "L")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return converted
    return image.convert("RGB")


def _eight_bits(values: np.ndarray, image: Image.Image) -> np.ndarray:
    """Greyscale H W scaled from the bits that a TIFF says it uses, 9 to 16, to 8."""
    tags = image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}
    bits = (tags.get(_BITS_PER_SAMPLE) or (16,))[0]
    scaled = (values.astype(np.uint32) >> (bits - 8)).clip(0, 255).astype(np.uint8)
    return 255 - scaled if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else scaled
