"""Trials, edits and comparisons of the page, on the tiny model; and their results in the history."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.apps.web.conftest import FRAMES
from tokenflow.apps.web.compare_tab import VARIATION, by_prompts, by_seeds
from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.page import apart
from tokenflow.apps.web.results import config_of, find_results, frame_pair, read_result
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.work import TRIED, edit_job, trial_job
from tokenflow.errors import ConfigError
from tokenflow.events import Preview
from tokenflow.pipeline.output import delete_result
from tokenflow.video import Video, read_frames


def done(site: Site, job: Job) -> Job:
    site.jobs.submit(job)
    pause = threading.Event()
    while not job.is_finished:
        pause.wait(0.01)
    assert job.error is None, job.error
    return job


def test_a_trial_edits_a_few_frames_and_leaves_no_result(site: Site, values: dict[str, str], clip: str) -> None:
    job = done(site, trial_job(site.config(values, clip), site.editor))
    assert len(job.outcome.indices) == TRIED
    assert job.outcome.edited.shape == job.outcome.source.shape
    assert find_results(site.space.outputs) == []
    assert site.shelf.status.startswith("loaded")


def test_a_whole_edit_sends_previews_and_is_a_result_with_frames_beside_the_sources(
    site: Site, values: dict[str, str], clip: str
) -> None:
    values |= {"clip.start": "0.1", "clip.frames": "4"}
    config = site.config(values, clip)
    job = done(site, edit_job([config], site.editor))
    assert isinstance(job.preview, Preview)
    result = read_result(config.output.dir)
    assert job.outcome == [config.output.dir]
    assert result is not None
    assert find_results(site.space.outputs) == [result]
    assert config_of(result) == config
    assert {path.name for path in result.files} == {path.name for path in config.output.dir.glob("[!.]*")}
    expected = [frame.image for frame in read_frames(clip, start=0.1, frames=4)]
    edited = Video.read(result.video).frames
    for index in (0, 3):
        pair = frame_pair(result, index)
        assert pair is not None
        assert np.array_equal(pair[0], expected[index])
        assert np.array_equal(pair[1], edited[index])


def test_a_comparison_is_a_result_per_variant_from_one_inversion(site: Site, values: dict[str, str], clip: str) -> None:
    forms = by_seeds(values | {"edit.seed": "5"}, 2)
    configs = apart([site.config(form, clip) for form in forms])
    assert [(config.edit.seed, config.edit.variation) for config in configs] == [
        (5, float(VARIATION)),
        (6, float(VARIATION)),
    ]
    job = done(site, edit_job(configs, site.editor))
    assert len(set(job.outcome)) == 2
    assert len([path for path in site.space.trajectories.iterdir() if path.is_dir()]) == 1
    first, second = (Video.read(read_result(folder).video).frames for folder in job.outcome)  # type: ignore[union-attr]
    assert len(first) == FRAMES
    assert not np.array_equal(first, second)


def test_frames_edited_elsewhere_are_nothing_to_try(site: Site, values: dict[str, str], clip: str) -> None:
    config = site.config(values | {"edit.mode": "keyframes", "edit.keyframes.frames": "frames"}, clip)
    with pytest.raises(ConfigError, match=r"edit\.mode: keyframes carries the frames"):
        trial_job(config, site.editor)


def test_each_line_of_prompts_is_a_variant(values: dict[str, str]) -> None:
    forms = by_prompts(values, " a tiger \n\na cow\n")
    assert [form["edit.prompt"] for form in forms] == ["a tiger", "a cow"]
    assert all(form | {"edit.prompt": ""} == values | {"edit.prompt": ""} for form in forms)


def test_a_cancelled_edit_continues_with_the_same_result(site: Site, values: dict[str, str], clip: str) -> None:
    config = site.config(values, clip)
    job = edit_job([config], site.editor)
    job.stop.set()
    site.jobs.submit(job)
    pause = threading.Event()
    while not job.is_finished:
        pause.wait(0.01)
    assert job.state == "cancelled"
    assert find_results(site.space.outputs) == []
    done(site, edit_job(job.configs, site.editor))
    assert read_result(config.output.dir) is not None


def test_a_deleted_result_is_gone_from_the_history(site: Site, values: dict[str, str], clip: str) -> None:
    config = site.config(values, clip)
    done(site, edit_job([config], site.editor))
    delete_result(config.output.dir)
    assert find_results(site.space.outputs) == []
    assert not config.output.dir.exists()


def test_a_folder_of_another_program_is_not_a_result(tmp_path: Path) -> None:
    for name, text in {"a": "{}", "b": "[", "c": '{"settings": 3, "files": []}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(text)
    assert find_results(tmp_path) == []


def test_two_edits_of_one_prompt_that_wait_have_folders_of_their_own(
    site: Site, values: dict[str, str], clip: str
) -> None:
    first = edit_job([site.config(values, clip)], site.editor)
    site.jobs.submit(first)
    assert site.config(values, clip).output.dir != first.configs[0].output.dir
    site.jobs.cancel(first)


def test_a_shared_page_takes_its_own_models_and_clips_only(
    site: Site, values: dict[str, str], clip: str, tmp_path: Path
) -> None:
    shared = replace(site, space=replace(site.space, is_local=False))
    form = {key: text for key, text in values.items() if key in shared.keys}
    assert shared.config(form, clip).model.path == values["model.path"]
    with pytest.raises(ConfigError, match=r"model\.path: expected one of"):
        shared.config(form | {"model.path": str(tmp_path)}, clip)
    with pytest.raises(ConfigError, match=r"clip\.path: .* is not a clip of this page"):
        shared.config(form, str(tmp_path / "other.mp4"))
