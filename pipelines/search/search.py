"""Best of N: several starting noises, early dropping, and the best finished pictures.

Every candidate is a call of the pipeline with a seed of its own, so each can be made again alone.
Those that a verifier likes least at a look early in the run, or whose attention promises least
there, are never finished; the finalists are made from the beginning, which costs them the looked-at
steps twice and asks nothing of a sampler.

What a search takes of the device's memory depends on how many it makes `together`, not on how many
there are. Finished pictures are kept in main memory until all are verified, then the best that are
wanted; what was looked at early is not kept.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any, TypeVar

import torch
from PIL import Image

from adhere import verifiers
from adhere.errors import ParameterError
from adhere.pipelines.engine.annotations import unmarked
from adhere.pipelines.engine.guidance import Guidance
from adhere.pipelines.search.calling import at_once, check_call, for_each
from adhere.pipelines.search.foreseeing import Foreseeing, Foreseen
from adhere.pipelines.search.parts import Parts
from adhere.pipelines.search.settings import is_number, is_whole, known_fields, plain_numbers
from adhere.pipelines.search.stopped import carry
from adhere.verifiers import Verifier
from adhere.verifiers.scoring import score

Seen = TypeVar("Seen")
APART = 1_000_003
"""Between the seeds of one search's candidates: searches from seeds 0, 1, 2... share none."""

Make = Callable[[Sequence[int]], Sequence[Image.Image]]
"""Pictures of some seeds, made together."""
Foresee = Callable[[Sequence[int]], Sequence[Foreseen]]
"""What is foreseen of some seeds, together."""
DROPPING = ("verifier", "attention", "both")


@dataclass(frozen=True)
class Search:
    """How many candidates a picture is chosen from, and how. Plain data; JSON round-trip.

    Attributes:
        candidates: pictures begun, the one of the given seed included.
        verifier: a verifier's name, or a combination of some.
        look_at: share of the run at which candidates are looked at; 1 to finish them all.
        finish: how many are finished; a quarter of them if left out.
        drop_by: who says which candidates are not: the `verifier`, by the pictures that are
            foreseen; the run's own `attention` to the prompt's nouns and their modifiers; or
            `both`, by the sum of a candidate's places.
    """

    candidates: int = 8
    verifier: str = "clip-score"
    look_at: float = 0.36
    finish: int | None = None
    drop_by: str = "verifier"

    def __post_init__(self) -> None:
        if self.drop_by not in DROPPING:
            raise ParameterError(
                f"drop_by={self.drop_by!r}; candidates are dropped by: {', '.join(DROPPING)}"
            )
        if not is_whole(self.candidates) or self.candidates < 1:
            raise ParameterError(f"candidates={self.candidates!r}; give a whole number from 1 on")
        if not is_number(self.look_at) or not 0 <= self.look_at <= 1:
            raise ParameterError(f"look_at={self.look_at!r} is no share of a run, from 0 to 1")
        finish = self.candidates if self.finish is None else self.finish
        if not is_whole(finish) or not 1 <= finish <= self.candidates:
            raise ParameterError(
                f"finish={self.finish!r} of {self.candidates} candidates; give 1 to "
                f"{self.candidates}"
            )
        plain_numbers(self)

    def look(self) -> Foreseeing:
        """A look at candidates, which ends them there."""
        by = self.drop_by
        return Foreseeing(self.look_at, pictures=by != "attention", attention=by != "verifier")

    @property
    def finalists(self) -> int:
        """How many are finished at the least."""
        if self.look_at == 1:
            return self.candidates
        return self.finish or max(1, math.ceil(self.candidates / 4))

    def seeds(self, first: int) -> tuple[int, ...]:
        """The candidates' seeds; the first is the one given."""
        return tuple(int(first) + k * APART for k in range(self.candidates))

    def to_json(self) -> dict[str, Any]:
        """Plain data. The usual `drop_by` is left out: searches' names are older."""
        told = asdict(self)
        if self.drop_by == DROPPING[0]:
            del told["drop_by"]
        return told

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Search:
        """The inverse of `to_json`.

        Raises:
            ParameterError: an unknown key, or a value out of range.
        """
        return cls(**known_fields(cls, data, "a search"))


@dataclass
class Candidate:
    """One picture that was begun. Scores are None where there was none to be had.

    `foreseen` is the verifier's of what was foreseen, `promise` what its attention said there.
    """

    seed: int
    foreseen: float | None = None
    promise: float | None = None
    score: float | None = None
    picture: Image.Image | None = None


