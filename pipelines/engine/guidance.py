"""The public object: plugins, and how they are put on a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from adhere.errors import ParameterError
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.guides.renamed import old_protocol
from adhere.layout.layout import Layout
from adhere.pipelines.engine.annotations import Annotations
from adhere.pipelines.engine.attachment import Attachment
from adhere.pipelines.engine.callback import GuidanceCallback
from adhere.pipelines.engine.memory import Memory
from adhere.pipelines.engine.outcome import GuidedCalls, Outcome
from adhere.pipelines.engine.state import Setup
from adhere.pipelines.hooks import decoding


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
                    f"{plugin!r} is not a plugin{old_protocol(plugin)}; write for example "
                    "Guidance(AttendAndExcite())"
                )
        if not isinstance(memory, Memory | None):
            raise ParameterError(
                f"memory={memory!r} is no Memory; write for example memory=Memory(sub_batch=2)"
            )
        self.plugins = parameters.each_once(plugins)
        self.memory = memory or Memory()

    def __repr__(self) -> str:
        parts = [_short_repr(plugin) for plugin in self.plugins]
        if self.memory != Memory():
            parts.append(f"memory={_short_repr(self.memory)}")
        return f"Guidance({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Guidance):
            return NotImplemented
        return (self.plugins, self.memory) == (other.plugins, other.memory)

    def __hash__(self) -> int:
        return hash((self.plugins, self.memory))

    def to_json(self) -> dict[str, Any]:
        """The guidance as plain data: `{"plugins": [...], "memory": {...}}`."""
        plugins = [parameters.to_json(plugin) for plugin in self.plugins]
        memory = {**asdict(self.memory), "layers": list(self.memory.layers)}
        return {"plugins": plugins, "memory": memory}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Guidance:
        """The inverse of `to_json`.

        Raises:
            ParameterError: the data is no guidance, or names what is unknown here.
        """
        from adhere.plugins import plugin

        known = {"plugins", "memory"}
        if not isinstance(data, Mapping) or "plugins" not in data or set(data) - known:
            raise ParameterError(
                f"{data!r} is not a guidance; expected {{'plugins': [...], 'memory': {{...}}}}"
            )
        specs = data["plugins"]
        if not isinstance(specs, (list, tuple)):
            raise ParameterError(f"plugins={specs!r} is no list; write ['syngen'] for one")
        given = data.get("memory") or {}
        if not isinstance(given, Mapping):
            raise ParameterError(f"memory={given!r} is no object; write {{'sub_batch': 2}}")
        memory = dict(given)
        unknown = sorted(set(memory) - {one.name for one in fields(Memory)})
        if unknown:
            names = ", ".join(asdict(Memory()))
            raise ParameterError(f"memory has no {unknown[0]!r}; it has: {names}")
        memory["layers"] = tuple(memory.get("layers", ()))
        return cls(*map(plugin, specs), memory=Memory(**memory))

    def attach(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Mapping[str, Any] | Sequence[Layout | None] | None = None,
        record: bool = False,
        interrupt: Callable[[], bool] | None = None,
        previews: Any = None,
    ) -> Attached:
        """Guide every call of `pipe` from now on, until `detach()` or the end of a `with`.

        Args:
            pipe: a diffusers pipeline; it is left exactly as it was.
            prompt: the prompt's text, where the call is given `prompt_embeds`, or the prompt with
                markup (`[red|cat]`); one for all or one for each prompt of the call.
            subjects: phrases for plugins that are not given their own; one list for all prompts or
                one for each.
            layout: likewise; a `Layout`, or its JSON as a dict.
            record: keep the attention maps of every step in `Attached.attention`.
            interrupt: asked before each pass of the model, extra ones included; when it says True
                the call ends with `Interrupted`.
            previews: decodes what methods look at on the way, for example an `AutoencoderTiny`; the
                pipeline's own decoder if left out.

        Raises:
            ModelError: the pipeline is of no known family, cannot be guided as asked, or has
                guidance attached already.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        return Attached(
            pipe, self._setup(annotations, record, interrupt, decoding.checked(pipe, previews))
        )

    def callback(
        self,
        pipe: Any,
        *,
        prompt: str | Sequence[str] | None = None,
        subjects: Sequence[str] | Sequence[Sequence[str] | None] | None = None,
        layout: Layout | Mapping[str, Any] | Sequence[Layout | None] | None = None,
        record: bool = False,
        interrupt: Callable[[], bool] | None = None,
        previews: Any = None,
    ) -> GuidanceCallback:
        """The guidance as a diffusers callback: `pipe(..., callback_on_step_end=...)`.

        It composes in `MultiPipelineCallbacks`, and gives the same picture as `attach` does. The
        arguments are those of `attach`; `report` and `attention` are the callback's own.
        """
        annotations = Annotations.of(prompt, subjects, layout)
        return GuidanceCallback(
            pipe, self._setup(annotations, record, interrupt, decoding.checked(pipe, previews))
        )

    def _setup(
        self,
        annotations: Annotations,
        record: bool,
        interrupt: Callable[[], bool] | None,
        previews: Any,
    ) -> Setup:
        if not isinstance(record, bool):
            raise ParameterError(f"record={record!r} is neither True nor False")
        if interrupt is not None and not callable(interrupt):
            raise ParameterError(
                f"interrupt={interrupt!r} cannot be called; give a function that says True when "
                "the call is to end, as in threading.Event().is_set"
            )
        return Setup(self.plugins, self.memory, annotations, record, interrupt, previews)


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


def _short_repr(value: Any) -> str:
    """A dataclass with the fields that are not at their defaults."""
    changed = [one for one in fields(value) if getattr(value, one.name) != one.default]
    inner = ", ".join(f"{one.name}={getattr(value, one.name)!r}" for one in changed)
    return f"{type(value).__name__}({inner})"
