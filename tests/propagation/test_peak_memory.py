"""Whether edits at full size fit the cards that people have, by the shapes of all tensors that are alive."""

import pytest

from benchmarks.peak_memory import GIB, FakeModel, working_sizes
from benchmarks.random_models import SD15, SDXL, Family


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("family", "gib"), [(SD15, 8), (SDXL, 16)], ids=["SD 1.5 into 8 GiB", "SDXL into 16 GiB"])
def test_an_edit_with_default_settings_fits_at_either_aspect(family: Family, gib: int) -> None:
    model = FakeModel(family)
    for size in working_sizes(family):
        assert model.peak_memory(*size).total <= gib * GIB
