"""The public object: plugins, and how they are put on a pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from adhere.errors import ParameterError
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.engine.attachment import Annotations, Attachment
from adhere.pipelines.engine.callback import GuidanceCallback
from adhere.pipelines.engine.report import RunReport


@dataclass(frozen=True)
class Memory:
    """What the extra passes may cost.

    Attributes:
        checkpointing: recompute activations in the backward pass instead of keeping them.
        sub_batch: images that go through a gradient pass at once; all when None.
        layers: glob patterns of the attention layers to read; the family's choice when empty.
    """

    checkpointing: bool = False
    sub_batch: int | None = None
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sub_batch is not None and self.sub_batch < 1:
            raise ParameterError(f"sub_batch={self.sub_batch} is not a number of images, 1 or more")


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

    @contextmanager
    def attach(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Sequence[Layout | None] | None = None,
        record: bool = False,
    ) -> Iterator[Attached]:
        """Guide every call of `pipe` inside the `with`.

        Args:
            pipe: a diffusers pipeline; it is left exactly as it was.
            prompt: the prompt's text, where the call is given `prompt_embeds`, or the prompt with
                markup (`[red|cat]`); one for all or one for each prompt of the call.
            subjects: phrases for plugins that are not given their own; one list for all prompts or
                one for each.
            layout: likewise.
            record: keep the attention maps of every step in `Attached.attention`.

        Raises:
            ModelError: the pipeline is of no known family, cannot be guided as asked, or has
                guidance attached already.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        attachment = Attachment(pipe, self.plugins, self.memory, annotations, record)
        attachment.open()
        try:
            yield Attached(attachment)
        finally:
            attachment.close()

    def callback(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Sequence[Layout | None] | None = None,
    ) -> GuidanceCallback:
        """The guidance as a diffusers callback: `pipe(..., callback_on_step_end=...)`.

        It composes in `MultiPipelineCallbacks`, and gives the same picture as `attach` does.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        return GuidanceCallback(
            lambda on_end: Attachment(
                pipe, self.plugins, self.memory, annotations, record=False, on_end=on_end
            )
        )


@dataclass
class Attached:
    """What comes out of guided calls besides pictures."""

    _attachment: Attachment = field(repr=False)

    @property
    def reports(self) -> list[RunReport]:
        """One for each call, oldest first."""
        return self._attachment.reports

    @property
    def report(self) -> RunReport:
        """The last call's."""
        if not self.reports:
            raise ParameterError("no guided call has been made yet, so there is no report")
        return self.reports[-1]

    @property
    def attention(self) -> Any:
        """`Float[batch steps h w tokens]` of the last call, on the CPU; needs `record=True`."""
        return self._attachment.attention
