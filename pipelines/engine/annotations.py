"""What was said beside a call: its prompts' text, subjects and layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from adhere.errors import PromptError
from adhere.guides.run import NO_TEXT, Prompt
from adhere.layout.layout import Layout


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
