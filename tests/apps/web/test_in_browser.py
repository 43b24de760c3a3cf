"""The web page in a real browser: `make test-web`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tokenflow.video import read_frames
from tools.web_screenshots import chromium, served

pytestmark = pytest.mark.browser

LONG = 600_000
"""Milliseconds for an edit of a few frames."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the bundled models, and an example of a few frames and one of all."""
    folder = tmp_path_factory.mktemp("web")
    (folder / "configs").mkdir()
    example = {
        "preset": "fast",
        "clip": {"path": "data/clips/dog_walk.mp4", "prompt": "a dog on grass, 3d style"},
        "model": {"path": "data/models/mini-sd"},
        "edit": {"prompt": "a tiger on grass, 3d style"},
        "output": {"dir": "outputs/unused"},
    }
    (folder / "configs" / "long.yaml").write_text(yaml.safe_dump(example))
    (folder / "configs" / "short.yaml").write_text("extends: long.yaml\nclip: {frames: 8}")
    return folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium. It has to be there: this file is run on purpose only."""
    with chromium() as browser:
        yield browser


def open_page(browser: Any, address: str, **options: Any) -> Any:
    """A new tab of a new profile; requests to anywhere else fail the test."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(120_000)
    foreign: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url, address) else None)
    page.foreign = foreign
    page.goto(address)
    page.wait_for_selector("#whole")
    return page


def is_foreign(url: str, address: str) -> bool:
    return not url.startswith((address, address.replace("http", "ws"), "data:", "blob:"))


def set_slider(page: Any, selector: str, number: str) -> None:
    """Types a slider's number, again where the page was still setting the slider up and put its first value back."""
    for _ in range(10):
        page.locator(f"{selector} input[type=number]").fill(number)
        page.locator(f"{selector} input[type=number]").press("Enter")
        page.wait_for_timeout(300)
        if page.locator(f"{selector} input[type=range]").input_value() == number:
            return
    pytest.fail(f"{selector} did not keep {number}")


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = open_page(browser, address)
    yield page
    assert not page.foreign
    page.context.close()


def take_example(page: Any, name: str = "short") -> None:
    page.locator("#examples button.thumbnail-item").nth(["long", "short"].index(name)).click()
    page.wait_for_selector("#clip video")


def say(page: Any, prompt: str) -> None:
    page.locator("#setting-edit-prompt textarea").fill(prompt)


def wait_for(page: Any, state: str, prompt: str) -> None:
    """Wait until a job is in a state; one that fails will not be in another."""
    job = page.locator(f'[data-state="{state}"], [data-state="failed"]', has_text=prompt)
    job.wait_for(timeout=LONG)
    assert job.get_attribute("data-state") == state, job.inner_text()


def is_playing(page: Any, selector: str) -> None:
    """Wait until a video has decoded a frame and moves."""
    page.wait_for_function(
        f"() => {{ const v = document.querySelector('{selector} video'); return v && v.readyState >= 2 }}"
    )
    page.evaluate(f"document.querySelector('{selector} video').play()")
    page.wait_for_function(f"() => document.querySelector('{selector} video').currentTime > 0.1")


def test_from_an_example_over_three_keyframes_to_the_whole_clip_and_its_files(page: Any, folder: Path) -> None:
    take_example(page)
    is_playing(page, "#clip")
    assert page.locator("#setting-clip-prompt textarea").input_value() == "a dog on grass, 3d style"
    page.click("#try")
    wait_for(page, "done", "a tiger on grass")
    page.wait_for_function("() => document.querySelectorAll('#trial img').length >= 6")
    page.click("#whole")
    page.wait_for_selector("#preview img.tf-preview", timeout=LONG)
    wait_for(page, "done", "Whole clip")
    page.wait_for_selector("#result #pair img")
    page.click("#estimate")
    page.locator("#outlook", has_text=re.compile(r"8 of .*about \d+ s.*free")).wait_for()
    is_playing(page, "#comparison")
    before = page.locator("#pair img").first.get_attribute("src")
    set_slider(page, "#frame", "5")
    page.wait_for_function(f"() => document.querySelector('#pair img').src !== {before!r}")
    assert page.locator("#findings li").count() >= 4
    with page.expect_download() as download:
        page.click("#report")
    assert "<html" in Path(download.value.path()).read_text(encoding="utf-8")
    with page.expect_download() as download:
        page.click("#edited-clip")
    assert next(read_frames(download.value.path())).image.shape[2] == 3
    names = page.locator("#files .filename").evaluate_all("cells => cells.map(cell => cell.ariaLabel)")
    results = [path for path in (folder / "outputs").glob("*/report.json") if "tiger" in path.parent.name]
    assert len(results) == 1
    assert set(names) == {path.name for path in results[0].parent.glob("[!.]*")}