@dataclass(frozen=True)
class Ranking:
    """The candidates of a search, best first: the finished by score, then the dropped.

    Attributes:
        stopped_by: the name of the exception that ended the search before its time, if one did.
    """

    candidates: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()
    stopped_by: str | None = None

    @property
    def finished(self) -> tuple[Candidate, ...]:
        return tuple(one for one in self.candidates if one.picture is not None)

    @property
    def pictures(self) -> list[Image.Image]:
        """The finished pictures, best first."""
        return [one.picture for one in self.candidates if one.picture is not None]

    def to_json(self) -> dict[str, Any]:
        """Seeds and scores, best first, and what is to be known of them."""
        told = [
            {
                "seed": c.seed,
                "foreseen": c.foreseen,
                **({} if c.promise is None else {"promise": c.promise}),
                "score": c.score,
                "finished": bool(c.picture),
            }
            for c in self.candidates
        ]
        stopped = {"stopped_by": self.stopped_by} if self.stopped_by else {}
        return {"candidates": told, "notes": list(self.notes), **stopped}


def ranked(
    prompt: str,
    how: Search,
    judged: Verifier,
    seed: int,
    foresee: Foresee,
    finish: Make,
    together: int = 4,
) -> Ranking:
    """The search itself.

    Args:
        prompt: without markup, as pictures are judged by it.
        judged: what scores previews and pictures.
        seed: of the first candidate.
        foresee: what `how.look()` sees of some seeds; not asked where all are finished.
        finish: the pictures themselves.
        together: how many of them are made at once, at the most; fewer where memory holds no more.

    What is raised on the way has the ranking of what was finished as its `outcome`.
    """
    each = [Candidate(one) for one in how.seeds(seed)]
    notes: dict[str, None] = {}
    parts = Parts(together, notes.setdefault)

    def scores(pictures: Sequence[Image.Image]) -> Iterator[float | None]:
        found = score(judged, pictures, [prompt] * len(pictures))
        notes.update(dict.fromkeys(found.failures))
        return map(_known, found.scores)

    def ranking(stopped_by: str | None = None) -> Ranking:
        order = sorted(chain(*_by_promise(each)), key=_place)
        return Ranking(tuple(order), tuple(notes), stopped_by)

    try:
        if how.finalists < len(each):
            for some, seen in parts.each(each, partial(_of_seeds, foresee)):
                notes.update((note, None) for look in seen for note in look.notes)
                _look(some, seen, scores)
        known, unknown = _by_promise(each)
        # What has no score is kept: the verifier failed, not the picture.
        chosen = [*known[: how.finalists], *unknown]
        for some, pictures in parts.each(chosen, partial(_of_seeds, finish)):
            for one, picture in zip(some, pictures, strict=True):
                one.picture = picture
            for one, value in zip(some, scores(pictures), strict=True):
                one.score = value
    except BaseException as stop:
        carry(stop, ranking(type(stop).__name__))
        raise
    return ranking()


def _look(
    some: Sequence[Candidate],
    seen: Sequence[Foreseen],
    scores: Callable[[Sequence[Image.Image]], Iterator[float | None]],
) -> None:
    """Note what a look says of some candidates."""
    for one, look in zip(some, seen, strict=True):
        one.promise = None if look.promise is None else _known(look.promise)
    if pictures := [look.picture for look in seen if look.picture is not None]:
        for one, value in zip(some, scores(pictures), strict=True):
            one.foreseen = value


def _of_seeds(
    make: Callable[[Sequence[int]], Sequence[Seen]], some: Sequence[Candidate]
) -> Sequence[Seen]:
    """What is made of some candidates, which is made of their seeds."""
    return make([one.seed for one in some])


def _place(one: Candidate) -> tuple[bool, float]:
    """What candidates are sorted by: finished ones first, by score."""
    return one.picture is None, math.inf if one.score is None else -one.score


def _foreseen(one: Candidate) -> list[float]:
    """What a look says of a candidate, as far as it says anything."""
    return [value for value in (one.foreseen, one.promise) if value is not None]


