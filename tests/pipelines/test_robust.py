"""Calls inside calls, copies, exchanged parts, abandoned calls: guidance works or says why not."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch

from adhere import Guidance, ModelError
from tests import tiny
from tests.leftovers import nothing_left
from tests.probes import Energetic, Probe, column, descending, guide_of

MODES = ["attach", "callback", "multi"]


class Oops(Exception):
    pass


class At(tiny._Watcher):
    """A user's own callback that does something at the end of one step."""

    def __init__(self, step: int, act: Callable[[Any], Any]) -> None:
        super().__init__(cutoff_step_ratio=1.0)
        self.step, self.act = step, act

    def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
        if step == self.step:
            self.act(pipeline)
        return tensors


@pytest.fixture
def pipe() -> Any:
    return tiny.sd1()


@pytest.fixture
def guidance() -> Guidance:
    return Guidance(descending(step_size=50.0))


def guided(pipe: Any, guidance: Guidance, mode: str, **options: Any) -> torch.Tensor:
    """A guided call with a callback of the user's own beside, in each way of registering."""
    if mode == "attach":
        with guidance.attach(pipe):
            return tiny.latents(pipe, **options)
    mine = [one] if (one := options.pop("callback_on_step_end", None)) else []
    both = tiny.MultiPipelineCallbacks([*mine, guidance.callback(pipe)])
    return tiny.latents(pipe, callback_on_step_end=both, **options)


