"""The negative prompt's steps, one by one."""

from __future__ import annotations

import pytest
import torch

from adhere import Guidance
from adhere.errors import ParameterError
from adhere.guides.guide import Text
from adhere.plugins.edit.time import Time
from adhere.plugins.negate.delayed_negative import DelayedNegative
from tests import tiny
from tests.families.cases import CASES


def test_the_negative_prompt_begins_and_ends(make_run, make_step):
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return torch.zeros(len(texts), 20, 3)

    text = Text(torch.ones(2, 20, 3), torch.full((2, 20, 3), 2.0), encode)
    run = make_run("a cat", "a dog")
    guide = DelayedNegative(stop=0.6).guide(run)
    seen = []
    for i in range(50):
        found = guide.embed(make_step(i), text)
        assert torch.equal(found.cond, text.cond)
        seen.append(float(found.uncond.mean()))
    assert seen == [0.0] * 5 + [2.0] * 25 + [0.0] * 20
    assert asked == [["", ""]]
    assert guide.report() == {"steps_with_negative": list(range(5, 30))}
    assert run.notes == []


def test_without_a_negative_prompt_it_says_that_it_changed_nothing() -> None:
    pipe = CASES["sd3"].make()
    small = {"height": 32, "width": 32, "output_type": "latent", "num_inference_steps": 2}
    for given, said in (({}, True), ({"negative_prompt": "a dog"}, False)):
        with Guidance(DelayedNegative(start=0.5)).attach(pipe) as attached:
            pipe("a cat", **small, **given)
            notes = attached.report.notes
        assert any("has no negative prompt" in note for note in notes) == said


def test_without_guidance_there_is_nothing_to_delay(make_run, make_step):
    text = Text(torch.ones(1, 20, 3), None, lambda texts: torch.zeros(1, 20, 3))
    assert DelayedNegative().guide(make_run("a cat")).embed(make_step(0), text) is text


def test_two_that_put_a_text_in_the_negative_prompts_place_are_refused() -> None:
    """The second one's would be heard alone, in the first one's steps, too."""
    both = Guidance(DelayedNegative(stop=0.5, negative="a dog"), DelayedNegative(negative="a bird"))
    with pytest.raises(ParameterError, match="and delayed-negative#2 each give the model another"):
        tiny.latents(tiny.sd1(), guidance=both, steps=1)


def test_it_does_not_undo_what_others_make_of_the_negative_prompt() -> None:
    """TIME edits both texts, whichever of the two stands first."""
    pipe, plugins = tiny.sd1(), (Time(("a cat > a red cat",)), DelayedNegative(start=1.0))
    one, other = (
        tiny.latents(pipe, "a dog", negative_prompt="a cat", guidance=Guidance(*some), steps=2)
        for some in (plugins, plugins[::-1])
    )
    assert torch.equal(one, other)
