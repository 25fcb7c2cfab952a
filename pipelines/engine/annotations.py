"""What was said beside a call: its prompts' text, subjects and layouts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from adhere.errors import ParameterError, PromptError
from adhere.guides.run import NO_TEXT, Prompt
from adhere.layout.layout import Layout
from adhere.prompt.markup import strip_markup, unread_brackets, unread_markup
from adhere.prompt.syntax import unread_weight

BESIDE = ("prompt_2", "prompt_3")
NEGATIVE = ("negative_prompt", "negative_prompt_2", "negative_prompt_3")
"""Pipelines' arguments for the texts beside a prompt."""


@dataclass(frozen=True)
class Annotations:
    """What was said beside the call: prompt text, subjects and layouts; one for all or one each.

    `broken`: those prompts of a call with markup whose own brackets do not pair.
    """

    prompt: str | tuple[str, ...] | None
    subjects: tuple[Any, ...] | None
    layout: Layout | tuple[Layout | None, ...] | None
    broken: tuple[str, ...] = ()

    @classmethod
    def of(cls, prompt: Any, subjects: Any, layout: Any) -> Annotations:
        """What `attach` was given.

        Raises:
            ParameterError: something is neither one for all nor one for each prompt.
        """
        return cls(_prompt(prompt), _subjects(subjects), _layout(layout))

    def marked(self, called: Any) -> Annotations:
        """With the markup of the prompt that a pipeline was called with, where none was told.

        Args:
            called: the pipeline's argument `prompt`; it is to be given `unmarked(called)`.
        """
        if self.prompt is not None or unmarked(called) == called:
            return self
        if isinstance(called, str):
            return replace(self, prompt=called)
        parsable = tuple(map(_parsable, called))
        broken = tuple(one for one, other in zip(called, parsable, strict=True) if one != other)
        return replace(self, prompt=parsable, broken=broken)

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
            for stated, seen in zip(texts, called, strict=True):
                if Prompt(stated).plain != seen:
                    raise PromptError(
                        f"the guidance was told the prompt is {stated!r}, and the call's prompt is "
                        f"{seen!r}; say the same, or leave it out of the guidance"
                    )
        return texts

    def unread(
        self, called: Sequence[str] | None, asked: Mapping[str, Any], own: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Sentences on what in a call's texts looks like syntax and is read as plain text.

        Args:
            called: its prompts as they are encoded; None where it was given embeddings.
            asked: its arguments by name, for the texts beside the prompt.
            own: the guides' own texts.
        """
        stated = _texts_in(self.prompt) if called is None else list(called)
        beside = [text for name in BESIDE for text in _texts_in(asked.get(name))]
        negative = [text for name in NEGATIVE for text in _texts_in(asked.get(name))]
        said = [unread_weight(text) for text in (*stated, *beside, *negative, *own)]
        said += map(unread_markup, stated if self.prompt is None else self.broken)
        said += map(unread_brackets, negative)
        said += [unread_brackets(text, f"a plugin's text {text[:30]!r}") for text in own]
        return tuple(dict.fromkeys(sentence for sentence in said if sentence))


def unmarked(called: Any) -> Any:
    """A pipeline's prompt argument without markup; as it is where it is no text, or has none."""
    if isinstance(called, str):
        return _plain(called)
    if isinstance(called, (list, tuple)) and all(isinstance(one, str) for one in called):
        return [_plain(one) for one in called]
    return called


def _texts_in(given: Any) -> list[str]:
    """The texts in a pipeline's argument, which may be one, some or none."""
    if isinstance(given, str):
        return [given]
    return [one for one in given or () if isinstance(one, str)]


def _plain(prompt: str) -> str:
    """What the text encoder is to see. Brackets that do not pair are the prompt's own."""
    try:
        return strip_markup(prompt)
    except PromptError:
        return prompt


def _parsable(prompt: str) -> str:
    """A prompt with markup as it is; one whose brackets do not pair with those taken as text."""
    try:
        strip_markup(prompt)
    except PromptError:
        return _literal(prompt)
    return prompt


def _literal(prompt: str) -> str:
    """A prompt whose brackets are no markup: the pipeline's text encoder reads them too."""
    return re.sub(r"([\[\]|])", r"\\\1", prompt)


def _prompt(given: Any) -> str | tuple[str, ...] | None:
    if given is None or isinstance(given, str):
        return given
    if not isinstance(given, Iterable):
        raise ParameterError(f"prompt={given!r} is not a text, nor a list of texts")
    return tuple(_text("prompt", one) for one in given)


def _subjects(given: Any) -> tuple[Any, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, Iterable) or isinstance(given, Mapping):
        raise ParameterError(f"subjects={given!r} is no list of phrases, as in ['cat', 'dog']")
    return tuple(_some_subjects(one) for one in given)


def _some_subjects(one: Any) -> str | tuple[str, ...] | None:
    if one is None or isinstance(one, str):
        return one
    if not isinstance(one, Sequence):
        return _text("subjects", one)
    return tuple(_text("subjects", phrase) for phrase in one)


def _text(name: str, given: Any) -> str:
    if not isinstance(given, str):
        raise ParameterError(
            f"{name}: {given!r} is not a text; write words of the prompt, as in ['cat', 'dog']"
        )
    return given


def _layout(given: Any) -> Layout | tuple[Layout | None, ...] | None:
    """A layout as it is, as the data of one, or one for each prompt."""
    if given is None or isinstance(given, Layout):
        return given
    if isinstance(given, Mapping):
        return Layout.from_json(given)
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ParameterError(
            f"layout={given!r} is not a layout; give a Layout, its JSON as a dict, or "
            "Layout.read(file)"
        )
    return tuple(_one_layout(one) for one in given)


def _one_layout(given: Any) -> Layout | None:
    one = _layout(given)
    if isinstance(one, tuple):
        raise ParameterError(f"layout: {given!r} is a list within a list; give one for each prompt")
    return one


def _is_list_of_lists(given: Any) -> bool:
    return any(not isinstance(one, str) for one in given)


def _spread(name: str, given: Any, count: int, each: Callable[[Any], bool]) -> list[Any]:
    if given is None or not each(given):
        return [given] * count
    if len(given) != count:
        raise PromptError(f"{len(given)} entries in {name} for {count} prompts; give one for each")
    return list(given)
