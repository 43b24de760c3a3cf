"""`make gpu`, tried out on a CPU with narrow networks: its plan, its figures, and what it leaves on disk when."""

import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu, gpu_results
from benchmarks.full_size import FAMILIES, FEW, LOW_MEMORY, MANY, PLAN, FullSize, Measurement
from benchmarks.gpu import card_name, measure, run_tests, stop_after
from benchmarks.gpu_results import COLUMNS, GpuResults

CPU = torch.device("cpu")
FIRST, SECOND = Measurement("SD 1.5", FEW), Measurement("SDXL", FEW)
ROW = dict.fromkeys(COLUMNS, 1.5)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project without results."""
    monkeypatch.setattr(gpu_results, "JSON", tmp_path / "gpu.json")
    monkeypatch.setattr(gpu_results, "DOCUMENT", tmp_path / "gpu.md")
    return tmp_path


def test_the_plan_begins_with_both_models_in_few_and_in_many_steps() -> None:
    begin = [(each.model, each.steps, each.settings) for each in PLAN[:4]]
    assert begin == [(model, steps, "") for model in FAMILIES for steps in (FEW, MANY)]
    assert len({each.name for each in PLAN}) == len(PLAN)


@pytest.mark.parametrize(
    ("model", "measurements"),
    [
        ("SD 1.5", [{}, {"published": True}, {**LOW_MEMORY}]),
        ("SDXL", [{}, {"edit": {"propagation": "none"}}]),
    ],
)
def test_both_stages_are_measured(model: str, measurements: list[dict[str, Any]]) -> None:
    bench = FullSize(model, CPU, narrow=True)
    for settings in measurements:
        row = bench.measure(Measurement(model, 1, **settings))
        assert row.keys() == COLUMNS.keys()
        seconds = [row[key] for key in ("invert_s_per_frame", "edit_s_per_frame", "edit_frames_per_s")]
        assert all(value is not None and 0 < value < math.inf for value in seconds)
        assert row["invert_gpu_mb"] is row["edit_gpu_mb"] is None


def test_every_figure_is_on_disk_at_once_and_not_measured_again(project: Path) -> None:
    results = GpuResults("a card")
    results.describe(date="2030-01-01", dtype="float16", versions={"torch": "9.0"})
    assert results.missing([FIRST, SECOND]) == [FIRST, SECOND]
    results.add(FIRST, ROW)
    stored = json.loads((project / "gpu.json").read_text())
    assert stored["a card"]["rows"] == {FIRST.name: ROW}
    text = (project / "gpu.md").read_text()
    assert "## a card\n\n2030-01-01; float16; torch 9.0. GPU tests: not run." in text
    assert "| SD 1.5, 4 steps | 1.500 | 1.500 | 1.500 | 1.500 | 1.500 |" in text
    again = GpuResults("a card")
    assert again.missing([FIRST, SECOND]) == [SECOND]
    again.forget()
    assert again.missing([FIRST, SECOND]) == [FIRST, SECOND]


def test_cards_keep_their_own_results_and_the_document_its_notes(project: Path) -> None:
    (project / "gpu.md").write_text("old\n\n## Notes\n\nMeasured in winter.\n")
    GpuResults("one").add(FIRST, ROW)
    GpuResults("two").add(SECOND, ROW)
    text = (project / "gpu.md").read_text()
    assert text.index("## one") < text.index("## two") < text.index("\n## Notes")
    assert text.endswith("\n## Notes\n\nMeasured in winter.\n")
    assert "old" not in text


def test_a_new_folder_starts_from_the_projects_results(project: Path) -> None:
    GpuResults("a card").add(FIRST, ROW)
    before = (project / "gpu.json").read_text()
    results = GpuResults("a card", project / "out")
    results.add(SECOND, ROW)
    stored = json.loads((project / "out" / "gpu.json").read_text())
    assert list(stored["a card"]["rows"]) == [FIRST.name, SECOND.name]
    assert (project / "out" / "gpu.md").is_file()
    assert (project / "gpu.json").read_text() == before


def test_a_failure_is_stored_costs_no_other_figure_and_is_tried_again(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bench:
        def __init__(self, name: str, *_: object, **__: object) -> None:
            self.name = name

        def measure(self, measurement: Measurement) -> dict[str, float]:
            if measurement == FIRST:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")
            return ROW

    monkeypatch.setattr(gpu, "FullSize", Bench)
    results = GpuResults("a card")
    measure([FIRST, SECOND], CPU, results, narrow=True)
    assert (
        "SD 1.5, 4 steps: OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB | – |"
        in (project / "gpu.md").read_text()
    )
    assert results.missing([FIRST, SECOND]) == [FIRST]


def test_a_model_is_built_once_for_measurements_in_a_row(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    class Bench:
        def __init__(self, name: str, *_: object, **__: object) -> None:
            built.append(name)
            self.name = name

        def measure(self, _: Measurement) -> dict[str, float]:
            return ROW

    monkeypatch.setattr(gpu, "FullSize", Bench)
    measure([FIRST, replace(FIRST, steps=MANY), SECOND, FIRST], CPU, GpuResults("a card"), narrow=True)
    assert built == ["SD 1.5", "SDXL", "SD 1.5"]


@pytest.fixture
def gpu_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of tests in place of the project's."""
    folder = tmp_path / "tests"
    folder.mkdir()
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -q\nmarkers = gpu\n")
    monkeypatch.setattr(gpu, "TESTS", str(folder))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # plugins take seconds to import
    return folder


def test_the_summary_of_the_tests_says_whether_they_passed(gpu_tests: Path, project: Path) -> None:
    file = gpu_tests / "test_card.py"
    file.write_text("import pytest\n\n@pytest.mark.gpu\ndef test_it():\n    pass\n\ndef test_other():\n    assert 0\n")
    results = GpuResults("a card")
    results.set_tests(run_tests(60, results.log))
    assert "1 passed, 1 deselected" in results.tests
    assert results.tests_passed
    file.write_text(file.read_text().replace("pass\n", "assert 0\n", 1))
    results.set_tests(run_tests(60, results.log))
    assert "1 failed, 1 deselected" in results.tests
    assert not results.tests_passed
    assert "assert 0" in results.log.read_text()


def test_tests_that_take_too_long_are_stopped(gpu_tests: Path, project: Path) -> None:
    (gpu_tests / "test_card.py").write_text("import time\ntime.sleep(60)\n")
    begin = time.monotonic()
    assert run_tests(0.5, project / "log") == "not finished in 0 s"
    assert time.monotonic() - begin < 30


def test_the_process_ends_when_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    stop_after(0.01).join()
    assert ended == [0]


def test_without_a_card_it_refuses_to_start(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.argv", ["gpu"])
    monkeypatch.setattr(gpu, "choose_device", lambda _: CPU)
    with pytest.raises(SystemExit) as ended:
        gpu.main()
    assert ended.value.code == 2
    assert "there is no CUDA device; --narrow tries everything out on a CPU" in capsys.readouterr().err
    assert card_name(CPU, narrow=True) == "CPU, narrow networks"
