import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tokenflow.report.live_bytes import LiveBytes


@pytest.mark.parametrize("is_fake", [False, True])
def test_weights_and_inputs_made_before_do_not_count_though_layers_make_views_of_them(is_fake: bool) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    if is_fake:
        with mode:
            layer, inputs = nn.Linear(1000, 500, bias=False), torch.zeros(10, 1000)
    else:
        layer, inputs = nn.Linear(1000, 500, bias=False), torch.zeros(10, 1000)
    with torch.no_grad(), LiveBytes() as live:
        output = layer(inputs.view(10, 1000))
    assert output.shape == (10, 500)
    assert live.now == live.peak == 10 * 500 * 4


def test_what_is_deleted_counts_in_the_peak_alone() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        second = first * 2
        del first
        view = second[:10]
    assert (live.peak, live.now) == (8000, 4000)
    assert view.shape == (10,)
