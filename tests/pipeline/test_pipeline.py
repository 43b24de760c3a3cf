"""Both stages on a tiny Stable Diffusion and a clip made here, as a caller uses them."""

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import tokenflow
from tests.tiny import (
    inverted_clip,
    moving_square,
    save_tiny_clip,
    save_tiny_controlnet,
    save_tiny_model,
    tiny_model,
    tiny_pipeline,
)
from tests.video.making import write_pngs
from tokenflow.config import Config, Inversion
from tokenflow.errors import (
    Cancelled,
    ClipNotFoundError,
    ConfigError,
    OutputError,
    ReconstructionWarning,
    TokenflowError,
    TrajectoryError,
)
from tokenflow.models.loading import load_model
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline import checkpoint, job, wiring
from tokenflow.pipeline import output as results
from tokenflow.pipeline.job import find_inversion
from tokenflow.pipeline.reconstruction import notice_poor_reconstruction
from tokenflow.propagation.keyframes import draw_keyframes
from tokenflow.store.files import LOCK, locked
from tokenflow.video import VideoWriter, read_frames

FRAMES = 7
SHORT = "edit.keyframe_interval=null"
STEPS = tiny_model().schedule.steps(4)
TIMES = [Fraction(index, 10) + (Fraction(1, 20) if index > 3 else 0) for index in range(FRAMES)]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a ControlNet, a clip of uneven frame times, and a configuration for them."""
    folder = tmp_path_factory.mktemp("material")
    save_tiny_model(folder / "model")
    save_tiny_controlnet(folder / "controlnet")
    with VideoWriter(folder / "clip.mp4", width=24, height=16, times=TIMES, quality=0) as video:
        for picture in moving_square(FRAMES):
            video.write(picture)
    settings = {
        "clip": {"path": str(folder / "clip.mp4"), "prompt": "a dog", "size": 16},
        "model": {"path": str(folder / "model"), "device": "cpu"},
        "inversion": {"steps": 4, "batch_size": 3, "warn_below_psnr": 0},
        "edit": {
            "prompt": "a golden tiger",
            "steps": 4,
            "batch_size": 3,
            "keyframe_interval": 3,
            "controlnet": {"path": str(folder / "controlnet")},
        },
        "output": {"dir": "unset"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(scope="session")
def shared_trajectories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trajectories")


def configured(material: Path, output: Path, *overrides: str, trajectories: Path | None = None) -> Config:
    places = [f"output.dir={output / 'out'}", f"trajectories.dir={trajectories or output / 'trajectories'}"]
    return tokenflow.load_config(material / "config.yaml", [*places, *overrides], {})


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("keyframe_window=3", lambda options: options.window == 3),
        (
            "extended_attention=all",
            lambda options: "down_blocks.0.attentions.0.transformer_blocks.0.attn1" in options.extended,
        ),
        (
            "extended_attention=coarse",
            lambda options: "down_blocks.0.attentions.0.transformer_blocks.0.attn1" not in options.extended,
        ),
        (
            "propagate_edit_until=0.25",
            lambda options: [*map(options.is_edit_propagated, STEPS)] == [True, *[False] * 3],
        ),
        ("guidance=per_frame", lambda options: not options.propagate_guidance),
        ("keyframe_interval=2", lambda options: options.draw_keyframes(7, 0) == draw_keyframes(7, 2, 0, 0)),
        ("keyframe_interval=null", lambda options: options.draw_keyframes(7, 0) == draw_keyframes(7, 4, 0, 0)),
        ("seed=7", lambda options: options.draw_keyframes(7, 1) == draw_keyframes(7, 3, 7, 1)),
    ],
)
def test_propagation_gets_every_setting(setting: str, expected: Any, material: Path, tmp_path: Path) -> None:
    source = inverted_clip(moving_square(FRAMES), 4)
    edit = configured(material, tmp_path, f"edit.{setting}").edit
    assert expected(wiring.propagation_options(source, edit))


@pytest.mark.parametrize("mode", ["pnp", "sdedit", "controlnet"])
@pytest.mark.parametrize(
    "how",
    ["edit.correspondence=flow", "edit.correspondence=nearest", "edit.propagation=none", "edit.guidance=per_frame"],
)
def test_every_mode_and_propagation_gives_a_whole_result(
    mode: str, how: str, material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    config = configured(material, tmp_path, f"edit.mode={mode}", how, trajectories=shared_trajectories)
    result = tokenflow.run(config)
    assert result.frames.shape == (FRAMES, 16, 24, 3)
    assert [frame.time for frame in read_frames(result.video)] == TIMES
    assert next(read_frames(result.comparison)).image.shape == (16, 48, 3)
    assert result.contact_sheet.is_file()
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == result.report
    assert result.report["frames"] == FRAMES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_an_edit_in_half_precision_is_near_the_one_in_full(material: Path, tmp_path: Path) -> None:
    whole = configured(material, tmp_path / "full", "model.dtype=float32")
    full = tokenflow.run(whole).frames.astype(int)
    half = configured(material, tmp_path / "half", "model.dtype=bfloat16")
    # bfloat16 keeps 8 bits, through four steps of the network and a guidance of 4.
    assert np.abs(tokenflow.run(half).frames - full).mean() < 8


def test_the_modes_give_different_edits(material: Path, tmp_path: Path, shared_trajectories: Path) -> None:
    edits = []
    for mode in ("pnp", "sdedit", "controlnet"):
        config = configured(material, tmp_path / mode, f"edit.mode={mode}", trajectories=shared_trajectories)
        edits.append(tokenflow.run(config).frames.astype(int))
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(edits[first] - edits[second]).mean() > 1


def test_the_saved_configuration_gives_the_same_pixels_again(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    first = tokenflow.run(configured(material, tmp_path, trajectories=shared_trajectories))
    frames = first.frames
    again = tokenflow.load_config(tmp_path / "out" / "config.yaml", environment={})
    assert np.array_equal(tokenflow.run(again).frames, frames)


@pytest.mark.parametrize("gone", [results.REPORT, results.CONFIG])
def test_a_result_is_opened_again_and_one_that_is_not_whole_is_refused(
    gone: str, material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    result = tokenflow.run(configured(material, tmp_path, trajectories=shared_trajectories))
    assert tokenflow.open_result(tmp_path / "out") == result
    (tmp_path / "out" / gone).unlink()
    with pytest.raises(ConfigError, match=gone):
        tokenflow.open_result(tmp_path / "out")


def test_stage_1_reports_the_autoencoder_and_the_inversion(material: Path, tmp_path: Path) -> None:
    result = tokenflow.preprocess(configured(material, tmp_path))
    assert set(result.report["reconstruction"]) == {
        "autoencoder_psnr",
        "autoencoder_ssim",
        "inversion_psnr",
        "inversion_ssim",
    }
    assert result.frame_count == FRAMES
    assert len(list(read_frames(result.reconstruction))) == FRAMES


def test_stage_1_does_nothing_the_second_time(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(material, tmp_path)
    first = tokenflow.preprocess(config)
    model = load_model(config.model.path, device="cpu")
    monkeypatch.setattr(model, "predict", lambda *_, **__: pytest.fail("the network was called again"))
    assert tokenflow.preprocess(config, model=model) == first


@pytest.mark.filterwarnings("ignore::tokenflow.errors.WaitingWarning")
def test_waiting_for_the_check_of_the_reconstruction_can_be_cancelled(material: Path, tmp_path: Path) -> None:
    folder = tokenflow.preprocess(configured(material, tmp_path, "inversion.check=false")).folder
    with locked(folder, pytest.fail), pytest.raises(Cancelled):
        tokenflow.preprocess(configured(material, tmp_path), cancel=lambda: True)


def test_stage_2_reports_source_reconstruction_and_edit_side_by_side(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    config = configured(material, tmp_path, trajectories=shared_trajectories)
    report = tokenflow.run(config).report
    for figure, count in (("warp_error_e3", FRAMES - 1), ("flicker", FRAMES - 2)):
        assert list(report["metrics"][figure]) == ["source", "reconstruction", "edit"]
        assert [len(values) for values in report["over_time"][figure].values()] == [count] * 3
    assert set(report["metrics"]) == {"reconstruction", "warp_error_e3", "flicker", "detail", "change", "outlines"}
    assert set(report["metrics"]["change"]) == {"whole", "most"}
    assert report["verdict"]["name"] in ("good", "hardly edited", "flattened", "clip not shown")


def test_each_edited_frame_is_measured_against_its_own_source(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    lossless = ["output.codec=ffv1", "output.container=mkv"]
    result = tokenflow.run(configured(material, tmp_path, *lossless, trajectories=shared_trajectories))
    source = np.stack([frame.image for frame in read_frames(material / "clip.mp4")])
    changes = np.abs(result.frames.astype(float) - source).mean((1, 2, 3))
    assert result.report["over_time"]["change"]["whole"] == pytest.approx(changes, rel=1e-3)  # told to four digits


def test_a_clip_model_and_a_mask_add_their_figures(material: Path, tmp_path: Path, shared_trajectories: Path) -> None:
    save_tiny_clip(tmp_path / "clip")
    mask = np.zeros((FRAMES, 16, 24, 3), np.uint8)
    mask[:, :, :6] = 255
    write_pngs(tmp_path / "mask", mask)
    settings = [f"metrics.clip={tmp_path / 'clip'}", f"metrics.mask={tmp_path / 'mask'}"]
    config = configured(material, tmp_path, *settings, trajectories=shared_trajectories)
    metrics = tokenflow.run(config).report["metrics"]
    assert set(metrics["clip_text"]) == set(metrics["clip_consistency"]) == {"source", "edit"}
    change = metrics["change"]
    assert change["whole"] == pytest.approx((change["inside"] + 3 * change["outside"]) / 4, rel=1e-3)
    one = configured(material, tmp_path, f"metrics.mask={tmp_path / 'mask' / 'frame_00003.png'}", "clip.start=0.3")
    assert set(tokenflow.run(one).report["metrics"]["change"]) == {"whole", "most", "inside", "outside"}


def test_the_part_of_the_clip_that_is_edited_has_the_same_part_of_its_mask(material: Path, tmp_path: Path) -> None:
    """White in the first three frames alone, of which the edit sees none; then in one that it sees."""
    for white, sides in (([0, 1, 2], {"whole", "most", "outside"}), ([5], {"whole", "most", "inside", "outside"})):
        with VideoWriter(tmp_path / "mask.mkv", width=24, height=16, times=TIMES, codec="ffv1") as video:
            for frame in range(FRAMES):
                video.write(np.full((16, 24, 3), 255 * (frame in white), np.uint8))
        part = [f"clip.start={float(TIMES[3])}", "clip.every=2", SHORT, f"metrics.mask={tmp_path / 'mask.mkv'}"]
        change = tokenflow.run(configured(material, tmp_path, *part)).report["metrics"]["change"]
        assert set(change) == sides


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("metrics.clip=no/such/folder", "no CLIP model"),
        ("metrics.mask=none.png", "no clip at none"),
        ("short", "has 2 frames"),
    ],
)
def test_what_an_edit_is_measured_with_is_missed_before_the_work(
    setting: str,
    says: str,
    material: Path,
    tmp_path: Path,
    shared_trajectories: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(job, "edit_frames", lambda *_, **__: pytest.fail("the edit began"))
    if setting == "short":
        write_pngs(tmp_path / "mask", np.zeros((2, 16, 24, 3), np.uint8))
        setting = f"metrics.mask={tmp_path / 'mask'}"
    with pytest.raises(tokenflow.TokenflowError, match=says):
        tokenflow.run(configured(material, tmp_path, setting, trajectories=shared_trajectories))


@pytest.mark.parametrize("setting", ["metrics.clip=no/such/folder", "metrics.mask=none.png"])
def test_a_mask_or_a_clip_model_that_is_not_there_is_missed_before_the_inversion(
    setting: str, material: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        tokenflow.run(configured(material, tmp_path, setting))
    assert not list((tmp_path / "trajectories").rglob("*.safetensors"))


@pytest.mark.parametrize("wrong", ["edit.keyframe_interval=8", "metrics.mask={}"])
def test_what_does_not_go_with_the_number_of_frames_is_said_before_the_inversion(
    wrong: str, material: Path, tmp_path: Path
) -> None:
    write_pngs(tmp_path / "mask", np.zeros((2, 16, 24, 3), np.uint8))
    config = configured(material, tmp_path, wrong.format(tmp_path / "mask"))
    with pytest.raises(ConfigError, match="the clip has 7"):
        tokenflow.run(config)
    assert not list((tmp_path / "trajectories").rglob("*.safetensors"))


def test_an_edit_of_every_frame_for_itself_minds_no_interval(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    settings = ("edit.propagation=none", "edit.keyframe_interval=8")
    config = configured(material, tmp_path, *settings, trajectories=shared_trajectories)
    assert len(tokenflow.run(config).frames) == FRAMES


def test_the_reconstruction_is_measured_as_it_was_before_coding(material: Path, tmp_path: Path) -> None:
    config = configured(material, tmp_path)
    folder = tokenflow.preprocess(config).folder
    coded, pictures = (
        np.stack([frame.image for frame in read_frames(folder / name)])
        for name in ("reconstruction.mp4", "reconstruction.mkv")
    )
    assert np.abs(coded.astype(int) - pictures).mean() > 0.1
    written = np.stack([frame.image for frame in read_frames(material / "clip.mp4")])
    error = np.square(pictures / 255 - written / 255).mean((1, 2, 3))
    stored = json.loads((folder / "report.json").read_text())["reconstruction"]
    assert stored["inversion_psnr"] == pytest.approx(np.mean(-10 * np.log10(error)), abs=0.05)  # in 8 bits here


def test_another_edit_of_the_same_clip_shares_the_inversion(material: Path, tmp_path: Path) -> None:
    one, other = configured(material, tmp_path), configured(material, tmp_path, "edit.prompt=a zebra", "edit.seed=3")
    assert find_inversion(one).folder == find_inversion(other).folder


@pytest.mark.parametrize("change", ["clip.prompt=a cat", "inversion.steps=8", "clip.frames=3", "model.dtype=float16"])
def test_what_an_inversion_depends_on_gives_another_one(change: str, material: Path, tmp_path: Path) -> None:
    one, other = configured(material, tmp_path), configured(material, tmp_path, change)
    assert find_inversion(one).folder != find_inversion(other).folder


def test_a_clip_that_is_replaced_between_the_stages_is_inverted_again(material: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"

    def write(step: int) -> None:
        with VideoWriter(clip, width=24, height=16, rate=10, quality=0) as video:
            for picture in moving_square(FRAMES, step=step):
                video.write(picture)
        os.utime(clip, (0, 0))

    config = configured(material, tmp_path, f"clip.path={clip}")
    write(1)
    before = tokenflow.preprocess(config)
    write(2)
    edited = tokenflow.run(config)
    expected = tokenflow.run(configured(material, tmp_path / "apart", f"clip.path={clip}"))
    assert find_inversion(config).folder != before.folder
    assert np.array_equal(edited.frames, expected.frames)
    assert edited.report["metrics"] == expected.report["metrics"]
    write(1)
    assert tokenflow.preprocess(config) == before


def test_a_poor_reconstruction_warns_with_figure_threshold_and_remedy(material: Path, tmp_path: Path) -> None:
    config = configured(material, tmp_path, "inversion.warn_below_psnr=90")
    with pytest.warns(ReconstructionWarning, match=r"dB PSNR, below inversion.warn_below_psnr = 90; .*model\.path"):
        tokenflow.preprocess(config)


@pytest.mark.parametrize(
    ("autoencoder", "inversion", "remedy"),
    [
        (24.0, 23.9, r"24\.0 dB PSNR, below .* = 26; this model cannot represent the clip: try another model\.path"),
        (28.0, 24.5, r"24\.5 dB PSNR, 3\.5 dB below the autoencoder; try more inversion\.steps"),
        (40.0, 25.0, r"15\.0 dB below the autoencoder"),
    ],
)
def test_model_or_inversion_is_to_blame_for_a_poor_reconstruction(
    autoencoder: float, inversion: float, remedy: str
) -> None:
    figures = {"inversion_psnr": inversion, "autoencoder_psnr": autoencoder}
    with pytest.warns(ReconstructionWarning, match=remedy):
        notice_poor_reconstruction(figures, Inversion().warn_below_psnr)
    notice_poor_reconstruction(figures, 0)  # a warning would be an error here


@pytest.mark.parametrize(("autoencoder", "inversion"), [(26.1, 23.2), (38.26, 33.75), (28.0, 26.5)])
def test_a_reconstruction_near_the_autoencoders_or_above_30_db_is_good(autoencoder: float, inversion: float) -> None:
    figures = {"inversion_psnr": inversion, "autoencoder_psnr": autoencoder}
    notice_poor_reconstruction(figures, Inversion().warn_below_psnr)


def test_a_part_of_the_clip_is_edited(material: Path, tmp_path: Path) -> None:
    config = configured(material, tmp_path, "clip.start=0.2", "clip.frames=3")
    result = tokenflow.run(config)
    assert [frame.time for frame in read_frames(result.video)] == [time - TIMES[2] for time in TIMES[2:5]]


@pytest.mark.parametrize("steps", [2, 3, 9])
def test_an_edit_may_take_other_steps_than_the_inversion(
    steps: int, material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    config = configured(material, tmp_path, f"edit.steps={steps}", trajectories=shared_trajectories)
    assert tokenflow.run(config).frames.shape[0] == FRAMES


def test_an_interval_longer_than_the_clip_is_refused_and_by_default_fits_it(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    longer = configured(material, tmp_path, "edit.keyframe_interval=8", trajectories=shared_trajectories)
    with pytest.raises(ConfigError, match=r"edit\.keyframe_interval is 8 but the clip has 7 frames; expected 1 to 7"):
        tokenflow.run(longer)
    fitting = configured(material, tmp_path, "edit.keyframe_interval=null", trajectories=shared_trajectories)
    assert len(tokenflow.run(fitting).frames) == FRAMES


def test_a_missing_clip_is_said_before_anything_is_written(material: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipNotFoundError):
        tokenflow.preprocess(configured(material, tmp_path, "clip.path=none.mp4"))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_edit_leaves_nothing_that_looks_finished(
    material: Path, tmp_path: Path, shared_trajectories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("in the middle of writing")

    monkeypatch.setattr(results, "contact_sheet", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        tokenflow.run(configured(material, tmp_path, trajectories=shared_trajectories))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {LOCK, checkpoint.NAME}


def test_a_damaged_step_stops_the_edit_and_is_named(material: Path, tmp_path: Path) -> None:
    config = configured(material, tmp_path)
    folder = tokenflow.preprocess(config).folder
    noisiest = max(folder.glob("s0*.safetensors"))
    noisiest.write_bytes(noisiest.read_bytes()[:-1] + b"\xff")
    with pytest.raises(TrajectoryError, match=noisiest.name):
        tokenflow.run(config)


@pytest.mark.parametrize(("height", "width", "codec"), [(22, 30, "h264"), (21, 29, "ffv1")])
def test_a_clip_of_a_size_that_no_model_takes_comes_back_in_that_size(
    height: int, width: int, codec: str, material: Path, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mkv"
    with VideoWriter(path, width=width, height=height, rate=10, codec=codec) as video:
        for picture in moving_square(2, height, width):
            video.write(picture)
    form = ["output.container=mkv", f"output.codec={codec}"]
    config = configured(material, tmp_path, f"clip.path={path}", SHORT, *form)
    assert tokenflow.run(config).frames.shape == (2, height, width, 3)


@pytest.mark.parametrize("name", ["reconstruction.mp4", "reconstruction.mkv"])
def test_a_reconstruction_that_was_deleted_or_damaged_is_made_again_and_a_step_that_was_is_named(
    name: str, material: Path, tmp_path: Path
) -> None:
    config = configured(material, tmp_path)
    first = tokenflow.preprocess(config)
    video = first.folder / name
    content, pictures = video.read_bytes(), [frame.image for frame in read_frames(video)]
    video.unlink()
    assert tokenflow.preprocess(config).report["reconstruction"] == first.report["reconstruction"]
    assert np.array_equal([frame.image for frame in read_frames(video)], pictures)
    video.write_bytes(content[: len(content) // 2])
    tokenflow.preprocess(config)
    assert np.array_equal([frame.image for frame in read_frames(video)], pictures)
    noisiest = max(first.folder.glob("s0*.safetensors"))
    noisiest.unlink()
    with pytest.raises(TrajectoryError, match=rf"{noisiest.name} is missing; delete the folder"):
        tokenflow.preprocess(config)


def test_what_is_wrong_with_the_edit_is_said_before_the_inversion(material: Path, tmp_path: Path) -> None:
    for wrong, said in (
        ("edit.steps=5000", "steps is 5000"),
        ("edit.mode=controlnet edit.controlnet.path=none/none/none", "there is no ControlNet at 'none/none/none'"),
    ):
        config = configured(material, tmp_path, *wrong.split())
        with pytest.raises(TokenflowError, match=said):
            tokenflow.run(config)
        assert not config.trajectories.dir.exists()


def test_an_output_that_cannot_be_written_is_said_before_any_work(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out").touch()
    monkeypatch.setattr(job, "load_model", lambda *_, **__: pytest.fail("work began"))
    with pytest.raises(OutputError, match=r"set output\.dir"):
        tokenflow.run(configured(material, tmp_path))


def test_codec_container_and_pngs_are_as_wished(material: Path, tmp_path: Path, shared_trajectories: Path) -> None:
    wishes = ["output.container=mkv", "output.codec=ffv1", "output.pngs=true"]
    config = configured(material, tmp_path, *wishes, trajectories=shared_trajectories)
    result = tokenflow.run(config)
    assert result.video.name == "edited.mkv"
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "out" / "frames").glob("*.png"))]
    assert np.array_equal(np.stack(pictures), result.frames)
    tokenflow.run(configured(material, tmp_path, trajectories=shared_trajectories))
    assert not (tmp_path / "out" / "frames").exists()


@pytest.mark.parametrize("how", ["fit", "fill", "pad"])
def test_a_clip_of_another_aspect_is_brought_to_the_models_and_back(how: str, material: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "wide.mp4", width=44, height=20, rate=10) as video:
        for picture in moving_square(2, 20, 44):
            video.write(picture)
    config = configured(material, tmp_path, f"clip.path={tmp_path / 'wide.mp4'}", f"clip.resize={how}", SHORT)
    frames = tokenflow.run(config).frames
    assert frames.shape[:1] + frames.shape[3:] == (2, 3)
    assert (frames.shape[1:3] == (20, 44)) if how != "fill" else (frames.shape[1] <= 20 and frames.shape[2] <= 44)


def test_the_size_that_will_be_written_is_checked_before_the_inversion(
    material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoWriter(tmp_path / "wide.mp4", width=44, height=20, rate=10) as video:
        for image in moving_square(2, 20, 44):
            video.write(image)
    config = configured(material, tmp_path, f"clip.path={tmp_path / 'wide.mp4'}", "clip.resize=fill", SHORT)
    checked: list[tuple[int, int]] = []

    def check(output: Any, clip: Any, size: tuple[int, int], folder: Path) -> None:
        assert not config.trajectories.dir.exists()
        checked.append(size)

    monkeypatch.setattr(results, "check_encoding", check)
    rows, columns = tokenflow.run(config).frames.shape[1:3]
    assert checked == [(44, 20), (columns, rows)]
    assert (columns, rows) != (44, 20)


def test_an_inversion_belongs_to_the_model_that_made_it_whatever_the_configuration_names(
    material: Path, tmp_path: Path
) -> None:
    config = configured(material, tmp_path)
    other = StableDiffusion(tiny_pipeline(layers=2))
    made = tokenflow.preprocess(config, model=other).folder
    assert tokenflow.preprocess(config).folder != made
    assert find_inversion(config).complete


def test_an_error_of_a_listener_reaches_the_caller_unchanged(
    material: Path, tmp_path: Path, shared_trajectories: Path
) -> None:
    def fail(event: tokenflow.Progress) -> None:
        if event.stage == "edit":
            raise ConnectionAbortedError("the browser is gone")

    config = configured(material, tmp_path, trajectories=shared_trajectories)
    with pytest.raises(ConnectionAbortedError, match="the browser is gone"):
        tokenflow.run(config, on_event=fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["pnp", "sdedit"])
def test_a_model_with_zero_terminal_snr_goes_through_both_stages(mode: str, material: Path, tmp_path: Path) -> None:
    tiny_pipeline(prediction_type="v_prediction", zero_terminal_snr=True).save_pretrained(tmp_path / "zero")
    model = f"model.path={tmp_path / 'zero'}"
    result = tokenflow.run(configured(material, tmp_path / "run", model, f"edit.mode={mode}", "edit.sdedit.strength=1"))
    assert result.frames.shape == (FRAMES, 16, 24, 3)
    # Pure noise holds nothing of the source but what the inversion put there.
    assert result.report["metrics"]["reconstruction"]["inversion_psnr"] > 10
