"""The public object: plugins, and how they are put on a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adhere.errors import ParameterError
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.engine.annotations import Annotations
from adhere.pipelines.engine.attachment import Attachment
from adhere.pipelines.engine.callback import GuidanceCallback
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.engine.report import GuidedCalls, Outcome
from adhere.pipelines.engine.state import Setup


class Guidance:
    """Plugins, ready to be put on any pipeline. Holds no state of any run.

    Example:
        >>> guidance = Guidance(AttendAndExcite(), SafeLatentDiffusion("strong"))  # doctest: +SKIP
        >>> with guidance.attach(pipe):  # doctest: +SKIP
        ...     images = pipe("a cat and a frog").images
    """

    def __init__(self, *plugins: Plugin, memory: Memory | None = None) -> None:
        for plugin in plugins:
            if not isinstance(plugin, Plugin) or isinstance(plugin, type):
                raise ParameterError(
                    f"{plugin!r} is not a plugin; write for example Guidance(AttendAndExcite())"
                )
        self.plugins = plugins
        self.memory = memory or Memory()

    def __repr__(self) -> str:
        return f"Guidance({', '.join(map(repr, self.plugins))})"

    def attach(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Sequence[Layout | None] | None = None,
        record: bool = False,
        interrupt: Callable[[], bool] | None = None,
    ) -> Attached:
        """Guide every call of `pipe` from now on, until `detach()` or the end of a `with`.

        Args:
            pipe: a diffusers pipeline; it is left exactly as it was.
            prompt: the prompt's text, where the call is given `prompt_embeds`, or the prompt with
                markup (`[red|cat]`); one for all or one for each prompt of the call.
            subjects: phrases for plugins that are not given their own; one list for all prompts or
                one for each.
            layout: likewise.
            record: keep the attention maps of every step in `Attached.attention`.
            interrupt: asked before each pass of the model, extra ones included; when it says True
                the call ends with `Interrupted`.

        Raises:
            ModelError: the pipeline is of no known family, cannot be guided as asked, or has
                guidance attached already.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        return Attached(pipe, Setup(self.plugins, self.memory, annotations, record, interrupt))

    def callback(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Sequence[Layout | None] | None = None,
        record: bool = False,
        interrupt: Callable[[], bool] | None = None,
    ) -> GuidanceCallback:
        """The guidance as a diffusers callback: `pipe(..., callback_on_step_end=...)`.

        It composes in `MultiPipelineCallbacks`, and gives the same picture as `attach` does. The
        arguments are those of `attach`; `report` and `attention` are the callback's own.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        setup = Setup(self.plugins, self.memory, annotations, record, interrupt)
        return GuidanceCallback(pipe, setup)


class Attached(GuidedCalls):
    """Guidance on a pipeline. As a context it is detached at the end."""

    def __init__(self, pipe: Any, setup: Setup) -> None:
        self.outcome = Outcome()
        self._attachment = Attachment(pipe, setup, self.outcome)
        self._attachment.open()

    def detach(self) -> None:
        """Leave the pipeline as it was before. May be called again, and during a call."""
        self._attachment.close()

    def __enter__(self) -> Attached:
        if not self._attachment.on:  # detached before: attached again, for the `with`
            self._attachment.open()
        return self

    def __exit__(self, *failure: object) -> None:
        self.detach()
