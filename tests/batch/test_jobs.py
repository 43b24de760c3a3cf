"""What jobs share, the order in which they start, and the checks before."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.batch.conftest import Configure
from tests.video.flash import make_flashes
from tests.video.making import make, numbered
from tokenflow.batch.jobs import Job, as_jobs, check, in_order
from tokenflow.config import Clip, Config, Inversion, Model, Trajectories
from tokenflow.errors import BatchError
from tokenflow.pipeline.job import find_inversion


def config(clip: int, edit: int = 0, model: int = 0) -> Config:
    return Config.model_validate(
        {
            "clip": {"path": f"clip{clip}.mp4", "prompt": "a dog"},
            "model": {"path": f"model{model}"},
            "edit": {"prompt": "a tiger", "seed": edit},
            "output": {"dir": f"out/{model}-{clip}-{edit}"},
        }
    )


def test_edits_of_a_clip_share_its_inversion_and_nothing_else_does() -> None:
    job = Job(config(0))
    assert Job(config(0, edit=1)).inversion == job.inversion
    assert Job(config(1)).inversion != job.inversion
    assert Job(config(0, model=1)).inversion != job.inversion


SHARE = [
    "model.offload=true",
    "clip.cuts=[2]",
    "model.device=cpu",
    "model.dtype=float32",
    "inversion.batch_size=2",
    "inversion.check=false",
    "inversion.reuse=true",
    "inversion.warn_below_psnr=30",
    "edit.prompt=a lion",
    "edit.steps=3",
    "output.codec=ffv1",
    "output.dir=elsewhere",
    "metrics.enabled=false",
    "model.compile=true",
]
"""Settings that do not change the inversion, given a configuration on the CPU in float32."""

CHANGE = [
    "clip.prompt=a cat",
    "clip.start=0.1",
    "clip.frames=2",
    "clip.every=2",
    "clip.rate=10",
    "clip.background=white",
    "clip.size=24",
    "clip.resize=pad",
    "model.tiling=true",
    "model.variant=fp16",
    "model.prediction_type=v_prediction",
    "model.few_step=true",
    "model.quantization=int8",
    "model.text_encoder_quantization=fp8",
    "model.dtype=bfloat16",
    "inversion.steps=5",
    "inversion.iterations=2",
    "trajectories.dir=elsewhere",
]
"""Settings that do."""


@pytest.mark.parametrize("override", [*SHARE, *CHANGE])
def test_jobs_share_an_inversion_exactly_if_the_pipeline_stores_one_for_both(
    override: str, configure: Configure
) -> None:
    one, other = (configure(1, 1, "model.dtype=float32", *each)[0] for each in ([], [override]))
    stored_once = find_inversion(one).folder == find_inversion(other).folder
    assert stored_once == (override in SHARE)
    assert (Job(one).inversion == Job(other).inversion) == stored_once


def test_no_setting_that_an_inversion_may_depend_on_goes_untested() -> None:
    tested = {override.partition("=")[0] for override in (*SHARE, *CHANGE)}
    elsewhere = {
        *("clip.path", "clip.sound", "model.path", "model.base", "model.revision", "model.vae"),  # of other files
        *("model.loras", "model.textual_inversions"),  # likewise
    }
    sections = {"clip": Clip, "model": Model, "inversion": Inversion, "trajectories": Trajectories}
    settings = {f"{name}.{key}" for name, section in sections.items() for key in section.model_fields}
    assert settings <= tested | elsewhere


def test_jobs_share_an_inversion_whatever_their_sound(tmp_path: Path, configure: Configure) -> None:
    sound = make_flashes(tmp_path / "sound.mkv", (0.5,), 1)
    one, other = (configure(1, 1, *each)[0] for each in ([], [f"clip.sound={sound}"]))
    assert find_inversion(one).folder == find_inversion(other).folder
    assert Job(one).inversion == Job(other).inversion
    assert Job(one).identity != Job(other).identity


def test_a_file_without_sound_is_a_mistake_of_its_job(tmp_path: Path, configure: Configure) -> None:
    silent = make(tmp_path / "silent.mp4", [numbered(0)])
    jobs = [Job(each) for name in ("no.wav", silent) for each in configure(1, 1, f"clip.sound={tmp_path / name}")]
    with pytest.raises(BatchError, match=r"there is no clip at .*no\.wav"):
        check(jobs[:1])
    with pytest.raises(BatchError, match=r"silent\.mp4 has no sound"):
        check(jobs[1:])


def test_the_identity_changes_with_settings_and_with_the_clip(tmp_path: Path) -> None:
    clip = tmp_path / "clip0.mp4"
    settings = config(0).model_dump()
    settings["clip"]["path"] = clip
    clip.write_bytes(b"one")
    job = Job(Config.model_validate(settings))
    assert Job(Config.model_validate(settings)).identity == job.identity
    clip.write_bytes(b"another")
    assert Job(Config.model_validate(settings)).identity != job.identity
    assert Job(config(0)).identity != Job(config(0, edit=1)).identity


def test_the_identity_changes_with_an_image_of_a_sequence_and_with_the_mask(tmp_path: Path) -> None:
    for name in ("clip", "mask"):
        (tmp_path / name).mkdir()
        for index in range(2):
            (tmp_path / name / f"{index}.png").write_bytes(b"one")

    def identity(clip: Path) -> str:
        settings = config(0).model_dump()
        settings["clip"]["path"], settings["metrics"]["mask"] = clip, tmp_path / "mask"
        return Job(Config.model_validate(settings)).identity

    for clip in (tmp_path / "clip", tmp_path / "clip" / "%d.png"):
        seen = {identity(clip)}
        for name in ("clip", "mask"):
            with (tmp_path / name / "1.png").open("ab") as file:
                file.write(b"more")
            seen.add(identity(clip))
        assert len(seen) == 3


def test_file_names_instead_of_configurations_are_refused() -> None:
    with pytest.raises(BatchError, match=r"expected Config objects, got 'edit\.yaml'; read one with load_config"):
        as_jobs(["edit.yaml"])  # type: ignore[list-item]


@given(st.lists(st.tuples(*(st.integers(0, 2),) * 3), unique=True))
def test_jobs_are_grouped_by_model_and_take_clips_in_turn(drawn: list[tuple[int, int, int]]) -> None:
    jobs = [Job(config(*each)) for each in drawn]
    ordered = in_order(jobs)
    assert sorted(map(id, ordered)) == sorted(map(id, jobs))
    models = [job.config.model.path for job in ordered]
    changes = sum(before != after for before, after in pairwise(models))
    assert changes == max(0, len(set(models)) - 1)
    started: dict[str, int] = {}
    for job, model in zip(ordered, models, strict=True):
        started[job.inverted] = started.get(job.inverted, 0) + 1
        counts = [count for other, count in started.items() if f'"path": "{model}"' in other]
        assert started[job.inverted] == max(counts)


def test_two_jobs_with_one_output_directory_are_named(configure: Configure) -> None:
    configs = configure(2, 1)
    other = configs[1].model_copy(update={"output": configs[0].output})
    with pytest.raises(BatchError, match=r"2 jobs have the output directory .*clip0-0 \(.*clip0.mp4 .*, .*clip1.mp4"):
        check([Job(configs[0]), Job(other)])


def test_missing_and_unreadable_clips_are_all_named_at_once(configure: Configure, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no clip")
    configs = [
        *configure(5, 2),
        *configure(1, 1, f"clip.path={tmp_path / 'gone.mp4'}", "output.dir=a"),
        *configure(1, 1, f"clip.path={tmp_path / 'broken.mp4'}", "output.dir=b"),
    ]
    with pytest.raises(BatchError, match=r"no clip at .*gone\.mp4.*; .*broken\.mp4"):
        check([Job(each) for each in configs])


def test_a_missing_mask_is_named(configure: Configure, tmp_path: Path) -> None:
    (config,) = configure(1, 1, f"metrics.mask={tmp_path / 'gone'}")
    with pytest.raises(BatchError, match="gone"):
        check([Job(config)])


def test_of_many_mistakes_the_first_are_listed_and_the_others_counted(configure: Configure) -> None:
    configs = [configure(1, 1, f"clip.path=gone{index}.mp4", f"output.dir=out{index}")[0] for index in range(100)]
    with pytest.raises(BatchError, match=r"gone9\.mp4 in .*; check the path; and 90 more$"):
        check([Job(each) for each in configs])


def test_no_jobs_are_an_error() -> None:
    with pytest.raises(BatchError, match="nothing to run"):
        check([])
