"""The report page: complete, self-contained, and in agreement with report.json."""

import base64
import html
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.tiny import moving_square
from tokenflow.report import contact_sheet, embedding, write_page
from tokenflow.report.plot import MAX_POINTS, line_plot
from tokenflow.video import VideoWriter, probe, read_frames

NAMES = ("source", "reconstruction", "edit")
CONTENT: dict[str, Any] = {
    "settings": {
        "clip": {"path": "clip.mp4", "prompt": "a dog & <b>cat</b>", "size": None},
        "model": {"path": "some/model"},
        "edit": {
            "prompt": "a “tiger” <script>alert(1)</script>",
            "mode": "pnp",
            "propagation": "tokenflow",
            "correspondence": "flow",
            "steps": 4,
            "guidance_scale": 7.5,
            "seed": 3,
        },
        "output": {"dir": "out puts/tiger"},
    },
    "frames": 5,
    "model": {"weights_mb": 1234.5, "quantization": "int8", "text_encoder_quantization": "fp8"},
    "metrics": {
        "reconstruction": {
            "autoencoder_psnr": 35.5,
            "autoencoder_ssim": 0.9375,
            "inversion_psnr": 30.5,
            "inversion_ssim": 0.875,
        },
        "warp_error_e3": {"source": 0.1234, "reconstruction": 0.2345, "edit": 1.567},
        "flicker": {"source": 2.0, "edit": 4.0},
        "change": {"whole": 0.0},
        "clip_consistency": {"source": 0.8, "edit": -0.2},
    },
    "over_time": {
        "warp_error_e3": {name: [1.0 * index, 2.0, 0.5, 3.0] for index, name in enumerate(NAMES)},
        "flicker": {"source": [1.0, 2.0, 3.0], "edit": [4.0, 5.0, 3.0]},
        "change": {"whole": [0.0] * 5},
        "clip_consistency": {"source": [0.75, 0.85, 0.8, 0.8], "edit": [-0.25, -0.15, -0.2, -0.2]},
    },
    "seconds": {"load": 1.5, "edit": 2.25},
    "stage_peak_memory_mb": {"load": 100, "edit": 250},
    "peak_memory_mb": 250,
    "versions": {"python": "3.11"},
}
SVG = "{http://www.w3.org/2000/svg}"


def write(folder: Path, content: dict[str, Any] = CONTENT, container: str = "mp4", **form: Any) -> str:
    video = folder / f"comparison.{container}"
    with VideoWriter(video, width=48, height=16, times=[Fraction(each, 7) for each in range(5)], **form) as writer:
        for image in moving_square(5, width=48):
            writer.write(image)
    contact_sheet({"a": list(moving_square(2))}).save(folder / "sheet.png")
    write_page(folder / "report.html", content, video, folder / "sheet.png")
    return (folder / "report.html").read_text(encoding="utf-8")


def embedded(text: str, kind: str) -> bytes:
    found = re.search(rf"data:{kind};base64,([^\"]+)", text)
    assert found
    return base64.b64decode(found[1])


