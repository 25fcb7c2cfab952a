"""Putting guidance on a pipeline and taking it off again.

Between calls only the pipeline's own `check_inputs` is wrapped, to notice the next call. For the
length of a call the denoiser has two hooks and the scheduler's methods are wrapped. A context
variable says which run the calling thread is in, so two pipelines may share a denoiser.
"""

from __future__ import annotations

import functools
import inspect
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from adhere.errors import ModelError, PromptError
from adhere.guides.guide import Plugin
from adhere.guides.run import NO_TEXT, Prompt
from adhere.layout.layout import Layout
from adhere.pipelines.engine import schedulers
from adhere.pipelines.engine.engine import Engine
from adhere.pipelines.engine.report import RunReport
from adhere.pipelines.families import family_of
from adhere.pipelines.hooks.call import unwrapped
from adhere.pipelines.hooks.callers import calling_pipeline, inside_a_call

if TYPE_CHECKING:
    from adhere.pipelines.engine.guidance import Memory

_running: ContextVar[object | None] = ContextVar("adhere_session", default=None)
"""The mark of the pipeline call that this thread is in."""


@dataclass(frozen=True)
class Annotations:
    """What was said beside the call: prompt text, subjects and layouts; one for all or one each."""

    prompt: str | tuple[str, ...] | None
    subjects: tuple[Any, ...] | None
    layout: Layout | tuple[Layout | None, ...] | None

    @classmethod
    def of(cls, prompt: Any, subjects: Any, layout: Any) -> Annotations:
        return cls(
            prompt if prompt is None or isinstance(prompt, str) else tuple(prompt),
            None if subjects is None else _subjects(subjects),
            layout if layout is None or isinstance(layout, Layout) else tuple(layout),
        )

    def prompts(self, called: Sequence[str] | None, count: int) -> list[Prompt]:
        """One `Prompt` for each prompt of the call.

        Raises:
            PromptError: there is no prompt text, or not one for each prompt.
        """
        texts = self._texts(called, count)
        subjects = _spread("subjects", self.subjects, count, _is_list_of_lists)
        layouts = _spread("layout", self.layout, count, lambda given: isinstance(given, tuple))
        return [
            Prompt(text, None if some is None else tuple(some), layout)
            for text, some, layout in zip(texts, subjects, layouts, strict=True)
        ]

    def _texts(self, called: Sequence[str] | None, count: int) -> list[str]:
        if self.prompt is None and called is None:
            return [NO_TEXT] * count
        texts = [_literal(text) for text in called or ()] if self.prompt is None else self.prompt
        texts = [texts] * count if isinstance(texts, str) else list(texts)
        if len(texts) != count:
            raise PromptError(
                f"{len(texts)} prompt texts were given to the guidance and the call has {count} "
                "prompts; give one for each, or one for all"
            )
        if self.prompt is not None and called is not None:
            for told, seen in zip(texts, called, strict=True):
                if Prompt(told).plain != seen:
                    raise PromptError(
                        f"the guidance was told the prompt is {told!r}, and the call's prompt is "
                        f"{seen!r}; say the same, or leave it out of the guidance"
                    )
        return texts


def _literal(prompt: str) -> str:
    """A prompt whose brackets are no markup: the pipeline's text encoder reads them too."""
    return re.sub(r"([\[\]|])", r"\\\1", prompt)


def _subjects(given: Any) -> tuple[Any, ...]:
    if isinstance(given, str):
        return (given,)
    return tuple(one if one is None or isinstance(one, str) else tuple(one) for one in given)


def _is_list_of_lists(given: Any) -> bool:
    return any(not isinstance(one, str) for one in given)


def _spread(name: str, given: Any, count: int, each: Callable[[Any], bool]) -> list[Any]:
    if given is None or not each(given):
        return [given] * count
    if len(given) != count:
        raise PromptError(f"{len(given)} entries in {name} for {count} prompts; give one for each")
    return list(given)