def _by_promise(each: Sequence[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates by what was foreseen, those that promise most first, and those of which less was
    seen than of others.

    Verifier and attention have no unit in common: what counts is the sum of places.
    """
    most = max(len(_foreseen(one)) for one in each)
    known = [one for one in each if len(_foreseen(one)) == most]
    looks = [sorted(values) for values in zip(*map(_foreseen, known), strict=True)]

    def place(one: Candidate) -> int:
        values = zip(looks, _foreseen(one), strict=True)
        return -sum(bisect_left(look, value) + bisect_right(look, value) for look, value in values)

    return sorted(known, key=place), [one for one in each if one not in known]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def search(
    pipe: Any,
    prompt: str,
    *,
    n: int = 8,
    verifier: str | Verifier = "clip-score",
    keep: int = 1,
    seed: int = 0,
    guidance: Guidance | None = None,
    look_at: float = 0.36,
    finish: int | None = None,
    drop_by: str = "verifier",
    together: int = 4,
    previews: Any = None,
    **call: Any,
) -> Ranking:
    """The best of `n` pictures of a prompt, most of which are dropped before they are finished.

    Example:
        >>> found = adhere.search(pipe, "a red cat and a blue car", n=16)  # doctest: +SKIP
        >>> found.pictures[0].save(f"{found.candidates[0].seed}.png")  # doctest: +SKIP

    Args:
        pipe: a diffusers pipeline.
        verifier: a function `(pictures, prompts) -> scores`, or the name of one, as
            `adhere.verifiers.verifier` reads it.
        keep: how many pictures are wanted, best first; so many at the least are finished.
        seed: of the first candidate; that of each stands in the result.
        guidance: how each candidate is guided.
        look_at: share of the run at which candidates are looked at; 1 to finish them all.
        finish: how many are finished; a quarter of them if left out.
        drop_by: who says which are not, the `verifier`, the run's own `attention` or `both`.
        together: made at once, at the most; the device's memory holds these, not all of the `n`.
        previews: decodes what is looked at early, such as an `AutoencoderTiny`; else the pipeline.
        call: further arguments of the pipeline's call, such as `num_inference_steps`.

    Whatever ends it before its time, Ctrl-C or the lack of memory, is raised as it is, and has the
    `Ranking` of what was finished as its `outcome` (`docs/errors.md`).

    Raises:
        GuidanceError: an argument is out of range, prompt or verifier do not read, or the pipeline
            cannot be guided.
    """
    named = verifier if isinstance(verifier, str) else getattr(verifier, "__name__", "a function")
    check_call(prompt, seed, call)
    if not isinstance(guidance, Guidance | None):
        raise ParameterError(f"guidance={guidance!r} is none; give Guidance(SynGen()), for example")
    how = Search(n, named, look_at, finish, drop_by)
    if not is_whole(keep) or not 1 <= keep <= n:
        raise ParameterError(f"keep={keep!r} of n={n!r} pictures; give 1 to {n}")
    if not is_whole(together) or together < 1:
        raise ParameterError(f"together={together!r} pictures at once; give 1 or more")
    how = replace(how, finish=max(how.finalists, keep))
    guided = _Guided(pipe, prompt, guidance or Guidance(), call, previews)
    foresee, judged = partial(guided.foreseen, how), verifiers.verifier(verifier)
    size = at_once(call, together)
    found = ranked(unmarked(prompt), how, judged, seed, foresee, guided.made, size)
    for one in found.candidates[keep:]:
        one.picture = None
    return replace(found, notes=tuple(dict.fromkeys((*found.notes, *guided.said))))


@dataclass(frozen=True)
class _Guided:
    """One pipeline, called for some seeds at a time; `said` is what its finished calls note."""

    pipe: Any
    prompt: str
    guidance: Guidance
    call: Mapping[str, Any]
    previews: Any
    said: dict[str, None] = field(default_factory=dict)

    def made(self, seeds: Sequence[int]) -> list[Image.Image]:
        with self.guidance.attach(self.pipe) as attached:
            pictures: list[Image.Image] = self._called(seeds).images
        self.said.update(dict.fromkeys(attached.report.notes))
        return pictures

    def foreseen(self, how: Search, seeds: Sequence[int]) -> list[Foreseen]:
        look = how.look()
        guidance = Guidance(*self.guidance.plugins, look, memory=self.guidance.memory)
        with guidance.attach(self.pipe, interrupt=look.done, previews=self.previews):
            return look.of(partial(self._called, seeds))

    def _called(self, seeds: Sequence[int]) -> Any:
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        given = for_each(self.pipe, self.call, len(seeds))
        return self.pipe(prompt=[self.prompt] * len(seeds), generator=generators, **given)