class Tags(HTMLParser):
    """Collects all tags with their attributes, and checks that every opened tag is closed."""

    EMPTY = frozenset({"meta", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_self_contained(tmp_path: Path) -> None:
    text = write(tmp_path)
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {tag for tag, _ in tags.seen} & {"link", "iframe"}
    sources = [attributes["src"] for _, attributes in tags.seen if "src" in attributes]
    assert len(sources) == 2
    assert all(source and source.startswith("data:") for source in sources)
    assert "://" not in re.sub(r"data:[^\"]+", "", text)


def test_the_files_beside_the_page_are_linked_by_relative_names(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    names = ["edited.webm", "comparison.mp4", "contact_sheet.png", "config.yaml"]
    for name in [*names, "notes.txt"]:
        (tmp_path / "result" / name).touch()
    write_page(tmp_path / "result" / "report.html", CONTENT)
    tags = Tags()
    tags.feed((tmp_path / "result" / "report.html").read_text(encoding="utf-8"))
    # report.json is written after the page
    assert [attributes["href"] for tag, attributes in tags.seen if tag == "a"] == [*names, "report.json"]


def test_the_command_that_repeats_the_run_is_shown_if_its_settings_are_there(tmp_path: Path) -> None:
    assert "Run it again" not in write(tmp_path)
    (tmp_path / "config.yaml").touch()
    (shown,) = re.findall("<code>(.*)</code>", write(tmp_path))
    assert html.unescape(shown) == "tokenflow edit 'out puts/tiger/config.yaml'"


def test_user_input_is_escaped(tmp_path: Path) -> None:
    text = write(tmp_path)
    assert text.count("<script>") == 1  # the page's own
    assert html.escape(CONTENT["settings"]["clip"]["prompt"]) in text


def test_the_video_and_the_contact_sheet_are_embedded_unchanged(tmp_path: Path) -> None:
    text = write(tmp_path)
    assert embedded(text, "video/mp4") == (tmp_path / "comparison.mp4").read_bytes()
    assert embedded(text, "image/png") == (tmp_path / "sheet.png").read_bytes()


def test_a_webm_is_embedded_as_webm(tmp_path: Path) -> None:
    text = write(tmp_path, container="webm", codec="vp9")
    assert embedded(text, "video/webm") == (tmp_path / "comparison.webm").read_bytes()


@pytest.mark.parametrize(
    ("container", "form"),
    [
        ("mkv", {"codec": "ffv1"}),
        ("mov", {"codec": "prores"}),
        ("mkv", {"codec": "vp9"}),
        ("mp4", {"quality": 0}),  # lossless H.264 has a profile of its own, whatever its pixel format
        ("mp4", {"pixel_format": "yuv422p"}),
        ("webm", {"codec": "vp9", "pixel_format": "yuv444p"}),
    ],
)
def test_a_video_that_browsers_cannot_play_is_embedded_as_a_playable_copy(
    container: str, form: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "copy.mp4").write_bytes(embedded(write(tmp_path, container=container, **form), "video/mp4"))
    info = probe(tmp_path / "copy.mp4")
    assert (info.codec, info.profile) == ("h264", "High")
    original, copy = (list(read_frames(tmp_path / name)) for name in (f"comparison.{container}", "copy.mp4"))
    # MP4 keeps these times to within a tick of its clock, Matroska holds milliseconds.
    assert [float(each.time) for each in copy] == pytest.approx([float(each.time) for each in original], abs=2e-3)


def test_a_large_video_is_embedded_as_a_smaller_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "MAX_BYTES", 100)
    monkeypatch.setattr(embedding, "PREVIEW", (24, 24))
    (tmp_path / "copy.mp4").write_bytes(embedded(write(tmp_path), "video/mp4"))
    assert (probe(tmp_path / "copy.mp4").width, probe(tmp_path / "copy.mp4").height) == (24, 8)


def test_the_page_shows_metrics_settings_and_cost(tmp_path: Path) -> None:
    text = write(tmp_path)
    for shown in ("0.123", "0.234", "1.57", "7.5", "some/model", "clip.size", "null", "3.75", "250", "3.11"):
        assert f">{shown}<" in text or f" {shown}<" in text, shown
    assert "Warp error" in text
    assert "CLIP text score" not in text


def cards(text: str) -> list[tuple[str, ElementTree.Element]]:
    """Title and content of each card that has a title."""
    found = (ElementTree.fromstring(each) for each in re.findall(r"<section.*?</section>", text, re.DOTALL))
    return [((card.findtext("h3") or "").strip(), card) for card in found if card.find("h3") is not None]


def figures(text: str) -> dict[str, ElementTree.Element]:
    """The cards of whole-clip figures, by title."""
    return {title: card for title, card in cards(text) if card.find("svg") is None}


def plots(text: str) -> dict[str, ElementTree.Element]:
    """The plots over time, by title."""
    return {title: plot for title, card in cards(text) if (plot := card.find("svg")) is not None}


def bars(card: ElementTree.Element) -> dict[str, tuple[float, str]]:
    """By name: the length of each bar in a card, in percent, and the value after it."""
    spans = card.findall("div/span")
    return {
        str(name.text): (float(track[0].attrib["style"].removeprefix("width: ").removesuffix("%")), str(value.text))
        for name, track, value in zip(spans[::3], spans[1::3], spans[2::3], strict=True)
    }


def test_the_reconstruction_has_psnr_and_ssim(tmp_path: Path) -> None:
    card = figures(write(tmp_path))["Reconstruction"]
    # A full bar is 50 dB.
    assert bars(card) == {"autoencoder": (71.0, "35.5 (0.938)"), "inversion": (61.0, "30.5 (0.875)")}


@pytest.mark.parametrize(
    ("title", "expected", "scale"),
    [
        ("Flicker", {"source": (50.0, "2"), "edit": (100.0, "4")}, "4"),
        ("Warp error", {"source": (6.2, "0.123"), "reconstruction": (11.7, "0.234"), "edit": (78.3, "1.57")}, "2"),
        ("Change", {"whole": (0.0, "0")}, "0.25"),
        ("CLIP frame consistency", {"source": (100.0, "0.8"), "edit": (0.0, "-0.2")}, "0.8"),  # negative: an empty bar
    ],
)
def test_bars_of_a_figure_are_on_one_scale_that_ends_at_a_round_number(
    title: str, expected: dict[str, tuple[float, str]], scale: str, tmp_path: Path
) -> None:
    card = figures(write(tmp_path))[title]
    assert bars(card) == expected
    assert [end.text for end in card.findall("div/div/span")] == ["0", scale]


@pytest.mark.parametrize(
    ("key", "title", "first"),
    [
        ("warp_error_e3", "Warp error", 2),  # a pair belongs to its later frame
        ("clip_consistency", "CLIP frame consistency", 2),
        ("flicker", "Flicker", 2),  # a triple belongs to its middle frame
        ("change", "Change", 1),
    ],
)
def test_each_plot_shows_its_metric_at_the_right_frames(key: str, title: str, first: int, tmp_path: Path) -> None:
    plot = plots(write(tmp_path))[title]
    series = CONTENT["over_time"][key]
    assert [mark.text for mark in plot.iter("title")] == [
        f"{name}, frame {frame}: {value:.4g}"
        for name, values in series.items()
        for frame, value in enumerate(values, first)
    ]
    assert plot.attrib["aria-label"].startswith(f"{title} of ")


def attributes(text: str, tag: str, **given: str) -> dict[str, str | None]:
    """The attributes of the only such element that has the given ones."""
    tags = Tags()
    tags.feed(text)
    (found,) = (found for name, found in tags.seen if name == tag and given.items() <= found.items())
    return found


def test_the_video_plays_by_itself_silently_and_in_a_loop(tmp_path: Path) -> None:
    assert {"autoplay", "muted", "loop", "playsinline"} <= attributes(write(tmp_path), "video").keys()


def test_player_and_controls_are_labelled_for_screen_readers(tmp_path: Path) -> None:
    text = write(tmp_path)
    assert attributes(text, "video")["aria-label"] == "source on the left, edit on the right"
    labels = re.findall(r'<(?:input|button)[^>]* aria-label="([^"]+)"', text)
    assert labels == ["source on the left, edit on the right of this line", "frame", "previous frame", "next frame"]


def test_the_player_has_the_size_of_one_side_and_the_times_of_all_frames(tmp_path: Path) -> None:
    player = attributes(write(tmp_path), "div", **{"class": "player"})
    assert player["style"] == "--width: 24; --height: 16"
    assert player["data-times"] == "[0.0, 0.1429, 0.2857, 0.4286, 0.5714, 0.7143]"


def test_the_contact_sheet_is_at_most_twice_its_own_size(tmp_path: Path) -> None:
    sheet = attributes(write(tmp_path), "img")
    assert sheet["style"] == f"max-width: {2 * int(str(sheet['width']))}px"


def test_a_single_frame_has_no_controls(tmp_path: Path) -> None:
    assert 'class="controls"' in write(tmp_path)
    assert 'class="controls"' not in write(tmp_path, {**CONTENT, "frames": 1})


def test_an_edit_of_one_frame_has_no_plots(tmp_path: Path) -> None:
    metrics = {key: CONTENT["metrics"][key] for key in ("reconstruction", "change")}
    text = write(tmp_path, {**CONTENT, "frames": 1, "metrics": metrics, "over_time": {"change": {"whole": [0.0]}}})
    assert "Over time" not in text
    assert "<li>1 frame</li>" in text
    assert "Over time" in write(tmp_path)


def test_gpu_memory_is_shown_if_it_was_measured(tmp_path: Path) -> None:
    assert "GPU" not in write(tmp_path)
    of_gpu = {"stage_peak_gpu_memory_mb": {"load": 7001, "edit": 7002}, "peak_gpu_memory_mb": 7003}
    text = write(tmp_path, CONTENT | of_gpu)
    table = ElementTree.fromstring(re.findall(r"<table.*?</table>", text, re.DOTALL)[0])
    assert [[cell.text for cell in row] for row in table] == [
        ["stage", "seconds", "peak memory, MiB", "peak GPU memory, MiB"],
        ["load", "1.50", "100", "7001"],
        ["edit", "2.25", "250", "7002"],
        ["total", "3.75", "250", "7003"],
    ]


def headings(text: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", text)


def test_sections_without_content_are_left_out(tmp_path: Path) -> None:
    assert headings(write(tmp_path)) == ["Files", "Metrics", "Over time", "Frames", "Cost", "Made with"]
    content = {key: value for key, value in CONTENT.items() if key not in ("metrics", "over_time")}
    write_page(tmp_path / "bare.html", content)
    text = (tmp_path / "bare.html").read_text(encoding="utf-8")
    assert headings(text) == ["Files", "Cost", "Made with"]
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert not {tag for tag, _ in tags.seen} & {"video", "img", "svg", "script"}


@pytest.mark.parametrize("missing", ["comparison", "contact_sheet", "metrics", "over_time", "reconstruction"])
def test_any_single_part_may_be_missing(missing: str, tmp_path: Path) -> None:
    whole = write(tmp_path)
    content = {key: value for key, value in CONTENT.items() if key != missing}
    if missing == "reconstruction":
        content["metrics"] = {key: value for key, value in CONTENT["metrics"].items() if key != missing}
    files = {"comparison": tmp_path / "comparison.mp4", "contact_sheet": tmp_path / "sheet.png"}
    files.pop(missing, None)
    write_page(tmp_path / "part.html", content, **files)
    text = (tmp_path / "part.html").read_text(encoding="utf-8")
    lost = {
        "comparison": "<video",
        "contact_sheet": "<img",
        "metrics": ">Reconstruction",
        "over_time": "<svg",
        "reconstruction": ">Reconstruction",
    }
    for part in set(lost.values()):
        assert part in whole
        assert (part in text) == (part != lost[missing])


def test_memory_is_left_out_if_it_was_not_measured(tmp_path: Path) -> None:
    text = write(tmp_path, {key: value for key, value in CONTENT.items() if "memory" not in key})
    table = ElementTree.fromstring(re.findall(r"<table.*?</table>", text, re.DOTALL)[0])
    assert [cell.text for cell in table[0]] == ["stage", "seconds"]


def drawn(plot: str) -> ElementTree.Element:
    return ElementTree.fromstring(str(plot).replace("<svg ", f'<svg xmlns="{SVG[1:-1]}" '))


def test_a_plot_has_a_line_per_series_at_the_height_of_its_values() -> None:
    plot = drawn(line_plot("Flicker", {"edit": [0.0, 4.0, 2.0], "source": [1.0, 1.0, 1.0]}))
    edit, source = (group.find(f"{SVG}path") for group in plot.findall(f"{SVG}g"))
    assert edit is not None
    assert source is not None
    heights = [float(point.split()[1]) for point in edit.attrib["d"][1:].split("L")]
    assert heights[0] > heights[2] > heights[1]
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.1)
    assert len({point.split()[1] for point in source.attrib["d"][1:].split("L")}) == 1


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(0, 3))
@example([5e-324], 0)
@example([1e-299, 0.0], 0)
def test_every_series_is_drawn_inside_the_axes(values: list[float], first: int) -> None:
    plot = drawn(line_plot("Flicker", {"edit": values}, first))
    path = next(plot.iter(f"{SVG}path"))
    points = np.array([point.split() for point in path.attrib["d"][1:].split("L")], float)
    assert len(points) <= MAX_POINTS
    assert np.all(points >= 0)
    assert np.all(points <= (560, 190))


@pytest.mark.parametrize(
    ("series", "first", "label"),
    [
        (dict.fromkeys(NAMES, [0.0] * 4), 1, "Flicker of source, reconstruction and edit, frames 1 to 4"),
        (dict.fromkeys(("source", "edit"), [0.0] * 2), 0, "Flicker of source and edit, frames 0 to 1"),
        ({"edit": [0.0]}, 3, "Flicker of edit, frame 3"),
    ],
)
def test_a_plot_is_labelled_for_screen_readers(series: dict[str, list[float]], first: int, label: str) -> None:
    assert drawn(line_plot("Flicker", series, first)).attrib["aria-label"] == label


def test_a_long_series_is_drawn_as_means() -> None:
    plot = drawn(line_plot("Flicker", {"edit": [float(index % 2) for index in range(60_000)]}))
    path = next(plot.iter(f"{SVG}path"))
    heights = {point.split()[1] for point in path.attrib["d"][1:].split("L")}
    assert len(heights) == 1


def test_missing_values_leave_a_gap_in_the_line() -> None:
    plot = drawn(line_plot("Change", {"inside": [None, 1.0, 2.0, None, 4.0, 3.0], "whole": [1.0] * 6}))
    inside, whole = (next(group.iter(f"{SVG}path")).attrib["d"] for group in plot.findall(f"{SVG}g"))
    assert [part.count("L") for part in inside.split("M")[1:]] == [1, 1]
    assert [part.count("L") for part in whole.split("M")[1:]] == [5]
    titles = [title.text for title in plot.iter(f"{SVG}title")]
    assert titles[:4] == ["inside, frame 2: 1", "inside, frame 3: 2", "inside, frame 5: 4", "inside, frame 6: 3"]
    nothing = drawn(line_plot("Change", {"inside": [None] * 400}))
    assert next(nothing.iter(f"{SVG}path")).attrib["d"] == ""
