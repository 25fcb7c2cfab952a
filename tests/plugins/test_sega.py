"""SEGA against a loop over values, and the identity with the pipeline's own guidance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from adhere.errors import ParameterError
from adhere.guides.guide import Prediction
from adhere.plugins.edit.sega import Sega, split

SCALE = 7.5


def predictions(count, extra=2, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def one():
        return torch.randn(3, 4, 6, 5, generator=generator, dtype=torch.float64)

    return [
        Prediction(one(), one(), tuple(one() for _ in range(extra)), SCALE, one())
        for _ in range(count)
    ]


def slow_run(seen, signs, plugin, count=50):
    """The published loop in NumPy: what guided prediction every step ends with."""
    nu, results = 0.0, []
    for i, eps in enumerate(seen):
        uncond, cond = eps.uncond.numpy(), eps.cond.numpy()
        total = np.zeros_like(uncond)
        for sign, edit in zip(signs, eps.extra, strict=True):
            if i >= plugin.stop * count:
                continue
            psi = sign * plugin.scale * (edit.numpy() - uncond)
            for b in range(psi.shape[0]):
                for c in range(psi.shape[1]):
                    least = np.quantile(np.abs(psi[b, c]), plugin.threshold)
                    psi[b, c][np.abs(psi[b, c]) < least] = 0
            total += psi
        gamma = total + plugin.momentum_scale * nu
        nu = plugin.momentum * nu + (1 - plugin.momentum) * gamma
        guided = uncond + eps.scale * (cond - uncond)
        results.append(guided + gamma if i >= plugin.start * count else guided)
    return results


@pytest.mark.parametrize(
    "settings", [{}, {"momentum": 0.7, "momentum_scale": 0.5, "stop": 0.3, "threshold": 0.5}]
)
def test_guided_predictions_equal_the_published_loop(make_run, make_step, settings):
    plugin = Sega(edits=("+smiling", "- glasses"), **settings)
    guide = plugin.guide(make_run("a cat"))
    assert tuple(guide.texts) == ("smiling", "glasses")
    seen = predictions(20)
    expected = slow_run(seen, (1, -1), plugin)
    for i, eps in enumerate(seen):
        cond = guide.predict(make_step(i), eps)
        guided = eps.uncond + eps.scale * (cond - eps.uncond)
        torch.testing.assert_close(guided, torch.from_numpy(expected[i]), rtol=1e-6, atol=1e-6)
        if i < 10:
            assert torch.equal(cond, eps.cond)
    assert len(guide.report()["correction_rms"]) == 10


def test_a_batch_equals_its_images_one_by_one(make_run, make_step):
    plugin = Sega(edits=("a", "b"), start=0.0)
    whole = plugin.guide(make_run(*["a cat"] * 3))
    parts = [plugin.guide(make_run("a cat")) for _ in range(3)]
    for i, eps in enumerate(predictions(3)):
        found = whole.predict(make_step(i), eps)
        for k, part in enumerate(parts):
            row = slice(k, k + 1)
            extra = tuple(one[row] for one in eps.extra)
            alone = part.predict(
                make_step(i),
                Prediction(eps.uncond[row], eps.cond[row], extra, eps.scale, eps.latents[row]),
            )
            torch.testing.assert_close(found[row], alone)


def test_half_precision_stays_finite(make_run, make_step):
    eps = predictions(1, extra=1)[0]
    halves = [part.half() for part in (eps.uncond, eps.cond, eps.extra[0], eps.latents)]
    half = Prediction(halves[0], halves[1], (halves[2],), SCALE, halves[3])
    found = Sega(edits=("+red",), start=0.0).guide(make_run("a cat")).predict(make_step(0), half)
    assert found.dtype == torch.float16
    assert torch.isfinite(found).all()


def test_edits_are_read_and_checked(make_run):
    assert split("+ a red cat") == (1, "a red cat")
    assert split("-glasses") == (-1, "glasses")
    assert split("smiling") == (1, "smiling")
    with pytest.raises(ParameterError, match="names nothing"):
        Sega(edits=("+smiling", "-"))
    with pytest.raises(ParameterError, match="no edits"):
        Sega().guide(make_run("a cat"))
