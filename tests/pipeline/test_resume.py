"""Runs that are killed or interrupted at random moments: what they leave, and what the next run makes of it."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from itertools import count
from pathlib import Path

import numpy as np
import pytest

import tokenflow
from tests.tiny import save_tiny_setup
from tokenflow import Progress
from tokenflow.apps.cli import main
from tokenflow.diffusion.latents import Latents
from tokenflow.events import Event
from tokenflow.pipeline import checkpoint
from tokenflow.store.inversions import StoredInversion
from tokenflow.video import read_frames

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX only")

STEPS = 6

KEPT_FLOW = {"flow_steps.pairs", "flow_fields.pairs", ".flow_steps.lock", ".flow_fields.lock"}

INTERRUPTIONS = 3
"""In a row, before a run is left in peace."""

INTERRUPTED = "interrupted: finished work is kept, and the same command continues from there\n"


def arguments(config: Path, folder: Path) -> list[str]:
    """A command line of both stages, with a result that loses nothing."""
    places = [f"output.dir={folder / 'out'}", f"trajectories.dir={folder / 'trajectories'}"]
    return ["edit", str(config), *places, "output.codec=ffv1", "output.container=mkv", "--quiet"]


class Run:
    """Both stages in a process of their own. It is forked, since starting afresh costs seconds of imports."""

    def __init__(
        self, config: Path, folder: Path, *overrides: str, parts: int | None = None, steps: int | None = None
    ) -> None:
        """Begin it; with a number of parts or sampling steps, it is killed as soon as so many are stored."""
        self._said = folder.with_suffix(".said")
        self._process = os.fork()
        if self._process == 0:
            if parts is not None:
                die_with(parts)
            if steps is not None:
                die_after(steps)
            self._work([*arguments(config, folder), *overrides])

    def _work(self, words: list[str]) -> None:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.stdout = sys.stderr = self._said.open("w")
            main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def end(self, by: signal.Signals | None = None) -> tuple[int, str]:
        """Its exit status (negative: the signal that ended it), after a signal if one is named, and what it said."""
        if by is not None:
            os.kill(self._process, by)
        _, status = os.waitpid(self._process, 0)
        return os.waitstatus_to_exitcode(status), self._said.read_text()


def die_with(parts: int) -> None:
    """End this process by kill -9 when the next part of a trajectory is written, but not yet listed."""
    listed, add = count(), StoredInversion._add

    def add_or_die(trajectory: StoredInversion, name: str) -> None:
        if next(listed) == parts:
            os.kill(os.getpid(), signal.SIGKILL)
        add(trajectory, name)

    StoredInversion._add = add_or_die  # type: ignore[method-assign]


def die_after(steps: int) -> None:
    """End this process by kill -9 while the latents of the next step are written."""

    def write_or_die(latents: Latents, indices: list[int]) -> np.ndarray:
        if next(written) >= 2 * steps:  # each step's are read for their checksum, and to be written
            os.kill(os.getpid(), signal.SIGKILL)
        return rows(latents, indices)

    written, rows = count(-1), checkpoint._rows
    checkpoint._rows = write_or_die


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=3, steps=STEPS)


@pytest.fixture(scope="module")
def undisturbed(config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """What a run leaves that nothing happens to, and the seconds that another one takes."""
    folders = [tmp_path_factory.mktemp(name) for name in ("undisturbed", "timed")]
    with pytest.raises(SystemExit, match="0"):  # in this process, so that those forked off find everything imported
        main(arguments(config, folders[0]))
    start = time.perf_counter()
    status, said = Run(config, folders[1]).end()
    assert status == 0, said
    assert "\nedited " in said
    return folders[0], time.perf_counter() - start


def frames(folder: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(folder / "out" / "edited.mkv")])


def parts(folder: Path) -> dict[str, int]:
    """The finished parts of the trajectory, with the moment they were written."""
    manifests = list((folder / "trajectories").glob("*/manifest.json"))
    return {
        str(path): path.stat().st_mtime_ns
        for manifest in manifests
        for path in map(manifest.parent.__truediv__, json.loads(manifest.read_text())["parts"])
    }


def left(folder: Path) -> set[Path]:
    """What is in a folder, without kept flow, of which a kill while it is written loses what was found."""
    found = {path.relative_to(folder) for path in folder.rglob("*")}
    return {path for path in found if path.name not in KEPT_FLOW}


def assert_the_same(folder: Path, whole: Path) -> None:
    assert np.array_equal(frames(folder), frames(whole))
    for path in whole.rglob("*.safetensors"):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert left(folder) == left(whole)


def assert_nothing_looks_finished_that_is_not(folder: Path, whole: Path) -> None:
    """Nothing stands there, but where the last moment was hit: files are moved to their places, the report last."""
    standing = {path.name for path in (folder / "out").glob("[!.]*")}
    finished = {path.name for path in (whole / "out").glob("[!.]*")}
    assert standing <= finished
    if "report.json" in standing:
        assert standing == finished
    if "edited.mkv" in standing:
        assert np.array_equal(frames(folder), frames(whole))


@pytest.mark.parametrize("number", range(STEPS + 3))
def test_after_a_kill_at_any_part_of_the_inversion_the_next_run_ends_with_the_same_bits(
    number: int, config: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    """Its parts are the frames, the clean latents, those of each step, and the report."""
    whole, _ = undisturbed
    folder = tmp_path / "run"
    assert Run(config, folder, parts=number).end() == (-9, "")
    assert len(parts(folder)) == number
    status, said = Run(config, folder).end()
    assert status == 0, said
    assert len(parts(folder)) == STEPS + 3
    assert_the_same(folder, whole)


@pytest.mark.parametrize("seed", range(3))
def test_after_kills_at_random_sampling_steps_the_next_run_continues_there_with_the_same_bits(
    seed: int, config: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    whole, _ = undisturbed
    folder = tmp_path / "run"
    shutil.copytree(whole / "trajectories", folder / "trajectories")
    stored = 0
    for steps in random.Random(seed).choices(range(1, STEPS // 2), k=2):
        assert Run(config, folder, steps=steps).end() == (-9, "")
        stored += steps
    progress: list[Event] = []
    settings = tokenflow.load_config(config, [*arguments(config, folder)[2:-1]], {})
    tokenflow.run(settings, on_event=progress.append)
    steps_done = [event.done for event in progress if isinstance(event, Progress) and event.stage == "edit"]
    assert steps_done == list(range(stored, STEPS + 1))
    assert_the_same(folder, whole)


@pytest.mark.parametrize(
    ("by", "expected", "seed"),
    [
        *(pytest.param(signal.SIGKILL, -9, seed, id=f"kill -9-{seed}") for seed in range(4)),
        *(pytest.param(signal.SIGINT, 130, seed, id=f"Ctrl-C-{seed}") for seed in range(2)),
    ],
)
def test_after_any_interruption_the_next_run_ends_with_the_same_bits(
    by: signal.Signals, expected: int, seed: int, config: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    moments = random.Random(seed)
    folders = (tmp_path / str(number) for number in count())
    folder, interruptions = next(folders), 0
    while interruptions < INTERRUPTIONS:
        kept = parts(folder)
        run = Run(config, folder)
        time.sleep(moments.uniform(0, seconds))
        status, said = run.end(by)
        assert kept.items() <= parts(folder).items()
        if status == 0:  # it was done before
            assert_the_same(folder, whole)
            folder = next(folders)
            continue
        interruptions += 1
        assert status == expected, said
        assert said == (INTERRUPTED if by == signal.SIGINT else "")
        assert_nothing_looks_finished_that_is_not(folder, whole)
    status, said = Run(config, folder).end()
    assert status == 0, said
    assert_the_same(folder, whole)


@pytest.mark.filterwarnings("default")
def test_of_two_runs_at_once_one_inverts_and_both_end_with_the_same_bits(
    config: Path, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    shared = f"trajectories.dir={tmp_path / 'shared'}"
    folders = [tmp_path / "first", tmp_path / "second"]
    runs = [Run(config, folder, shared) for folder in folders]
    ended = [run.end() for run in runs]
    assert [status for status, _ in ended] == [0, 0], ended
    for folder in folders:
        assert np.array_equal(frames(folder), frames(undisturbed[0]))
    waited = [said for _, said in ended if "waiting for it to finish" in said]
    assert len(waited) == 1
    (trajectory,) = (tmp_path / "shared").iterdir()
    assert left(trajectory) == left(next((undisturbed[0] / "trajectories").iterdir()))


def process(*words: str) -> subprocess.Popen[str]:
    """Python in a process of its own, from the interpreter's start on."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-u", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.parametrize("module", ["numpy", "torch.nn"])
