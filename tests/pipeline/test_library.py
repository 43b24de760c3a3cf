"""The library as a Python user calls it: values in, values out, events on the way."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

import tokenflow
from tests.tiny import moving_square, save_tiny_controlnet, tiny_lcm_pipeline, tiny_model, tiny_pipeline
from tests.tiny_sana import tiny_sana
from tokenflow import Cancelled, ControlNet, PnP, Preview, Progress, SDEdit, Video
from tokenflow.errors import ClipError, ConfigError, TokenflowWarning
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.propagation.pixels.between import carry_between
from tokenflow.video import read_frames

FRAMES, STEPS = 5, 4
CLIP = Video(moving_square(FRAMES), rate=10)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_model()


@pytest.fixture(scope="module")
def inverted(model: StableDiffusion) -> tokenflow.InvertedClip:
    return tokenflow.invert(CLIP, model, "a dog", steps=STEPS, batch_size=2)


def test_an_edit_has_the_sources_size_times_and_count(inverted: tokenflow.InvertedClip, tmp_path: Path) -> None:
    edited = tokenflow.edit(inverted, "a tiger")
    assert edited.frames.shape == (FRAMES, 16, 24, 3)
    assert edited.frames.dtype == np.uint8
    assert edited.video.times == CLIP.times
    edited.video.write(tmp_path / "tiger.mp4")
    assert [frame.time for frame in read_frames(tmp_path / "tiger.mp4")] == list(CLIP.times)


def test_a_clip_keeps_its_full_size_and_is_edited_at_the_working_size(model: StableDiffusion) -> None:
    clip = Video(moving_square(2, 40, 60), rate=10)
    inverted = tokenflow.invert(clip, model, "a dog", size=16, steps=2)
    edited = tokenflow.edit(inverted, "a tiger")
    assert inverted.size == (24, 16)
    assert edited.decoded.shape == (2, 16, 24, 3)
    assert edited.frames.shape == (2, 40, 60, 3)


def test_stored_and_in_memory_inversions_give_the_same_edit(
    model: StableDiffusion, inverted: tokenflow.InvertedClip, tmp_path: Path
) -> None:
    stored = tokenflow.invert(CLIP, model, "a dog", steps=STEPS, batch_size=2, store=tmp_path)
    again = tokenflow.invert(CLIP, model, "a dog", steps=STEPS, batch_size=2, store=tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    edits = [tokenflow.edit(each, "a tiger").frames for each in (inverted, stored, again)]
    assert np.array_equal(edits[0], edits[1])
    assert np.array_equal(edits[1], edits[2])


def test_float_frames_and_tensors_are_the_same_clip(model: StableDiffusion, inverted: tokenflow.InvertedClip) -> None:
    expected = tokenflow.edit(inverted, "a tiger").frames
    floats = CLIP.frames.astype(np.float32) / 255
    for frames in (floats, torch.from_numpy(floats), torch.from_numpy(CLIP.frames)):
        again = tokenflow.invert(Video(frames, rate=10), model, "a dog", steps=STEPS, batch_size=2)
        assert np.array_equal(tokenflow.edit(again, "a tiger").frames, expected)


def test_each_mode_is_a_value_with_its_settings(inverted: tokenflow.InvertedClip, tmp_path: Path) -> None:
    control = ControlNet(path=str(save_tiny_controlnet(tmp_path)))
    edits = [tokenflow.edit(inverted, "a tiger", mode=mode).frames for mode in (PnP(), SDEdit(strength=0.5), control)]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(edits[first], edits[second])


def test_edit_of_a_configuration_names_run() -> None:
    config = tokenflow.load_config("configs/dog_to_tiger.yaml", environment={})
    calls: list[Callable[[], object]] = [
        lambda: tokenflow.edit(config),
        lambda: tokenflow.edit(config, "a tiger"),
        lambda: tokenflow.edit(config, progress=False),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"expects an InvertedClip, got Config; run\(config\)"):
            call()


def test_each_function_names_the_one_that_makes_what_it_takes(model: StableDiffusion) -> None:
    calls: dict[str, Callable[[], object]] = {
        r"invert expects a Video, got str; Video\.read\(path\)": lambda: tokenflow.invert("clip.mp4", model, "a dog"),
        r"invert expects a Video, got ndarray": lambda: tokenflow.invert(CLIP.frames, model, "a dog"),
        r"invert expects a loaded model, got str; load_model": lambda: tokenflow.invert(CLIP, "mini-sd", "a dog"),
        r"edit expects an InvertedClip, got Video; invert\(clip": lambda: tokenflow.edit(CLIP, "a tiger"),
        r"generate expects a loaded model, got str": lambda: tokenflow.generate("mini-sd", "a dog"),
        r"run expects a Config, got str; load_config\(path\)": lambda: tokenflow.run("dog.yaml"),
        r"preprocess expects a Config, got str": lambda: tokenflow.preprocess("dog.yaml"),
    }
    for message, call in calls.items():
        with pytest.raises(TypeError, match=message):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": -5},
        {"size": 16.5},
        {"size": (1, 2, 3)},
        {"resize": "zoom"},
        {"prompt": None},
        {"steps": -1},
    ],
    ids=repr,
)
def test_an_inversion_with_values_out_of_range_is_refused(wrong: dict[str, Any], model: StableDiffusion) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        tokenflow.invert(CLIP, model, **{"prompt": "a dog", **wrong})


def test_a_cancelled_inversions_stop_does_not_stop_edits_of_a_finished_one(model: StableDiffusion) -> None:
    stop = Event()
    inverted = tokenflow.invert(CLIP, model, "a dog", steps=2, cancel=stop.is_set)
    stop.set()
    assert inverted.model is model
    assert len(tokenflow.edit(inverted, "a tiger").frames) == FRAMES


def test_values_print_as_what_they_are_and_compare_by_identity(inverted: tokenflow.InvertedClip) -> None:
    edited = tokenflow.edit(inverted, "a tiger")
    assert repr(CLIP) == "<Video in memory: 5 frames of 24×16>"
    for value in (inverted, edited):
        assert len(repr(value)) < 200
        assert value in {value}
        assert value != tokenflow.edit(inverted, "a cat")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale: .*got 0.5"),
        ({"keyframe_interval": 9}, "keyframe_interval is 9 but the clip has 5 frames"),
        ({"mode": "pnp"}, r"mode is 'pnp'; expected PnP\(\)"),
        ({"propagation": "both"}, "propagation"),
        ({"steps": 0}, "steps: .*got 0"),
        ({"preview_every": 0}, "preview_every: .*got 0"),
    ],
)
def test_values_out_of_range_are_refused_before_the_network_is_called(
    wrong: dict[str, Any],
    message: str,
    inverted: tokenflow.InvertedClip,
    model: StableDiffusion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model, "predict", lambda *_, **__: pytest.fail("the network was called"))
    with pytest.raises(ConfigError, match=message):
        tokenflow.edit(inverted, "a tiger", **wrong)


@pytest.mark.parametrize(
    ("frames", "options", "message"),
    [
        (np.zeros((4, 8, 8)), {"rate": 10}, r"shape \(frames, height, width, 3\)"),
        (np.zeros((0, 8, 8, 3), np.uint8), {"rate": 10}, "shape"),
        (np.zeros((2, 8, 8, 3), np.int64), {"rate": 10}, "expected uint8 frames, or floating point"),
        (np.full((2, 8, 8, 3), 255.0), {"rate": 10}, r"in \[0, 1\]; got values from 255"),
        (np.full((2, 8, 8, 3), np.nan), {"rate": 10}, r"in \[0, 1\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"rate": 0}, "expected a rate of 0.001 frames per second or more; got 0"),
        (np.zeros((2, 8, 8, 3), np.uint8), {}, "neither"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"times": [Fraction(0)]}, "a time for each of 2 frames; got 1"),
        (np.zeros((2, 8, 8, 3), np.uint8), {"times": [Fraction(1), Fraction(0)]}, "times that increase"),
    ],
)
def test_frames_that_are_not_a_video_are_refused(frames: np.ndarray, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ClipError, match=message):
        Video(frames, **options)


def test_progress_counts_every_stage_and_previews_come_when_asked_for(model: StableDiffusion) -> None:
    heard: list[Any] = []
    inverted = tokenflow.invert(CLIP, model, "a dog", steps=STEPS, on_event=heard.append)
    tokenflow.edit(inverted, "a tiger", preview_every=2, on_event=heard.append)
    stages = [event.stage for event in heard if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["read", "encode", "invert", "flow", "edit", "decode"]
    for stage, total in (("encode", FRAMES), ("invert", STEPS), ("edit", STEPS), ("decode", FRAMES)):
        counted = [(each.done, each.total) for each in heard if isinstance(each, Progress) and each.stage == stage]
        assert counted[0][0] == 0
        assert counted[-1] == (total, total)
    previews = [event for event in heard if isinstance(event, Preview)]
    assert [preview.step for preview in previews] == [0, 2]
    assert previews[0].frames.shape == (FRAMES, 8, 8, 3)
    assert previews[0].indices == tuple(range(FRAMES))


def test_previews_are_off_and_change_nothing(inverted: tokenflow.InvertedClip) -> None:
    heard: list[Any] = []
    plain = tokenflow.edit(inverted, "a tiger", on_event=heard.append)
    assert not any(isinstance(event, Preview) for event in heard)
    shown = tokenflow.edit(inverted, "a tiger", preview_every=1, on_event=heard.append)
    assert np.array_equal(shown.decoded, plain.decoded)


class StopAfter:
    """Asks to stop at a number of questions."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        self.left -= 1
        return self.left < 0


