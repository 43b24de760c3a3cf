from pathlib import Path

import numpy as np
import pytest
import torch

import tokenflow
from tests.models.adapters.making import lora_weights, save_diffusers
from tests.tiny import moving_square, save_tiny_model, save_tiny_setup, tiny_pipeline
from tokenflow.errors import TokenflowWarning
from tokenflow.events import Event, Notice


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> str:
    pipeline = tiny_pipeline()
    parts = {part: lora_weights(pipeline, part) for part in ("unet", "text_encoder")}
    return str(save_diffusers(pipeline, tmp_path_factory.mktemp("lora"), parts))


def test_another_scale_gives_another_edit_from_the_same_inversion(lora: str, tmp_path: Path) -> None:
    path = save_tiny_setup(tmp_path, frames=3, steps=2)
    frames = []
    for scale in (0.0, 1.0):
        config = tokenflow.load_config(
            path, [f"model.loras=[{{path: {lora}, scale: {scale}}}]", "inversion.check=false"]
        )
        frames.append(tokenflow.run(config).frames)
    plain = tokenflow.run(tokenflow.load_config(path, ["inversion.check=false"])).frames
    assert len(list((tmp_path / "trajectories").iterdir())) == 1
    assert np.array_equal(frames[0], plain)
    assert not np.array_equal(frames[1], plain)


def test_a_prompt_without_the_triggers_gives_a_notice(lora: str, tmp_path: Path) -> None:
    path = save_tiny_setup(tmp_path, frames=2, steps=1)
    loras = f"model.loras=[{{path: {lora}, triggers: [sks, toy]}}]"
    config = tokenflow.load_config(path, [loras, "inversion.check=false"])
    with pytest.warns(TokenflowWarning, match=r"has none of the words .* add one of sks, toy"):
        tokenflow.run(config)


def test_an_edit_in_memory_gives_it_too_and_the_words_themselves_none(lora: str, tmp_path: Path) -> None:
    settings = tokenflow.LoRA(path=lora, triggers=("sks", "toy"))
    model = tokenflow.load_model(save_tiny_model(tmp_path / "model"), device="cpu", dtype="float32", loras=[settings])
    inverted = tokenflow.invert(tokenflow.Video(moving_square(2), rate=4), model, "a dog", size=16, steps=1)

    def notices(prompt: str) -> list[str]:
        events: list[Event] = []
        tokenflow.edit(inverted, prompt, on_event=events.append)
        return [event.message for event in events if isinstance(event, Notice) and "trained with" in event.message]

    assert len(notices("a tiger")) == 1
    assert notices("a Toy tiger") == []
    assert notices("a (sks:1.2) tiger") == []
    assert len(notices("a toyota")) == 1


def test_a_few_step_lora_edits_without_inversion_and_its_own_prompt_returns_the_source(
    lora: str, tmp_path: Path
) -> None:
    file = tmp_path / "lcm-lora.safetensors"
    file.write_bytes(Path(lora).read_bytes())
    loras = [tokenflow.LoRA(path=str(file))]
    with pytest.warns(TokenflowWarning, match="is one of LCM by its name"):
        model = tokenflow.load_model(save_tiny_model(tmp_path / "model"), device="cpu", dtype="float32", loras=loras)
    clip = tokenflow.Video(moving_square(2), rate=4)
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        inverted = tokenflow.invert(clip, model, "a dog", size=16)
    assert inverted.steps == 0
    same = tokenflow.edit(inverted, "a dog", guidance_scale=1, mode=tokenflow.SDEdit(noise="shared"))
    clean = inverted.latents(model.schedule.clean)
    with torch.no_grad():
        expected = (model.decode(clean).permute(0, 2, 3, 1) * 255).round().numpy()
    assert np.abs(same.decoded - expected).max() <= 2