class _Frozen:
    """Weights that take no gradient while anybody guides with them; counted, for shared models."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Parameter]]] = (
            WeakKeyDictionary()
        )

    def hold(self, module: nn.Module) -> None:
        module = unwrapped(module)
        with self._lock:
            count, trainable = self._held.get(module, (0, []))
            if count == 0:
                trainable = [p for p in module.parameters() if p.requires_grad]
                for parameter in trainable:
                    parameter.requires_grad_(False)
            self._held[module] = (count + 1, trainable)

    def release(self, module: nn.Module) -> None:
        module = unwrapped(module)
        with self._lock:
            count, trainable = self._held.pop(module)
            if count > 1:
                self._held[module] = (count - 1, trainable)
                return
            for parameter in trainable:
                parameter.requires_grad_(True)


_frozen = _Frozen()


class _Wrapped:
    """A method of one instance with something around it.

    Diffusers looks at signatures, hence `update_wrapper`. A copy of the instance, deep, shallow or
    pickled, gets the method itself: guidance is on the pipeline that it was put on and on no other.
    """

    __adhere__ = True

    def __init__(self, original: Callable[..., Any], around: Callable[..., Any]) -> None:
        functools.update_wrapper(self, original)
        self._original, self._around = original, around

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._around(self._original, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return _itself, (self._original,)


def _itself(method: Any) -> Any:
    return method


class Attachment:
    """Guidance on one pipeline. `open` and `close` are symmetric, `close` may be called again.

    Attributes:
        only: the `id` of a tensor name; a call that does not pass it on is none of ours.
    """

    def __init__(
        self,
        pipe: Any,
        plugins: Sequence[Plugin],
        memory: Memory,
        annotations: Annotations,
        record: bool,
        on_end: Callable[[Attachment], None] | None = None,
    ) -> None:
        self.pipe, self.plugins, self.memory = pipe, tuple(plugins), memory
        self.annotations, self.record, self.on_end = annotations, record, on_end
        self.family = family_of(pipe)
        self._denoiser = self.family.denoiser
        self.reports: list[RunReport] = []
        self.attention: Tensor | None = None
        self.only: int | None = None
        self._stack = ExitStack()
        self._session: Session | None = None

    def open(self) -> None:
        if getattr(self.pipe.__dict__.get(self.family.entrances[0]), "__adhere__", False):
            raise ModelError(
                "guidance is attached to this pipeline already; put all plugins in one "
                "Guidance(...), they share one pass there"
            )
        for name in reversed(self.family.entrances):
            self._wrap(self._stack, self.pipe, name, functools.partial(self._begin, name))

    def close(self) -> None:
        self._end()
        self._stack.close()

    def _begin(self, name: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The first thing in every call of a pipeline."""
        session = self._session
        if calling_pipeline(self.pipe) is not self.pipe:
            return original(
                *args, **kwargs
            )  # called by hand, or of a copy: no call of the pipeline
        if session is not None and (name != self.family.entrances[0] or session.occupied):
            return original(*args, **kwargs)
        if session is not None and session.under_way():
            raise ModelError(
                f"this {type(self.pipe).__name__} was called again while a guided call of it is "
                "under way, in a callback or in another thread, and both would step with one "
                "scheduler; make a second pipeline of the same models with a scheduler of its own: "
                "type(pipe)(**{**pipe.components, 'scheduler': type(pipe.scheduler)"
                ".from_config(pipe.scheduler.config)})"
            )
        self._end()
        if self._strange(original, args, kwargs):
            self.close()
            return original(*args, **kwargs)
        if self.family.denoiser is not self._denoiser:  # swapped since; layers have other names
            self.family = family_of(self.pipe)
            self._denoiser = self.family.denoiser
        self._session = Session(self, inside=self.pipe)
        try:
            if name == "check_inputs":
                result = original(*args, **kwargs)
                self._session.open()
            else:
                self._session.open()
                # The session wraps this method for later calls; this one is under way already.
                encodes = name == "encode_prompt"
                begun = self._session.encode if encodes else lambda call, *a, **k: call(*a, **k)
                result = begun(original, *args, **kwargs)
        except BaseException:
            self.ended(self._session)
            raise
        return result

    def _strange(self, original: Callable[..., Any], args: Any, kwargs: Any) -> bool:
        """Whether this is another call than the one that a callback put the guidance on for."""
        if self.only is None:
            return False
        given = inspect.signature(original).bind(*args, **kwargs)
        given.apply_defaults()
        if "callback_on_step_end_tensor_inputs" not in given.arguments:
            return False
        names = given.arguments["callback_on_step_end_tensor_inputs"] or ()
        return all(id(name) != self.only for name in names)

    def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def ended(self, session: Session) -> None:
        """A call has made its last step, or failed."""
        if self._session is not session:
            return
        try:
            self._end()
        finally:
            if self.on_end is not None:
                self.on_end(self)

    @staticmethod
    def _wrap(stack: ExitStack, owner: Any, name: str, around: Callable[..., Any]) -> None:
        """Put something around a bound method, on its instance only."""
        before = owner.__dict__.get(name)
        object.__setattr__(owner, name, _Wrapped(getattr(owner, name), around))

        def restore() -> None:
            if before is None:
                owner.__dict__.pop(name, None)
            else:
                object.__setattr__(owner, name, before)

        stack.callback(restore)


