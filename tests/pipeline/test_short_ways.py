"""What one edit of a configuration does once: decoding, probing and hashing the clip, opening the inversion."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import tokenflow
from tests.tiny import moving_square, save_tiny_setup
from tests.video.making import make
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline import reconstruction
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import clip_file, decoding, video

FRAMES = 12

SWITCHES = [
    "inversion.check=false",
    "metrics.enabled=false",
    "output.comparison=false",
    "output.contact_sheet=false",
    "output.page=false",
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=FRAMES, steps=2)


def counted(monkeypatch: pytest.MonkeyPatch, counts: Counter[str], owner: Any, name: str) -> None:
    original = getattr(owner, name)

    def count(*arguments: Any, **options: Any) -> Any:
        counts[name] += 1
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, count)


def counted_frames(monkeypatch: pytest.MonkeyPatch, clip: Path) -> list[object]:
    """A list to which every frame that is decoded of a clip is added."""
    decode, decoded = decoding._decode, []

    def count(path: Path, start: Fraction) -> Iterator[object]:
        with closing(decode(path, start)) as frames:
            for frame in frames:
                if path == clip:
                    decoded.append(frame)
                yield frame

    monkeypatch.setattr(decoding, "_decode", count)
    return decoded


@pytest.mark.parametrize("inverted", [False, True])
def test_one_edit_reads_probes_and_hashes_the_clip_and_opens_its_inversion_no_more_than_it_must(
    inverted: bool, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "clip.mkv", moving_square(FRAMES), sound="aac")
    places = [f"output.dir={tmp_path / 'out'}", f"trajectories.dir={tmp_path / 'trajectories'}"]
    config = tokenflow.load_config(path, [*places, f"clip.path={tmp_path / 'clip.mkv'}"], {})
    if inverted:
        tokenflow.preprocess(config)
    counts: Counter[str] = Counter()
    counted(monkeypatch, counts, StoredInversion, "__init__")
    counted(monkeypatch, counts, tokenflow.Video, "digest")
    probe, probed = clip_file.probe, []
    for module in ("clip_file", "video", "writer"):
        monkeypatch.setattr(
            f"tokenflow.video.{module}.probe",
            lambda clip, **options: probed.append(Path(clip)) or probe(clip, **options),
            raising=False,
        )
    decoded = counted_frames(monkeypatch, config.clip.path)
    tokenflow.run(config)
    assert video.probe is not probe
    assert counts == {"__init__": 1, "digest": 1}
    assert probed.count(config.clip.path) <= 2
    assert len(decoded) <= (0 if inverted else FRAMES) + 4  # at two probes, and where the sound starts


def test_the_check_decodes_each_frame_once_and_some_once_more(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once sampled back, and some, of which what the autoencoder alone loses is told, as they were encoded."""
    monkeypatch.setattr(reconstruction, "MAX_AUTOENCODER_FRAMES", 2)
    decode, decoded = StableDiffusion.decode, []
    monkeypatch.setattr(StableDiffusion, "decode", lambda self, each: decoded.append(len(each)) or decode(self, each))
    places = [f"output.dir={tmp_path / 'out'}", f"trajectories.dir={tmp_path / 'trajectories'}"]
    tokenflow.preprocess(tokenflow.load_config(path, places, {}))
    assert sum(decoded) == FRAMES + 2


def test_check_metrics_comparison_sheet_and_page_can_be_switched_off(path: Path, tmp_path: Path) -> None:
    places = [f"output.dir={tmp_path / 'out'}", f"trajectories.dir={tmp_path / 'trajectories'}"]
    result = tokenflow.run(tokenflow.load_config(path, [*places, *SWITCHES], {}))
    assert {each.name for each in (tmp_path / "out").glob("[!.]*")} == {"edited.mp4", "config.yaml", "report.json"}
    assert not list((tmp_path / "trajectories").rglob("reconstruction.*"))
    assert (result.comparison, result.contact_sheet, result.page) == (None, None, None)
    assert result.report["metrics"] == {}
    assert tokenflow.open_result(tmp_path / "out") == result


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_leaves_out_one_thing_and_changes_no_frame(switch: str, path: Path, tmp_path: Path) -> None:
    lossless = ["output.codec=ffv1", "output.container=mkv", f"trajectories.dir={tmp_path / 'trajectories'}"]
    whole, without = (
        tokenflow.run(tokenflow.load_config(path, [*lossless, f"output.dir={tmp_path / name}", *extra], {}))
        for name, extra in (("whole", []), ("without", [switch]))
    )
    assert (without.frames == whole.frames).all()


def test_an_inversion_whose_check_was_off_is_checked_when_asked_for(path: Path, tmp_path: Path) -> None:
    config = tokenflow.load_config(path, [f"trajectories.dir={tmp_path}", "inversion.check=false"], {})
    assert tokenflow.preprocess(config).report is None
    checked = tokenflow.preprocess(tokenflow.load_config(path, [f"trajectories.dir={tmp_path}"], {}))
    assert checked.report is not None
    assert len(list(tmp_path.iterdir())) == 1
