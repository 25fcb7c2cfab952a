"""What guidance costs, counted in floating point operations: no clock, so no luck."""

from __future__ import annotations

import json
from typing import Any

import pytest
from torch.utils.flop_counter import FlopCounterMode

from adhere import Guidance
from benchmarks import flops_regions, record, runs, stacking
from benchmarks.flops_meta import measure
from tests import tiny
from tests.probes import descending


def test_the_extra_pass_stops_early_on_sd15_at_512() -> None:
    found = measure("sd15")
    assert found["gigaflops"]["forward_of_one_row"] == pytest.approx(803, abs=2)
    assert 0.4 < found["extra_pass_in_forwards"] <= 0.52
    assert found["extra_pass_and_backward_in_forwards"] <= 1.08
    assert found["run_of_50_steps_25_guided_over_plain"] <= 1.27


def flops(*plugins: Any, **options: Any) -> int:
    pipe = tiny.sd1()
    counter = FlopCounterMode(display=False)
    with counter:
        tiny.latents(pipe, guidance=Guidance(*plugins), steps=2, **options)
    return int(counter.get_total_flops())


def test_a_second_energy_costs_next_to_nothing() -> None:
    plain, one = flops(), flops(descending(2))
    two = flops(descending(2), descending(3))
    assert one > 1.3 * plain
    assert (two - plain) <= 1.1 * (one - plain)


def test_a_batch_costs_what_its_images_cost() -> None:
    one = flops(descending(2))
    four = flops(descending(2), prompt=[tiny.PROMPT] * 4, seeds=range(4))
    assert four == pytest.approx(4 * one, rel=0.02)


def test_a_step_that_nobody_guides_costs_nothing() -> None:
    assert flops(descending(2, at=lambda step: False)) == flops()
    first = flops(descending(2, at=lambda step: step.index == 0))
    both = flops(descending(2))
    assert 2 * (first - flops()) == both - flops()


def test_all_energies_cost_little_more_than_the_dearest() -> None:
    asked = runs.Asked(runs.pipeline("toybox"), "toybox", 1, 2)
    found = stacking.compared(lambda plugins: stacking.flops(asked, plugins))
    assert min(found["alone_of_plain"].values()) > 1.2
    assert 1 <= found["all_over_dearest"] <= 1.15


def recorded() -> dict[str, dict[str, float]]:
    text = (record.RESULTS / "flops_regions.json").read_text("utf-8")
    results: dict[str, dict[str, float]] = json.loads(text)["results"]
    return results


def may_cost(name: str, found: dict[str, float]) -> None:
    for regions in ("three_regions", "three_regions_not_apart"):
        assert 1 < found[f"{regions}_over_plain"] <= 1.3, name
    assert 1 < found["nag_over_plain"] <= 1.25, name
    masks = [entries for label, entries in found.items() if label.endswith("_largest_mask")]
    assert max(masks) < 10_000, name


def test_regions_and_negatives_cost_what_they_may() -> None:
    """As they were recorded; no mask is over cells and tokens."""
    assert set(recorded()) == {"sd15", "sdxl", "flux"}
    for name, found in recorded().items():
        may_cost(name, found)


@pytest.mark.slow
def test_regions_and_negatives_cost_flux_what_is_recorded() -> None:
    counted = flops_regions.measure("flux")
    may_cost("flux", counted)
    for label, ratio in recorded()["flux"].items():
        if label.endswith("_over_plain"):
            assert counted[label] == pytest.approx(ratio, rel=0.01), label
    # What VSF takes off its text's logits is one row for all cells: the count sees masks at all.
    assert counted["vsf_largest_mask"] == 512 + 24 + 4096
