"""The player of the report page in a browser: the line between source and edit, and frame by frame."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.browser import IS_MISSING, WHY_NOT, Tab, chromium
from tests.report.test_page import CONTENT
from tokenflow.report import write_page
from tokenflow.video import VideoWriter

pytestmark = pytest.mark.skipif(IS_MISSING, reason=WHY_NOT)

FRAMES = 5
SIDE = 32
SETTINGS = {**CONTENT["settings"], "clip": {"prompt": "a-prompt-without-spaces-" * 10}}


def level(index: int) -> int:
    """The brightness of a frame of the clip."""
    return 40 + 40 * index


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page of an edit that makes grey frames red, and that of its first frame alone."""
    folder = tmp_path_factory.mktemp("pages")
    for name, count in (("report", FRAMES), ("single", 1)):
        video = folder / f"{name}.mp4"
        with VideoWriter(video, width=2 * SIDE, height=SIDE, rate=12) as writer:
            for index in range(count):
                image = np.full((SIDE, 2 * SIDE, 3), level(index), np.uint8)
                image[:, SIDE:, 1:] = 0
                writer.write(image)
        write_page(folder / f"{name}.html", {**CONTENT, "settings": SETTINGS, "frames": count}, video)
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with chromium(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def player(browser: Tab, pages: Path) -> Tab:
    """The page, stopped at its first frame."""
    browser.open(pages / "report.html")
    browser.wait_for(f"{PIXEL.format(4)}[0] > 0")
    browser.evaluate("show(0)")
    browser.wait_for(f"!video.seeking && Math.abs({PIXEL.format(4)}[0] - {level(0)}) < 15")
    return browser


PIXEL = f"[...canvas.getContext('2d').getImageData({{}}, {SIDE // 2}, 1, 1).data]"
"""JavaScript for red, green, blue and alpha in a column of the canvas."""


def is_edited(tab: Tab, column: int) -> bool:
    red, green, _, _ = tab.evaluate(PIXEL.format(column))
    return bool(red > green + 20)


def focus(tab: Tab, selector: str) -> None:
    tab.evaluate(f"document.querySelector('{selector}').focus()")


def wait_for_frame(tab: Tab, number: int) -> None:
    tab.wait_for(f"document.querySelector('.where').textContent === 'frame {number} of {FRAMES}'")
    tab.wait_for(f"Math.abs({PIXEL.format(4)}[0] - {level(number - 1)}) < 15")


def test_the_page_loads_without_errors_and_plays(browser: Tab, pages: Path) -> None:
    browser.open(pages / "report.html")
    browser.wait_for("document.querySelector('.where').textContent.startsWith('frame 2')")
    browser.wait_for("document.querySelector('.where').textContent.startsWith('frame 1')")  # again
    assert browser.errors == []


def test_the_line_between_source_and_edit_moves_by_keyboard(player: Tab) -> None:
    assert [is_edited(player, column) for column in (4, SIDE - 5)] == [False, True]
    focus(player, ".split")
    for _ in range(45):
        player.press("ArrowRight")
    assert [is_edited(player, column) for column in (4, SIDE - 5)] == [False, False]
    assert player.evaluate("split.getAttribute('aria-valuetext')") == "source 95 %, edit 5 %"
    wait_for_frame(player, 1)


def test_the_line_between_source_and_edit_can_be_dragged(player: Tab) -> None:
    left, top, width, height = player.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])(canvas.getBoundingClientRect())"
    )
    player.drag((left + width / 2, top + height / 2), (left + 1, top + height / 2))
    assert [is_edited(player, column) for column in (4, SIDE - 5)] == [True, True]


def test_frames_are_stepped_by_arrow_keys_buttons_and_slider(player: Tab) -> None:
    player.press("ArrowRight")
    wait_for_frame(player, 2)
    player.press("ArrowLeft")
    player.press("ArrowLeft")
    wait_for_frame(player, FRAMES)
    player.evaluate("document.querySelector('[aria-label=\"previous frame\"]').click()")
    wait_for_frame(player, FRAMES - 1)
    player.evaluate("document.querySelector('[aria-label=\"next frame\"]').click()")
    wait_for_frame(player, FRAMES)
    focus(player, ".frame")
    player.press("ArrowLeft")
    wait_for_frame(player, FRAMES - 1)


def test_a_button_pauses_and_plays(player: Tab) -> None:
    text = "document.querySelector('.play').textContent"
    assert player.evaluate(text) == "Play"
    player.evaluate("document.querySelector('.play').click()")
    player.wait_for(f"{text} === 'Pause' && !video.paused")
    player.evaluate("document.querySelector('.play').click()")
    player.wait_for(f"{text} === 'Play' && video.paused")


def test_small_clips_are_shown_at_twice_their_size(player: Tab) -> None:
    assert player.evaluate("canvas.getBoundingClientRect().width") == 2 * SIDE


def test_a_single_frame_has_the_line_only(browser: Tab, pages: Path) -> None:
    browser.open(pages / "single.html")
    browser.wait_for(f"{PIXEL.format(4)}[0] > 0")
    assert [is_edited(browser, column) for column in (4, SIDE - 5)] == [False, True]
    assert browser.errors == []


def test_the_clip_stands_still_where_the_user_prefers_less_motion(browser: Tab, pages: Path) -> None:
    browser.open(pages / "report.html", motion="reduce")
    wait_for_frame(browser, 1)
    assert browser.evaluate("video.paused")
    assert browser.evaluate("document.querySelector('.play').textContent") == "Play"


@pytest.mark.parametrize("width", [1280, 500, 320])
def test_nothing_is_cut(width: int, browser: Tab, pages: Path) -> None:
    browser.open(pages / "report.html", width)
    browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
