"""A run: one call of a pipeline, for a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from adhere.errors import GuidanceError, LayoutError, PromptError
from adhere.guides.renamed import Renamed
from adhere.layout.layout import OWN_WORDS, Layout
from adhere.prompt.parser import Parse, parse
from adhere.prompt.phrases import Entity, Span, find
from adhere.prompt.tokens import Phrase, TokenisedPrompt, Track, columns_of


class NoText(str):
    """A text that nobody said, which is empty and no empty text."""

    __slots__ = ()


NO_TEXT = NoText()
"""The text of a call that was given embeddings only. Methods that need no words still work."""
_UNTOLD = (
    "the call was given prompt_embeds, and which text they are of is not known; pass it as "
    "attach(pipe, prompt=...) or callback(pipe, prompt=...)"
)


@dataclass(frozen=True)
class Prompt(Renamed):
    """What is asked of one image.

    Attributes:
        text: the prompt; may carry markup (`[red|cat]`), which the text encoder does not see.
        subjects: phrases for methods that guide subjects; the parser's nouns when None.
        layout: regions for methods that guide places.
        parser: which parser reads the nouns.
    """

    renamed: ClassVar[Mapping[str, str]] = {"prompt": "text"}

    text: str
    subjects: tuple[str, ...] | None = None
    layout: Layout | None = None
    parser: Literal["auto", "chunker", "spacy"] = "auto"

    @cached_property
    def parsed(self) -> Parse:
        """The nouns of the prompt and what modifies each.

        Raises:
            PromptError: nobody said what the prompt is (`NO_TEXT`).
        """
        if isinstance(self.text, NoText):
            raise PromptError(_UNTOLD)
        return parse(self.text, self.parser)

    @property
    def plain(self) -> str:
        """The text without markup, as the text encoder sees it; `NO_TEXT` as it is.

        A method that goes by what the prompt says asks `Run.spoken` instead.
        """
        return self.text if isinstance(self.text, NoText) else self.parsed.text


@dataclass(frozen=True)
class BoundNoun:
    """A noun and the modifiers that belong to it, as token columns."""

    noun: Phrase
    modifiers: tuple[Phrase, ...]

    @property
    def phrases(self) -> tuple[Phrase, ...]:
        """The noun, then its modifiers."""
        return (self.noun, *self.modifiers)


@dataclass(frozen=True)
class Regions:
    """An image's layout, with the token columns of each region's phrase."""

    layout: Layout
    phrases: tuple[Phrase, ...]

    def masks(self, grid: tuple[int, int]) -> Float[Tensor, "regions h w"]:
        """The share of each cell of a grid that each region covers, in [0, 1]."""
        return self.layout.masks(grid)


@dataclass
class Run(Renamed):
    """One call of a pipeline. Guides read it; nothing of it outlives the call.

    Attributes:
        prompts: one for each image of the batch (`num_images_per_prompt` already repeated).
        tracks: the text encoders' columns, image by image.
        unread: why words cannot be found in the attention, and there are no tracks. It is raised
            when a guide looks for some.
        grid: `(h, w)` of the latents.
        steps: number of steps that was asked for.
        family: name of the model family, for reports.
        sampling: True when the run starts from pure noise (text-to-image).
        multistep: whether the sampler steps from predictions of earlier steps, which an image that
            is begun again would not have.
        notes: sentences for the report.
        used: what of the call's own `subjects` and `layout` some guide has asked for, and "words"
            where one has looked for words of the prompt.
        heard: of each layout that some guide follows, what regions have beside phrase and place
            (`Layout.own_words`) that some guide heeds.
        pictures: how many pictures were given to IP-Adapters that take masks.
        size: height and width that the call asked for, in pixels; None where it did not say.
        guided: whether its steps make a prediction without the prompt, too: not where a model is
            guidance-distilled or the guidance scale is 1.
        seeds: a number for each image, of the latents that it began with: what is drawn by it is
            the image's own, and the same at any batch size.
        weights: tells a fingerprint of the model that runs, for methods whose files belong to one;
            an empty one where its weights are not in memory.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "briefs": "prompts",
        "words": "phrase(...)",
        "pairs": "nouns(...)",
    }

    prompts: tuple[Prompt, ...]
    tracks: tuple[Track, ...]
    grid: tuple[int, int]
    steps: int
    family: str
    sampling: bool = True
    multistep: bool = False
    unread: GuidanceError | None = None
    notes: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    heard: dict[Layout, set[str]] = field(default_factory=dict)
    pictures: int = 0
    size: tuple[int, int] | None = None
    guided: bool = True
    seeds: tuple[int, ...] = ()
    weights: Callable[[], str] = str

    @property
    def batch(self) -> int:
        """Number of images."""
        return len(self.prompts)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The images of each prompt of the call, which differ in their noise alone."""
        found: dict[int, list[int]] = {}
        for image, prompt in enumerate(self.prompts):
            found.setdefault(id(prompt), []).append(image)
        return tuple(map(tuple, found.values()))

    @property
    def encoders(self) -> int:
        """Number of text encoders with columns of their own."""
        return len(self.tracks)

    def _use(self, what: str, given: object) -> None:
        if given is None:
            self.used.add(what)

    def unused(self) -> list[str]:
        """What was given and no guide has asked for: "layout given with the call", or what the
        regions of a layout that is followed say of themselves, such as "regions' strength, stop
        given with the plugin".
        """
        came = {
            "subjects": any(prompt.subjects is not None for prompt in self.prompts),
            "layout": any(prompt.layout is not None for prompt in self.prompts),
        }
        left = [
            f"{what} given with the call"
            for what, given in came.items()
            if given and what not in self.used
        ]
        called = [prompt.layout for prompt in self.prompts if "layout" in self.used]
        own: dict[str, dict[str, None]] = {}  # in the order in which they come
        for layout, heard in self.heard.items():
            whose = "call" if layout in called else "plugin"
            unheard = [name for name in layout.own_words if name not in heard]
            own.setdefault(whose, {}).update(dict.fromkeys(unheard))
        return left + [
            f"regions' {', '.join(names)} given with the {whose}"
            for whose, names in own.items()
            if names
        ]

    def note(self, sentence: str) -> None:
        """Add a sentence to the report, once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def from_noise(self, name: str) -> bool:
        """Whether the call starts from noise, which a method may choose. Where it starts from a
        picture, that there is none to choose is in the notes, by the method's `name`.
        """
        if not self.sampling:
            self.note(f"{name} chose no noise: the call starts from a picture")
        return self.sampling

    def spoken(self, *, columns: bool = False) -> tuple[str, ...]:
        """Each image's prompt as the text encoders see it, for methods that read it themselves.

        Args:
            columns: whether what is made of it goes by the columns of its words, and is wrong
                beside a method that gives the model another text.

        Raises:
            PromptError: the call was given embeddings, and nobody said of what text.
        """
        if columns:
            self.used.add("words")
        return tuple(prompt.parsed.text for prompt in self.prompts)

    def phrase(self, image: int, text: str) -> Phrase:
        """The token columns of a phrase in an image's prompt. `cat#2` is the second cat.

        Raises:
            PromptError: the phrase is absent, or lies beyond the last token of an encoder.
        """
        return self._columns(image, find(self._words(image), text))

    def subjects(self, given: Sequence[str] | None = None) -> tuple[tuple[Phrase, ...], ...]:
        """For each image the subjects: those given, else its prompt's, else the parser's nouns."""
        self._use("subjects", given)
        return tuple(self._subjects(image, given) for image in range(self.batch))

    def nouns(self, given: Sequence[str] | None = None) -> tuple[tuple[BoundNoun, ...], ...]:
        """For each image its nouns with their modifiers, as parsed; nouns without are included.

        `given`, or else the call's subjects, restrict them to the entities whose noun or phrase
        is named. A subject that is none of them is in the notes.

        Raises:
            PromptError: a subject is not in its prompt, or there are to be none.
        """
        self._use("subjects", given)
        chosen = [_some(prompt.subjects if given is None else given) for prompt in self.prompts]
        for image, phrases in enumerate(chosen):
            self._note_other_subjects(image, phrases or ())
        return self._nouns(chosen)

    def all_nouns(self) -> tuple[tuple[BoundNoun, ...], ...]:
        """For each image every noun of its prompt with its modifiers, whatever the subjects are."""
        return self._nouns([None] * self.batch)

    def heard_nouns(self) -> tuple[tuple[BoundNoun, ...], ...]:
        """For each image the nouns that all its encoders read, with those modifiers that they do.
        What lies beyond an encoder's last token is left out, which is in the notes.

        Raises:
            PromptError: an image has nouns, and all of them lie there.
        """
        return tuple(
            self._bound(image, self._heard(image, self._entities(image)))
            for image in range(self.batch)
        )

    def _nouns(self, chosen: Sequence[Sequence[str] | None]) -> tuple[tuple[BoundNoun, ...], ...]:
        return tuple(
            self._bound(image, [
                entity
                for entity in self._entities(image)
                if given is None or self._named(image, entity, given)
            ])
            for image, given in enumerate(chosen)
        )  # fmt: skip

    def _bound(self, image: int, entities: Sequence[Entity]) -> tuple[BoundNoun, ...]:
        return tuple(
            BoundNoun(
                self._columns(image, entity.noun),
                tuple(self._columns(image, span) for span in entity.modifiers),
            )
            for entity in entities
        )

    def _heard(self, image: int, entities: Sequence[Entity]) -> Sequence[Entity]:
        """Entities as far as they are read; as they are where nothing is, so that they say why."""
        cut = min((one.cut for one in self.tokens(image) if one.cut is not None), default=None)
        if cut is None:
            return entities
        spans = [span for entity in entities for span in (entity.noun, *entity.modifiers)]
        beyond = [span for span in sorted(spans, key=lambda one: one.start) if span.end > cut]
        if beyond:
            unread = ", ".join(repr(span.text) for span in beyond)
            self.note(f"attention says nothing of {unread}: the prompt is cut before it")
        heard = [
            replace(entity, modifiers=tuple(s for s in entity.modifiers if s not in beyond))
            for entity in entities
            if entity.noun not in beyond
        ]
        return heard or entities

    def layouts(self, given: Layout | None = None) -> tuple[Layout, ...]:
        """For each image its layout: the one given, else its prompt's.

        Raises:
            LayoutError: an image has none, a phrase of it is not in the prompt, or a mask of it has
                another aspect ratio than the picture.
            PromptError: the call was given embeddings, and nobody said of what text.
        """
        layouts = self._layouts(given, ())
        for spoken, layout in zip(self.spoken(), layouts, strict=True):
            layout.check(spoken)
        return layouts

    def own_texts(
        self, given: Layout | None = None, heeds: Collection[str] = OWN_WORDS
    ) -> tuple[Layout, ...]:
        """The same for methods that give each region a text: its phrases may be in no prompt.

        Args:
            heeds: what of that which regions have beside phrase and place the method goes by.

        Raises:
            LayoutError: an image has no layout, or one with masks of another aspect ratio.
        """
        layouts = self._layouts(given, heeds)
        return tuple(
            layout.spoken(prompt.plain)
            for prompt, layout in zip(self.prompts, layouts, strict=True)
        )

    def _layouts(self, given: Layout | None, heeds: Collection[str]) -> tuple[Layout, ...]:
        self._use("layout", given)
        layouts = []
        for prompt in self.prompts:
            layout = given or prompt.layout
            if layout is None:
                raise LayoutError(
                    f"no layout for {prompt.plain!r}: give one to the plugin (layout=...) "
                    "or to the call (attach(pipe, layout=...), --layout scene.json)"
                )
            layout.check_masks(self.size or self.grid)
            self.heard.setdefault(layout, set()).update(heeds)
            layouts.append(layout)
        return tuple(layouts)

    def regions(self, given: Layout | None = None) -> tuple[Regions, ...]:
        """For each image the regions of its layout, with their phrases as token columns.

        Raises:
            LayoutError: an image has no layout.
            PromptError: a region's phrase is not in the prompt.
        """
        return tuple(
            Regions(layout, tuple(self.phrase(image, phrase) for phrase in layout.phrases))
            for image, layout in enumerate(one.of_prompt() for one in self.layouts(given))
        )

    def tokens(self, image: int) -> tuple[TokenisedPrompt, ...]:
        """An image's prompt as each text encoder sees it.

        Raises:
            GuidanceError: `unread`, if that is set.
        """
        self.used.add("words")
        if self.unread is not None:
            raise self.unread
        return tuple(track.images[image] for track in self.tracks)

    def content(self, image: int) -> tuple[tuple[int, ...], ...]:
        """The columns of a prompt's own tokens, without start, end and padding, by encoder."""
        return tuple(tokens.content for tokens in self.tokens(image))

    def _words(self, image: int) -> str:
        """An image's prompt, which must have words."""
        text = self.prompts[image].parsed.text
        if not text.strip():
            raise PromptError(
                "the prompt is empty; guidance finds subjects by their words: write a prompt"
            )
        return text

    def _entities(self, image: int) -> tuple[Entity, ...]:
        text, parsed = self._words(image), self.prompts[image].parsed
        for doubt in parsed.uncertain:
            self.note(f"{text!r}: {doubt}")
        return parsed.entities

    def _named(self, image: int, entity: Entity, given: Sequence[str]) -> bool:
        """Whether one of the given phrases overlaps an entity."""
        spans = [find(self._words(image), phrase) for phrase in given]
        return any(s.start < entity.noun.end and entity.phrase.start < s.end for s in spans)

    def _note_other_subjects(self, image: int, given: Sequence[str]) -> None:
        """Say which of an image's subjects overlap no entity, and so are left out."""
        entities = self._entities(image) if given else ()
        for phrase in given:
            if not any(self._named(image, entity, (phrase,)) for entity in entities):
                nouns = ", ".join(repr(entity.noun.text) for entity in entities) or "none"
                self.note(
                    f"the subject {phrase!r} is left out: it is no noun of "
                    f"{self.prompts[image].plain!r} with its modifiers (nouns: {nouns}); "
                    "mark all that count, as in [red|cat] and [dog]"
                )

    def _subjects(self, image: int, given: Sequence[str] | None) -> tuple[Phrase, ...]:
        prompt = self.prompts[image]
        phrases = _some(given if given is not None else prompt.subjects)
        if phrases is not None:
            return _each_once([self.phrase(image, phrase) for phrase in phrases])
        entities = self._entities(image)
        if not entities:
            doubts = "".join(f" ({doubt})" for doubt in prompt.parsed.uncertain)
            raise PromptError(
                f"no noun found in {prompt.plain!r}{doubts}: name the subjects "
                '(subjects=("cat", "frog"), --subjects "cat|frog")'
            )
        return tuple(self._columns(image, entity.noun) for entity in entities)

    def _columns(self, image: int, span: Span) -> Phrase:
        return columns_of(span, self.tokens(image))


def _each_once(subjects: Sequence[Phrase]) -> tuple[Phrase, ...]:
    """Subjects that were given, which must be different words of their prompt.

    Raises:
        PromptError: one is named twice.
    """
    for number, one in enumerate(subjects):
        if any(one.columns == other.columns for other in subjects[:number]):
            raise PromptError(
                f"the subject {one.text!r} is named twice; name it once, or {one.text}#2 where the "
                "prompt has two of them"
            )
    return tuple(subjects)


def _some(phrases: Sequence[str] | None) -> Sequence[str] | None:
    """Subjects that were given, of which there must be some, or None for the parser's.

    Raises:
        PromptError: there are none.
    """
    if phrases is not None and not phrases:
        raise PromptError("subjects is empty: name at least one phrase, or leave it out")
    return phrases
