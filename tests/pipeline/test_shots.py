"""Two scenes in one clip: nothing is carried over the cut between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

import tokenflow
from tests.propagation.pixels.conftest import FRAMES, draw
from tests.tiny import save_tiny_setup, tiny_model, whole
from tests.tiny_sana import tiny_sana
from tokenflow import Reference
from tokenflow.config import Config, Edit, load_config
from tokenflow.errors import ConfigError, TokenflowWarning
from tokenflow.models.model import Model
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.regions import RegionFinder
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance
from tokenflow.video import Video, VideoWriter
from tools.mini_sd.build_clips import CLIPS

CUT = 5


def scene(name: str, count: int) -> np.ndarray:
    """Frames of a drawn clip, 24×16 pixels."""
    pictures = [CLIPS[name].render(frame).picture[16:112, :] * 255 for frame in range(count)]
    return np.stack(
        [cv2.resize(each, (24, 16), interpolation=cv2.INTER_AREA).round().astype(np.uint8) for each in pictures]
    )


DOG, CAR = scene("dog_walk", CUT), scene("car_drive", 6)
BOTH = Video(np.concatenate([DOG, CAR]), rate=10)


IMAGE = np.random.default_rng(1).integers(0, 255, (16, 24, 3), dtype=np.uint8)


def sampled(
    source: InvertedClip,
    references: Sequence[Reference] = (),
    regions: Sequence[tokenflow.Region] = (),
    **settings: Any,
) -> torch.Tensor:
    """The edited latents of all frames."""
    edit = Edit(prompt="a golden tiger", steps=2, **settings)
    guidance = build_guidance(source.model, edit.prompt, "", edit.guidance_scale, source.size)
    correspondence = build_correspondence(source, edit)
    within, _ = RegionFinder(source, edit, guidance.conditional, correspondence).find(regions)
    return whole(sample_edit(source, guidance, edit, correspondence, regions=within, references=references))


def sources_of(model: Model) -> list[InvertedClip]:
    """Both shots in one clip, and each alone."""
    clips = (BOTH, [CUT]), (Video(DOG, rate=10), []), (Video(CAR, rate=10), [])
    return [tokenflow.invert(clip, model, "a dog on grass", cuts=cuts, steps=2, size=16) for clip, cuts in clips]


@pytest.fixture(scope="module")
def sources() -> list[InvertedClip]:
    return sources_of(tiny_model())


HOW: dict[str, dict[str, Any]] = {
    "the keyframes' edit and features": {},
    "features alone": {"propagate_edit_until": 0},
    "small windows": {"keyframe_interval": 1, "keyframe_window": 2},
    "a keyframe per shot": {"keyframe_interval": 11, "seed": 3},
    "matched features": {"correspondence": "nearest"},
    "shared noise": {"mode": "sdedit", "sdedit": {"strength": 1.0, "noise": "shared"}, "seed": 3},
    "no inversion": {"mode": "flowedit", "flowedit": {"strength": 1.0}},
    "references": {"references": [Reference(IMAGE), Reference(IMAGE, kind="style")]},
    "regions of words": {"regions": [tokenflow.Region(words="dog", feather=0)]},
    "regions that change": {"regions": [tokenflow.Region(auto=True, feather=0)]},
}


@pytest.mark.parametrize("how", HOW)
def test_each_shot_is_edited_as_it_would_be_alone(how: str, sources: list[InvertedClip]) -> None:
    both, *alone = (sampled(source, **HOW[how]) for source in sources)
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)  # frames share batches with others


def test_each_shot_is_edited_as_it_would_be_alone_by_linear_attention() -> None:
    both, *alone = (sampled(source) for source in sources_of(tiny_sana()))
    torch.testing.assert_close(both, torch.cat(alone), rtol=0, atol=1e-4)


def test_without_the_cut_shots_would_mix(sources: list[InvertedClip]) -> None:
    source = sources[0]
    uncut = InvertedClip(**{**vars(source), "cuts": ()})
    assert (sampled(source) - sampled(uncut)).abs().max() > 1e-2


def test_cuts_are_found_with_a_notice(sources: list[InvertedClip]) -> None:
    with pytest.warns(TokenflowWarning, match=rf"found a cut at frame {CUT}; .*clip\.cuts"):
        found = tokenflow.invert(BOTH, sources[0].model, "a dog", steps=1, size=16)
    assert found.cuts == (CUT,)
    assert found.shots == (range(CUT), range(CUT, 11))


def test_a_shot_of_one_frame_is_edited_as_it_would_be_alone(sources: list[InvertedClip]) -> None:
    clip, alone = np.concatenate([DOG, CAR[:1], 255 - DOG]), CAR[:1]
    both, single = (
        sampled(tokenflow.invert(Video(each, rate=10), sources[0].model, "a dog on grass", cuts=cuts, steps=2, size=16))
        for each, cuts in ((clip, [CUT, CUT + 1]), (alone, []))
    )
    torch.testing.assert_close(both[[CUT]], single, rtol=0, atol=1e-4)


def test_the_cuts_of_a_stored_inversion_are_looked_for_once(
    sources: list[InvertedClip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"steps": 1, "size": 16, "store": tmp_path}
    with pytest.warns(TokenflowWarning, match="found a cut"):
        tokenflow.invert(BOTH, sources[0].model, "a dog", **options)
    monkeypatch.setattr("tokenflow.pipeline.inversion.find_cuts", None)
    with pytest.warns(TokenflowWarning, match="found a cut"):
        assert tokenflow.invert(BOTH, sources[0].model, "a dog", **options).cuts == (CUT,)
    assert tokenflow.invert(BOTH, sources[0].model, "a dog", cuts=[], **options).cuts == ()


def test_a_cut_beyond_the_clip_is_refused_before_the_network_is_called() -> None:
    with pytest.raises(ConfigError, match=r"clip\.cuts is \[11\], but the clip has 11 frames"):
        tokenflow.invert(BOTH, tiny_model(), "a dog", cuts=[11])
    with pytest.raises(ConfigError, match=r"cuts: expected auto, or the frames at which shots begin"):
        tokenflow.invert(BOTH, tiny_model(), "a dog", cuts="never")


def test_a_mask_of_one_frame_holds_in_its_shot_only(sources: list[InvertedClip]) -> None:
    mask = np.ones((16, 24), bool)
    with pytest.warns(TokenflowWarning, match=r"mask of frame 7 holds in its shot only, frames 5 to 10"):
        edited = tokenflow.edit(sources[0], "a tiger", regions=[tokenflow.Region(mask=mask, mask_frame=7)])
    assert edited.masks is not None
    assert not edited.masks[:CUT].any()
    assert edited.masks[7].all()
    assert np.array_equal(edited.frames[:CUT], DOG)


def test_edited_frames_are_carried_through_their_own_shot_only() -> None:
    discs = np.stack([draw(frame, "disc") for frame in range(FRAMES)])
    clip = Video(np.concatenate([discs, 255 - discs]), rate=10)
    source = tokenflow.invert(clip, tiny_model(), "a disc", cuts=[FRAMES], steps=1, size=16)
    painted = 255 - clip.frames[FRAMES]
    with pytest.warns(TokenflowWarning, match=rf"no edited frame is of the shot of frames 0 to {FRAMES - 1}"):
        edited = tokenflow.edit(source, "a disc", mode=tokenflow.Keyframes({FRAMES: painted}), steps=1)
    assert np.array_equal(edited.frames[FRAMES], painted)
    assert np.array_equal(edited.frames[:FRAMES], discs)
    assert not np.array_equal(edited.frames[FRAMES + 1], clip.frames[FRAMES + 1])


def config_of(folder: Path, frames: np.ndarray) -> Config:
    """A tiny model, and a clip of these frames."""
    path = save_tiny_setup(folder, frames=1, steps=1)
    with VideoWriter(folder / "clip.mkv", width=24, height=16, rate=10, codec="ffv1") as video:
        for frame in frames:
            video.write(frame)
    return load_config(path, [f"clip.path={folder / 'clip.mkv'}", f"clip.cuts=[{CUT}]", "inversion.check=false"])


def test_reports_have_the_cuts_and_measure_nothing_over_them(tmp_path: Path) -> None:
    report = tokenflow.run(config_of(tmp_path, BOTH.frames)).report
    assert report["cuts"] == [CUT]
    warps, flickers = (report["over_time"][name]["edit"] for name in ("warp_error_e3", "flicker"))
    assert [place for place, value in enumerate(warps) if value is None] == [CUT - 1]  # frames 4 and 5
    assert [place for place, value in enumerate(flickers) if value is None] == [CUT - 2, CUT - 1]  # around 4, around 5
    assert (len(warps), len(flickers)) == (10, 9)


def test_trials_keep_shots_apart(tmp_path: Path) -> None:
    """Frames of the second shot come out the same whatever the first one shows."""
    tried = [
        tokenflow.trial(config_of(tmp_path / name, np.concatenate([first, CAR])), 4)
        for name, first in (("dog", DOG), ("negative", 255 - DOG))
    ]
    assert tried[0].indices == (1, 4, 6, 9)
    first, second = (each.edited.astype(int) for each in tried)
    assert np.abs(first[2:] - second[2:]).max() <= 1
    assert np.abs(first[:2] - second[:2]).max() > 10
