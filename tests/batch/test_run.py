"""edit_many on this machine: shared work, resuming, failures, events, Ctrl-C, and killed workers and drivers."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenflow
from tests.batch.conftest import Configure
from tokenflow import Record
from tokenflow.batch import worker
from tokenflow.batch.plan import plan, plan_lines
from tokenflow.config import Config
from tokenflow.errors import BatchError, Cancelled
from tokenflow.events import Event, Notice, Progress
from tokenflow.pipeline.job import open_model


def run(configs: list[Config], folder: Path, **options: Any) -> list[Record]:
    return tokenflow.edit_many(configs, run_dir=folder / "run", progress=False, **options)


def states(records: list[Record]) -> list[str]:
    return [record.state for record in records]


def videos(configs: list[Config]) -> list[bytes]:
    """The bytes of every result."""
    return [(config.output.dir / "edited.mp4").read_bytes() for config in configs]


def stamps(configs: list[Config]) -> list[int]:
    return [(config.output.dir / "report.json").stat().st_mtime_ns for config in configs]


def test_a_batch_gives_what_each_edit_alone_gives_and_inverts_each_clip_once(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = worker.open_model
    monkeypatch.setattr(worker, "open_model", lambda settings: loads.append(settings) or load(settings))
    configs = configure(2, 3)
    records = run(configs, tmp_path)
    assert states(records) == ["done"] * 6
    assert [record.output for record in records] == [str(config.output.dir) for config in configs]
    assert sum(bool(record.inverted) for record in records) == 2
    assert len(loads) == 1
    alone = configure(2, 3, folder=tmp_path / "alone")
    for config, record in zip(alone, records, strict=True):
        assert np.array_equal(tokenflow.run(config).frames, record.result().frames)


def test_a_second_run_does_only_what_is_missing_changed_or_failed(configure: Configure, tmp_path: Path) -> None:
    configs = configure(1, 4)
    configs[2] = configure(1, 1, "edit.steps=5000", f"output.dir={configs[2].output.dir}")[0]  # past training
    first = run(configs, tmp_path)
    assert states(first) == ["done", "done", "failed", "done"]
    assert "steps is 5000" in (first[2].reason or "")
    assert first[2].traceback is None
    shutil.rmtree(configs[0].output.dir)
    configs[1] = configs[1].model_copy(update={"edit": configs[1].edit.model_copy(update={"prompt": "a lion"})})
    configs[2] = configs[2].model_copy(update={"edit": configs[0].edit})
    before = stamps(configs[1:2] + configs[3:])
    second = run(configs, tmp_path)
    assert states(second) == ["done"] * 4
    assert second[3] == first[3]
    assert [new > old for new, old in zip(stamps(configs[1:2] + configs[3:]), before, strict=True)] == [True, False]


def test_a_result_that_was_replaced_or_damaged_is_made_again(configure: Configure, tmp_path: Path) -> None:
    configs = configure(1, 4)
    run(configs, tmp_path)
    others = [tokenflow.run(each) for each in configure(1, 1, "edit.prompt=a lion")]
    (configs[1].output.dir / "edited.mp4").unlink()
    (configs[2].output.dir / "config.yaml").unlink()
    kept = stamps(configs[3:])
    records = run(configs, tmp_path)
    assert states(records) == ["done"] * 4
    assert all(record.result().video.is_file() for record in records)
    assert others[0].report["settings"]["edit"]["prompt"] == "a lion"
    assert records[0].result().report["settings"]["edit"]["prompt"] == "a tiger"
    assert stamps(configs[3:]) == kept


def test_the_run_directory_may_be_that_of_a_result(configure: Configure, tmp_path: Path) -> None:
    configs = configure(1, 1)
    for _ in range(2):
        (record,) = tokenflow.edit_many(configs, run_dir=configs[0].output.dir, progress=False)
        assert record.state == "done"


def test_a_bug_fails_its_job_and_leaves_a_traceback_in_the_record(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "run", lambda *_, **__: 1 / 0)
    (record,) = run(configure(1, 1), tmp_path)
    assert record.reason == "ZeroDivisionError: division by zero"
    assert "Traceback" in (record.traceback or "")


def test_warnings_are_kept_with_their_job(configure: Configure, tmp_path: Path) -> None:
    (record,) = run(configure(1, 1, "inversion.warn_below_psnr=90"), tmp_path)
    assert "below inversion.warn_below_psnr = 90" in record.warnings[0]
    assert "below inversion.warn_below_psnr = 90" in (tmp_path / "run" / "index.html").read_text()


def test_ctrl_c_keeps_finished_jobs_and_leaves_the_others_waiting(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs = configure(1, 3)
    run_alone = worker.run

    def interrupted(config: Config, **options: Any) -> Any:
        if config == configs[1]:
            raise KeyboardInterrupt
        return run_alone(config, **options)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(configs, tmp_path)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "run" / "jobs").iterdir())]
    assert [record["state"] for record in records] == ["done", "waiting", "waiting"]
    assert records[1]["reason"] == "interrupted"
    kept = stamps(configs[:1])
    assert states(run(configs, tmp_path)) == ["done"] * 3
    assert stamps(configs[:1]) == kept


def test_twenty_jobs_whose_workers_are_killed_five_times_give_the_results_of_an_undisturbed_run(
    configure: Configure, tmp_path: Path
) -> None:
    undisturbed = configure(5, 4, folder=tmp_path / "undisturbed")
    assert states(run(undisturbed, tmp_path / "undisturbed")) == ["done"] * 20
    configs = configure(5, 4)
    over = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        """Five times, kill a random worker at a random moment after some job has started."""
        noise = random.Random(0)
        while len(killed) < 5 and not over.is_set():
            time.sleep(noise.uniform(0.01, 0.1))
            running = [path for path in (tmp_path / "run" / "jobs").glob("*.json") if '"running"' in path.read_text()]
            workers = multiprocessing.active_children()
            if running and workers:
                victim = noise.choice(workers)
                if victim.pid and victim.pid not in killed:
                    victim.kill()
                    killed.append(victim.pid)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        # As many retries as kills, so that a job survives even all five.
        records = run(configs, tmp_path, workers=2, retries=5)
    finally:
        over.set()
        killer.join()
    assert len(killed) == 5
    assert states(records) == ["done"] * 20
    assert videos(configs) == videos(undisturbed)
    assert not multiprocessing.active_children()
    assert not list(tmp_path.rglob("*.partial"))


SCRIPT = """
import sys
import tokenflow
if __name__ == "__main__":
    configs = tokenflow.read_configs(sys.argv[3:])
    tokenflow.edit_many(configs, workers=int(sys.argv[2]), run_dir=sys.argv[1], progress=False)
