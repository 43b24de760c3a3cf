import torch

from tokenflow.diffusion.levels import CLEAN_TIME, Level, at_level, shared_noise


def test_latents_at_a_level_mix_signal_and_noise() -> None:
    clean, noise = torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), -1.0)
    assert torch.equal(at_level(clean, noise, Level(0.5, 0.25, 10)), torch.full((1, 4, 2, 2), 1.25))


def test_levels_of_any_family_are_ordered_by_their_share_of_noise() -> None:
    assert Level(1.0, 0.0, CLEAN_TIME).share == 0
    assert Level(0.0, 1.0, 999).share == 1  # zero terminal signal-to-noise ratio
    assert Level(0.6, 0.4, 400).share == 0.4  # of a flow it is s itself


def test_a_level_is_named_after_its_share_of_noise_and_the_clean_one_clean() -> None:
    assert Level(0.25, 0.75, 750).name == "s0.750000"
    assert Level(0.9991, 0.0292, CLEAN_TIME).name == "clean"


def test_the_clean_level_is_told_from_a_time_step_of_the_same_noise() -> None:
    clean, first = Level(0.9, 0.1, CLEAN_TIME), Level(0.9, 0.1, 0)
    assert clean != first
    assert clean.has_noise_of(first)


def test_shared_noise_is_one_gaussian_for_all_frames() -> None:
    noise = shared_noise(torch.zeros(5, 4, 32, 32), seed=3)
    assert torch.equal(noise[0], noise[4])
    assert abs(noise[0].std().item() - 1) < 0.05
    assert not torch.equal(noise, shared_noise(torch.zeros(5, 4, 32, 32), seed=4))