def test_a_reload_finds_the_job_and_the_form_again_and_cancel_and_continue_work(page: Any, folder: Path) -> None:
    take_example(page, "long")
    say(page, "a cow on grass, 3d style")
    page.click("#whole")
    wait_for(page, "running", "a cow on grass")
    page.reload()
    wait_for(page, "running", "a cow on grass")
    page.wait_for_function(
        "() => document.querySelector('#setting-edit-prompt textarea').value === 'a cow on grass, 3d style'"
    )
    page.click("#cancel")
    wait_for(page, "cancelled", "a cow on grass")
    assert not list((folder / "outputs").glob("*cow*/report.json"))
    page.click("#continue")
    wait_for(page, "done", "a cow on grass")
    assert list((folder / "outputs").glob("*cow*/report.json"))


def test_an_answer_from_before_a_click_hides_nothing_of_the_job(page: Any) -> None:
    """On a slow line the page's last look at no job is answered after the click that starts one."""
    held: list[Any] = []

    def is_look_at_no_job(request: Any) -> bool:
        return "/queue/join" in request.url and request.post_data_json["data"] == ["", None]

    page.locator("#model-status", has_text="loaded").wait_for(timeout=LONG)  # until then, looks go on anyway
    page.route(
        "**/queue/join*",
        lambda route: held.append(route) if is_look_at_no_job(route.request) else route.continue_(),
    )
    with page.expect_request(is_look_at_no_job):
        page.reload()
    take_example(page)
    say(page, "a goat on grass, 3d style")
    page.click("#try")
    page.wait_for_function("() => document.querySelector('#job textarea').value")
    held.pop().continue_()
    wait_for(page, "done", "a goat on grass")


def test_two_tabs_queue_and_no_result_is_lost_when_a_tab_closes(page: Any, browser: Any, address: str) -> None:
    take_example(page, "long")
    say(page, "a cat on grass, 3d style")
    page.click("#whole")
    wait_for(page, "running", "a cat on grass")
    other = open_page(browser, address)
    take_example(other)
    say(other, "a fox on grass, 3d style")
    other.click("#try")
    # On a slow machine the first edit may be done before the second page is open.
    queued = other.locator('[data-state="waiting"]', has_text="1 edit is done first")
    queued.or_(other.locator("[data-state]", has_text="a fox on grass")).first.wait_for(timeout=LONG)
    page.goto("about:blank")
    wait_for(other, "done", "a fox on grass")
    other.get_by_role("tab", name="History").click()
    other.locator("#history .caption-label", has_text="a cat on grass").first.wait_for()
    other.context.close()


def test_mistakes_appear_beside_their_fields(page: Any, tmp_path: Path) -> None:
    page.click("#whole")
    for place in ("#clip-note", "#setting-clip-prompt .info-text", "#setting-edit-prompt .info-text"):
        page.locator(place, has_text=re.compile("choose a clip|say what")).wait_for()
    notes = tmp_path / "notes.txt"
    notes.write_text("not a clip")
    page.set_input_files("#upload input[type=file]", str(notes))
    page.locator("#clip-note [role=alert]", has_text="notes.txt").wait_for()
    take_example(page)
    page.locator("#setting-edit-seed input").fill("minus one")
    page.click("#whole")
    page.locator("#setting-edit-seed .info-text", has_text="✖").wait_for()
    assert page.locator("#setting-edit-prompt .info-text", has_text="✖").count() == 0
    page.locator("#setting-edit-seed input").fill("0")
    page.locator("#setting-model-path input").fill("no/such/model")
    page.locator("#setting-model-path input").press("Enter")
    page.click("#whole")
    wait_for(page, "failed", "no/such/model")
    page.locator("#setting-model-path .tf-wrong, #setting-model-path.tf-wrong").wait_for()


