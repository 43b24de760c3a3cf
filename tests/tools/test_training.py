from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tools.mini_sd.export import export_training, import_training, into_shards
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.training import Run, load_averages, one_cycle


def loss_of(line: nn.Module, inputs: Tensor) -> Tensor:
    return (line(inputs) - inputs.sum(dim=1, keepdim=True)).square().mean()


def train(folder: Path, until: int, steps: int = 12) -> Run:
    """A tiny regression; `until` stops early, as a kill would, after the last checkpoint."""
    torch.manual_seed(0)
    run = Run(folder, {"line": nn.Linear(3, 1)}, steps=steps, rate=0.1)
    gradients = Gradients(lambda inputs: loss_of(run.networks["line"], inputs), run.parameters())
    for step in run.loop(save_minutes=0):
        if step == until:
            break
        inputs = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        gradients(inputs)
        run.descend()
    return run


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path):
    unbroken = train(tmp_path / "unbroken", until=12)
    train(tmp_path / "killed", until=6)
    resumed = train(tmp_path / "killed", until=12)
    assert resumed.step == unbroken.step
    for name, value in unbroken.networks["line"].state_dict().items():
        torch.testing.assert_close(resumed.networks["line"].state_dict()[name], value)
        torch.testing.assert_close(resumed.averages["line"].shadow[name], unbroken.averages["line"].shadow[name])


def test_a_checkpoint_written_within_a_step_is_of_the_steps_taken(tmp_path):
    run = Run(tmp_path, {"line": nn.Linear(3, 1)}, steps=12, rate=0.1)
    for step in run.loop(save_minutes=9):
        loss_of(run.networks["line"], torch.ones(1, 3)).backward()
        run.descend()
        if step == 4:
            run.save()
            break
    resumed = Run(tmp_path, {"line": nn.Linear(3, 1)}, steps=12, rate=0.1)
    assert resumed.step == 5 == int(resumed.optimiser.state_dict()["state"][0]["step"])


def test_a_kill_while_writing_leaves_the_last_checkpoint(tmp_path):
    run = train(tmp_path, until=12)
    (tmp_path / "state.unfinished").write_bytes(b"half a file")
    line = nn.Linear(3, 1)
    assert load_averages(tmp_path, {"line": line}) == 12
    torch.testing.assert_close(line.weight, run.averages["line"].shadow["weight"])


def test_an_untrained_stage_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="train that stage first"):
        load_averages(tmp_path, {"line": nn.Linear(3, 1)})


def test_the_small_checkpoint_continues_elsewhere(tmp_path):
    trained = train(tmp_path / "here" / "diffusion", until=12)
    export_training(tmp_path / "here", tmp_path / "small")
    import_training(tmp_path / "small", tmp_path / "there")
    continued = Run(tmp_path / "there" / "diffusion", {"line": nn.Linear(3, 1)}, steps=20, rate=0.1)
    assert continued.step == 12
    expected = trained.averages["line"].shadow["weight"]
    torch.testing.assert_close(continued.networks["line"].weight, expected, atol=1e-3, rtol=1e-3)
    assert not continued.optimiser.state_dict()["state"]


def test_shards_are_small_and_hold_every_tensor_once():
    tensors = {str(place): torch.full((place,), place, dtype=torch.float16) for place in range(1, 40)}
    shards = into_shards(tensors, limit=100)
    assert all(sum(value.nbytes for value in shard.values()) <= 100 for shard in shards)
    assert [key for shard in shards for key in shard] == list(tensors)
    assert len(shards) < 25


def test_the_learning_rate_rises_then_falls():
    rates = [one_cycle(step, step / 1000) for step in range(1000)]
    assert rates[0] < 0.02
    assert max(rates) == pytest.approx(1, abs=0.03)
    assert rates.index(max(rates)) in (99, 100)
    assert rates[-1] == pytest.approx(0.01, abs=1e-3)


def test_a_run_of_so_many_minutes_ends_then_with_the_learning_rate_at_its_lowest(tmp_path):
    run = Run(tmp_path, {"line": nn.Linear(3, 1)}, steps=10**9, rate=0.1, minutes=0.3 / 60)
    rates = []
    for _ in run.loop(save_minutes=9):
        loss_of(run.networks["line"], torch.ones(1, 3)).backward()
        run.descend()
        rates.append(run.optimiser.param_groups[0]["lr"])
    assert rates[-1] < 0.01
    assert load_averages(tmp_path, {"line": nn.Linear(3, 1)}) == run.step == len(rates)
