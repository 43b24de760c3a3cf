"""The comparison of two trees: what it counts, how pairs alternate, and the ratios it gives."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch.nn.modules import module as torch_module

import tokenflow
from benchmarks import compare, compare_child
from benchmarks.compare import ROOT, Figures, check_calls, checked_out, ratio_rows, run_pairs
from benchmarks.compare_child import Calls, configure, measured
from tests.tiny import moving_square, tiny_model

OTHER = Path("other")


def side(seconds: float, calls: int = 9, peak: float = 1000.0) -> Figures:
    return {"pnp": {"seconds": seconds, "cpu_seconds": 2 * seconds, "calls": calls, "samples": 30, "peak_mb": peak}}


def test_every_forward_of_the_unet_is_counted_and_nothing_else() -> None:
    model = tiny_model()
    level = model.schedule.steps(4)[0].at
    prompt = model.condition("a dog")
    calls = Calls()
    model.encode(torch.rand(1, 3, 16, 16))
    assert calls.counts == [0, 0]
    figures: dict[str, float] = {}
    with measured(figures, calls):
        model.predict(torch.rand(3, 4, 8, 8), level, prompt)
        model.capture(torch.rand(2, 4, 8, 8), level, prompt, {"block"})  # leaves the network early
    assert (figures["calls"], figures["samples"]) == (2, 5)
    assert figures["seconds"] > 0
    assert figures["peak_mb"] > 1
    assert not torch_module._global_forward_pre_hooks  # only the UNet keeps a hook


def test_the_counted_calls_of_an_edit_are_those_of_its_steps() -> None:
    calls = Calls()
    inverted = tokenflow.invert(tokenflow.Video(moving_square(3), rate=10), tiny_model(), "a dog", size=16, steps=4)
    # One call per step, one more at the second and at the noisiest.
    assert calls.counts == [6, 18]
    assert inverted.frame_count == 3


def test_pairs_alternate_which_tree_runs_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[Path] = []

    def run_side(tree: Path, _settings: object) -> Figures:
        order.append(tree)
        return side(1.0 if tree == ROOT else 2.0)

    monkeypatch.setattr(compare, "run_side", run_side)
    pairs = list(run_pairs(OTHER, 3, []))
    assert order == [ROOT, OTHER, OTHER, ROOT, ROOT, OTHER]
    assert pairs == [(side(1.0), side(2.0))] * 3


def test_ratios_are_medians_within_pairs() -> None:
    pairs = [(side(1.0, peak=990), side(1.0)), (side(9.0, peak=1020), side(10.0)), (side(3.0, peak=1010), side(2.0))]
    (row,) = ratio_rows(pairs)
    assert row == {
        "stage": "pnp",
        "network_calls": 9,
        "seconds": 3.0,
        "time_ratio": 1.0,
        "lowest": 0.9,
        "highest": 1.5,
        "cpu_time_ratio": 1.0,
        "peak_mb": 1010,
        "peak_ratio": 1.01,
    }


def test_other_network_calls_end_the_comparison() -> None:
    check_calls((side(1.0), side(2.0)))
    with pytest.raises(SystemExit, match=r"pnp: expected as many network calls as the other tree makes, 9 .* got 8"):
        check_calls((side(1.0, calls=8), side(1.0)))
    more_samples = deepcopy(side(1.0))
    more_samples["pnp"]["samples"] = 31
    with pytest.raises(SystemExit, match="9 with 30 samples; got 9 with 31"):
        check_calls((more_samples, side(1.0)))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_a_commit_is_checked_out_beside_this_tree_and_removed() -> None:
    with checked_out("HEAD") as tree:
        assert (tree / "tokenflow" / "__init__.py").is_file()
        assert tree != ROOT
    assert not tree.exists()


def test_settings_mean_the_same_number_of_steps_however_fractions_are_rounded(tmp_path: Path) -> None:
    config = configure("sdedit", 12, 25, tmp_path)
    for fraction in (config.edit.sdedit.strength, config.edit.propagate_edit_until, config.edit.pnp.attention_until):
        assert int(fraction * config.edit.steps + 1e-9) == round(fraction * config.edit.steps)


def test_a_side_is_measured_stage_by_stage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    model = tiny_model()
    done: list[str] = []

    def stage(name: str) -> None:
        done.append(name)
        model.predict(torch.rand(2, 4, 8, 8), model.schedule.steps(4)[0].at, model.condition("a dog"))

    stages = lambda _: stage("invert"), lambda config: stage(config.edit.mode)
    monkeypatch.setattr(compare_child, "load_stages", lambda: stages)
    arguments = [str(Path(tokenflow.__file__).parent.parent), "--frames", "4", "--steps", "4"]
    monkeypatch.setattr("sys.argv", ["child", *arguments, "--modes", "sdedit", "pnp"])
    compare_child.main()
    figures = json.loads(capsys.readouterr().out)
    assert done == ["invert", "sdedit", "pnp"]
    assert list(figures) == ["stage 1", "sdedit", "pnp"]
    assert all((each["calls"], each["samples"]) == (1, 2) for each in figures.values())


def test_the_tokenflow_of_another_tree_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["child", str(tmp_path), "--frames", "4", "--steps", "4", "--modes", "pnp"])
    with pytest.raises(SystemExit, match="expected the tokenflow of"):
        compare_child.main()
