"""Edits that change a part of the frame only."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tokenflow
from tests.propagation.pixels.conftest import FRAMES as DISCS
from tests.propagation.pixels.conftest import draw
from tests.tiny import moving_square, save_tiny_controlnet, save_tiny_setup, tiny_model
from tokenflow import ControlNet, Keyframes, Notice, PnP, Progress, Region, SDEdit, TokenflowError, Video
from tokenflow.errors import ConfigError
from tokenflow.events import Event
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline.trial import trial
from tokenflow.regions.masks import feather
from tokenflow.video import crop_like, read_frames

FRAMES = 5
CLIP = Video(moving_square(FRAMES, 32, 48), rate=10)
MASK = np.zeros((FRAMES, 32, 48), np.uint8)
MASK[:, 8:24, 12:30] = 255
for index in range(FRAMES):
    MASK[index] = np.roll(MASK[index], index, axis=1)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_model()


@pytest.fixture(scope="module")
def inverted(model: StableDiffusion) -> tokenflow.InvertedClip:
    return tokenflow.invert(CLIP, model, "a dog", size=16, steps=4, batch_size=2)


def edit(inverted: tokenflow.InvertedClip, *regions: Region, **options: Any) -> tokenflow.Edited:
    return tokenflow.edit(inverted, "a tiger", regions=regions, **options)


@pytest.mark.parametrize("mode", ["pnp", "sdedit", "shared", "controlnet", "keyframes"])
def test_outside_of_the_mask_every_mode_leaves_the_sources_bytes(
    mode: str, inverted: tokenflow.InvertedClip, tmp_path: Path
) -> None:
    brighter = 128 + CLIP.frames[0] // 2
    modes = {
        "pnp": PnP(),
        "sdedit": SDEdit(),
        "shared": SDEdit(noise="shared"),
        "controlnet": ControlNet(path=str(save_tiny_controlnet(tmp_path))),
        "keyframes": Keyframes({0: brighter}),
    }
    edited = edit(inverted, Region(mask=MASK, feather=3), mode=modes[mode])
    assert edited.masks is not None
    assert np.array_equal(edited.masks == 255, MASK == 255)
    assert np.array_equal(edited.frames[edited.masks == 0], CLIP.frames[edited.masks == 0])
    assert not np.array_equal(edited.frames[edited.masks == 255], CLIP.frames[edited.masks == 255])


def test_a_mask_of_everything_is_an_edit_of_the_whole_frame(inverted: tokenflow.InvertedClip) -> None:
    everything = edit(inverted, Region(mask=np.ones((32, 48), bool)))
    assert np.array_equal(everything.frames, tokenflow.edit(inverted, "a tiger", regions=()).frames)


@pytest.mark.parametrize(
    "region",
    [Region(mask=np.zeros((32, 48))), Region(mask=np.ones((32, 48)), invert=True), Region(mask=MASK, grow=-100)],
)
def test_an_empty_region_leaves_the_clip_with_a_notice(region: Region, inverted: tokenflow.InvertedClip) -> None:
    events: list[Event] = []
    assert np.array_equal(edit(inverted, region, on_event=events.append).frames, CLIP.frames)
    (said,) = [event.message for event in events if isinstance(event, Notice)]
    assert "takes 0.00% of the frames, so the edit can change hardly anything" in said


def test_a_region_with_the_edits_prompt_is_a_region_without_one(inverted: tokenflow.InvertedClip) -> None:
    own, none = (edit(inverted, Region(mask=MASK, prompt=prompt)) for prompt in ("a tiger", None))
    assert np.abs(own.frames.astype(int) - none.frames).max() <= 2  # of 255; two equal branches are joined by shares


def test_regions_may_have_prompts_of_their_own(inverted: tokenflow.InvertedClip) -> None:
    left, right = np.zeros((2, 32, 48), bool)
    left[:, :24], right[:, 24:] = True, True
    edits = [
        edit(inverted, Region(mask=left, feather=0), Region(mask=right, prompt=prompt, feather=0)).frames
        for prompt in ("a zebra", "a tiger")
    ]
    assert not np.array_equal(*edits)


def test_the_mask_of_one_frame_follows_the_motion(model: StableDiffusion) -> None:
    discs = np.stack([draw(frame, "disc") for frame in range(DISCS)])
    truth = np.abs(discs.astype(int) - discs[0, 0, 0]).max(-1) > 40
    inverted = tokenflow.invert(Video(discs, rate=10), model, "a disc", size=16, steps=2)
    masks = edit(inverted, Region(mask=truth[2], mask_frame=2, feather=0)).masks
    assert masks is not None
    assert np.array_equal(masks[2] > 0, truth[2])
    for mask, disc in zip(masks > 127, truth, strict=True):
        assert (mask & disc).sum() / (mask | disc).sum() > 0.8


def test_words_and_auto_are_found_and_described(inverted: tokenflow.InvertedClip) -> None:
    events: list[Event] = []
    edited = edit(inverted, Region(words="dog"), Region(auto=True), on_event=events.append)
    assert [region.by for region in edited.regions] == ["words", "auto"]
    assert edited.regions[0].words == "dog"
    assert {event.stage for event in events if isinstance(event, Progress)} >= {"region", "edit", "decode"}


def test_a_region_alone_found_says_whether_the_change_is_everywhere(
    inverted: tokenflow.InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tokenflow.edit(inverted, "a tiger", regions=())
    for limit, everywhere in ((-1.0, True), (2.0, False)):
        monkeypatch.setattr("tokenflow.regions.by_text.EVERYWHERE_AT_BORDER", limit)
        monkeypatch.setattr("tokenflow.regions.by_text.EVERYWHERE", limit)
        edited = tokenflow.edit(inverted, "a tiger", regions="auto")
        assert [region.everywhere for region in edited.regions] == [everywhere]
        assert (edited.masks is None) == everywhere
        assert np.array_equal(edited.frames, whole.frames) == everywhere


@pytest.mark.parametrize("resize", ["fill", "pad"])
def test_masks_are_cropped_and_padded_as_the_clip_is(resize: Any, model: StableDiffusion) -> None:
    clip = Video(moving_square(2, 32, 48), rate=10)
    inverted = tokenflow.invert(clip, model, "a dog", size=(16, 16), resize=resize, steps=2)
    mask = np.zeros((32, 48), bool)
    mask[8:16, 20:28] = True
    edited = edit(inverted, Region(mask=mask, feather=0))
    assert edited.masks is not None
    assert edited.masks.shape == edited.frames.shape[:3]
    source = np.stack([crop_like(frame, edited.frames[0]) for frame in clip.frames])
    assert np.array_equal(edited.frames[edited.masks == 0], source[edited.masks == 0])
    assert np.array_equal(edited.masks[0] > 0, crop_like(mask, edited.frames[0]))


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (Region(), "expected one of mask, words and auto; got none"),
        (Region(words="dog", auto=True), "got words and auto"),
        (Region(words="cat"), "'cat' are not in the source prompt 'a dog'"),
        (Region(words="dog", mask_frame=1), "mask_frame is given without the mask"),
        (Region(mask=MASK[:3]), "has 3 frames but the clip has 5"),
        (Region(mask=MASK, mask_frame=0), "its mask has 5 frames; expected one image"),
        (Region(mask=MASK[0], mask_frame=5), "mask_frame is 5, but the clip has 5 frames; expected 0 to 4"),
        (Region(auto=True, feather=-1), "feather"),
        ("dog", "expected regions to be Region"),
        (Region(words=" , "), "expected words of clip.prompt"),
        (Region(auto=True, grow="much"), "grow"),
        (Region(mask="nowhere.png"), "there is nothing at nowhere.png"),
    ],
)
def test_what_does_not_describe_a_region_is_refused(
    region: Any, message: str, inverted: tokenflow.InvertedClip
) -> None:
    with pytest.raises(TokenflowError, match=message):
        edit(inverted, region)


def test_regions_are_a_list_of_regions_or_of_settings(inverted: tokenflow.InvertedClip) -> None:
    with pytest.raises(ConfigError, match="expected a list of regions"):
        tokenflow.edit(inverted, "a tiger", regions=Region(auto=True))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"the region's prompt is 'a cat', but edit\.mode keyframes"):
        edit(inverted, Region(mask=MASK, prompt="a cat"), mode=Keyframes({0: CLIP.frames[0]}))
    settings, generator = tokenflow.config.Region(words="dog"), (each for each in [Region(words="dog")])
    results = [tokenflow.edit(inverted, "a tiger", regions=regions) for regions in ([settings], generator)]
    assert np.array_equal(results[0].frames, results[1].frames)


def test_a_run_writes_the_region_and_measures_outside_of_it(tmp_path: Path) -> None:
    config = save_tiny_setup(tmp_path, frames=4, steps=2)
    mask = np.zeros((16, 24), np.uint8)
    mask[4:12, 6:14] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    settings = tokenflow.load_config(config, [f"edit.regions=[{{mask: {tmp_path / 'mask.png'}, feather: 2}}]"])
    result = tokenflow.run(replace_output(settings, pngs=True))
    assert result.region is not None
    marked = next(read_frames(result.region)).image[..., 0] > 8  # what the codec makes of black
    assert np.array_equal(marked, feather(mask / 255, 2) > 8 / 255)
    source = next(read_frames(settings.clip.path)).image
    written = np.asarray(Image.open(settings.output.dir / "frames" / "frame_00000.png"))
    assert np.array_equal(written[~marked], source[~marked])
    assert result.report["regions"][0]["by"] == "mask"
    assert result.report["metrics"]["change"]["outside"] == 0
    assert tokenflow.open_result(settings.output.dir).region == result.region


def replace_output(config: tokenflow.Config, **values: Any) -> tokenflow.Config:
    return config.model_copy(update={"output": config.output.model_copy(update=values)})


def test_a_trial_takes_the_masks_of_its_frames(tmp_path: Path) -> None:
    config = tokenflow.load_config(save_tiny_setup(tmp_path, frames=4, steps=2))
    masks = tmp_path / "masks"
    masks.mkdir()
    for index in range(4):
        Image.new("L", (24, 16), 255 if index == 3 else 0).save(masks / f"{index:03d}.png")
    region = tokenflow.config.Region(mask=masks, feather=0)
    edit = config.edit.model_copy(update={"regions": (region,)})
    tried = trial(config.model_copy(update={"edit": edit}), 2)
    assert tried.indices == (1, 3)
    assert np.array_equal(tried.edited[0], tried.source[0])
    assert not np.array_equal(tried.edited[1], tried.source[1])


def test_regions_are_found_without_an_edit_as_the_edit_finds_them(inverted: tokenflow.InvertedClip) -> None:
    region = Region(words="dog", grow=1)
    masks = tokenflow.find_regions(inverted, "a tiger", [region])
    assert masks is not None
    assert np.array_equal(masks, edit(inverted, region).masks)
    assert tokenflow.find_regions(inverted, "a tiger", []) is None


def test_finding_regions_can_be_cancelled(inverted: tokenflow.InvertedClip) -> None:
    with pytest.raises(tokenflow.Cancelled):
        tokenflow.find_regions(inverted, "a tiger", [Region(auto=True)], cancel=lambda: True)
