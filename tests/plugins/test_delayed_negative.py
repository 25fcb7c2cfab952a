"""The negative prompt's steps, one by one."""

from __future__ import annotations

import torch

from adhere.guides.guide import Text
from adhere.plugins.negate.delayed_negative import DelayedNegative


def test_the_negative_prompt_begins_and_ends(make_run, make_step):
    asked = []

    def encode(texts):
        asked.append(list(texts))
        return torch.zeros(len(texts), 20, 3)

    text = Text(torch.ones(2, 20, 3), torch.full((2, 20, 3), 2.0), encode)
    guide = DelayedNegative(stop=0.6).guide(make_run("a cat", "a dog"))
    seen = []
    for i in range(50):
        found = guide.embed(make_step(i), text)
        assert torch.equal(found.cond, text.cond)
        seen.append(float(found.uncond.mean()))
    assert seen == [0.0] * 5 + [2.0] * 25 + [0.0] * 20
    assert asked == [["", ""]]
    assert guide.report() == {"steps_with_negative": list(range(5, 30))}


def test_without_guidance_there_is_nothing_to_delay(make_run, make_step):
    text = Text(torch.ones(1, 20, 3), None, lambda texts: torch.zeros(1, 20, 3))
    assert DelayedNegative().guide(make_run("a cat")).embed(make_step(0), text) is text
