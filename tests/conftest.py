"""Settings that every test shares."""

import gc
import os
import signal
from pathlib import Path

# The models of the tests are so small that a second thread costs more than it gives, and on a busy machine far more.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for threads and processes that a test starts

import pytest
import torch
from hypothesis import settings

from tests.families import PIPELINES

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell starts what runs in its background so
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)

# How long an example takes on a busy machine says nothing about what it holds.
settings.register_profile("tokenflow", deadline=None)
settings.load_profile("tokenflow")


def pytest_collection_finish() -> None:
    """Take what was imported and collected out of the garbage collector's sight: it lasts until the end anyway."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def families(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of a tiny model of each family, which tests leave as it is."""
    folder = tmp_path_factory.mktemp("families")
    for name, make in PIPELINES.items():
        make().save_pretrained(folder / name)
    return {name: folder / name for name in PIPELINES}
