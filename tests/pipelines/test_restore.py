"""Whatever happens in a call, the pipeline is afterwards what it was before."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adhere import Guidance, ModelError
from tests import tiny
from tests.leftovers import failing, nothing_left
from tests.probes import MOMENTS, Failing, Probe, descending

MODES = ["attach", "callback", "multi"]


class Oops(Exception):
    pass


@pytest.fixture
def pipe() -> Any:
    return tiny.sd1()


@pytest.mark.parametrize("mode", MODES)
def test_a_run_that_goes_well(pipe: Any, mode: str) -> None:
    with nothing_left(pipe):
        tiny.latents(pipe, guidance=Guidance(descending()), mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_guide_that_fails(pipe: Any, mode: str, moment: str) -> None:
    guidance = Guidance(Probe(lambda run: Failing(moment, Oops())))
    with nothing_left(pipe), pytest.raises(Oops):
        tiny.latents(pipe, guidance=guidance, mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_a_plugin_that_fails_to_start(pipe: Any, mode: str) -> None:
    def start(run: Any) -> Any:
        raise Oops

    with nothing_left(pipe), pytest.raises(Oops):
        tiny.latents(pipe, guidance=Guidance(Probe(start)), mode=mode)


# The first level's block runs in the extra pass and in the denoiser's own; the last level only in
# the latter, since the extra pass stops before it.
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [Oops(), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("part", "call"),
    [
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn2", 3),
        ("down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q", 3),
        ("up_blocks.3.resnets.0", 2),
    ],
)
def test_a_model_that_fails(
    pipe: Any, mode: str, error: BaseException, part: str, call: int
) -> None:
    with (
        nothing_left(pipe),
        failing(pipe.unet.get_submodule(part), error, call),
        pytest.raises(type(error)),
    ):
        tiny.latents(pipe, guidance=Guidance(descending()), mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [Oops(), KeyboardInterrupt()])
def test_a_text_encoder_that_fails(pipe: Any, mode: str, error: BaseException) -> None:
    with (
        failing(pipe.text_encoder, error, 1),
        nothing_left(pipe),
    ):
        # The traceback holds on to the call's frame, and with it to the callback's tensor names.
        with pytest.raises(type(error)):
            tiny.latents(pipe, guidance=Guidance(descending()), mode=mode)
        error.__traceback__ = None


@pytest.mark.parametrize("mode", MODES)
def test_a_call_that_the_pipeline_refuses(pipe: Any, mode: str) -> None:
    with nothing_left(pipe), pytest.raises(ValueError, match="divisible"):
        tiny.latents(pipe, guidance=Guidance(descending()), mode=mode, size=(33, 32))


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_run(pipe: Any, mode: str) -> None:
    class Stop(tiny._Watcher):
        def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
            pipeline._interrupt = True
            return tensors

    guidance = Guidance(descending())
    with nothing_left(pipe):
        if mode == "attach":
            with guidance.attach(pipe) as attached:
                tiny.latents(pipe, callback_on_step_end=Stop())
            report = attached.report
        else:
            callback = guidance.callback(pipe)
            both = tiny.MultiPipelineCallbacks([callback, Stop()])
            tiny.latents(pipe, callback_on_step_end=both)
            (report,) = callback.reports
    assert report.passes == [1]
    assert [step for step, _ in report.losses["probe"][0]] == [0]


def test_the_next_plain_call_is_plain_even_while_the_traceback_of_a_failed_one_lives(
    pipe: Any,
) -> None:
    """Notebooks keep the last traceback, and with it every local of the failed call."""
    plain = tiny.latents(pipe)
    with (
        failing(pipe.text_encoder, KeyboardInterrupt(), 1),
        pytest.raises(KeyboardInterrupt) as kept,
    ):
        tiny.latents(pipe, guidance=Guidance(descending()), mode="callback")
    assert torch.equal(tiny.latents(pipe), plain)
    assert kept.value is not None


def test_guidance_on_one_pipeline_twice_is_refused(pipe: Any) -> None:
    guidance = Guidance(descending())
    with nothing_left(pipe), guidance.attach(pipe):
        with pytest.raises(ModelError, match="attached to this pipeline already"):
            tiny.latents(pipe, guidance=guidance)
        with pytest.raises(ModelError, match="attached to this pipeline already"):
            tiny.latents(pipe, guidance=guidance, mode="callback")


def test_guidance_stays_on_for_all_calls_inside_and_after_one_that_failed(pipe: Any) -> None:
    plain = tiny.latents(pipe)
    guidance = Guidance(descending())
    guided = tiny.latents(pipe, guidance=guidance)
    assert not torch.equal(plain, guided)
    with nothing_left(pipe), guidance.attach(pipe) as attached:
        assert torch.equal(tiny.latents(pipe), guided)
        with failing(pipe.unet.mid_block, Oops(), 2), pytest.raises(Oops):
            tiny.latents(pipe)
        assert torch.equal(tiny.latents(pipe), guided)
        assert [report.passes for report in attached.reports] == [[3], [1], [3]]
    assert torch.equal(tiny.latents(pipe), plain)


def test_a_callback_serves_any_number_of_calls(pipe: Any) -> None:
    callback = Guidance(descending()).callback(pipe)
    first = tiny.latents(pipe, callback_on_step_end=callback)
    plain = tiny.latents(pipe)
    second = tiny.latents(pipe, callback_on_step_end=callback)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert [report.passes for report in callback.reports] == [[3], [3]]


def test_looking_at_a_callback_changes_nothing(pipe: Any) -> None:
    callback = Guidance(descending()).callback(pipe)
    with nothing_left(pipe):
        assert [str(name) for name in callback.tensor_inputs] == ["latents"]
        assert hasattr(callback, "tensor_inputs")


def test_a_guided_call_inside_a_guided_call(pipe: Any) -> None:
    """A preview from a callback, say, with a second pipeline."""
    other = tiny.sd1()
    guidance = Guidance(descending())
    alone = tiny.latents(pipe, guidance=guidance)
    inner = tiny.latents(other, "a frog", guidance=guidance, seeds=(5,))

    class Nested(tiny._Watcher):
        def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
            if step == 0:
                made = tiny.latents(other, "a frog", guidance=guidance, seeds=(5,))
                assert torch.equal(made, inner)
            return tensors

    with guidance.attach(pipe) as attached:
        outer = tiny.latents(pipe, callback_on_step_end=Nested())
    assert torch.equal(outer, alone)
    assert attached.report.passes == [3]


def test_a_shared_unet_is_frozen_until_the_last_run_ends(pipe: Any) -> None:
    from adhere.pipelines.hooks.weights import frozen

    trainable = pipe.unet.conv_in.weight
    fixed = pipe.unet.conv_out.weight
    fixed.requires_grad_(False)
    with frozen(pipe.unet):
        with frozen(torch.compile(pipe.unet, backend="eager")):
            assert not trainable.requires_grad
        assert not trainable.requires_grad
    assert trainable.requires_grad
    assert not fixed.requires_grad
