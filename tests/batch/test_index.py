"""The overview: a row a job, pictures and videos that are there, and text that cannot break the page."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import tokenflow
from tests.batch.conftest import Configure
from tokenflow.batch.index import COLUMNS, write_index
from tokenflow.batch.jobs import Job


class Page(HTMLParser):
    """Rows of the table as the values they sort by, and what the page points to."""

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


def test_the_overview_has_a_row_a_job_with_figures_that_sort_and_files_that_are_there(
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


def test_a_result_that_is_damaged_meanwhile_has_a_row_that_says_so(configure: Configure, tmp_path: Path) -> None:
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