class Session:
    """One call of a guided pipeline, from its first check to its last step.

    Attributes:
        inside: the pipeline whose call it is: what other pipelines do with shared parts meanwhile
            is none of ours; None where no pipeline's own call is on the stack (modular ones).
    """

    def __init__(self, attachment: Attachment, inside: Any = None) -> None:
        self.attachment, self.inside = attachment, inside
        self.looping, self._thread = False, threading.get_ident()
        self.denoiser = attachment.family.denoiser
        self.pipe, self.family = attachment.pipe, attachment.family
        self.scheduler = self.pipe.scheduler
        self.prompts: list[str] | None = None
        self.batch_of_prompts, self.per_prompt = 0, 1
        self.asked = 0
        self.unscaled: Tensor | None = None
        self.engine: Engine | None = None
        self._beginning = False
        self._mark = object()
        self._outer = _running.get()
        self._stack = ExitStack()

    def open(self) -> None:
        wrap = functools.partial(Attachment._wrap, self._stack)
        _running.set(self._mark)
        self.family.encodings = []
        denoiser = self.denoiser
        _frozen.hold(denoiser)
        self._stack.callback(_frozen.release, denoiser)
        if self.attachment.memory.checkpointing and not denoiser.is_gradient_checkpointing:
            model: Any = denoiser
            model.enable_gradient_checkpointing()
            self._stack.callback(model.disable_gradient_checkpointing)
        self._stack.enter_context(schedulers.restored(self.scheduler))
        before = torch.compiler.disable(self._before)
        after = torch.compiler.disable(self._after)
        hook = denoiser.register_forward_pre_hook(before, with_kwargs=True)
        self._stack.callback(hook.remove)
        hook = denoiser.register_forward_hook(after)
        self._stack.callback(hook.remove)
        wrap(self.pipe, "encode_prompt", self.encode)
        wrap(self.pipe, "progress_bar", self._bar)
        wrap(self.scheduler, "set_timesteps", self._set_timesteps)
        wrap(self.scheduler, "step", self._step)
        if hasattr(self.scheduler, "scale_model_input"):
            wrap(self.scheduler, "scale_model_input", self._scale)
        if hasattr(self.pipe, "maybe_free_model_hooks"):
            wrap(self.pipe, "maybe_free_model_hooks", self._finish)

    def close(self) -> None:
        if _running.get() is self._mark:
            _running.set(self._outer)
        engine, self.engine = self.engine, None
        with self._stack:  # everything is put back even if a guide fails to report
            if engine is not None:
                engine.close()
                self.attachment.attention = engine.recorded()
                self.attachment.reports.append(engine.finish())

    @property
    def occupied(self) -> bool:
        """Whether the pipeline's parts are called by the engine now, or by a guide's start."""
        return self.engine.busy if self.engine is not None else self._beginning

    def under_way(self) -> bool:
        """Whether the call goes on: a call that failed before its loop tells nobody."""
        elsewhere = self._thread != threading.get_ident()
        return self.looping or (elsewhere and inside_a_call(self.inside, self._thread))

    def _mine(self) -> bool:
        if _running.get() is not self._mark or (self.engine is not None and self.engine.busy):
            return False
        # A callback may call another pipeline with the same denoiser or scheduler.
        return self.inside is None or calling_pipeline(self.inside) is self.inside

    def _bar(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return _Loop(original(*args, **kwargs), self)

    def encode(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
        if self._mine():
            self.family.encodings.append(given)
        if self._mine() and self.batch_of_prompts == 0:
            prompt, embeds = given.get("prompt"), given.get("prompt_embeds")
            if prompt is not None and embeds is None:
                self.prompts = [prompt] if isinstance(prompt, str) else list(prompt)
                self.batch_of_prompts = len(self.prompts)
            elif embeds is not None:
                self.batch_of_prompts = len(embeds)
            self.per_prompt = int(given.get("num_images_per_prompt", 1) or 1)
        return original(*args, **kwargs)

    def _set_timesteps(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.looping:
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
        if self._mine():
            self.unscaled = sample
        return original(sample, *args, **kwargs)

    def _before(self, module: nn.Module, args: Any, kwargs: dict[str, Any] | None = None) -> Any:
        # Another thread on the same denoiser may meet this hook half registered, without kwargs.
        if kwargs is None or not self._mine():
            return None
        call = self.family.bind(args, kwargs)
        if self.engine is None:
            self.engine = self._begin_run(call)
        changed = self.engine.before(call, self.unscaled)
        return None if changed is None else ((), self.family.arguments(changed))

    def _after(self, module: nn.Module, args: Any, output: Any) -> Any:
        if not self._mine() or self.engine is None:
            return None
        return self.engine.after(output)

    def _step(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._mine():
            return original(*args, **kwargs)
        if self.family.denoiser is not self.denoiser:
            raise ModelError(
                "the pipeline's denoiser was exchanged in the middle of a guided call, and the new "
                "one is not guided; exchange it between two calls"
            )
        if self.engine is None:
            return original(*args, **kwargs)
        result = self.engine.step(original, *args, **kwargs)
        self.unscaled = None
        if self.engine.done:
            self.attachment.ended(self)
        return result

    def _finish(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.attachment.ended(self)
        return original(*args, **kwargs)

    def _begin_run(self, call: Any) -> Engine:
        """The first denoiser call: everything about the run is known now."""
        self._beginning = True
        told = self.family.images_per_prompt(self.per_prompt)
        per = told if self.batch_of_prompts else 1
        halves = 2 if getattr(self.pipe, "do_classifier_free_guidance", False) else 1
        count = self.batch_of_prompts or call.rows // halves
        prompts = self.attachment.annotations.prompts(self.prompts, count)
        return Engine(
            family=self.family,
            scheduler=self.scheduler,
            plugins=self.attachment.plugins,
            memory=self.attachment.memory,
            record=self.attachment.record,
            prompts=tuple(prompt for prompt in prompts for _ in range(per)),
            asked=self.asked,
            call=call,
            unscaled=self.unscaled,
        )


class _Loop:
    """The pipeline's progress bar, around its denoising loop: notices when an exception leaves it.

    Module hooks are not enough: none of them is called after a KeyboardInterrupt.
    """

    def __init__(self, bar: Any, session: Session) -> None:
        self._bar, self._session = bar, session

    def __enter__(self) -> Any:
        self._session.looping = True
        return self._bar.__enter__()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> Any:
        self._session.looping = False
        if error is not None:
            self._session.attachment.ended(self._session)
        return self._bar.__exit__(kind, error, trace)

    def __iter__(self) -> Any:
        return iter(self._bar)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bar, name)


__all__ = ["Annotations", "Attachment"]
