import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tools.mini_sd import latents
from tools.mini_sd.autoencoder import normalise_latents, transform
from tools.mini_sd.diffusion import NoiseSchedule, draw_batch
from tools.mini_sd.latents import (
    checksum,
    find_edges,
    load_scenes,
    missing_shards,
    unpack_edges,
    words_of,
    write_shards,
)
from tools.mini_sd.networks import build_autoencoder, build_schedule
from tools.mini_sd.reconstruction import scenes
from tools.mini_sd.scene import PICTURE, render, sample_scene
from tools.mini_sd.words import KINDS


def test_words_survive_as_indices():
    rng = np.random.default_rng(0)
    for _ in range(50):
        words = sample_scene(rng).words
        assert words_of(torch.tensor(words.indices, dtype=torch.uint8)) == words


def test_edges_survive_as_bits():
    edges = find_edges(render(sample_scene(np.random.default_rng(2))).picture)
    assert 0.005 < edges.mean() < 0.3
    unpacked = unpack_edges(torch.from_numpy(np.packbits(edges))[None])
    assert unpacked.shape == (1, 3, PICTURE, PICTURE)
    np.testing.assert_array_equal(unpacked[0, 0].numpy() > 0, edges)


def test_shards_that_are_there_are_kept_and_processes_that_draw_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(latents, "SHARD", 4)
    monkeypatch.setattr(latents, "BATCH", 2)
    autoencoder, written = build_autoencoder().eval(), []
    for workers in (0, 2):
        arguments = argparse.Namespace(scenes=8, workers=workers)
        write_shards(autoencoder, tmp_path / str(workers), arguments, torch.device("cpu"))
        written.append([load_file(file) for file in sorted((tmp_path / str(workers)).iterdir())])
        latents.scenes_of.cache_clear()
    for alone, ahead in zip(*written, strict=True):
        assert {name: value.shape[0] for name, value in alone.items()} == {"latents": 4, "words": 4, "edges": 4}
        for name, value in alone.items():
            assert torch.equal(value, ahead[name])
    stamps = [file.stat().st_mtime_ns for file in (tmp_path / "0").iterdir()]
    write_shards(autoencoder, tmp_path / "0", argparse.Namespace(scenes=8, workers=0), torch.device("cpu"))
    assert [file.stat().st_mtime_ns for file in (tmp_path / "0").iterdir()] == stamps
    assert missing_shards(tmp_path / "0", 3, checksum(autoencoder)) == [2]
    assert missing_shards(tmp_path / "0", 2, "another") == [0, 1]


def test_more_shards_do_not_change_the_scale(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for shard, spread in enumerate((2.0, 5.0)):
        tensors = {
            "latents": spread * torch.randn(8, 4, 32, 32, generator=generator),
            "words": torch.zeros(8, len(KINDS), dtype=torch.uint8),
            "edges": torch.zeros(8, 2048, dtype=torch.uint8),
        }
        save_file(tensors, tmp_path / f"{shard:04d}.safetensors")
    scenes = load_scenes(tmp_path)
    assert len(scenes) == 16
    assert scenes.latents[:8].std() == pytest.approx(1, abs=1e-3)
    latents, captions, places = draw_batch(scenes, 6, np.random.default_rng(0))
    assert latents.shape == (6, 4, 32, 32)
    assert len(captions) == len(places) == 6


def test_no_scenes_say_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tools\.mini_sd\.latents"):
        load_scenes(tmp_path)


def test_noise_is_added_as_the_scheduler_does_and_weighs_at_most_one():
    schedule = NoiseSchedule(torch.device("cpu"))
    torch.manual_seed(0)
    latents = torch.randn(64, 4, 8, 8)
    noisy, noise, times = schedule.add_noise(latents)
    torch.testing.assert_close(noisy, build_schedule().add_noise(latents, noise, times))
    error = schedule.loss(noise + 1, noise, times)
    assert 0 < error <= 1
    late = torch.full_like(times, 900)
    assert schedule.loss(noise + 1, noise, late) == pytest.approx(1)


def test_latents_and_picture_are_transformed_alike():
    picture = torch.rand(2, 3, 64, 64)
    latents = torch.nn.functional.avg_pool2d(picture, 8)
    for seed in range(8):
        moved, target = transform(np.random.default_rng(seed), latents, picture)
        assert target.shape[-1] == 8 * moved.shape[-1]
        # Shrinking twice is not shrinking once, but a picture turned the wrong way would be far off.
        coarse = torch.nn.functional.avg_pool2d(target, 8)
        assert (coarse - moved).abs().mean() < 0.06


def test_normalised_latents_have_mean_0_and_variance_1_and_pictures_stay_as_they_were():
    torch.manual_seed(0)
    network = build_autoencoder().eval()
    target = scenes(np.random.default_rng(0), 2)
    with torch.no_grad():
        before = network.decode(network.encode(target).latent_dist.mode()).sample
        variance = network.encode(target).latent_dist.var / network.encode(target).latent_dist.mode().var(
            (0, 2, 3), keepdim=True
        )
        normalise_latents(network, target / 2 + 0.5)
        posterior = network.encode(target).latent_dist
        after = network.decode(posterior.mode()).sample
    torch.testing.assert_close(posterior.mode().mean((0, 2, 3)), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(posterior.mode().std((0, 2, 3)), torch.ones(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(posterior.var, variance, rtol=1e-3, atol=0)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_checksum_tells_one_autoencoder_from_another():
    autoencoder = build_autoencoder()
    before = checksum(autoencoder)
    assert checksum(autoencoder) == before
    with torch.no_grad():
        next(autoencoder.parameters()).view(-1)[0] += 1
    assert checksum(autoencoder) != before
