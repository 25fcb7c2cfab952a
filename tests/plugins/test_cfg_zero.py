"""CFG-Zero* on velocities, value by value, and against diffusers' own factor."""

from __future__ import annotations

import pytest
import torch
from diffusers.guiders.classifier_free_zero_star_guidance import cfg_zero_star_scale

from adhere.errors import ParameterError
from adhere.plugins.scale.cfg_zero import CfgZero, best_multiple


def flow(make_step, index, share):
    """A step of flow matching: x = (1 - s) D + s n."""
    return make_step(index, noise=share, sigma=share / (1 - share))


def velocity(noise, eps, step):
    """n - D."""
    a = step.noise / step.sigma
    return noise - (eps.latents - step.noise * noise) / a


def test_velocities_equal_the_published_rule(make_run, make_step, make_predictions):
    guide = CfgZero().guide(make_run("a cat", "a dog"))
    for i, eps in enumerate(make_predictions(4)):
        step = flow(make_step, i, 0.9 - 0.2 * i)
        cond = guide.predict(step, eps)
        found = velocity(eps.uncond + eps.scale * (cond - eps.uncond), eps, step)
        v, v0 = velocity(eps.cond, eps, step), velocity(eps.uncond, eps, step)
        # In flow matching it is the model's own prediction: n = x + (1 - s) v.
        torch.testing.assert_close(eps.cond, eps.latents + (1 - step.noise) * v)
        for image in range(2):
            p, n = v[image].flatten().tolist(), v0[image].flatten().tolist()
            s = sum(a * b for a, b in zip(p, n, strict=True)) / sum(b * b for b in n)
            expected = [s * b + eps.scale * (a - s * b) for a, b in zip(p, n, strict=True)]
            expected = [0.0 * value for value in expected] if i == 0 else expected
            torch.testing.assert_close(
                found[image].flatten(), torch.tensor(expected, dtype=torch.float64)
            )
    assert len(guide.report()["multiples"]) == 3


def test_the_factor_is_that_of_diffusers(make_predictions):
    (eps,) = make_predictions(1)
    expected = cfg_zero_star_scale(eps.cond.flatten(1), eps.uncond.flatten(1))
    found = best_multiple(eps.cond, eps.uncond).flatten(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_without_either_part(make_run, make_step, make_predictions, image_of):
    (eps,) = make_predictions(1)
    run = make_run("a cat", "a dog")
    still = CfgZero(scaling=False).guide(run)
    assert torch.equal(still.predict(flow(make_step, 1, 0.9), eps), eps.cond)
    assert not torch.equal(still.predict(flow(make_step, 0, 0.9), eps), eps.cond)
    # The first step of a model that is no flow is kept.
    assert torch.equal(still.predict(make_step(0, sigma=4 / 3, noise=0.8), eps), eps.cond)
    assert CfgZero(scaling=False, zero_steps=0).guide(run).off
    scaled = CfgZero(zero_steps=0).guide(run)
    found = scaled.predict(make_step(0), eps)
    alone = [scaled.predict(make_step(0), image_of(eps, k)) for k in range(2)]
    torch.testing.assert_close(found, torch.cat(alone))


def test_a_run_that_would_not_move_is_refused(make_run):
    run = make_run("a cat")
    CfgZero(zero_steps=run.steps - 1).guide(run)
    with pytest.raises(ParameterError, match=f"would leave nothing of a run of {run.steps} steps"):
        CfgZero(zero_steps=run.steps).guide(run)


@pytest.mark.parametrize("share", [0.9999, 0.02])
def test_the_ends_of_a_flow_stay_finite(make_run, make_step, make_predictions, share):
    (eps,) = make_predictions(1)
    guide = CfgZero().guide(make_run("a cat", "a dog"))
    for index in (0, 30):
        assert torch.isfinite(guide.predict(flow(make_step, index, share), eps)).all()
