"""The nodes as ComfyUI calls them: tensors in, tensors out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy import model_management
from conftest import AUDIO, FRAMES, HEIGHT, RATE, WIDTH, Nodes, clip, defaults, run

import tokenflow
from tests.models.adapters.making import lora_weights, save_kohya
from tests.tiny import tiny_pipeline
from tokenflow.errors import ConfigError


def images_of(video: Any) -> np.ndarray:
    return (video.get_components().images * 255).round().numpy().astype(np.uint8)


def test_an_edit_has_the_frames_rate_and_sound_of_its_clip(nodes: Nodes, inversion: Any) -> None:
    video, images, mask, _ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger").args
    made = video.get_components()
    assert made.images.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert made.frame_rate == RATE
    assert made.audio is AUDIO
    assert torch.equal(images, made.images)
    assert mask.shape == (FRAMES, HEIGHT, WIDTH)
    assert mask.min() == 1


def test_it_is_the_edit_of_the_library(nodes: Nodes, inversion: Any) -> None:
    options = {"guidance_scale": 3.0, "steps": 2, "seed": 5, "keyframe_interval": 2}
    video, *_ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", **options).args
    expected = tokenflow.edit(inversion.clip, "a tiger", **options)
    assert np.array_equal(images_of(video), expected.frames)


def test_images_with_rate_and_audio_are_the_same_clip_as_a_video(nodes: Nodes, model: Any, inversion: Any) -> None:
    parts = clip().get_components()
    options = {"model": model, "prompt": "a dog", "steps": 3}
    other = run(nodes["TokenflowInvert"], images=parts.images, rate=float(RATE), audio=AUDIO, **options)[0]
    assert other.clip.inversion.folder == inversion.clip.inversion.folder
    assert other.audio is AUDIO


def test_the_same_clip_is_inverted_once(nodes: Nodes, model: Any, inversion: Any, monkeypatch: Any) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the network was called")

    monkeypatch.setattr(model, "predict", fail)
    again = run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=3)[0]
    assert again.clip.inversion.folder == inversion.clip.inversion.folder


def test_an_inversion_is_kept_among_the_users_files_if_it_is_wanted(nodes: Nodes, model: Any, models: Path) -> None:
    kept = run(nodes["TokenflowInvert"], model=model, video=clip(3), prompt="a dog", steps=2, keep="always")[0]
    assert models / "user" in Path(kept.clip.inversion.folder).parents


def test_a_check_samples_the_inversion_back(nodes: Nodes, inversion: Any) -> None:
    images, psnr, autoencoder_psnr = run(nodes["TokenflowCheckInversion"], inversion=inversion).args
    assert images.shape == inversion.clip.frames.shape
    assert psnr == pytest.approx(autoencoder_psnr, abs=1)  # of an autoencoder that was never trained


@pytest.mark.parametrize(
    ("node", "inputs", "expected"),
    [
        ("TokenflowPlugAndPlay", {"attention_until": 0.5}, tokenflow.PnP(attention_until=0.5)),
        ("TokenflowSDEdit", {"strength": 0.4, "noise": "shared"}, tokenflow.SDEdit(strength=0.4, noise="shared")),
        ("TokenflowControlNet", {"path": "some/one", "end": 0.7}, tokenflow.ControlNet(path="some/one", end=0.7)),
    ],
)
def test_a_mode_is_that_of_the_library(node: str, inputs: dict[str, Any], expected: Any, nodes: Nodes) -> None:
    assert run(nodes[node], **inputs)[0] == expected


def test_a_controlnet_is_used(nodes: Nodes, inversion: Any, models: Path) -> None:
    mode = run(nodes["TokenflowControlNet"], path=str(next((models / "controlnets").iterdir()).parent), noise="shared")[
        0
    ]
    video, *_ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", mode=mode).args
    expected = tokenflow.edit(inversion.clip, "a tiger", mode=mode)
    assert np.array_equal(images_of(video), expected.frames)


def test_controlnets_are_chained(nodes: Nodes) -> None:
    node = nodes["TokenflowControlNet"]
    first = run(node, path="a/depth", detector="depth", scale=0.5)[0]
    second = run(node, path="an/openpose", detector="openpose", others=first)[0]
    third = run(node, path="some/canny", canny_low=50.0, noise="shared", others=second)[0]
    assert [unit.path for unit in third.units] == ["some/canny", "an/openpose", "a/depth"]
    assert [unit.detector for unit in third.units] == ["canny", "openpose", "depth"]
    assert (third.canny_thresholds, third.noise, third.units[2].scale) == ((50.0, 200.0), "shared", 0.5)
    with pytest.raises(ValueError, match="expected another Mode: ControlNet, got PnP"):
        run(node, others=tokenflow.PnP())


def test_loras_are_chained_and_loaded_with_the_model(
    nodes: Nodes, models: Path, inversion: Any, model: Any, monkeypatch: Any
) -> None:
    pipeline = tiny_pipeline()
    save_kohya(models / "loras" / "ein Tiger.safetensors", {"unet": lora_weights(pipeline, "unet")}, alpha=2.0)
    first = run(nodes["TokenflowLoRA"], lora="ein Tiger.safetensors", triggers="tiger, striped", scale=0.5)[0]
    both = run(nodes["TokenflowLoRA"], path="another/one", others=first)[0]
    assert [(each.scale, each.triggers) for each in both] == [(0.5, ("tiger", "striped")), (1.0, ())]
    adapted = run(nodes["TokenflowLoadModel"], model="ein Modell", loras=first)[0]
    again = run(nodes["TokenflowInvert"], model=adapted, video=clip(), prompt="a dog", steps=3)[0]
    assert again.clip.inversion.folder == inversion.clip.inversion.folder
    _, images, *_ = run(nodes["TokenflowEdit"], inversion=again, prompt="a tiger").args
    _, plain, *_ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger").args
    assert not torch.equal(images, plain)


def test_a_textual_inversion_is_named(nodes: Nodes) -> None:
    made = run(nodes["TokenflowTextualInversion"], path="some/word", token="<cat-toy>")[0]
    assert made == (tokenflow.TextualInversion(path="some/word", token="<cat-toy>"),)


def test_edited_frames_come_back_as_they_are_and_need_no_prompt(nodes: Nodes, inversion: Any) -> None:
    edited = 1 - clip().get_components().images[[0, 4]]
    mode = run(nodes["TokenflowEditedKeyframes"], images=edited, frames="0, 4")[0]
    _, images, *_ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="", mode=mode).args
    assert torch.allclose(images[[0, 4]], edited)


def test_outside_of_a_mask_the_clip_stays_as_it_is(nodes: Nodes, inversion: Any) -> None:
    inside = torch.zeros(1, HEIGHT, WIDTH)
    inside[:, 4:12, 6:16] = 1
    regions = run(nodes["TokenflowRegion"], mask=inside, feather=0.0)[0]
    _, images, mask, _ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", regions=regions).args
    source = clip().get_components().images
    assert torch.equal(mask, inside.expand(FRAMES, -1, -1))
    assert torch.equal(images[mask == 0], source[mask == 0])
    assert not torch.equal(images[mask == 1], source[mask == 1])


def test_regions_are_chained_and_their_mask_is_that_of_the_edit(nodes: Nodes, inversion: Any) -> None:
    inside = torch.zeros(FRAMES, HEIGHT, WIDTH)
    inside[:, 4:12, 6:16] = 1
    first = run(nodes["TokenflowRegion"], mask=inside)[0]
    both = run(nodes["TokenflowRegion"], words="dog", prompt="a fox", others=first)[0]
    assert [region.prompt for region in both] == [None, "a fox"]
    mask = run(nodes["TokenflowRegionMask"], inversion=inversion, regions=both)[0]
    _, _, expected, _ = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", regions=both).args
    assert torch.equal(mask, expected)


def test_references_are_chained_and_used(nodes: Nodes, inversion: Any) -> None:
    images = torch.rand(2, 20, 20, 3, generator=torch.Generator().manual_seed(0))
    first = run(nodes["TokenflowReference"], images=images, weight=2.0)[0]
    both = run(nodes["TokenflowReference"], images=images[:1], kind="style", others=first)[0]
    assert [(each.weight, each.kind) for each in both] == [(2.0, "identity")] * 2 + [(1.0, "style")]
    options = {"inversion": inversion, "prompt": "a tiger"}
    _, images, *_ = run(nodes["TokenflowEdit"], references=both, **options).args
    expected = tokenflow.edit(inversion.clip, "a tiger", references=both)
    assert np.array_equal((images * 255).round(), expected.frames)
    _, plain, *_ = run(nodes["TokenflowEdit"], **options).args
    assert not torch.equal(images, plain)


def test_instruct_is_that_of_the_library(nodes: Nodes) -> None:
    assert run(nodes["TokenflowInstruct"], strength=0.9)[0] == tokenflow.Instruct(strength=0.9)


def test_flowedit_needs_no_inversion(nodes: Nodes, model: Any) -> None:
    clean = run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=0)[0]
    mode = run(nodes["TokenflowFlowEdit"], strength=0.5)[0]
    assert mode == tokenflow.FlowEdit(strength=0.5)
    _, images, *_ = run(nodes["TokenflowEdit"], inversion=clean, prompt="a tiger", mode=mode, steps=3).args
    assert images.shape == (FRAMES, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(("text", "expected"), [("2, 4", (2, 4)), ("", ())])
def test_shots_begin_where_it_is_said(text: str, expected: tuple[int, ...], nodes: Nodes, model: Any) -> None:
    inverted = run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=2, cuts=text)[0]
    assert inverted.clip.cuts == expected


def test_a_report_has_a_verdict_figures_and_a_sheet(nodes: Nodes, inversion: Any) -> None:
    edit = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger").args[3]
    made = run(nodes["TokenflowReport"], edit=edit)
    text, sheet = made.args
    assert text.splitlines()[0].partition(":")[0] in ("good", "hardly edited", "flattened")
    assert "flicker: source " in text
    assert sheet.shape[0] == 1
    assert sheet.shape[2] == FRAMES * inversion.clip.size[0]
    assert made.ui["text"] == (text,)


def test_a_clip_of_one_frame_is_edited(nodes: Nodes, model: Any) -> None:
    inverted = run(nodes["TokenflowInvert"], model=model, video=clip(1), prompt="a dog", steps=2)[0]
    _, images, *_ = run(nodes["TokenflowEdit"], inversion=inverted, prompt="a tiger").args
    assert images.shape == (1, HEIGHT, WIDTH, 3)


def test_a_model_that_was_replaced_is_loaded_again(nodes: Nodes, models: Path) -> None:
    node = nodes["TokenflowLoadModel"]
    given = defaults(node) | {"model": "ein Modell"}
    before = node.fingerprint_inputs(**given)
    assert node.fingerprint_inputs(**given) == before
    assert node.fingerprint_inputs(**given | {"dtype": "float16"}) != before
    file = models / "diffusers" / "ein Modell" / "scheduler" / "scheduler_config.json"
    content = file.read_text(encoding="utf-8")
    try:
        file.write_text(content.replace("{", '{"_note": 1,', 1), encoding="utf-8")
        assert node.fingerprint_inputs(**given) != before
    finally:
        file.write_text(content, encoding="utf-8")


def test_memory_is_asked_for_before_a_model_is_loaded(nodes: Nodes, models: Path, monkeypatch: Any) -> None:
    asked: list[float] = []
    monkeypatch.setattr(model_management, "free_memory", lambda size, device: asked.append(size))
    run(nodes["TokenflowLoadModel"], model="ein Modell")
    weights = sum(file.stat().st_size for file in (models / "diffusers" / "ein Modell").rglob("*.safetensors"))
    assert asked == [weights + model_management.minimum_inference_memory()]


EMPTY = {"prompt": "  "}


@pytest.mark.parametrize("node", ["TokenflowInvert", "TokenflowEdit"])
def test_an_empty_prompt_is_refused_before_anything_runs(node: str, nodes: Nodes) -> None:
    assert "the prompt is empty" in str(nodes[node].validate_inputs(**EMPTY))
    assert nodes[node].validate_inputs(prompt="a dog") is True
    assert nodes[node].validate_inputs(prompt=None) is True  # linked: its text is not known yet


def test_an_empty_prompt_that_is_linked_is_refused_when_it_arrives(nodes: Nodes, model: Any, inversion: Any) -> None:
    with pytest.raises(ValueError, match="the prompt is empty"):
        run(nodes["TokenflowInvert"], model=model, video=clip(), **EMPTY)
    with pytest.raises(ValueError, match="the prompt is empty"):
        run(nodes["TokenflowEdit"], inversion=inversion, **EMPTY)


def test_a_carried_frame_may_leave_the_prompt_empty(nodes: Nodes) -> None:
    assert nodes["TokenflowEdit"].validate_inputs(prompt="", mode=None) is True  # some mode is linked


def test_mistakes_are_told_in_one_line(nodes: Nodes, model: Any, inversion: Any) -> None:
    def message(node: str, **inputs: Any) -> str:
        with pytest.raises((ValueError, ConfigError)) as raised:
            run(nodes[f"Tokenflow{node}"], **inputs)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    def edit(**inputs: Any) -> str:
        return message("Edit", inversion=inversion, prompt="a tiger", **inputs)

    wide = tokenflow.Keyframes({0: torch.zeros(8, 32, 3)})
    assert "but the clip is 24×16" in edit(mode=wide)
    assert "the clip has 5 frames" in edit(mode=tokenflow.Keyframes({9: torch.zeros(16, 24, 3)}))
    assert "the clip has 5 frames" in edit(keyframe_interval=6)
    assert "has 3 frames but the clip has 5" in edit(regions=[tokenflow.Region(mask=torch.ones(3, 16, 24))])
    assert "a region's mask is 8×16" in edit(regions=[tokenflow.Region(mask=torch.ones(16, 8))])
    assert "none of them" in message("Region")
    assert "words and auto" in message("Region", words="dog", auto=True)
    regions = [tokenflow.Region(auto=True)]
    assert "write that prompt here" in message("RegionMask", inversion=inversion, regions=regions)
    assert "got neither" in message("Invert", model=model, prompt="a dog")
    both = {"video": clip(), "images": torch.zeros(1, 16, 24, 3)}
    assert "got both" in message("Invert", model=model, prompt="a dog", **both)
    assert "expected frames of shape" in message(
        "Invert", model=model, prompt="a dog", images=torch.zeros(2, 16, 24, 4)
    )
    assert "expected frame numbers" in message("EditedKeyframes", images=torch.zeros(1, 16, 24, 3), frames="first")
    assert "each of 2 images" in message("EditedKeyframes", images=torch.zeros(2, 16, 24, 3), frames="0")
    assert "no model is named" in message("LoadModel", path=" ")
