"""A watched pipeline is in every respect but one what it was: its calls are told of."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from adhere.pipelines.hooks.pipeline_call import PipelineCall, watch
from tests import tiny

SD = diffusers.StableDiffusionPipeline


class Watching:
    """Counts calls and keeps their arguments."""

    def __init__(self) -> None:
        self.calls: list[PipelineCall] = []
        self.inside = 0

    @contextmanager
    def __call__(self, call: PipelineCall) -> Iterator[None]:
        self.calls.append(call)
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1


@pytest.fixture
def pipe() -> Any:
    return tiny.sd1()


def test_arguments_are_known_by_name_with_defaults(pipe: Any) -> None:
    watching = Watching()
    end = watch(pipe, watching)
    plain = tiny.latents(tiny.sd1(), steps=1)
    assert torch.equal(tiny.latents(pipe, steps=1), plain)
    (call,) = watching.calls
    assert call.values["prompt"] == tiny.PROMPT
    assert call.values["num_inference_steps"] == 1
    assert call.values["guidance_scale"] == 7.5
    end()
    assert type(pipe) is SD
    tiny.latents(pipe, steps=1)
    assert len(watching.calls) == 1


def test_it_looks_like_its_own_class(pipe: Any) -> None:
    shown, parts = repr(pipe), pipe.components.keys()
    end = watch(pipe, Watching())
    kind = type(pipe)
    assert isinstance(pipe, SD)
    assert (kind.__name__, kind.__qualname__, kind.__module__) == (
        SD.__name__,
        SD.__qualname__,
        SD.__module__,
    )
    assert kind.__doc__ == SD.__doc__
    assert inspect.signature(kind.__call__) == inspect.signature(SD.__call__)
    assert inspect.signature(kind) == inspect.signature(SD)
    assert repr(pipe) == shown
    assert pipe.components.keys() == parts
    end()


@pytest.mark.parametrize(
    "way",
    [
        copy.copy,
        copy.deepcopy,
        lambda pipe: pickle.loads(pickle.dumps(pipe)),
        lambda pipe: type(pipe)(**pipe.components, requires_safety_checker=False),
        lambda pipe: type(pipe).from_pipe(pipe),
        SD.from_pipe,
    ],
    ids=["copy", "deepcopy", "pickle", "class", "from_pipe", "from_pipe of the class"],
)
def test_what_is_made_of_it_is_not_watched(pipe: Any, way: Any) -> None:
    watching = Watching()
    end = watch(pipe, watching)
    made = way(pipe)
    assert type(made) is SD
    made.set_progress_bar_config(disable=True)
    tiny.latents(made, steps=1)
    assert watching.calls == []
    end()


def test_it_becomes_other_pipelines(pipe: Any) -> None:
    end = watch(pipe, Watching())
    other = diffusers.AutoPipelineForImage2Image.from_pipe(pipe)
    assert type(other) is diffusers.StableDiffusionImg2ImgPipeline
    end()


def test_it_is_saved_and_loaded_as_its_own_class(pipe: Any, tmp_path: Path) -> None:
    end = watch(pipe, Watching())
    pipe.save_pretrained(tmp_path)
    assert '"StableDiffusionPipeline"' in (tmp_path / "model_index.json").read_text()
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path)) is SD
    end()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_call_is_over_whatever_ends_it(pipe: Any, error: type[BaseException]) -> None:
    watching = Watching()
    end = watch(pipe, watching)

    def fail(*_: Any) -> None:
        assert watching.inside == 1
        raise error

    with pytest.raises(error):
        tiny.latents(pipe, callback_on_step_end=fail)
    assert watching.inside == 0
    end()


def test_several_watch_and_end_in_any_order(pipe: Any) -> None:
    one, other = Watching(), Watching()
    end, end_other = watch(pipe, one), watch(pipe, other)
    tiny.latents(pipe, steps=1)
    end()
    assert type(pipe) is not SD
    tiny.latents(pipe, steps=1)
    end_other()
    end_other()
    assert type(pipe) is SD
    assert (len(one.calls), len(other.calls)) == (1, 2)


def test_wrong_arguments_fail_as_they_would(pipe: Any) -> None:
    end = watch(pipe, Watching())
    with pytest.raises(TypeError, match="multiple values for argument 'prompt'"):
        pipe(tiny.PROMPT, prompt=tiny.PROMPT)
    end()


def test_a_class_that_only_passes_arguments_on() -> None:
    class Own(SD):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)

    own, watching = Own(**tiny.sd1_parts(), requires_safety_checker=False), Watching()
    own.set_progress_bar_config(disable=True)
    end = watch(own, watching)
    tiny.latents(own, steps=1)
    assert watching.calls[0].values["num_inference_steps"] == 1
    end()
    assert type(own) is Own


@pytest.mark.parametrize("positional", [True, False])
def test_an_argument_may_be_exchanged(positional: bool) -> None:
    class Echo:
        def __call__(self, prompt: str, callback: Any = None) -> Any:
            return callback

    @contextmanager
    def exchange(call: PipelineCall) -> Iterator[None]:
        call.replace("callback", "other")
        yield

    echo = Echo()
    watch(echo, exchange)
    assert (echo("a", "mine") if positional else echo("a", callback="mine")) == "other"


def test_a_watched_pipeline_that_nobody_holds_is_freed() -> None:
    pipe = tiny.sd1()
    watch(pipe, Watching())
    gone = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert gone() is None
