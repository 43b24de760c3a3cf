"""Whether edits at full size fit the cards that people have, by the shapes of all tensors that are alive."""

import pytest

from benchmarks.peak_memory import FakeModel, working_sizes
from benchmarks.random_models import SD15, SDXL, Family

LIBRARIES = 1e9
"""Bytes that CUDA and its libraries may take beside the tensors."""


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("family", "gigabytes"), [(SD15, 8), (SDXL, 16)], ids=["SD 1.5 into 8 GB", "SDXL into 16 GB"])
def test_an_edit_with_default_settings_fits_at_either_aspect(family: Family, gigabytes: int) -> None:
    model = FakeModel(family)
    for size in working_sizes(family):
        assert model.peak_memory(*size).total <= gigabytes * 1e9 - LIBRARIES
