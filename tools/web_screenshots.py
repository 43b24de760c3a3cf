"""Make the images of docs/web_page.md: start the web page, use it in Chromium, and photograph its main states.

python -m tools.web_screenshots           # into docs/web
python -m tools.web_screenshots FOLDER
"""

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from PIL import Image

from tokenflow.apps.ports import free_port

ROOT = Path(__file__).resolve().parent.parent

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")

WIDTH, HEIGHT = 1280, 900
PHONE = {"width": 390, "height": 844}

QUALITY = 80
"""Of the WebP files."""

PAINTED_ROWS = (0.5, 0.7)
"""Where strokes are painted, from the top of the canvas."""

SECONDS = 60
"""That the server may take to answer."""

LONG = 600_000
"""Milliseconds that anything may take, such as an edit."""


@contextmanager
def served(folder: Path, *command: str) -> Iterator[str]:
    """The address of a web page that runs in a folder with the bundled models and clips; it ends with the block.

    Args:
        folder: its working folder; what it prints is in the file `log`.
        command: arguments of Python that start it, with `{port}` in place of a number, which GRADIO_SERVER_PORT is,
            too; by default those of `tokenflow ui`.
    """
    if not (folder / "data").exists():
        (folder / "data").symlink_to(ROOT / "data")
    port = str(free_port())
    words = [word.format(port=port) for word in command or ("-m", "tokenflow", "ui", "--port", "{port}")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GRADIO_SERVER_PORT": port}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, *words], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url)
            yield url
        finally:
            server.terminate()
            server.wait(SECONDS)


def _wait(url: str) -> None:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        with suppress(urllib.error.URLError):
            urllib.request.urlopen(url).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer")


@contextmanager
def chromium() -> Iterator[Any]:
    """The installed Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if executable is None:
        raise FileNotFoundError("expected Chromium; install it with: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        browser.close()


def photograph(page: Any, path: Path) -> None:
    """Write the whole page as it is now."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(800)  # movements of the page have ended
    Image.open(io.BytesIO(page.screenshot(full_page=True))).save(path, "WEBP", quality=QUALITY)
    print(f"{path} {path.stat().st_size // 1024} kB")


def open_page(browser: Any, url: str, scheme: str = "light") -> Any:
    """The web page in a tab of its own."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page.set_default_timeout(LONG)
    page.goto(url)
    return page


def take_all(browser: Any, url: str, folder: Path) -> None:
    """The main states of the page, in the order in which a user meets them."""
    page = open_page(browser, url)
    page.click("#whole")
    page.locator("#clip-note [role=alert]").wait_for()
    photograph(page, folder / "mistakes.webp")
    page.locator("#examples button.thumbnail-item", has_text="a tiger on grass, 3d style (pnp)").click()
    page.wait_for_selector("#clip video")
    page.get_by_label("Fast: 8 steps").check()
    page.click("#try")
    page.locator('[data-state="done"]').wait_for()
    page.wait_for_selector("#trial img")
    photograph(page, folder / "trial.webp")
    page.click("#whole")
    page.locator("#preview img[alt*='step 5']").wait_for()
    page.locator("#trial").wait_for(state="hidden")
    photograph(page, folder / "progress.webp")
    page.locator('[data-state="done"]', has_text="Whole clip").wait_for()
    page.wait_for_selector("#result #pair img")
    photograph(page, folder / "result.webp")
    page.set_viewport_size(PHONE)
    photograph(page, folder / "phone.webp")
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    page.get_by_role("tab", name="Compare").click()
    page.locator("#prompts textarea").fill("a cow on grass, 3d style\na golden dog on grass, 3d style")
    page.click("#compare-prompts")
    page.locator('[data-state="done"]', has_text="Comparison").wait_for()
    page.wait_for_selector("#grid video")
    photograph(page, folder / "compare.webp")
    page.get_by_role("tab", name="Settings").click()
    page.get_by_role("button", name="Edit: Plug-and-Play").click()
    page.locator("#command", has_text="tokenflow edit").wait_for()
    photograph(page, folder / "settings.webp")
    other = open_page(browser, url)
    other.locator("#examples button.thumbnail-item", has_text="a tiger on grass, 3d style (pnp)").click()
    other.wait_for_selector("#clip video")
    with tempfile.TemporaryDirectory() as edited:
        put_back(other, Path(edited))
    other.click("#estimate")
    other.locator("#outlook dd").first.wait_for()
    photograph(other, folder / "keyframes.webp")
    part = open_page(browser, url)
    part.locator("#examples button.thumbnail-item", has_text="a tiger on grass, 3d style (pnp)").click()
    part.wait_for_selector("#clip video")
    paint(part)
    part.get_by_label("Fast: 8 steps").check()
    part.click("#try")
    part.locator('[data-state="done"]').wait_for()
    part.wait_for_selector("#trial-regions img")
    photograph(part, folder / "region.webp")
    dark = open_page(browser, url, "dark")
    dark.get_by_role("tab", name="History").click()
    dark.wait_for_selector("#history img")
    dark.locator("#history button.thumbnail-item").first.click()
    dark.wait_for_selector("#result #pair img")
    photograph(dark, folder / "history.webp")


def paint(page: Any) -> None:
    """Paint a part of the first frame."""
    page.get_by_label("A painted part").check()
    page.locator("#canvas canvas").first.wait_for()
    page.locator("#canvas").scroll_into_view_if_needed()
    page.wait_for_timeout(2000)  # the canvas takes its size from the frame
    box = page.locator("#canvas canvas").first.bounding_box()
    for height in PAINTED_ROWS:
        page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + height * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + height * box["height"], steps=8)
        page.mouse.up()
        page.wait_for_timeout(1000)  # it is kept


def put_back(page: Any, folder: Path) -> None:
    """Take out the first and the last frame, swap their colours, and put them back."""
    page.get_by_label("Motion: frames edited elsewhere (keyframes)").check()
    page.click("#take")
    rows = page.locator("#taken tr")
    rows.first.wait_for()
    for row in rows.all():
        with page.expect_download() as download:
            row.locator("a").click()
        path = folder / download.value.suggested_filename
        Image.merge("RGB", Image.open(download.value.path()).split()[::-1]).save(path)
    page.set_input_files("#put-back input[type=file]", sorted(folder.iterdir()))
    page.locator("#given .caption-label").first.wait_for()


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "docs" / "web")
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        (Path(work) / "configs").symlink_to(ROOT / "configs")
        with served(Path(work)) as url, chromium() as browser:
            take_all(browser, url, folder)


if __name__ == "__main__":
    main()