def test_frames_are_taken_out_edited_and_put_back(page: Any, folder: Path, tmp_path: Path) -> None:
    take_example(page)
    page.get_by_label("Motion: frames edited elsewhere (keyframes)").check()
    page.click("#whole")
    page.locator("#setting-edit-mode, #setting-edit-keyframes-frames", has_text="✖").first.wait_for()
    page.fill("#numbers input", "0,99")
    page.click("#take")
    page.locator("#keyframes-note [role=alert]", has_text="frame 99: the clip has 8 frames").wait_for()
    page.fill("#numbers input", "")
    page.click("#take")
    edited = []
    for row in (0, 1):
        with page.expect_download() as download:
            page.locator("#taken tr").nth(row).locator("a").click()
        edited.append(tmp_path / download.value.suggested_filename)
        Image.eval(Image.open(download.value.path()), lambda value: 255 - value).save(edited[-1])
    page.set_input_files("#put-back input[type=file]", [str(path) for path in edited])
    page.locator("#given .caption-label", has_text="Frame 7").wait_for()
    say(page, "")
    page.click("#whole")
    wait_for(page, "done", "Whole clip")
    page.wait_for_selector("#result #pair img")
    (result,) = (path.parent for path in (folder / "outputs").glob("dog_walk*/report.json") if is_carried(path))
    first = next(read_frames(result / "edited.mp4")).image
    assert abs(first.mean() - np.asarray(Image.open(edited[0])).mean()) < 3


def is_carried(report: Path) -> bool:
    return bool(json.loads(report.read_text())["settings"]["edit"]["mode"] == "keyframes")


PAINTED = "document.querySelector('#setting-edit-regions-painted :is(input, textarea)').value"
"""JavaScript for what the field of the painted part holds."""


