import pytest
import torch
from torch import nn

from tools.mini_sd.muon import Muon, orthogonalise
from tools.mini_sd.training import Run


@pytest.mark.parametrize("shape", [(32, 200), (200, 32), (64, 64)])
def test_an_orthogonalised_matrix_has_singular_values_about_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) * torch.logspace(-1, 1, shape[1])
    values = torch.linalg.svdvals(orthogonalise(matrix))
    assert values.shape == (min(shape),)
    assert values.max() < 1.35
    assert values.median() > 0.6


def train(folder, until, steps=150):
    """A convolution that has to learn one direction of its inputs that is rare."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 1))
    run = Run(folder, {"network": network}, steps, rate=0.03, optimiser_kind=Muon)
    losses = []
    for step in run.loop(save_minutes=0):
        if step == until:
            break
        inputs = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(step))
        inputs[:, 3] *= 0.1
        loss = (network(inputs) - inputs[:, 3:4]).square().mean()
        run.descend(loss)
        losses.append(loss.item())
    return run, losses


def test_it_descends(tmp_path):
    _, losses = train(tmp_path, until=150)
    assert losses[-1] < 0.002  # nothing learnt of that direction would be 0.01


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    unbroken, _ = train(tmp_path / "unbroken", until=150)
    train(tmp_path / "killed", until=13)
    resumed, _ = train(tmp_path / "killed", until=150)
    for name, value in unbroken.networks["network"].state_dict().items():
        torch.testing.assert_close(resumed.networks["network"].state_dict()[name], value)
