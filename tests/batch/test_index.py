"""The overview page: a row per job, links to existing files, and text that cannot break the page."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import tokenflow
from tests.batch.conftest import Configure
from tokenflow.batch.index import COLUMNS, write_index
from tokenflow.batch.jobs import Job


class Page(HTMLParser):
    """The sort values of the table's rows, and all links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(found["data-value"] or "")
        self.links += [unquote(found[name] or "") for name in ("src", "href") if name in found]


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
    assert len(page.links) == 2
    assert all((tmp_path / "run" / link).is_file() for link in page.links)


def test_a_result_damaged_since_has_a_row_that_says_so(configure: Configure, tmp_path: Path) -> None:
    configs = configure(2, 1)
    records = tokenflow.edit_many(configs, run_dir=tmp_path / "run", progress=False)
    (configs[0].output.dir / "report.json").write_text("{")
    write_index(tmp_path / "index.html", [Job(config) for config in configs], records)
    _, damaged, sound = Page((tmp_path / "index.html").read_text(encoding="utf-8")).rows
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
    off = ["inversion.check=false", "metrics.enabled=false", "output.contact_sheet=false", "output.page=false"]
    (record,) = tokenflow.edit_many(configure(1, 1, *off), run_dir=tmp_path / "run", progress=False)
    page = Page((tmp_path / "run" / "index.html").read_text(encoding="utf-8"))
    figures = dict(zip([column.title for column in COLUMNS], page.rows[1], strict=True))
    assert record.state == figures["state"] == "done"
    assert figures["inversion, dB"] == figures["warp error of edit, × 10⁻³"] == ""
    (link,) = page.links
    assert (tmp_path / "run" / link).resolve() == record.result().video.resolve()