"""


def start_script(script: str, configs: list[Config], folder: Path, workers: int) -> subprocess.Popen[str]:
    (folder / "script.py").write_text(script)
    files = [folder / f"{index}.yaml" for index in range(len(configs))]
    for file, config in zip(files, configs, strict=True):
        file.write_text(config.to_yaml())
    command = [sys.executable, folder / "script.py", folder / "run", str(workers), *files]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)


def alive(group: int) -> bool:
    """Whether any process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.skipif(os.name == "nt", reason="needs process groups")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_stopped_driver_leaves_no_worker_and_loses_only_the_jobs_in_progress(
    name: str, configure: Configure, tmp_path: Path
) -> None:
    configs = configure(1, 3, "inversion.steps=10", "edit.steps=10")
    process = start_script(SCRIPT, configs, tmp_path, workers=2)
    while process.poll() is None and not any((config.output.dir / "report.json").exists() for config in configs):
        time.sleep(0.02)
    process.send_signal(signal.Signals[name])
    process.wait()
    deadline = time.monotonic() + 20
    while alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process.pid)
    if name == "SIGINT":
        assert not list(tmp_path.rglob("*.partial"))
    done = [config for config in configs if (config.output.dir / "report.json").exists()]
    recorded = [json.loads(path.read_text())["state"] for path in (tmp_path / "run" / "jobs").glob("*.json")]
    assert 0 < len(done) < len(configs)
    assert recorded.count("done") >= len(done) - 2  # a result may have been moved in place and not yet recorded
    kept = dict(zip([config.output.dir for config in done], stamps(done), strict=True))
    assert states(run(configs, tmp_path)) == ["done"] * len(configs)
    changed = [config for config in done if stamps([config])[0] != kept[config.output.dir]]
    assert len(changed) <= 2


def test_a_script_without_a_main_guard_gets_an_error_that_says_so(configure: Configure, tmp_path: Path) -> None:
    unguarded = SCRIPT.replace('if __name__ == "__main__":', "if True:")
    process = start_script(unguarded, configure(1, 1), tmp_path, workers=2)
    _, shown = process.communicate()
    assert process.returncode != 0
    assert "EngineError: a worker process could not start (exit status 1)" in shown
    assert "if __name__ == '__main__'" in shown


def test_edits_of_a_clip_that_start_together_invert_it_once(configure: Configure) -> None:
    events: list[list[Event]] = [[], []]
    # The file is locked, so threads can stand for processes here.
    threads = []
    for config, received in zip(configure(1, 2), events, strict=True):
        options = {"model": open_model(config.model), "on_event": received.append}
        threads.append(threading.Thread(target=tokenflow.run, args=[config], kwargs=options))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stages = [{event.stage for event in received if isinstance(event, Progress)} for received in events]
    assert all({"edit", "decode"} <= each for each in stages)
    assert sorted("invert" in each for each in stages) == [False, True]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_listener_receives_progress_and_notices_of_all_jobs_and_how_many_are_done(
    workers: int, configure: Configure, tmp_path: Path
) -> None:
    configs = configure(1, 3, "inversion.warn_below_psnr=90")
    run(configs[:1], tmp_path)
    events: list[Event] = []
    run(configs, tmp_path, workers=workers, on_event=events.append)
    progress = [event for event in events if isinstance(event, Progress)]
    assert [(event.done, event.total) for event in progress if event.stage == "jobs"] == [(1, 3), (2, 3), (3, 3)]
    finished = [event.stage for event in progress if event.done == event.total]
    assert finished.count("edit") == finished.count("decode") == 2
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert len(notices) == 2
    assert all("below inversion.warn_below_psnr = 90" in notice for notice in notices)


