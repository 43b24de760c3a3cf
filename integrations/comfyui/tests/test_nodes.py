"""The nodes as ComfyUI calls them: tensors in, tensors out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from comfy import model_management
from conftest import AUDIO, FRAMES, HEIGHT, OF_THE_LIBRARY, RATE, WIDTH, Nodes, clip, run

import tokenflow
from tests.models.adapters.making import lora_weights, save_kohya
from tests.tiny import save_tiny_controlnet, tiny_pipeline
from tokenflow.errors import ConfigError, ModelNotFoundError, TokenflowError


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
    assert "flicker: clip " in text
    assert "in the most changed part " in text
    assert "detail, relative to the clip: " in text
    assert sheet.shape[0] == 1
    assert sheet.shape[2] == FRAMES * inversion.clip.size[0]
    assert made.ui["text"] == (text,)


def test_a_clip_of_one_frame_is_edited(nodes: Nodes, model: Any) -> None:
    inverted = run(nodes["TokenflowInvert"], model=model, video=clip(1), prompt="a dog", steps=2)[0]
    _, images, *_ = run(nodes["TokenflowEdit"], inversion=inverted, prompt="a tiger").args
    assert images.shape == (1, HEIGHT, WIDTH, 3)


def test_memory_is_asked_for_before_a_model_is_loaded(nodes: Nodes, models: Path, monkeypatch: Any) -> None:
    asked: list[float] = []
    monkeypatch.setattr(model_management, "free_memory", lambda size, device: asked.append(size))
    run(nodes["TokenflowLoadModel"], model="ein Modell")
    weights = sum(file.stat().st_size for file in (models / "diffusers" / "ein Modell").rglob("*.safetensors"))
    assert asked == [weights + model_management.minimum_inference_memory()]


def test_memory_is_asked_for_before_an_edit_loads_a_controlnet(
    nodes: Nodes, inversion: Any, models: Path, monkeypatch: Any
) -> None:
    asked: list[float] = []
    mode = run(nodes["TokenflowControlNet"], path=str(models / "controlnets"))[0]
    monkeypatch.setattr(model_management, "free_memory", lambda size, device: asked.append(size))
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", mode=mode)
    weights = sum(file.stat().st_size for file in (models / "controlnets").glob("*.safetensors"))
    assert asked == [weights + model_management.minimum_inference_memory()]


def test_what_was_free_is_told_when_a_model_does_not_load(nodes: Nodes, monkeypatch: Any) -> None:
    told: list[bool] = []
    monkeypatch.setattr(model_management, "soft_empty_cache", lambda *_: told.append(True))
    with pytest.raises(ModelNotFoundError):
        run(nodes["TokenflowLoadModel"], path="/no/where")
    assert told


def test_models_are_found_in_the_folders_that_comfyui_keeps_them_in(nodes: Nodes, models: Path) -> None:
    (models / "diffusion_models" / "flux.safetensors").touch()
    save_tiny_controlnet(models / "controlnet" / "a folder")
    listed = {
        name: {each.id: each for each in nodes[f"Tokenflow{name}"].GET_SCHEMA().inputs}
        for name in ("LoadModel", "ControlNet")
    }
    assert {"flux.safetensors", "ein Modell"} <= set(listed["LoadModel"]["model"].options)
    assert "a folder" in listed["ControlNet"]["controlnet"].options
    mode = run(nodes["TokenflowControlNet"], controlnet="a folder")[0]
    assert Path(mode.path) == models / "controlnet" / "a folder"


def test_an_inversion_brings_its_own_model_so_that_no_other_can_be_linked(
    nodes: Nodes, inversion: Any, model: Any
) -> None:
    kinds = {name: [each.get_io_type() for each in node.GET_SCHEMA().inputs] for name, node in nodes.items()}
    assert [name for name, each in kinds.items() if {"TOKENFLOW_MODEL", "TOKENFLOW_INVERSION"} <= set(each)] == []
    assert [name for name, each in kinds.items() if "TOKENFLOW_MODEL" in each] == ["TokenflowInvert"]
    assert inversion.clip.model is model


@pytest.mark.parametrize("resize", ["fit", "fill"])
def test_a_mask_of_everything_has_the_size_of_the_edit(resize: str, nodes: Nodes, model: Any) -> None:
    images = torch.rand(2, 20, 26, 3, generator=torch.Generator().manual_seed(0))
    options = {"model": model, "images": images, "prompt": "a dog", "steps": 1, "resize": resize}
    inverted = run(nodes["TokenflowInvert"], **options)[0]
    _, edited, mask, _ = run(nodes["TokenflowEdit"], inversion=inverted, prompt="a tiger").args
    found = run(nodes["TokenflowRegionMask"], inversion=inverted, regions=())[0]
    assert found.shape == mask.shape == edited.shape[:3]
    assert (edited.shape[1:3] == (20, 26)) is (resize == "fit")


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


def test_mistakes_are_told_in_one_line_in_the_words_of_the_nodes(nodes: Nodes, model: Any, inversion: Any) -> None:
    def message(node: str, **inputs: Any) -> str:
        with pytest.raises((ValueError, TokenflowError)) as raised:
            run(nodes[f"Tokenflow{node}"], **inputs)
        text = str(raised.value)
        assert "\n" not in text
        assert not OF_THE_LIBRARY.search(text)
        return text

    def edit(**inputs: Any) -> str:
        return message("Edit", **{"inversion": inversion, "prompt": "a tiger"} | inputs)

    wide = tokenflow.Keyframes({0: torch.zeros(8, 32, 3)})
    assert edit(mode=wide).endswith("but the clip is 24×16; expected that size, or the same aspect ratio")
    assert "the clip has 5 frames" in edit(mode=tokenflow.Keyframes({9: torch.zeros(16, 24, 3)}))
    assert "keyframe_interval of Edit is 6 but the clip has 5 frames; expected 1 to 5, or 0" in edit(
        keyframe_interval=6
    )
    assert "has 3 frames but the clip has 5" in edit(regions=[tokenflow.Region(mask=torch.ones(3, 16, 24))])
    assert "a region's mask is 8×16" in edit(regions=[tokenflow.Region(mask=torch.ones(16, 8))])
    assert "set path of Mode: ControlNet" in edit(mode=tokenflow.ControlNet(path="no/such/place"))
    assert "ip_adapter of Edit" in edit(ip_adapter="no/such/place", references=[np.zeros((8, 8, 3), np.uint8)])
    none = run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=0)[0]
    assert "or use Mode: FlowEdit, or Mode: Instruct with a model" in edit(inversion=none)
    assert "Mode: Instruct is linked, but" in edit(inversion=none, mode=tokenflow.Instruct())
    assert "was not inverted (in 0 steps; take more)" in message("CheckInversion", inversion=none)
    regions = [tokenflow.Region(auto=True)]
    assert "write that prompt here" in message("RegionMask", inversion=inversion, regions=regions)
    assert "got neither" in message("Invert", model=model, prompt="a dog")
    both = {"video": clip(), "images": torch.zeros(1, 16, 24, 3)}
    assert "got both" in message("Invert", model=model, prompt="a dog", **both)
    video = {"model": model, "video": clip(), "prompt": "a dog"}
    assert "expected the shorter side in pixels from 16 to 16384" in message("Invert", **video, size=3)
    assert "cuts: expected auto, or frame numbers such as 49, 80; got 'here'" in message("Invert", **video, cuts="here")
    assert "cuts of Invert is [9]" in message("Invert", **video, cuts="9")
    one, two = torch.zeros(1, 16, 24, 3), torch.zeros(2, 16, 24, 3)
    assert "expected frame numbers" in message("EditedKeyframes", images=one, frames="first")
    assert "for the one image, got '0, 1'" in message("EditedKeyframes", images=one, frames="0, 1")
    assert "for each of the 2 images" in message("EditedKeyframes", images=two, frames="0")
    assert "frame 0 is named twice" in message("EditedKeyframes", images=two, frames="0, 0")
    assert "a model is not named" in message("LoadModel", path=" ")
    assert "a LoRA is not named" in message("LoRA")
    assert "a LoRA 'gone.safetensors' is no longer in" in message("LoRA", lora="gone.safetensors")
    assert "the autoencoder 'gone.safetensors' is no longer in" in message(
        "LoadModel", model="ein Modell", vae="gone.safetensors"
    )
    assert "set path of Load Model to" in message("LoadModel", path="/no/where")
    for node, path in (("LoRA", "x" * 5000), ("ControlNet", "a\0b"), ("TextualInversion", "a\0b")):
        assert message(node, path=path).startswith("path: invalid path")
    assert "start (0.9) no later than end (0.1)" in message("ControlNet", start=0.9, end=0.1)
    assert "canny_low no higher than canny_high" in message("ControlNet", canny_low=300.0)


def test_mistakes_of_a_region_are_told_on_it(nodes: Nodes) -> None:
    def message(**inputs: Any) -> str:
        with pytest.raises(ConfigError) as raised:
            run(nodes["TokenflowRegion"], **inputs)
        return str(raised.value)

    mask = torch.zeros(1, HEIGHT, WIDTH)
    assert message() == "expected one of mask, words and auto; got none of them"
    assert "words and auto" in message(words="dog", auto=True)
    assert message(words="dog", mask_frame=0) == "mask_frame is given without the mask of that frame; set mask"
    assert message(words=" , ") == "words: expected words of the prompt of Invert, got ','"
    assert run(nodes["TokenflowRegion"], mask=mask, words=" ")[0][0].words is None


def test_cuts_are_automatic_in_any_case(nodes: Nodes, model: Any, inversion: Any) -> None:
    again = run(nodes["TokenflowInvert"], model=model, video=clip(), prompt="a dog", steps=3, cuts=" Auto")[0]
    assert again.clip.cuts == inversion.clip.cuts
