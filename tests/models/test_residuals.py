"""The sum of what several ControlNets add, family by family."""

import pytest
import torch

from tokenflow.errors import ModelError
from tokenflow.models.residuals import UNetResiduals, added

ONE, TWO = torch.ones(2, 3), torch.full((2, 3), 2.0)


def test_residuals_of_a_unet_add_up_and_what_one_lacks_is_the_others() -> None:
    total = added(UNetResiduals((ONE, TWO), ONE), UNetResiduals((TWO, TWO), None, (ONE,)))
    assert [each.mean().item() for each in total.skips] == [3, 4]
    assert total.middle is not None
    assert torch.equal(total.middle, ONE)
    assert torch.equal(total.features[0], ONE)


def test_residuals_of_flux_add_up_by_the_kind_of_block() -> None:
    first = {"double": [ONE, TWO], "single": None, "repeat": False}
    total = added(first, {"double": [TWO, TWO], "single": [ONE], "repeat": False})
    assert [each.mean().item() for each in total["double"]] == [3, 4]
    assert torch.equal(total["single"][0], ONE)
    assert total["repeat"] is False


@pytest.mark.parametrize(
    "other", [{"double": [ONE], "repeat": False}, {"double": [ONE, ONE], "repeat": True}], ids=["fewer", "repeated"]
)
def test_residuals_for_other_layers_are_refused(other: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="add to different layers of the model; use one of them alone"):
        added({"double": [ONE, TWO], "repeat": False}, other)
