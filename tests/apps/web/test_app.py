"""app.py, which runs the page on a hosted Space, starts and serves a shared page: `make test-web`."""

from pathlib import Path
from urllib.request import urlopen

import pytest

from tools.web_screenshots import ROOT, served

pytestmark = pytest.mark.browser


def test_it_serves_a_page_that_is_open_to_all_and_shared(tmp_path: Path) -> None:
    with served(tmp_path, str(ROOT / "app.py")) as address, urlopen(address) as answer:
        page = answer.read().decode()
    assert "What it should show" in page
    assert "edit.guidance_scale" in page
    assert "metrics.classifier" not in page
    assert "Traceback" not in (tmp_path / "log").read_text()
