"""One call of a guided pipeline: hooks on its denoiser, its scheduler's methods wrapped.

A context variable says which call the running thread is in, so pipelines may share a denoiser; what
a user's callback does meanwhile is part of no call.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor, nn

from adhere.errors import ModelError
from adhere.pipelines.engine.annotations import BESIDE, unmarked
from adhere.pipelines.engine.engine import Engine, begun
from adhere.pipelines.engine.outcome import Outcome
from adhere.pipelines.engine.state import Setup
from adhere.pipelines.families import Family
from adhere.pipelines.hooks.compat import in_foreign_thread
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.hazards import refuse_other_loops
from adhere.pipelines.hooks.pipeline_call import PipelineCall
from adhere.pipelines.hooks.schedulers import edits, fit
from adhere.pipelines.hooks.schedulers.clock import Clock
from adhere.pipelines.hooks.weights import frozen
from adhere.pipelines.hooks.wrapping import wrap

running: ContextVar[Session | None] = ContextVar("adhere_session", default=None)
"""The session whose pipeline's code the thread is in."""


class Session:
    """One call of a guided pipeline, from its first check to its last step.

    Attributes:
        prompts: of the call, as the pipeline encodes them; `batch_of_prompts` is their number and
            `per_prompt` the number of images for each.
        asked: number of steps that was asked for, 0 if the timesteps were given.
        begun: whether the model was called.
    """

    def __init__(self, setup: Setup, family: Family, outcome: Outcome) -> None:
        self.setup, self.family, self.outcome = setup, family, outcome
        self.annotations = setup.annotations
        self.pipe, self.denoiser = family.pipe, family.denoiser
        self.scheduler = self.pipe.scheduler
        self.prompts: list[str] | None = None
        self.batch_of_prompts, self.per_prompt = 0, 1
        self.asked = 0
        self.begun = False
        self._unscaled: Tensor | None = None
        self._engine: Engine | None = None
        self._beginning = False
        self._outer = running.get()
        self._stack = ExitStack()

    def open(self, call: PipelineCall | None = None) -> None:
        """From now on the call is guided.

        Args:
            call: the pipeline's; None for a modular pipeline's loop.
        """
        running.set(self)
        reason = fit.refuse_call(self.scheduler)
        if reason is not None:
            raise ModelError(reason)
        if call is not None:
            self.family.asked = call.values
            refuse_other_loops(self.family.pipe, call.values)
            self._read_markup(call)
            self._set_callbacks_apart(call)
        self._stack.enter_context(frozen(self.denoiser))
        self._stack.enter_context(edits.restored(self.scheduler))
        self._checkpoint()
        before, after = map(torch.compiler.disable, (self._before, self._after))
        hooks = (
            self.denoiser.register_forward_pre_hook(before, with_kwargs=True),
            self.denoiser.register_forward_hook(after),
        )
        for hook in hooks:
            self._stack.callback(hook.remove)
        put = functools.partial(wrap, self._stack)
        put(self.pipe, "encode_prompt", self._encode)
        put(self.scheduler, "set_timesteps", self._set_timesteps)
        put(self.scheduler, "step", self._step)
        if hasattr(self.scheduler, "scale_model_input"):
            put(self.scheduler, "scale_model_input", self._scale)

    def close(self) -> None:
        """The call is over. May be called again."""
        if running.get() is self:
            running.set(self._outer)
        engine, self._engine = self._engine, None
        with self._stack:  # everything is put back even if a guide fails to report
            if engine is not None:
                engine.close()
                self.outcome.recorded = engine.recorded()
                self.outcome.reports.append(engine.finish())

    def _read_markup(self, call: PipelineCall) -> None:
        """Markup in the call's own prompt is for the guides; its encoders get the text."""
        self.annotations = self.annotations.marked(call.values.get("prompt"))
        for name in ("prompt", *BESIDE):
            given = call.values.get(name)
            plain = unmarked(given)
            if plain != given:
                call.replace(name, plain)

    def _set_callbacks_apart(self, call: PipelineCall) -> None:
        """What a user's callback does, with other pipelines of the same parts, is none of ours."""
        for name in ("callback_on_step_end", "callback"):
            given = call.values.get(name)
            if given is not None:
                call.replace(name, _set_apart(given))

    def _checkpoint(self) -> None:
        model: Any = self.denoiser
        if self.setup.memory.checkpointing and not model.is_gradient_checkpointing:
            model.enable_gradient_checkpointing()
            self._stack.callback(model.disable_gradient_checkpointing)

    def mine(self) -> bool:
        """Whether the pipeline's parts are called by the pipeline now."""
        busy = self._beginning or (self._engine is not None and self._engine.state.busy)
        return running.get() is self and not busy

    @property
    def clock(self) -> Clock | None:
        """How far the call is; None before its first pass."""
        return None if self._engine is None else self._engine.state.clock

    def _works(self) -> bool:
        """Whether the thread works for this call; those that replay checkpointed blocks do."""
        current = running.get()
        return current is self or (current is None and in_foreign_thread())

    def _encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.mine():
            given = inspect.signature(original).bind(*args, **kwargs).arguments
            self.family.encodings.append(given)
            if self.batch_of_prompts == 0:
                self._count(given)
        return original(*args, **kwargs)

    def _count(self, given: dict[str, Any]) -> None:
        """Take the prompts from the first `encode_prompt` call of the pipeline."""
        prompt, embeds = given.get("prompt"), given.get("prompt_embeds")
        if prompt is not None and embeds is None:
            self.prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            self.batch_of_prompts = len(self.prompts)
        elif embeds is not None:
            self.batch_of_prompts = len(embeds)
        self.per_prompt = int(given.get("num_images_per_prompt", 1) or 1)

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._engine is not None and not self._engine.done:
            raise ModelError(
                "the timesteps of a scheduler were set anew in the middle of a guided call that "
                "steps with it (another pipeline with the same scheduler was called from a "
                "callback); give that pipeline a scheduler of its own: "
                "type(pipe.scheduler).from_config(pipe.scheduler.config)"
            )
        result = original(*args, **kwargs)
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        self.asked = int(given.get("num_inference_steps") or 0)
        return result

    def _scale(
        self, original: Callable[..., Any], sample: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if self.mine():
            self._unscaled = sample
        return original(sample, *args, **kwargs)

    def _before(self, module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        # Another thread on the same denoiser may meet this hook half registered, without kwargs.
        if kwargs is None or not self.mine():
            return None
        call = self.family.bind(args, kwargs)
        if self._engine is None:
            self._engine = self._begun(call)
            if self._engine.idle:
                self._stack.close()  # the rest of the call is the pipeline's alone
                return None
        changed = self._engine.before(call, self._unscaled)
        self._engine.state.heed_interrupt()
        return None if changed is None else self.family.form(changed)

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self.mine() or self._engine is None:
            return None
        return self._engine.after(output)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self.mine():
            return original(*args, **kwargs)
        if self.family.denoiser is not self.denoiser:
            raise ModelError(
                "the pipeline's denoiser was exchanged in the middle of a guided call, and the new "
                "one is not guided; exchange it between two calls"
            )
        if self._engine is None:
            return original(*args, **kwargs)
        result = self._engine.step(original, *args, **kwargs)
        self._unscaled = None
        if self._engine.done:
            self.close()
        return result

    def _begun(self, call: Call) -> Engine:
        """The first denoiser call: everything about the run is known now."""
        self._beginning = self.begun = True
        repeats = self.family.images_per_prompt(self.per_prompt)
        per = repeats if self.batch_of_prompts else 1
        halves = 2 if getattr(self.pipe, "do_classifier_free_guidance", False) else 1
        count = self.batch_of_prompts or call.rows // halves
        prompts = self.annotations.prompts(self.prompts, count)
        each = tuple(prompt for prompt in prompts for _ in range(per))
        state = begun(
            self.setup, self.family, self.scheduler, each, self.asked, call, self._unscaled
        )
        engine = Engine(state, call)
        self._stack.callback(engine.passes.adapters.close)
        engine.passes.adapters.open(self._works)
        if self.setup.plugins:
            own = [*engine.predictions.texts, *engine.passes.extras.said]
            for sentence in self.annotations.unread(self.prompts, self.family.asked, own):
                state.warn(sentence)
        self._beginning = False
        return engine


def _set_apart(callback: Any) -> Any:
    """A user's callback, during which the thread is in no guided call."""

    def apart(*args: Any, **kwargs: Any) -> Any:
        token = running.set(None)
        try:
            return callback(*args, **kwargs)
        finally:
            running.reset(token)

    if isinstance(callback, (PipelineCallback, MultiPipelineCallbacks)):
        return _SetApart(callback, apart)
    return apart


class _SetApart(PipelineCallback):
    """An official callback in another: diffusers asks it for the names of its tensors."""

    def __init__(self, inner: Any, call: Callable[..., Any]) -> None:
        super().__init__()
        self._inner, self._call = inner, call

    @property
    def tensor_inputs(self) -> list[str]:
        names: list[str] = self._inner.tensor_inputs
        return names

    def callback_fn(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)
