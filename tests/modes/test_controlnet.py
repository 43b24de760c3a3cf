from pathlib import Path
from typing import Any

import controlnet_aux
import cv2
import numpy as np
import pytest
import torch
from controlnet_aux.mlsd.models.mbv2_mlsd_large import MobileV2_MLSD_Large
from huggingface_hub.errors import OfflineModeIsEnabled

from tests.tiny import inverted_clip, moving_square, save_tiny_controlnet, whole
from tokenflow.config import ControlNet, ControlUnit
from tokenflow.diffusion.conditioning import stack
from tokenflow.diffusion.levels import at_level, shared_noise
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ModelNotFoundError
from tokenflow.models import detectors
from tokenflow.models.detectors import canny_edges
from tokenflow.models.injection import EMPTY, Injection
from tokenflow.modes import control_images
from tokenflow.modes.controlnet import ControlNetMode
from tokenflow.modes.mode import Call
from tokenflow.modes.source import InvertedClip

THRESHOLDS = (100.0, 200.0)
COUNT = 4
FRAMES = [3, 0]


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_controlnet(tmp_path_factory.mktemp("controlnet")))


def shown(frame: np.ndarray) -> torch.Tensor:
    """A frame's edges as a ControlNet takes them, 3 H W in [0, 1]."""
    return torch.from_numpy(canny_edges(frame, THRESHOLDS)).permute(2, 0, 1) / 255


def steps(source: InvertedClip, count: int = COUNT) -> tuple[Step, ...]:
    return source.model.schedule.steps(count)


def call(source: InvertedClip, step: Step) -> Call:
    """Of a guided edit: two branches."""
    prompts = stack([source.model.condition(""), source.model.condition("a golden tiger")])
    return Call(FRAMES, source.latents(step.at, FRAMES), step, prompts)


def prediction(source: InvertedClip, call: Call, injection: Injection) -> torch.Tensor:
    return source.model.predict(call.latents, call.step.at, call.conditioning, inject=injection)


def test_scale_0_changes_nothing_and_scale_1_does(source: InvertedClip, path: str) -> None:
    made = call(source, steps(source)[1])
    plain = prediction(source, made, EMPTY)
    modes = [ControlNetMode(source, ControlNet(path=path, scale=scale), 0) for scale in (0.0, 1.0)]
    controlled = [prediction(source, made, Injection(residuals=mode.residuals(made))) for mode in modes]
    assert torch.equal(controlled[0], plain)
    assert (controlled[1] - plain).abs().max() > 1e-3


def test_residuals_are_scaled(source: InvertedClip, path: str) -> None:
    made = call(source, steps(source)[1])
    whole, part = (
        ControlNetMode(source, ControlNet(path=path, scale=scale), 0).residuals(made) for scale in (1.0, 0.3)
    )
    for one, other in zip([*whole[0], whole[1]], [*part[0], part[1]], strict=True):
        assert torch.equal(one * 0.3, other)


def test_residuals_are_the_networks_own_for_these_frames_edges_latents_and_prompts(
    source: InvertedClip, path: str
) -> None:
    made = call(source, steps(source)[2])
    edges = torch.stack([shown(source.frames[frame]) for frame in FRAMES])
    control = source.model.load_control(path)
    expected = control(made.latents, made.step.at, made.conditioning, edges, 1.0)
    mode = ControlNetMode(source, ControlNet(path=path), 0)
    residuals = mode.residuals(made)
    assert len(residuals.skips) == len(expected.skips)
    for one, other in zip([*residuals.skips, residuals.middle], [*expected.skips, expected.middle], strict=True):
        assert torch.equal(one, other)
        assert one.shape[0] == 2 * len(FRAMES)
    assert mode.capture(made) == EMPTY


def test_other_frames_have_other_edges_and_other_residuals(source: InvertedClip, path: str) -> None:
    mode = ControlNetMode(source, ControlNet(path=path), 0)
    step = steps(source)[1]
    latents = source.latents(step.at, [0])
    calls = [Call([index], latents, step, source.conditioning) for index in (0, 4, 0)]
    residuals = [mode.residuals(each)[0][0] for each in calls]
    assert torch.equal(residuals[0], residuals[2])
    assert (residuals[0] - residuals[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("start", "end", "acts"),
    [(0.0, 1.0, range(25)), (0.2, 0.6, range(5, 15)), (0.0, 0.4, range(10)), (0.8, 1.0, range(20, 25)), (0.5, 0.5, ())],
)
def test_it_acts_between_its_fractions_of_the_steps(
    start: float, end: float, acts: range, source: InvertedClip, path: str
) -> None:
    mode = ControlNetMode(source, ControlNet(path=path, start=start, end=end), 0)
    residuals = [mode.residuals(call(source, step)) for step in steps(source, 25)]
    assert [index for index, each in enumerate(residuals) if each is not None] == list(acts)


def test_it_starts_at_the_noisiest_level_and_takes_all_steps(source: InvertedClip, path: str) -> None:
    noisiest = steps(source)[0].at
    start, taken = ControlNetMode(source, ControlNet(path=path, noise="inversion"), 0).initial_latents(steps(source))
    assert torch.equal(whole(start), source.inversion.latents(noisiest))
    assert list(taken) == list(steps(source))
    start, taken = ControlNetMode(source, ControlNet(path=path, noise="shared"), 7).initial_latents(steps(source))
    clean = source.latents(source.model.schedule.clean)
    noised = at_level(clean, shared_noise(clean, 7), noisiest)
    assert torch.equal(whole(start), noised)
    assert list(taken) == list(steps(source))


def test_edges_are_white_on_black_at_the_images_size() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 12:] = 200
    edges = canny_edges(image, THRESHOLDS)
    assert edges.shape == (20, 30, 3)
    assert set(np.unique(edges)) == {0, 255}
    assert np.array_equal(edges[..., 0], edges[..., 1])
    assert np.array_equal(edges[..., 0], edges[..., 2])


