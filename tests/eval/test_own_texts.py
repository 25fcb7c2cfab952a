"""Suites of regions with texts of their own and of negatives: planned, asked for and judged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from adhere.eval.errors import EvaluationError
from adhere.eval.evaluators.judging import _values
from adhere.eval.run import experiment
from adhere.eval.run.experiment import bundled, from_mapping, from_settings
from adhere.eval.run.requests import Requests
from adhere.eval.suites import suites
from adhere.layout.layout import Layout
from adhere.pipelines.toybox.judge.outcome import compare
from adhere.pipelines.toybox.world.captions import parse_prompt, unknown_words
from tests.eval.test_cli import adhere

REGIONS, NEGATIVES = (suites.find(f"toybox-{kind}").items for kind in ("regions", "negatives"))
STUDY = [name for name in bundled() if "-regions" in name or "-negatives" in name]


def of(about: experiment.Experiment) -> Requests:
    return Requests({"code": {"engine": "", "plugins": {}}}, about)


def test_regions_are_named_in_the_prompt_and_not_in_its_base() -> None:
    for item in REGIONS:
        layout = Layout.from_json(dict(item.layout or {}))
        assert not parse_prompt(item.base + " a cat").relations
        assert not unknown_words(item.prompt)
        for region, thing in zip(layout.regions, item.things, strict=True):
            assert region.text.endswith(region.phrase)
            assert region.phrase == thing.phrase
            assert thing.noun in item.prompt.split()
            assert thing.noun not in item.base.split()
        assert item.prompt.endswith(item.base)
        assert any(region.negative for region in layout.regions) == (item.tags != ("texts",))
    assert Counter(item.tags for item in REGIONS).keys() == {("texts",), ("apart",), ("haunted",)}


def test_negatives_go_against_their_prompts() -> None:
    for item in NEGATIVES:
        (denied,) = item.exclude
        named = item.tags == ("named",)
        assert (denied.noun in item.prompt.split()) == named
        assert ("haunted" in item.prompt) == (denied.noun == "skull") == (not named)


def test_variants_ask_for_the_base_and_for_what_is_excluded() -> None:
    about = from_mapping(
        {
            "suites": "toybox-regions",
            "variants": {
                "own": {"plugins": ["regional-prompting"], "base": True},
                "denied": {"plugins": ["nag:negative={excluded}"], "negative_prompt": "{excluded}"},
            },
        }
    )
    again = from_settings(about.settings())
    assert again.variants == about.variants
    region, negative = REGIONS[0], NEGATIVES[0]
    assert of(again).draft(region, "own").prompt == region.base
    assert of(again).draft(region, "plain").prompt == region.prompt
    draft = of(again).draft(negative, "denied")
    (nag,) = draft.plugins
    denied = draft.negative_prompt
    assert denied.split()[1:] == [negative.exclude[0].noun]
    assert nag.negative == denied  # type: ignore[attr-defined]
    # Pictures of one batch have the same plugins.
    kinds = {of(again).kind(item, "denied") for item in NEGATIVES[:4]}
    assert len(kinds) == len({item.exclude for item in NEGATIVES[:4]})


def test_what_an_item_does_not_say_is_refused() -> None:
    about = from_mapping(
        {
            "suites": "toybox-pairs",
            "variants": {
                "own": {"plugins": ["regional-prompting"], "base": True},
                "denied": ["vsf:negative={excluded}"],
            },
        }
    )
    pair = suites.find("toybox-pairs").items[0]
    with pytest.raises(EvaluationError, match="does not tell its prompt without that"):
        of(about).draft(pair, "own")
    with pytest.raises(EvaluationError, match="excludes nothing"):
        of(about).draft(pair, "denied")
    with pytest.raises(EvaluationError, match="base is 'no'; write true or false"):
        from_mapping({"suites": "toybox-pairs", "variants": {"own": {"base": "no"}}})


def test_settings_of_older_plans_are_what_they_were() -> None:
    told = from_mapping({"suites": "toybox-pairs"}).settings()["variants"][0]
    assert "base" not in told


def test_the_judge_counts_what_is_excluded_and_asks_for_the_rest() -> None:
    item = next(item for item in NEGATIVES if item.tags == ("named",))
    kinds = [item.things[0].noun, item.exclude[0].noun]

    def verdict(*seen: str) -> SimpleNamespace:
        things = tuple(
            SimpleNamespace(kind=kind, colour=item.things[0].colour, box=(0, 0, 1, 1))
            for kind in seen
        )
        against = lambda text: compare(parse_prompt(text), things)  # noqa: E731
        return SimpleNamespace(things=things, unsafe=False, against=against)

    both, one = _values(item, verdict(*kinds)), _values(item, verdict(kinds[0]))
    assert (both["not_too_many"], one["not_too_many"]) == (0.0, 1.0)
    assert both["fully_right"] == one["fully_right"] == 1.0
    twice = replace(item, exclude=(replace(item.exclude[0], count=2),))
    assert _values(twice, verdict(*kinds))["not_too_many"] == 1.0


@pytest.mark.parametrize("name", STUDY)
def test_experiments_are_valid_and_can_be_planned(name: str, tmp_path: Path) -> None:
    """Every prompt, text and layout reads, with the bundled models."""
    made = adhere("plan", tmp_path, "--config", bundled()[name], "--limit", 2)
    assert made.exit_code == 0, made.output
    assert "whole" in adhere("validate", tmp_path / "manifest.jsonl").output
