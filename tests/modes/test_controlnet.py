from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import save_tiny_controlnet, whole
from tokenflow.config import ControlNet as Settings
from tokenflow.diffusion.schedules import CLEAN, Step, add_noise, shared_noise
from tokenflow.errors import ModelNotFoundError
from tokenflow.models.attention import Injection
from tokenflow.models.model import stack
from tokenflow.modes.controlnet import ControlNet, canny_edges
from tokenflow.modes.mode import Call, InvertedClip

COUNT = 4
FRAMES = [3, 0]


@pytest.fixture(scope="session")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_controlnet(tmp_path_factory.mktemp("controlnet")))


def steps(source: InvertedClip, count: int = COUNT) -> tuple[Step, ...]:
    return source.model.schedule.steps(count)


def call(source: InvertedClip, step: Step) -> Call:
    """Of a guided edit: two branches."""
    prompts = stack([source.model.encode_prompt(""), source.model.encode_prompt("a golden tiger")])
    return Call(FRAMES, source.latents(step.timestep, FRAMES), step, prompts, True)


def prediction(source: InvertedClip, call: Call, injection: Injection) -> torch.Tensor:
    return source.model.predict(call.latents, call.step.timestep, call.conditioning, injection=injection)


def test_scale_0_changes_nothing_and_scale_1_does(source: InvertedClip, path: str) -> None:
    made = call(source, steps(source)[1])
    plain = prediction(source, made, Injection())
    controlled = [
        prediction(source, made, ControlNet(source, Settings(path=path, scale=scale), 0).inject(made))
        for scale in (0.0, 1.0)
    ]
    assert torch.equal(controlled[0], plain)
    assert (controlled[1] - plain).abs().max() > 1e-3


def test_residuals_are_scaled(source: InvertedClip, path: str) -> None:
    made = call(source, steps(source)[1])
    whole, part = (ControlNet(source, Settings(path=path, scale=scale), 0).inject(made).control for scale in (1.0, 0.3))
    assert whole is not None
    assert part is not None
    for one, other in zip([*whole[0], whole[1]], [*part[0], part[1]], strict=True):
        assert torch.equal(one * 0.3, other)


def test_residuals_are_the_networks_own_for_these_frames_edges_latents_and_prompts(
    source: InvertedClip, path: str
) -> None:
    made = call(source, steps(source)[2])
    edges = torch.stack([canny_edges(source.frames[frame]) for frame in FRAMES]).float()
    network = source.model.load_control(path)
    down, middle = network(made.latents, made.step.timestep, made.conditioning, edges)
    injection = ControlNet(source, Settings(path=path), 0).inject(made)
    assert injection.control is not None
    assert len(injection.control[0]) == len(down)
    for one, other in zip([*injection.control[0], injection.control[1]], [*down, middle], strict=True):
        assert torch.equal(one, other)
        assert one.shape[0] == 2 * len(FRAMES)
    assert not injection.queries_keys
    assert not injection.features


def test_other_frames_have_other_edges_and_other_residuals(source: InvertedClip, path: str) -> None:
    mode = ControlNet(source, Settings(path=path), 0)
    step = steps(source)[1]
    latents = source.latents(step.timestep, [0])
    residuals = []
    for frame in (0, 4, 0):
        control = mode.inject(Call([frame], latents, step, source.conditioning, True)).control
        assert control is not None
        residuals.append(control[0][0])
    assert torch.equal(residuals[0], residuals[2])
    assert (residuals[0] - residuals[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("start", "end", "acts"),
    [(0.0, 1.0, range(25)), (0.2, 0.6, range(5, 15)), (0.0, 0.4, range(10)), (0.8, 1.0, range(20, 25)), (0.5, 0.5, ())],
)
def test_it_acts_between_its_fractions_of_the_steps(
    start: float, end: float, acts: range, source: InvertedClip, path: str
) -> None:
    mode = ControlNet(source, Settings(path=path, start=start, end=end), 0)
    injected = [mode.inject(call(source, step)) for step in steps(source, 25)]
    assert [index for index, each in enumerate(injected) if each != Injection()] == list(acts)


def test_it_starts_at_the_noisiest_level_and_takes_all_steps(source: InvertedClip, path: str) -> None:
    noisiest = steps(source)[0].timestep
    start, taken = ControlNet(source, Settings(path=path, noise="inversion"), 0).initial_latents(steps(source))
    assert torch.equal(whole(start), source.trajectory.latents(noisiest))
    assert list(taken) == list(steps(source))
    start, taken = ControlNet(source, Settings(path=path, noise="shared"), 7).initial_latents(steps(source))
    clean = source.latents(CLEAN)
    noised = add_noise(clean, shared_noise(clean, 7), source.model.schedule.alpha(noisiest))
    assert torch.equal(whole(start), noised)
    assert list(taken) == list(steps(source))


def test_edges_are_white_on_black_at_the_pictures_size() -> None:
    picture = np.zeros((20, 30, 3), np.uint8)
    picture[:, 12:] = 200
    edges = canny_edges(picture)
    assert edges.shape == (3, 20, 30)
    assert edges.dtype == torch.bool
    assert edges.any()
    assert not edges.all()
    assert torch.equal(edges[0], edges[1])
    assert torch.equal(edges[0], edges[2])


def test_edges_lie_where_the_picture_changes_and_nowhere_else() -> None:
    picture = np.full((20, 30, 3), 40, np.uint8)
    picture[6:14, 8:22] = (240, 200, 180)
    edges = canny_edges(picture)[0]
    rows, columns = np.nonzero(edges.numpy())
    # Each edge pixel touches the rectangle's outline, and each of its four sides is found.
    near_side = np.minimum(np.abs(rows - 5.5), np.abs(rows - 13.5)) <= 1.5
    near_end = np.minimum(np.abs(columns - 7.5), np.abs(columns - 21.5)) <= 1.5
    assert np.all(near_side | near_end)
    assert edges[8:12].any(dim=0).sum() >= 2
    assert edges[:, 10:20].any(dim=1).sum() >= 2


def test_a_picture_of_one_colour_has_no_edges() -> None:
    assert canny_edges(np.full((16, 24, 3), 90, np.uint8)).sum() == 0


def test_edges_of_a_frame_are_found_once(source: InvertedClip, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[np.ndarray] = []

    def noted(picture: np.ndarray) -> torch.Tensor:
        found.append(picture)
        return canny_edges(picture)

    monkeypatch.setattr("tokenflow.modes.controlnet.canny_edges", noted)
    mode = ControlNet(source, Settings(path=path), 0)
    for step in steps(source):
        mode.inject(call(source, step))
    assert len(found) == len(FRAMES)


def test_the_folder_is_the_one_of_the_settings(source: InvertedClip, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="nothing-here"):
        ControlNet(source, Settings(path=str(tmp_path / "nothing-here")), 0)