def test_an_error_of_the_listener_ends_the_batch_unchanged(configure: Configure, tmp_path: Path) -> None:
    error = ConnectionAbortedError("the browser is gone")

    def fail(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "edit":
            raise error

    with pytest.raises(ConnectionAbortedError) as raised:
        run(configure(1, 2), tmp_path, on_event=fail)
    assert raised.value is error
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "jobs").iterdir()]
    assert {record["state"] for record in records} == {"waiting"}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_cancelled_batch_keeps_finished_jobs_and_leaves_the_others_waiting(
    workers: int, configure: Configure, tmp_path: Path
) -> None:
    configs = configure(1, 3)
    finished = threading.Event()

    def note_the_first(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "jobs" and event.done == 1:
            finished.set()

    with pytest.raises(Cancelled):
        run(configs, tmp_path, workers=workers, on_event=note_the_first, cancel=finished.is_set)
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "run" / "jobs").iterdir())]
    assert sorted(record["state"] for record in records) == ["done", "waiting", "waiting"]
    assert states(run(configs, tmp_path)) == ["done"] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, "one worker or more, got 0"),
        ({"workers": 1.5}, "one worker or more, got 1.5"),
        ({"engine": "ray", "gpus": -1.0}, "0 GPUs per worker or more, got -1.0"),
        ({"engine": "ray", "gpus": float("nan")}, "0 GPUs per worker or more, got nan"),
        ({"retries": -1}, "0 retries or more, got -1"),
        ({"engine": "cloud"}, "unknown engine 'cloud'; expected local or ray"),
        ({"address": "auto"}, "apply to the ray engine only"),
    ],
)
def test_invalid_options_are_refused_before_any_work(
    options: dict[str, Any], message: str, configure: Configure, tmp_path: Path
) -> None:
    with pytest.raises(BatchError, match=message):
        run(configure(1, 1), tmp_path, **options)
    assert not (tmp_path / "run").exists()


def test_a_plan_lists_what_is_new_shared_stored_and_kept_and_writes_nothing(
    configure: Configure, tmp_path: Path
) -> None:
    configs = configure(2, 2)
    before = plan(configs, tmp_path / "run")
    assert [(job.action, job.inversion) for job in before] == [("edit", "new"), ("edit", "shared")] * 2
    assert not list(tmp_path.iterdir())
    run(configs[:1], tmp_path)
    after = plan(configs, tmp_path / "run")
    assert [(job.action, job.inversion) for job in after] == [
        ("keep", ""),
        ("edit", "stored"),
        ("edit", "new"),
        ("edit", "shared"),
    ]
    lines = plan_lines(after)
    assert lines[-3:-1] == [
        "3 to edit, 1 already done",
        "inversions: 1 new, 1 shared with an earlier job, 1 stored",
    ]
    assert "of a device's memory per job" in lines[-1]
    assert "on this machine" not in lines[-1]
    timed = plan_lines(plan(configs, tmp_path / "run", timed=True))
    assert re.search(r"about \d+ s on this machine, one after another", timed[-1])


@pytest.mark.parametrize(
    ("steps", "reuse", "planned"),
    [
        ((4, 2), True, ["new", "shared"]),
        ((4, 2), False, ["new", "new"]),
        ((2, 4), True, ["new", "new"]),  # the coarser one comes first, when nothing finer is there yet
    ],
)
def test_a_plan_counts_no_inversion_that_a_finer_one_of_the_same_run_spares(
    steps: tuple[int, int], reuse: bool, planned: list[str], configure: Configure, tmp_path: Path
) -> None:
    configs = [
        config.model_copy(
            update={"inversion": config.inversion.model_copy(update={"steps": count, "reuse": reuse, "check": False})}
        )
        for config, count in zip(configure(1, 2), steps, strict=True)
    ]
    found = plan(configs, tmp_path / "run")
    assert [job.inversion for job in found] == planned
    run(configs, tmp_path)
    assert len(list((tmp_path / "trajectories").iterdir())) == planned.count("new")


def test_the_disk_space_of_an_inversion_is_estimated_well(configure: Configure, tmp_path: Path) -> None:
    configs = configure(1, 2)
    new, shared = plan(configs, tmp_path / "run")
    run(configs, tmp_path)
    kept = [
        path for path in (tmp_path / "trajectories").rglob("*") if path.suffix in (".safetensors", ".rgb", ".pairs")
    ]
    taken = sum(path.stat().st_size for path in kept)
    # Each file of latents has a header of a hundred bytes or so, and videos have theirs: they matter at this size only.
    assert taken - 200 * len(kept) <= new.bytes - shared.bytes <= taken + 10_000
