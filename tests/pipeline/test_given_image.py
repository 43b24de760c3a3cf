"""Images that callers give: the same image is the same in any form."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tokenflow.errors import ClipError, ConfigError, TokenflowWarning
from tokenflow.pipeline.given_image import as_image

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)


def test_arrays_tensors_and_pillow_images_mean_the_same(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "image.png")
    forms = [PIXELS, PIXELS / 255, torch.tensor(PIXELS), Image.fromarray(PIXELS), tmp_path / "image.png"]
    assert all(np.array_equal(as_image(form, "an image"), PIXELS) for form in forms)


def test_a_pillow_image_is_turned_upright_as_a_file_is(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    image.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert np.array_equal(as_image(opened, "an image"), np.rot90(PIXELS, -1))
    assert np.array_equal(as_image(tmp_path / "turned.png", "an image"), np.rot90(PIXELS, -1))


def test_transparent_pixels_are_shown_over_black_with_a_notice(tmp_path: Path) -> None:
    alpha = np.full((6, 9, 1), 255, np.uint8)
    alpha[:3] = 0
    image = Image.fromarray(np.concatenate([PIXELS, alpha], 2))
    image.save(tmp_path / "image.png")
    for given in (image, tmp_path / "image.png"):
        with pytest.warns(TokenflowWarning, match=r"a reference has transparent pixels, which are shown over black"):
            shown = as_image(given, "a reference")
        assert not shown[:3].any()
        assert np.array_equal(shown[3:], PIXELS[3:])


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "both.webp", save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(as_image(tmp_path / "both.webp", "an image"), PIXELS)


@pytest.mark.parametrize(
    "given", [PIXELS[0], PIXELS[:0], PIXELS.astype(float), np.full((2, 2, 3), np.nan), None], ids=lambda _: "given"
)
def test_what_is_no_image_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError, match=r"an image: expected"):
        as_image(given, "an image")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(ClipError, match=r"broken\.png cannot be read"):
        as_image(tmp_path / "broken.png", "an image")