class CountingModel(StableDiffusion):
    """Counts network calls and autoencoder batches."""

    def __init__(self) -> None:
        super().__init__(tiny_pipeline())
        self.calls = 0

    def _counted(self, name: str, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return getattr(super(), name)(*arguments, **options)

    def encode(self, *arguments: Any) -> Any:
        return self._counted("encode", *arguments)

    def decode(self, *arguments: Any) -> Any:
        return self._counted("decode", *arguments)

    def predict(self, *arguments: Any, **options: Any) -> Any:
        return self._counted("predict", *arguments, **options)

    def capture(self, *arguments: Any) -> Any:
        return self._counted("capture", *arguments)


@pytest.mark.parametrize("calls", [0, 1, 3, 7])
def test_cancel_is_asked_before_every_call_and_stops_at_once(calls: int) -> None:
    model, stop = CountingModel(), StopAfter(calls)
    with pytest.raises(Cancelled):
        tokenflow.invert(CLIP, model, "a dog", steps=STEPS, batch_size=2, cancel=stop)
    assert model.calls == calls
    assert stop.asked == calls + 1


def test_an_edit_is_cancelled_before_any_of_its_calls(inverted: tokenflow.InvertedClip) -> None:
    counting = StopAfter(10**9)
    expected = tokenflow.edit(inverted, "a tiger", cancel=counting)
    for calls in (0, counting.asked // 2, counting.asked - 1):
        with pytest.raises(Cancelled):
            tokenflow.edit(inverted, "a tiger", cancel=StopAfter(calls))
    assert np.array_equal(tokenflow.edit(inverted, "a tiger").decoded, expected.decoded)


def test_a_cancelled_inversion_continues_from_what_is_stored(tmp_path: Path) -> None:
    whole = CountingModel()
    tokenflow.invert(CLIP, whole, "a dog", steps=STEPS, batch_size=2, store=tmp_path / "whole")
    model = CountingModel()
    with pytest.raises(Cancelled):
        tokenflow.invert(
            CLIP, model, "a dog", steps=STEPS, batch_size=2, store=tmp_path / "cut", cancel=StopAfter(whole.calls - 2)
        )
    before = model.calls
    tokenflow.invert(CLIP, model, "a dog", steps=STEPS, batch_size=2, store=tmp_path / "cut")
    assert model.calls - before < whole.calls / 2
    (first,), (second,) = (list((tmp_path / name).iterdir()) for name in ("whole", "cut"))
    for path in first.glob("*.safetensors"):
        assert (second / path.name).read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("ignore::tokenflow.errors.WaitingWarning")
def test_a_call_that_waits_for_the_same_inversion_can_be_cancelled(model: StableDiffusion, tmp_path: Path) -> None:
    holding, done = threading.Event(), threading.Event()

    def hold(event: Any) -> None:
        if event == Progress("encode", 0, FRAMES):
            holding.set()
            assert done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(tokenflow.invert, CLIP, model, "a dog", steps=STEPS, store=tmp_path, on_event=hold)
        assert holding.wait(30)
        try:
            with pytest.raises(Cancelled):
                tokenflow.invert(CLIP, model, "a dog", steps=STEPS, store=tmp_path, cancel=StopAfter(2))
            assert not first.done()
        finally:
            done.set()
        assert first.result().inversion.complete


def test_one_model_serves_several_threads_and_stopping_one_does_not_stop_the_others(model: StableDiffusion) -> None:
    clips = [Video(moving_square(FRAMES, step=step), rate=10) for step in (1, 2, 3)]

    def work(clip: Video, cancel: Any = None) -> np.ndarray:
        inverted = tokenflow.invert(clip, model, "a dog", steps=STEPS, cancel=cancel)
        return tokenflow.edit(inverted, "a tiger", cancel=cancel).decoded

    expected = [work(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        stopped = pool.submit(work, clips[0], StopAfter(9))
        running = [pool.submit(work, clip) for clip in clips]
        for future, frames in zip(running, expected, strict=True):
            assert np.array_equal(future.result(), frames)
        with pytest.raises(Cancelled):
            stopped.result()


def test_notices_go_to_the_listener_and_not_to_warnings() -> None:
    heard: list[Any] = []
    model = tiny_sana()  # which reads prompts of limited length
    long = "a " * 29 + "zebra"
    inverted = tokenflow.invert(CLIP, model, long, steps=2, on_event=heard.append)
    assert any(isinstance(event, tokenflow.Notice) and "zebra" in event.message for event in heard)
    with pytest.warns(TokenflowWarning, match="zebra"):
        tokenflow.edit(inverted, long)


def test_the_package_lists_its_names_and_version() -> None:
    assert {"edit", "invert", "run", "load_model", "Video", "errors", "__version__"} <= set(dir(tokenflow))
    assert all(hasattr(tokenflow, name) for name in tokenflow.__all__)
    assert tokenflow.errors.TokenflowError is tokenflow.TokenflowError
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tokenflow.nothing  # noqa: B018 - the access is what is tested


@pytest.mark.parametrize("mode", [PnP(), SDEdit()])
def test_a_seed_changes_more_with_variation_and_nothing_changes_without(
    mode: Any, inverted: tokenflow.InvertedClip
) -> None:
    def edited(**options: Any) -> np.ndarray:
        return tokenflow.edit(inverted, "a tiger", mode=mode, keyframe_interval=1, **options).decoded.astype(int)

    assert np.array_equal(edited(), edited(variation=0.0))
    differences = [np.abs(edited(seed=0, variation=v) - edited(seed=1, variation=v)).mean() for v in (0.0, 0.3, 0.9)]
    assert differences[0] == 0  # every frame is a keyframe, so that the draw of keyframes changes nothing
    assert 0 < differences[1] < differences[2]
    with pytest.raises(ConfigError, match="variation"):
        edited(variation=1.5)


def test_edited_frames_are_carried_to_those_between(inverted: tokenflow.InvertedClip) -> None:
    plain = tokenflow.edit(inverted, "a tiger").decoded
    carried = tokenflow.edit(inverted, "a tiger", carry_interval=2)
    expected = carry_between(inverted.frames, plain, inverted.shots, 2)
    assert np.array_equal(carried.decoded, np.stack(list(expected)))
    assert not np.array_equal(carried.decoded, plain)
    assert np.array_equal(tokenflow.edit(inverted, "a tiger", carry_interval=1).decoded, plain)


def test_an_inversion_is_sampled_back_in_memory(inverted: tokenflow.InvertedClip) -> None:
    made = tokenflow.reconstruct(inverted, batch_size=2)
    assert made.frames.shape == inverted.frames.shape
    assert made.psnr == pytest.approx(made.autoencoder_psnr, abs=1.0)  # of an autoencoder that was never trained
    error = np.mean((made.frames / 255 - inverted.frames[range(FRAMES)] / 255) ** 2, axis=(1, 2, 3))
    assert made.psnr == pytest.approx(np.mean(-10 * np.log10(error)), abs=0.2)  # frames are rounded, figures are not


def test_sampling_back_can_be_cancelled(inverted: tokenflow.InvertedClip) -> None:
    with pytest.raises(Cancelled):
        tokenflow.reconstruct(inverted, cancel=lambda: True)


def test_what_was_not_inverted_cannot_be_sampled_back() -> None:
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        clean = tokenflow.invert(CLIP, StableDiffusion(tiny_lcm_pipeline()), "a dog", batch_size=2)
    with pytest.raises(ConfigError, match=r"was not inverted \(since its model takes few steps\)"):
        tokenflow.reconstruct(clean)


def test_a_clip_inverted_in_no_steps_is_refused_with_the_remedy(model: StableDiffusion) -> None:
    clean = tokenflow.invert(CLIP, model, "a dog", steps=0)
    with pytest.raises(ConfigError, match=r"was not inverted \(in 0 steps; take more\)"):
        tokenflow.reconstruct(clean)


def test_values_that_do_not_go_together_are_told_without_the_whole_section(inverted: tokenflow.InvertedClip) -> None:
    with pytest.raises(ConfigError) as raised:
        tokenflow.edit(inverted, "a tiger", regions=[tokenflow.Region(words="dog", mask_frame=1)])
    assert str(raised.value) == "mask_frame is given without the mask of that frame; set mask"
