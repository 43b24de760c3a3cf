"""An edit that is stopped between or within sampling steps, and what the same command makes of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import tokenflow
from tests.tiny import save_tiny_controlnet, save_tiny_setup
from tokenflow import Cancelled, Progress
from tokenflow.config import Config
from tokenflow.diffusion.latents import in_memory
from tokenflow.events import Event
from tokenflow.pipeline.checkpoint import GROUP, NAME, Checkpoint

STEPS = 5

HOW = {
    "pnp": [],
    "pnp, features": ["edit.correspondence=nearest", "edit.propagate_edit_until=0"],
    "sdedit": ["edit.mode=sdedit", "edit.sdedit.strength=0.8", "edit.sdedit.noise=shared"],
    "controlnet": ["edit.mode=controlnet"],
    "no propagation": ["edit.propagation=none"],
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("setup")
    path = save_tiny_setup(folder, frames=5, steps=STEPS)
    settings = yaml.safe_load(path.read_text())
    settings["edit"]["controlnet"] = {"path": str(save_tiny_controlnet(folder / "controlnet"))}
    settings["output"] |= {"codec": "ffv1", "container": "mkv"}
    settings["inversion"]["check"] = False
    settings["model"]["dtype"] = "float32"
    path.write_text(yaml.safe_dump(settings))
    return path


class Watch:
    """Listens to the sampling steps of a run, and cancels it within the step after so many."""

    def __init__(self, after: int | None = None, stage: str = "edit") -> None:
        self.done: list[int] = []
        self._after = after
        self._stage = stage

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress) and event.stage == self._stage:
            self.done.append(event.done)

    def stops(self) -> bool:
        return self._after is not None and bool(self.done) and self.done[-1] >= self._after


def configured(path: Path, output: Path, *overrides: str) -> Config:
    return tokenflow.load_config(path, [f"output.dir={output}", *overrides], {})


def cancel(config: Config, after: int) -> None:
    watch = Watch(after)
    with pytest.raises(Cancelled):
        tokenflow.run(config, on_event=watch, cancel=watch.stops)
    assert watch.done[-1] == after


def run(config: Config) -> tuple[int, np.ndarray]:
    """The number of steps that were done before, and the frames."""
    watch = Watch()
    result = tokenflow.run(config, on_event=watch)
    return watch.done[0], result.frames


@pytest.mark.parametrize("how", HOW)
def test_a_cancelled_edit_continues_after_its_last_step_with_the_same_bits(
    how: str, path: Path, tmp_path: Path
) -> None:
    _, expected = run(configured(path, tmp_path / "whole", *HOW[how]))
    config = configured(path, tmp_path / "cut", *HOW[how])
    steps = 4 if "sdedit" in how else STEPS
    for after in (1, steps - 1):
        cancel(config, after)
    done, frames = run(config)
    assert done == steps - 1
    assert np.array_equal(frames, expected)
    assert not (tmp_path / "cut" / NAME).exists()
    assert run(config)[0] == 0  # a finished edit leaves nothing to continue


def test_an_edit_that_is_cancelled_while_it_decodes_samples_no_step_again(path: Path, tmp_path: Path) -> None:
    config = configured(path, tmp_path / "out", "edit.batch_size=2")
    watch = Watch(2, "decode")
    with pytest.raises(Cancelled):
        tokenflow.run(config, on_event=watch, cancel=watch.stops)
    done, frames = run(config)
    assert done == STEPS
    assert np.array_equal(frames, run(configured(path, tmp_path / "whole", "edit.batch_size=2"))[1])


@pytest.mark.parametrize(
    "change",
    [
        "edit.prompt=a zebra",
        "edit.negative_prompt=a dog",
        "edit.seed=1",
        "edit.batch_size=2",
        "edit.steps=6",
        "edit.guidance_scale=2",
        "edit.mode=sdedit",
        "edit.pnp.features_until=0.2",
        "edit.regions=[{words: dog}]",
        "inversion.iterations=2",
        "clip.frames=4",
        "clip.cuts=[2]",
        "clip.prompt=a cat",
        "model.dtype=bfloat16",
    ],
)
def test_latents_of_another_edit_are_never_used(change: str, path: Path, tmp_path: Path) -> None:
    cancel(configured(path, tmp_path / "out"), 3)
    done, frames = run(configured(path, tmp_path / "out", change))
    assert done == 0
    assert np.array_equal(frames, run(configured(path, tmp_path / "whole", change))[1])
    assert not (tmp_path / "out" / NAME).exists()


def test_a_controlnet_whose_weights_changed_starts_again(path: Path, tmp_path: Path) -> None:
    network = save_tiny_controlnet(tmp_path / "controlnet")
    config = configured(path, tmp_path / "out", "edit.mode=controlnet", f"edit.controlnet.path={network}")
    cancel(config, 3)
    weights = next(network.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    assert run(config)[0] == 0


def test_an_edit_whose_mask_changed_starts_again(path: Path, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    Image.new("L", (24, 16), 255).save(mask)
    config = configured(path, tmp_path / "out", f"edit.regions=[{{mask: {mask}}}]")
    cancel(config, 3)
    Image.new("L", (24, 16), 0).save(mask)
    assert run(config)[0] == 0


def test_the_form_of_the_result_may_change_on_the_way(path: Path, tmp_path: Path) -> None:
    cancel(configured(path, tmp_path / "out"), 3)
    changed = configured(path, tmp_path / "out", "output.pngs=true", "metrics.enabled=false", "output.page=false")
    assert run(changed)[0] == 3


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    (tmp_path / "scratch").mkdir()
    return Checkpoint(tmp_path, tmp_path / "scratch", "the digest of an edit")


LATENTS = torch.randn(2 * GROUP + 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))


def test_what_is_loaded_is_what_was_saved_last(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(1, torch.zeros_like(LATENTS))
    checkpoint.save(2, LATENTS)
    assert {each.name for each in tmp_path.iterdir()} == {NAME, "scratch"}
    assert not list((tmp_path / "scratch").iterdir())
    loaded = checkpoint.load(in_memory)
    assert loaded is not None
    done, latents = loaded
    assert done == 2
    assert torch.equal(latents[list(range(len(LATENTS)))], LATENTS)
    checkpoint.clear()
    checkpoint.clear()
    assert checkpoint.load(in_memory) is None


def test_those_of_another_edit_are_not_loaded(checkpoint: Checkpoint) -> None:
    checkpoint.save(2, LATENTS)
    assert Checkpoint(checkpoint.folder, checkpoint.scratch, "another").load(in_memory) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data.replace(b'"format": 1', b'"format": 2'),
        lambda data: b"\xff" * 10_000,
        lambda data: b"[1, 2]\n",
        lambda data: b"null",
        lambda data: b"",
    ],
)
def test_a_damaged_or_foreign_file_is_not_loaded(damage: Callable[[bytes], bytes], checkpoint: Checkpoint) -> None:
    checkpoint.save(2, LATENTS)
    file = checkpoint.folder / NAME
    file.write_bytes(damage(file.read_bytes()))
    assert checkpoint.load(in_memory) is None
    checkpoint.save(3, LATENTS)
    assert checkpoint.load(in_memory) is not None
