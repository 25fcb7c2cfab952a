"""Semantic Guidance Tuning against the published loop in NumPy, one image at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adhere.errors import ParameterError, PromptError
from adhere.plugins.appear.concept_guidance import ConceptGuidance

PROMPTS = ("a [red|cat] and a [dog]", "a [dog] and a [frog]")


def slow_across(x, y):
    return x - np.sum(x * y) / np.sum(y * y) * y


def slow_run(seen, image, chosen, plugin, count=50):
    """What guided prediction every step of an image ends with."""
    nu, likeness, results = 0.0, [], []
    for i, eps in enumerate(seen):
        uncond, cond = eps.uncond[image].numpy(), eps.cond[image].numpy()
        prompt, every = cond - uncond, []
        for k in chosen:
            one = eps.extra[k][image].numpy() - uncond
            for c in range(len(one)):
                one[c][np.abs(one[c]) < np.quantile(np.abs(one[c]), plugin.quantile)] = 0
            every.append(one)
        rest = prompt
        for one in every:
            rest = slow_across(rest, one)
        every.append(rest)
        likeness.append(
            [abs(np.sum(prompt * d) / np.linalg.norm(prompt) / np.linalg.norm(d)) for d in every]
        )
        moves = np.stack([slow_across(d, prompt) for d in every]) + plugin.momentum_scale * nu
        nu = plugin.momentum * nu + (1 - plugin.momentum) * moves
        total = -(prompt - rest) / len(every)
        for k in range(len(every)):
            before = [found[k] for found in likeness[max(0, i - plugin.window) : i]]
            inside = plugin.start * count < i < plugin.stop * count
            if inside and np.mean(before) < plugin.threshold:
                total = total + moves[k]
        results.append(uncond + eps.scale * prompt + plugin.scale * total)
    return results


@pytest.mark.parametrize(
    "settings", [{}, {"threshold": 0.12, "window": 2, "start": 0.0, "quantile": 0.5}]
)
def test_guided_predictions_equal_the_published_loop(
    make_run, make_step, make_predictions, settings
):
    plugin = ConceptGuidance(**settings)
    guide = plugin.guide(make_run(*PROMPTS))
    assert guide.texts == ("red cat", "dog", "frog")
    seen = make_predictions(34, extra=3)
    slow = [slow_run(seen, 0, (0, 1), plugin), slow_run(seen, 1, (1, 2), plugin)]
    for i, eps in enumerate(seen):
        cond = guide.predict(make_step(i), eps)
        guided = eps.uncond + eps.scale * (cond - eps.uncond)
        expected = torch.from_numpy(np.stack([one[i] for one in slow]))
        torch.testing.assert_close(guided, expected, rtol=1e-6, atol=1e-6)
    assert [len(one) for one in guide.report()["likeness"]] == [34, 34]


def test_concepts_named_by_the_user(make_run):
    plugin = ConceptGuidance(concepts=("fur", "snow"))
    assert plugin.guide(make_run(*PROMPTS)).texts == ("fur", "snow")
    with pytest.raises(PromptError, match="no noun"):
        ConceptGuidance().guide(make_run("and"))
    for concepts in (("fur", " "), ()):
        with pytest.raises(ParameterError, match="empty"):
            ConceptGuidance(concepts=concepts)
