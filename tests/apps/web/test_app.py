"""app.py starts among the files of a hosted Space, and serves a shared page: `make test-web`."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from tools.space import build
from tools.web_screenshots import ROOT, chromium, served

pytestmark = pytest.mark.browser

CLIP = ROOT / "data" / "clips" / "dog_walk.mp4"


def test_it_serves_a_shared_page_on_which_each_visitor_has_clips_of_their_own(tmp_path: Path) -> None:
    space = tmp_path / "space"
    build(space)
    with served(space, str(space / "app.py")) as address, chromium() as browser:
        with urlopen(address) as answer:
            text = answer.read().decode()
        assert "edit.guidance_scale" in text
        assert "metrics.classifier" not in text
        for count in (1, 2):
            page = browser.new_context().new_page()
            for _ in range(2):  # the second time after a reload
                page.goto(address)
                page.set_input_files("#upload input[type=file]", str(CLIP))
                page.locator("#clip-note", has_text="128×128").wait_for()
            assert len(list(space.glob("outputs/user-*/uploads/dog_walk-*.mp4"))) == count
    assert "Traceback" not in (space / "log").read_text()