def test_higher_thresholds_find_fewer_edges() -> None:
    image = np.full((20, 30, 3), 100, np.uint8)
    image[:, 12:] = 130
    assert canny_edges(image, (20.0, 40.0)).any()
    assert not canny_edges(image, (400.0, 500.0)).any()


def test_edges_lie_where_the_image_changes_and_nowhere_else() -> None:
    image = np.full((20, 30, 3), 40, np.uint8)
    image[6:14, 8:22] = (240, 200, 180)
    edges = canny_edges(image, THRESHOLDS)[..., 0] > 0
    rows, columns = np.nonzero(edges)
    # Each edge pixel touches the rectangle's outline, and each of its four sides is found.
    near_side = np.minimum(np.abs(rows - 5.5), np.abs(rows - 13.5)) <= 1.5
    near_end = np.minimum(np.abs(columns - 7.5), np.abs(columns - 21.5)) <= 1.5
    assert np.all(near_side | near_end)
    assert edges[8:12].any(axis=0).sum() >= 2
    assert edges[:, 10:20].any(axis=1).sum() >= 2


def test_a_image_of_one_colour_has_no_edges() -> None:
    assert canny_edges(np.full((16, 24, 3), 90, np.uint8), THRESHOLDS).sum() == 0


def test_edges_of_a_frame_are_found_once_for_all_edits_of_a_clip(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = inverted_clip(moving_square(4), 2)
    found: list[np.ndarray] = []

    def noted(image: np.ndarray, thresholds: tuple[float, float]) -> np.ndarray:
        found.append(image)
        return canny_edges(image, thresholds)

    monkeypatch.setattr(control_images, "canny_edges", noted)
    for scale in (1.0, 0.5):
        mode = ControlNetMode(source, ControlNet(path=path, scale=scale), 0)
        for step in steps(source):
            mode.residuals(call(source, step))
    assert len(found) == len(FRAMES)
    ControlNetMode(source, ControlNet(path=path, canny_thresholds=(50, 60)), 0).residuals(call(source, step))
    assert len(found) == 2 * len(FRAMES)


def test_several_controlnets_add_up_each_at_its_scale_and_in_its_steps(source: InvertedClip, path: str) -> None:
    made = call(source, steps(source)[1])
    one = ControlNetMode(source, ControlNet(path=path), 0).residuals(made)
    other = ControlUnit(path=path, canny_thresholds=(10, 20), scale=0.5)
    alone = ControlNetMode(source, ControlNet(**other.model_dump()), 0).residuals(made)
    both = ControlNetMode(source, ControlNet(path=path, also=(other,)), 0).residuals(made)
    torch.testing.assert_close(both.middle, one.middle + alone.middle)
    late = ControlUnit(path=path, start=0.9)
    assert torch.equal(
        ControlNetMode(source, ControlNet(path=path, also=(late,)), 0).residuals(made).middle, one.middle
    )


def test_a_detector_of_controlnet_aux_is_called_as_its_authors_call_it(
    source: InvertedClip, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    torch.save(MobileV2_MLSD_Large().state_dict(), tmp_path / "mlsd_large_512_fp32.pth")
    monkeypatch.setattr(detectors, "REPOSITORY", str(tmp_path))
    monkeypatch.setattr(detectors, "RESOLUTION", 64)
    detect = detectors.load_detector("mlsd", torch.device("cpu"))
    image = np.asarray(source.frames[0])
    expected = controlnet_aux.MLSDdetector.from_pretrained(str(tmp_path))(
        image, detect_resolution=64, image_resolution=64, output_type="np"
    )
    height, width = image.shape[:2]
    assert np.array_equal(detect(image), cv2.resize(expected, (width, height), interpolation=cv2.INTER_AREA))


def test_a_detector_whose_weights_cannot_be_had_names_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OfflineModeIsEnabled("offline")

    monkeypatch.setattr("controlnet_aux.hed.hf_hub_download", refuse)
    with pytest.raises(
        ModelNotFoundError, match=r"the detector 'softedge' needs weights from lllyasviel/Annotators, which"
    ):
        detectors.load_detector("softedge", torch.device("cpu"))
