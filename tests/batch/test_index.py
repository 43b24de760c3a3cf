"""The overview page: a cell and a row per job, links to existing files, and text that cannot break the page."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import tokenflow
from tests.batch.conftest import Configure
from tests.browser import IS_MISSING, WHY_NOT, chromium
from tokenflow.batch.index import COLUMNS, write_index
from tokenflow.batch.jobs import Job
from tokenflow.batch.record import Record
from tokenflow.config import Config


class Page(HTMLParser):
    """The sort values of the table's rows, the texts of the cells of each clip, and all links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self._is_cell = False
        self.clips: list[list[list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "section":
            self.clips.append([])
        if tag == "details":
            self.clips[-1].append([])
        self._is_cell = tag not in ("section", "figure") and (tag == "details" or self._is_cell)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(found.get("data-value") or "")
        self.links += [unquote(found[name] or "") for name in ("src", "href", "data-sheet") if name in found]

    def handle_data(self, data: str) -> None:
        if self._is_cell and data.strip():
            self.clips[-1][-1].append(data.strip())

    def handle_endtag(self, tag: str) -> None:
        self._is_cell = self._is_cell and tag != "details"


def test_the_overview_has_a_row_per_job_with_sortable_figures_and_links_to_existing_files(
    configure: Configure, tmp_path: Path
) -> None:
    done = configure(1, 1, 'edit.prompt=<b>a tiger</b> & "more"', f"output.dir={tmp_path / 'out' / 'a #1'}")
    failed = configure(1, 1, "edit.steps=5000", f"output.dir={tmp_path / 'out' / 'b'}")  # past training
    (record, _) = tokenflow.edit_many([*done, *failed], run_dir=tmp_path / "run", progress=False)
    text = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    first, second = page.rows[1:]
    titles = [column.title for column in COLUMNS]
    assert len(first) == len(second) == len(titles)
    assert first[1] == "done"
    assert second[1] == "failed"
    assert first[3] == '<b>a tiger</b> & "more"'
    assert "<b>" not in text
    assert float(first[titles.index("frames")]) == 4
    warp = record.result().report["metrics"]["warp_error_e3"]["edit"]
    assert float(first[titles.index("warp error of edit, × 10⁻³")]) == warp
    assert second[titles.index("frames")] == ""
    assert "steps is 5000" in second[-1]
    assert {Path(link).name for link in page.links} == {
        "edited.mp4",
        "comparison.mp4",
        "contact_sheet.png",
        "report.html",
    }
    assert all((tmp_path / "run" / link).is_file() for link in page.links)
    assert "://" not in text
    report = record.result().page
    assert report is not None
    links = Page(report.read_text(encoding="utf-8")).links
    files = [link for link in links if not link.startswith("data:")]
    assert len(files) == 5
    assert all((report.parent / link).is_file() for link in files)


def test_the_overview_shows_clips_with_their_edits(configure: Configure, tmp_path: Path) -> None:
    configs = [*configure(2, 1), *configure(2, 1, "edit.prompt=snow")]
    jobs = [Job(config) for config in configs]
    failed = Record(str(configs[0].output.dir), "", state="failed", reason="no memory")
    rest = [Record(str(config.output.dir), "", reason="interrupted") for config in configs[1:]]
    write_index(tmp_path / "index.html", jobs, [failed, *rest])
    first, second = Page((tmp_path / "index.html").read_text(encoding="utf-8")).clips
    assert [cell[:3] for cell in first] == [["failed", "a tiger", "no memory"], ["waiting", "snow", "interrupted"]]
    assert [cell[:2] for cell in second] == [["waiting", "a tiger"], ["waiting", "snow"]]


def test_edits_with_the_same_prompt_are_told_apart_by_mode_and_then_by_folder(
    configure: Configure, tmp_path: Path
) -> None:
    configs = [
        replace_output(config, tmp_path / name)
        for name, settings in {
            "a": ["edit.mode=sdedit"],
            "b": [],
            "c": ["edit.seed=2"],
            "d": ["edit.prompt=snow"],
        }.items()
        for config in configure(1, 1, *settings)
    ]
    records = [Record(str(config.output.dir), "") for config in configs]
    write_index(tmp_path / "index.html", [Job(config) for config in configs], records)
    (clip,) = Page((tmp_path / "index.html").read_text(encoding="utf-8")).clips
    assert [cell[1:3] for cell in clip] == [
        ["a tiger", "sdedit"],
        ["a tiger", "pnp · b"],
        ["a tiger", "pnp · c"],
        ["snow", "mode"],  # the first figure
    ]


def replace_output(config: Config, folder: Path) -> Config:
    return config.model_copy(update={"output": config.output.model_copy(update={"dir": folder})})


def test_a_result_damaged_since_has_a_row_that_says_so(configure: Configure, tmp_path: Path) -> None:
    configs = configure(2, 1)
    records = tokenflow.edit_many(configs, run_dir=tmp_path / "run", progress=False)
    (configs[0].output.dir / "report.json").write_text("{")
    write_index(tmp_path / "index.html", [Job(config) for config in configs], records)
    _, damaged, sound = Page((tmp_path / "index.html").read_text(encoding="utf-8")).rows
    assert damaged[1] == "damaged"
    assert "there is no finished edit in" in damaged[-1]
    assert sound[-1] == ""


def test_a_clip_of_one_frame_has_a_row_without_warp_errors(configure: Configure, tmp_path: Path) -> None:
    tokenflow.edit_many(configure(1, 1, "clip.frames=1"), run_dir=tmp_path / "run", progress=False)
    _, row = Page((tmp_path / "run" / "index.html").read_text(encoding="utf-8")).rows
    figures = dict(zip([column.title for column in COLUMNS], row, strict=True))
    assert figures["state"] == "done"
    assert figures["frames"] == "1"
    assert figures["warp error of source, × 10⁻³"] == figures["warp error of edit, × 10⁻³"] == ""


def test_a_result_without_check_metrics_sheet_and_page_has_a_row_that_links_to_its_video(
    configure: Configure, tmp_path: Path
) -> None:
    off = [
        *("inversion.check=false", "metrics.enabled=false"),
        *("output.comparison=false", "output.contact_sheet=false", "output.page=false"),
    ]
    (record,) = tokenflow.edit_many(configure(1, 1, *off), run_dir=tmp_path / "run", progress=False)
    page = Page((tmp_path / "run" / "index.html").read_text(encoding="utf-8"))
    figures = dict(zip([column.title for column in COLUMNS], page.rows[1], strict=True))
    assert record.state == figures["state"] == "done"
    assert figures["inversion, dB"] == figures["warp error of edit, × 10⁻³"] == ""
    assert page.links
    assert {(tmp_path / "run" / link).resolve() for link in page.links} == {record.result().video.resolve()}


@pytest.mark.skipif(IS_MISSING, reason=WHY_NOT)
def test_the_overview_works_in_a_browser(configure: Configure, tmp_path: Path) -> None:
    playable, other = configure(2, 1)
    unplayable = other.model_copy(
        update={"output": other.output.model_copy(update={"codec": "ffv1", "container": "mkv"})}
    )
    tokenflow.edit_many([playable, unplayable], run_dir=tmp_path / "run", progress=False)
    with chromium(tmp_path / "profile") as tab:
        for width in (1280, 500, 320):
            tab.open(tmp_path / "run" / "index.html", width)
            tab.wait_for("!all('details video')[0].paused && all('details video')[0].currentTime > 0")
            tab.wait_for("all('.cell img').length === 1 && all('.cell img')[0].naturalWidth > 0")  # its contact sheet
            assert tab.evaluate("all('details video')[0].getBoundingClientRect().width") == 48
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            tab.evaluate("motion.click()")
            tab.wait_for("videos.every(video => video.paused)")
            tab.evaluate("tabs[0].focus()")
            tab.press("ArrowRight")
            shown = "['videos', 'table'].map(id => document.getElementById(id).checkVisibility())"
            assert tab.evaluate(shown) == [False, True]
            assert tab.evaluate("document.documentElement.scrollWidth") == width
            for first in ("clip0.mp4", "clip1.mp4"):
                tab.evaluate("headers[2].querySelector('button').click()")
                assert tab.evaluate("body.rows[0].cells[2].dataset.value") == first
        assert tab.errors == []


def test_an_animation_is_shown_as_an_image(configure: Configure, tmp_path: Path) -> None:
    configs = configure(1, 1, "output.container=webp", "output.sound=none")
    tokenflow.edit_many(configs, run_dir=tmp_path / "run", progress=False)
    text = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert re.search(r'<img src="[^"]+/edited\.webp"', text)
    assert re.search(r'<video class="left-half" src="[^"]+/comparison\.mp4"', text)
    assert not re.search(r'<video [^>]*src="[^"]+/edited\.webp"', text)
