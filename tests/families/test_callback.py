"""The callback form on every diffusers pipeline of our families that has `callback_on_step_end`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import diffusers
import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from adhere import Guidance, ModelError
from adhere.pipelines.engine.callback import carries
from adhere.pipelines.hooks.pipeline_call import PipelineCall, watch
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, Case

EXCITE: Any = PLUGINS["attend-and-excite"](refinements=0)
SAFE: Any = PLUGINS["safe-latent-diffusion"]("max", scale=20.0, concept="a green frog")
DENOISERS = (
    "UNet2DConditionModel",
    "SD3Transformer2DModel",
    "FluxTransformer2DModel",
    "Flux2Transformer2DModel",
    "ChromaTransformer2DModel",
    "SanaTransformer2DModel",
    "QwenImageTransformer2DModel",
    "ZImageTransformer2DModel",
)


TAKING = [case for case in CASES.values() if case.name != "pixart"]
"""The cases whose pipelines take a callback."""


def pipelines() -> Iterator[Any]:
    """Every pipeline of diffusers that takes one of our families' denoisers and a callback."""
    for name in sorted(dir(diffusers)):
        kind = loaded(name) if name.endswith("Pipeline") else None
        if inspect.isclass(kind) and "__call__" in dir(kind):
            parts = str(inspect.signature(kind.__init__))
            takes = inspect.signature(kind.__call__).parameters
            if "callback_on_step_end" in takes and any(model in parts for model in DENOISERS):
                yield kind


def loaded(name: str) -> Any:
    """A pipeline's class, or None where diffusers cannot import it itself, beside the lowest
    transformers that it admits.
    """
    try:
        return getattr(diffusers, name)
    except RuntimeError as error:
        if "Failed to import" not in str(error):
            raise
        return None


def test_there_are_many() -> None:
    assert len(list(pipelines())) > 60


@pytest.mark.parametrize("kind", list(pipelines()), ids=lambda kind: kind.__name__)
def test_every_pipelines_call_is_told_of_with_the_callback_in_it(kind: Any) -> None:
    """Its own signature, its own class; only the loop is left out."""
    seen: list[Any] = []

    @functools.wraps(kind.__call__)
    def loop(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.append(inspect.signature(kind.__call__).bind(self, *args, **kwargs).arguments)

    @contextmanager
    def around(call: PipelineCall) -> Iterator[None]:
        assert carries(call, mine)
        call.replace("callback_on_step_end", "another")
        yield

    mine = Guidance().callback(tiny_pipe())
    pipe: Any = object.__new__(type(kind.__name__, (kind,), {"__call__": loop}))
    end = watch(pipe, around)
    names = [
        name
        for name, one in inspect.signature(kind.__call__).parameters.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and name != "self"
    ]
    needed = dict.fromkeys(names, "given")
    both = MultiPipelineCallbacks([tiny._Watcher(), MultiPipelineCallbacks([mine])])  # type: ignore[list-item]
    pipe(**needed, callback_on_step_end=mine)
    pipe(**needed, callback_on_step_end=both)
    assert [one["callback_on_step_end"] for one in seen] == ["another"] * 2
    end()


@functools.cache
def tiny_pipe() -> Any:
    return tiny.sd1()


class Counting(PipelineCallback):
    """Another callback, which asks for what every pipeline has."""

    steps = 0

    @property
    def tensor_inputs(self) -> list[str]:
        return ["latents"]

    def callback_fn(self, pipeline: Any, step: int, timestep: Any, tensors: Any) -> Any:
        self.steps += 1
        return tensors


@pytest.mark.parametrize("case", TAKING, ids=lambda case: case.name)
def test_it_gives_the_bits_and_the_report_of_attach(case: Case) -> None:
    guidance = Guidance(EXCITE, SAFE)
    with guidance.attach(case.pipe, record=True) as attached:
        expected = case()
    callback, counting = guidance.callback(case.pipe, record=True), Counting()
    assert torch.equal(case(callback_on_step_end=callback), expected)
    assert callback.report.losses == attached.report.losses
    assert torch.equal(callback.attention, attached.attention)
    both: Any = MultiPipelineCallbacks([counting, callback])
    assert torch.equal(case(callback_on_step_end=both), expected)
    assert counting.steps == 2
    assert len(callback.reports) == 2
    plain = case()
    assert not torch.equal(plain, expected)
    del callback, both
    with Guidance(EXCITE).attach(case.pipe):  # nothing was left that would be in the way
        case(steps=1)


@pytest.mark.parametrize("name", ["flux", "qwen-image"])
def test_refusals_come_before_denoising_where_names_are_never_read(name: str) -> None:
    case, made = CASES[name], []
    hook = case.pipe.transformer.register_forward_pre_hook(lambda *_: made.append(1))
    callback = Guidance(PLUGINS["apg"]()).callback(case.pipe)
    try:
        with pytest.raises(ModelError, match="true_cfg_scale"):
            case(guided=False, callback_on_step_end=callback)
        with Guidance(EXCITE).attach(case.pipe), pytest.raises(ModelError, match="already"):
            case(callback_on_step_end=callback)
    finally:
        hook.remove()
    assert sum(made) <= 1
