import pytest
import torch
from torch import nn

from tools.mini_sd.gradients import Gradients
from tools.mini_sd.muon import Muon, orthogonalise
from tools.mini_sd.training import Run


@pytest.mark.parametrize("shape", [(32, 200), (200, 32), (64, 64)])
def test_an_orthogonalised_matrix_has_singular_values_about_one(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.logspace(-1, 1, shape[1]) * torch.tensor([1e-3, 1, 1e3])[:, None, None]
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.shape == (3, min(shape))
    assert values.max() < 1.35
    assert values.median(dim=1).values.min() > 0.6


def test_a_step_moves_a_matrix_along_its_orthogonalised_gradient_and_a_bias_as_adam_does():
    torch.manual_seed(0)
    layer, adam = nn.Linear(32, 16), nn.Linear(32, 16)
    adam.load_state_dict(layer.state_dict())
    ours = Muon(layer.parameters(), lr=0.01, weight_decay=0)
    theirs = torch.optim.Adam(adam.parameters(), lr=0.01, betas=(0.9, 0.99))
    for step in range(3):
        gradients = [torch.randn_like(parameter) for parameter in layer.parameters()]
        before = layer.weight.detach().clone()
        for network, optimiser in ((layer, ours), (adam, theirs)):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter.grad = gradient.clone()
            optimiser.step()
        torch.testing.assert_close(layer.bias, adam.bias)
        if step == 0:  # the momentum then is the gradient, scaled
            expected = before - 0.01 * 0.2 * 32**0.5 * orthogonalise(gradients[0][None])[0]
            torch.testing.assert_close(layer.weight.detach(), expected, atol=1e-5, rtol=1e-2)  # bfloat16


def train(folder, until, steps=300):
    """A convolution that has to learn one direction of its inputs that is rare."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 1, 1))
    run = Run(folder, {"network": network}, steps, rate=0.03)
    gradients = Gradients(lambda inputs: (network(inputs) - inputs[:, 3:4]).square().mean(), run.parameters())
    losses = []
    for step in run.loop(save_minutes=0):
        if step == until:
            break
        inputs = torch.randn(4, 16, 8, 8, generator=torch.Generator().manual_seed(step))
        inputs[:, 3] *= 0.1
        losses.append(gradients(inputs).item())
        run.descend()
    return run, losses


def test_it_descends(tmp_path):
    _, losses = train(tmp_path, until=300)
    assert losses[-1] < 0.002  # nothing learnt of that direction would be 0.01


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    unbroken, _ = train(tmp_path / "unbroken", until=300)
    train(tmp_path / "killed", until=13)
    resumed, _ = train(tmp_path / "killed", until=300)
    for name, value in unbroken.networks["network"].state_dict().items():
        torch.testing.assert_close(resumed.networks["network"].state_dict()[name], value)