def sibling(pipe: Any, **changes: Any) -> Any:
    """Another pipeline around the same models."""
    own = {"scheduler": type(pipe.scheduler).from_config(pipe.scheduler.config)}
    made = type(pipe)(**{**pipe.components, **own, **changes}, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


# ---- Failures outside the model ----------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("error", [Oops, KeyboardInterrupt, SystemExit])
def test_a_callback_of_the_users_own_that_fails(
    pipe: Any, guidance: Guidance, mode: str, error: type[BaseException]
) -> None:
    def fail(_: Any) -> None:
        raise error

    with nothing_left(pipe), pytest.raises(error) as kept:
        guided(pipe, guidance, mode, callback_on_step_end=At(1, fail))
    expected = tiny.latents(pipe)
    assert torch.equal(tiny.latents(tiny.sd1()), expected)
    assert (
        kept.value is not None
    )  # a notebook keeps the traceback, and the guidance is off all the same


def test_a_call_abandoned_before_its_loop(pipe: Any, guidance: Guidance) -> None:
    """Nobody is told of a failure between first check and loop; the next call sees to it."""
    expected = guided(pipe, guidance, "attach")
    plain = tiny.latents(pipe)
    other = sibling(pipe)
    with nothing_left(pipe), guidance.attach(pipe) as attached:
        with pytest.raises(ValueError, match="list of generators"):
            tiny.latents(pipe, generator=tiny.generators(0, 1, 2))
        # Meanwhile the model may be used by hand, and by others.
        rows = torch.zeros(1, 4, 16, 16)
        pipe.unet(rows, 1, torch.zeros(1, 77, 32))
        assert torch.equal(tiny.latents(other), plain)
        assert torch.equal(tiny.latents(pipe), expected)
    assert [report.passes for report in attached.reports] == [[3]]


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupt_of_diffusers_own_ends_the_guidance_too(
    pipe: Any, guidance: Guidance, mode: str
) -> None:
    def stop(pipeline: Any) -> None:
        pipeline._interrupt = True

    with nothing_left(pipe):
        first = guided(pipe, guidance, mode, callback_on_step_end=At(0, stop))
    assert torch.isfinite(first).all()
    expected = guided(tiny.sd1(), guidance, "attach")
    assert torch.equal(guided(pipe, guidance, mode), expected)


# ---- Calls inside calls ------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("inner", ["plain", "guided"])
def test_a_call_of_the_same_pipeline_inside_a_guided_one_is_refused(
    pipe: Any, guidance: Guidance, mode: str, inner: str
) -> None:
    def again(pipeline: Any) -> None:
        tiny.latents(pipeline, guidance=guidance if inner == "guided" else None, steps=1)

    with nothing_left(pipe), pytest.raises(ModelError, match=r"under way|attached .* already"):
        guided(pipe, guidance, mode, callback_on_step_end=At(0, again))


@pytest.mark.parametrize("mode", MODES)
def test_another_pipeline_of_the_same_models_called_inside(
    pipe: Any, guidance: Guidance, mode: str
) -> None:
    """A preview, say: neither call sees the other's guidance, though they share every weight."""
    other = sibling(pipe)
    expected, plain = guided(pipe, guidance, "attach"), tiny.latents(other, "a frog", seeds=(5,))
    seen: list[torch.Tensor] = []

    def preview(_: Any) -> None:
        seen.append(tiny.latents(other, "a frog", seeds=(5,)))

    with nothing_left(pipe), nothing_left(other):
        found = guided(pipe, guidance, mode, callback_on_step_end=At(1, preview))
    assert torch.equal(found, expected)
    assert torch.equal(seen[0], plain)


def test_another_pipeline_with_the_same_scheduler_called_inside_is_refused(
    pipe: Any, guidance: Guidance
) -> None:
    other = sibling(pipe, scheduler=pipe.scheduler)
    act = At(0, lambda _: tiny.latents(other, steps=2))
    with (
        nothing_left(pipe),
        pytest.raises(ModelError, match=r"set anew in the middle.*scheduler of its own"),
    ):
        guided(pipe, guidance, "attach", callback_on_step_end=act)


def test_a_pipeline_called_in_two_threads_at_once_is_refused_in_the_second(
    pipe: Any, guidance: Guidance
) -> None:
    expected = guided(pipe, guidance, "attach")
    inside, tried = threading.Event(), threading.Event()
    refused: list[BaseException] = []

    def second() -> None:
        inside.wait()
        try:
            tiny.latents(pipe, seeds=(1,))
        except ModelError as error:
            refused.append(error)
        tried.set()

    def hold(_: Any) -> None:
        inside.set()
        assert tried.wait(60)

    thread = threading.Thread(target=second)
    thread.start()
    with nothing_left(pipe):
        found = guided(pipe, guidance, "attach", callback_on_step_end=At(0, hold))
    thread.join()
    assert "under way, in a callback or in another thread" in str(refused[0])
    assert torch.equal(found, expected)


def test_a_call_may_be_made_in_another_thread_than_the_attaching_one(
    pipe: Any, guidance: Guidance
) -> None:
    expected = guided(pipe, guidance, "attach")
    found: list[torch.Tensor] = []
    with nothing_left(pipe), guidance.attach(pipe):
        for _ in range(2):
            thread = threading.Thread(target=lambda: found.append(tiny.latents(pipe)))
            thread.start()
            thread.join()
    assert all(torch.equal(one, expected) for one in found)
    assert len(found) == 2


def test_a_subclass_that_calls_on(guidance: Guidance) -> None:
    class Own(diffusers.StableDiffusionPipeline):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    own = Own(**tiny.sd1_parts(), requires_safety_checker=False)
    own.set_progress_bar_config(disable=True)
    expected = guided(tiny.sd1(), guidance, "attach")
    for mode in MODES:
        with nothing_left(own):
            assert torch.equal(guided(own, guidance, mode), expected)


# ---- Detached early, callbacks in wrong places -------------------------------


def test_taken_off_during_a_call_the_rest_is_plain(pipe: Any) -> None:
    """Guided at the first of three steps and then no more equals a guide that stops there."""
    first = Probe(lambda run: Energetic(column(2), step_size=50.0, at=lambda s: s.index == 0))
    expected = guided(pipe, Guidance(first), "attach")
    probe, guides = guide_of(descending(step_size=50.0))
    with nothing_left(pipe):
        context = Guidance(probe).attach(pipe)
        attached = context.__enter__()
        found = tiny.latents(
            pipe, callback_on_step_end=At(0, lambda _: context.__exit__(None, None, None))
        )
        assert [step.index for step in guides[0].steps] == [0]
        assert attached.report.passes == [1]
    assert torch.equal(found, expected)


def test_taken_off_twice(pipe: Any, guidance: Guidance) -> None:
    with nothing_left(pipe), guidance.attach(pipe) as attached:
        attached._attachment.close()
        attached._attachment.close()
        assert torch.equal(tiny.latents(pipe), tiny.latents(tiny.sd1()))


def test_a_callback_on_another_pipeline_is_refused_before_its_first_step(
    pipe: Any, guidance: Guidance
) -> None:
    other = tiny.sd1()
    calls: list[int] = []
    other.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    callback = guidance.callback(pipe)
    for one in (callback, tiny.MultiPipelineCallbacks([callback])):
        with (
            nothing_left(pipe),
            nothing_left(other),
            pytest.raises(ModelError, match=r"made for another pipeline .* one for each"),
        ):
            tiny.latents(other, callback_on_step_end=one)
    assert calls == []
    assert torch.equal(
        tiny.latents(pipe, callback_on_step_end=callback), guided(pipe, guidance, "attach")
    )


def test_a_callback_inside_a_function_of_the_users_own_is_refused(
    pipe: Any, guidance: Guidance
) -> None:
    """Diffusers would not ask it for its tensor names, and the first step would pass unguided."""
    callback = guidance.callback(pipe)
    with nothing_left(pipe), pytest.raises(ModelError, match="give it to the pipeline itself"):
        tiny.latents(pipe, callback_on_step_end=lambda *given: callback(*given))
    # With the names passed on it is as good as given.
    found = tiny.latents(
        pipe,
        callback_on_step_end=lambda *given: callback(*given),
        callback_on_step_end_tensor_inputs=callback.tensor_inputs,
    )
    assert torch.equal(found, guided(pipe, guidance, "attach"))


def test_calling_a_part_of_the_pipeline_by_hand_is_no_guided_call(
    pipe: Any, guidance: Guidance
) -> None:
    expected = guided(pipe, guidance, "attach")
    with nothing_left(pipe), guidance.attach(pipe) as attached:
        pipe.check_inputs("a cat", 32, 32, 1)
        pipe.encode_prompt("a cat", "cpu", 1, True)
        pipe.scheduler.set_timesteps(7)
        assert attached.reports == []
        assert torch.equal(tiny.latents(pipe), expected)


# ---- Copies ------------------------------------------------------------------


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_of_a_guided_pipeline_is_not_guided(
    pipe: Any, guidance: Guidance, way: Callable[[Any], Any]
) -> None:
    plain, expected = tiny.latents(pipe), guided(pipe, guidance, "attach")
    with nothing_left(pipe), guidance.attach(pipe) as attached:
        twin = way(pipe)
        assert torch.equal(tiny.latents(twin), plain)
        assert attached.reports == []
        assert torch.equal(tiny.latents(pipe), expected)
        assert torch.equal(tiny.latents(twin), plain)
    assert torch.equal(tiny.latents(twin), plain)


def test_a_copy_can_be_guided_itself(pipe: Any, guidance: Guidance) -> None:
    expected = guided(pipe, guidance, "attach")
    with guidance.attach(pipe):
        twin = copy.deepcopy(pipe)
    for mode in MODES:
        with nothing_left(twin):
            assert torch.equal(guided(twin, guidance, mode), expected)


# ---- Parts exchanged between attaching and calling ---------------------------


def test_another_unet(pipe: Any, guidance: Guidance) -> None:
    """Of another layout: layers are found anew."""
    deeper = tiny.unet(seed=4, layers_per_block=2, sample_size=16)
    expected = guided(tiny.sd1(unet=deeper), guidance, "attach")
    with guidance.attach(pipe):
        before = tiny.latents(pipe)
        pipe.unet = deeper
        with nothing_left(pipe):
            assert torch.equal(tiny.latents(pipe), expected)
    callback = guidance.callback(pipe)
    pipe.unet = tiny.sd1().unet
    assert torch.equal(tiny.latents(pipe, callback_on_step_end=callback), before)


def test_another_scheduler(pipe: Any, guidance: Guidance) -> None:
    euler = diffusers.EulerDiscreteScheduler.from_config(pipe.scheduler.config)
    expected = guided(tiny.sd1(scheduler=euler), guidance, "attach")
    with guidance.attach(pipe):
        tiny.latents(pipe)
        pipe.scheduler = euler
        with nothing_left(pipe):
            assert torch.equal(tiny.latents(pipe), expected)


def test_another_precision_and_place(pipe: Any, guidance: Guidance) -> None:
    double = tiny.sd1().to(torch.float64)
    expected = guided(double, guidance, "attach")
    with guidance.attach(pipe):
        tiny.latents(pipe)
        pipe.to("cpu", torch.float64)
        with nothing_left(pipe):
            assert torch.equal(tiny.latents(pipe), expected)


@pytest.mark.slow
def test_a_unet_compiled_after_attaching(pipe: Any, guidance: Guidance) -> None:
    expected = guided(pipe, guidance, "attach")
    with guidance.attach(pipe):
        pipe.unet = torch.compile(pipe.unet, backend="eager")
        found = tiny.latents(pipe)
    assert tiny.apart(found, expected) < 1e-5
    torch.compiler.reset()


def test_a_unet_exchanged_in_the_middle_of_a_call_is_refused(pipe: Any, guidance: Guidance) -> None:
    first, other = pipe.unet, tiny.unet(seed=4)

    def exchange(pipeline: Any) -> None:
        pipeline.unet = other

    with pytest.raises(ModelError, match=r"exchanged in the middle .* between two calls"):
        guided(pipe, guidance, "attach", callback_on_step_end=At(0, exchange))
    assert all(weight.requires_grad for weight in (*first.parameters(), *other.parameters()))
    pipe.unet = first
    assert torch.equal(guided(pipe, guidance, "attach"), guided(tiny.sd1(), guidance, "attach"))