def test_ctrl_c_while_libraries_are_loaded_is_no_traceback(module: str, config: Path, tmp_path: Path) -> None:
    with process("-X", "importtime", "-m", "tokenflow", *arguments(config, tmp_path)) as started:
        assert started.stderr is not None
        for line in started.stderr:
            if line.rpartition("|")[2].strip() == module:
                started.send_signal(signal.SIGINT)
                break
        said = [line for line in started.stderr if not line.startswith("import time:")]
    assert said == [INTERRUPTED]
    assert started.returncode == 130
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_after_the_result_is_there_changes_nothing(undisturbed: tuple[Path, float], tmp_path: Path) -> None:
    """While libraries shut down; or just before, when it is said to have come."""
    saved = undisturbed[0] / "out" / "config.yaml"
    with process("-m", "tokenflow", "edit", str(saved), f"output.dir={tmp_path / 'out'}", "--quiet") as started:
        assert started.stdout is not None
        for line in started.stdout:
            if line.startswith("contact sheet"):
                time.sleep(0.1)
                started.send_signal(signal.SIGINT)
        assert started.stderr is not None
        said = started.stderr.read()
    assert (started.returncode, said) in [(0, ""), (130, INTERRUPTED)]
    assert np.array_equal(frames(tmp_path), frames(undisturbed[0]))
