"""The run directory: records that come back as they were, a lock, and what makes a record outdated."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.batch.conftest import Configure
from tests.batch.test_jobs import config
from tokenflow.batch.jobs import Job
from tokenflow.batch.record import Record, RunFolder
from tokenflow.errors import BatchError, OutputError

TEXT = st.none() | st.text()


@given(st.builds(Record, output=st.text(), identity=st.just(Job(config(0)).identity), reason=TEXT, traceback=TEXT))
def test_a_record_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, record: Record) -> None:
    folder, job = RunFolder(tmp_path_factory.mktemp("run")), Job(config(0))
    with folder.locked():
        folder.write(job, record)
    assert folder.read(job) == record


def test_a_record_of_other_settings_counts_as_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    before = Job(config(0))
    with folder.locked():
        folder.write(before, Record("out", before.identity, "done"))
    changed = Job(config(0).model_copy(update={"output": before.config.output.model_copy(update={"quality": 3})}))
    assert changed.output == before.output
    assert folder.read(changed).state == "waiting"
    assert folder.read(before).state == "done"


def test_folders_of_the_same_name_have_records_of_their_own(tmp_path: Path, configure: Configure) -> None:
    folder = RunFolder(tmp_path)
    one, other = (Job(configure(1, 1, folder=tmp_path / name)[0]) for name in "ab")
    with folder.locked():
        folder.write(one, Record("a", one.identity, "done"))
    assert folder.read(other).state == "waiting"


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    folder, job = RunFolder(tmp_path), Job(config(0))
    with folder.locked():
        folder.write(job, Record("out", job.identity))
    (file,) = (tmp_path / "jobs").iterdir()
    file.write_text(file.read_text()[:-9])
    with pytest.raises(BatchError, match=rf"{file.name} is damaged .*delete it"):
        folder.read(job)


def test_a_second_batch_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    with RunFolder(tmp_path).locked(), pytest.raises(BatchError, match="another batch is running"):  # noqa: SIM117
        with RunFolder(tmp_path).locked():
            pass
    with RunFolder(tmp_path).locked():
        pass


def test_a_run_directory_that_cannot_be_written_is_an_error_that_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="set another run directory"), RunFolder(tmp_path / "file").locked():
        pass


def test_only_a_finished_job_has_a_result() -> None:
    with pytest.raises(BatchError, match=r"the job is failed \(no clip\)"):
        Record("out", "", "failed", reason="no clip").result()