def paint(page: Any) -> None:
    """Paint a stroke across the middle of the frame, and wait until it is kept."""
    canvas = page.locator("#canvas canvas").first
    page.locator("#canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # the canvas takes its size from the frame
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_function(f"() => {PAINTED}.includes('mask_frame: 0')")


def test_a_part_is_painted_tried_and_all_else_stays_as_it_is(page: Any, folder: Path) -> None:
    take_example(page)
    say(page, "a zebra on grass, 3d style")
    page.get_by_label("A painted part").check()
    page.click("#try")
    page.locator("#setting-edit-regions .info-text", has_text="✖ paint the part").wait_for()
    paint(page)
    (mask,) = (np.asarray(Image.open(path)) > 0 for path in (folder / "outputs" / "uploads").glob("mask-of-frame-0*"))
    assert 0.01 < mask.mean() < 0.5
    page.click("#try")
    wait_for(page, "done", "a zebra on grass")
    page.wait_for_function("() => document.querySelectorAll('#trial-regions img').length === 3")
    page.click("#whole")
    wait_for(page, "done", "Whole clip")
    is_playing(page, "#region")
    page.get_by_role("tab", name="Settings").click()
    page.locator("#command", has_text="mask_frame: 0").wait_for()


def test_a_reload_keeps_what_was_typed_and_painted(page: Any) -> None:
    take_example(page)
    say(page, "a striped dog on grass, 3d style")
    page.get_by_label("A painted part").check()
    paint(page)
    page.locator("#setting-edit-seed input").fill("7")
    page.reload()
    page.wait_for_selector("#clip video")
    page.wait_for_function(
        "() => document.querySelector('#setting-edit-prompt textarea').value === 'a striped dog on grass, 3d style'"
    )
    assert page.locator("#setting-edit-seed input").input_value() == "7"
    assert page.get_by_label("A painted part").is_checked()
    page.wait_for_function(f"() => {PAINTED}.includes('mask_frame: 0')")
    page.get_by_role("button", name="Part and size of the clip").click()
    page.locator("#setting-clip-start input").fill("0.5")
    page.locator("#setting-clip-start input").press("Enter")
    page.locator("#region-changed", has_text="is gone: paint again").wait_for()
    page.wait_for_function(f"() => {PAINTED} === ''")


def test_words_that_the_model_does_not_know_are_told(page: Any) -> None:
    take_example(page)
    say(page, "a xylophone on grass")
    page.click("#try")
    page.locator(".tf-notice", has_text="xylophone").wait_for(timeout=LONG)
    wait_for(page, "done", "a xylophone on grass")


def test_an_upload_that_browsers_cannot_play_is_shown_through_a_proxy(page: Any, folder: Path, tmp_path: Path) -> None:
    from tests.tiny import moving_square
    from tokenflow.video import VideoWriter

    clip = tmp_path / "filmed.mov"
    with VideoWriter(clip, width=64, height=48, rate=10, codec="prores") as writer:
        for image in moving_square(10, 48, 64):
            writer.write(image)
    page.set_input_files("#upload input[type=file]", str(clip))
    page.locator("#clip-note", has_text="64×48").wait_for()
    is_playing(page, "#clip")
    uploads = [path.suffix for path in (folder / "outputs" / "uploads").glob("*.*")]
    assert [each for each in uploads if each != ".png"] == [".mov"]  # a painted mask of another test may be there


def test_settings_go_out_as_yaml_and_come_in_again(page: Any) -> None:
    take_example(page)
    page.get_by_role("tab", name="Settings").click()
    page.locator("#command", has_text="tokenflow edit data/clips/dog_walk.mp4").wait_for()
    text = page.locator("#yaml-text .cm-content").inner_text()
    assert "preset: fast" in text
    editor = page.locator("#yaml-text .cm-content")
    editor.fill("clip: {prompt: a horse}\nedit: {prompt: a zebra, mode: sdedit, sdedit: {strength: 0.5}}")
    page.click("#yaml-in")
    page.locator("#yaml-note", has_text="The form has these settings now").wait_for()
    page.click("#yaml-out")
    page.locator("#command", has_text="edit.sdedit.strength=0.5").wait_for()
    page.get_by_role("tab", name="Edit").click()
    assert page.locator("#setting-edit-prompt textarea").input_value() == "a zebra"
    assert page.get_by_label("Rough layout and colours (sdedit)").is_checked()
    say(page, "a white zebra")
    page.get_by_role("tab", name="Settings").click()
    page.locator("#command", has_text="a white zebra").wait_for()
    editor.fill("edit: {stepz: 3}")
    page.click("#yaml-in")
    page.locator("#yaml-note [role=alert]", has_text="did you mean edit.steps").wait_for()


def test_seeds_are_compared_and_each_is_in_the_history_until_it_is_deleted(page: Any, folder: Path) -> None:
    take_example(page)
    say(page, "a golden dog on grass, 3d style")
    page.get_by_role("tab", name="Compare").click()
    set_slider(page, "#seeds", "2")
    page.click("#compare-seeds")
    wait_for(page, "done", "Comparison")
    page.wait_for_selector("#grid video")
    page.locator("#grid button.thumbnail-item").nth(1).wait_for()
    assert page.locator("#grid button.thumbnail-item").count() == 2
    is_playing(page, "#grid")
    results = sorted(path.parent for path in (folder / "outputs").glob("*golden*/report.json"))
    assert len(results) == 2
    page.get_by_role("tab", name="History").click()
    page.locator("#history button.thumbnail-item", has_text="seed 1").first.click()
    page.locator("#history-note", has_text="golden").wait_for()
    page.click("#reuse")
    page.locator("#history-note", has_text="has the settings").wait_for()
    page.locator("#history button.thumbnail-item", has_text="seed 1").first.click()
    page.click("#delete")
    page.click("#confirm")
    page.locator("#history-note", has_text="was deleted").wait_for()
    assert len(list((folder / "outputs").glob("*golden*/report.json"))) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_whole_width(browser: Any, address: str, scheme: str) -> None:
    page = open_page(browser, address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    take_example(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.body.classList.contains('dark')") is (scheme == "dark")
    page.context.close()


def test_the_keyboard_reaches_the_whole_flow(page: Any) -> None:
    page.locator("#examples button.thumbnail-item").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#clip video")
    page.locator("#try").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#cancel:visible")
    page.locator("#cancel").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector('[data-state="cancelled"], [data-state="done"]', timeout=LONG)


def test_the_server_says_nothing_of_errors(folder: Path, page: Any) -> None:
    log = (folder / "log").read_text()
    assert "Traceback" not in log
