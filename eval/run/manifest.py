"""The plan: every picture of an experiment, written once and never changed.

A plan is a product, so it is kept as one: a *group* is an item and a variant with all its seeds,
and the pictures of a group are counted out when they are looked at. Nothing here holds a million
pictures at once. A picture's *job* is the hash of everything that changes its pixels, the code of
the engine and of the plugins included. Groups that ask for the same pixels share the job: the first
makes it. `manifest_file` has the form on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.run import provenance
from adhere.eval.run.experiment import Experiment, Variant
from adhere.eval.run.requests import ID_LENGTH, Requests
from adhere.eval.suites import suites
from adhere.eval.suites.items import Item, Suite
from adhere.pipelines.studio.request import Request
from adhere.pipelines.toybox import TOYBOXES

FORMAT = 4
IMPORTED = "none"
"""Stands for the weights of pictures that were made elsewhere."""

T = TypeVar("T")


def batched(each: Iterable[T], size: int) -> Iterator[tuple[T, ...]]:
    """Pieces of at most `size`; Python has it from 3.12 on."""
    rest = iter(each)
    while piece := tuple(islice(rest, size)):
        yield piece


@dataclass(frozen=True)
class Group:
    """The pictures of an item and a variant: one request from several noises.

    `name` is the hash of the request and of all else but the noise, which is `first` + seed.
    `shared` are the seeds whose pictures an earlier group makes. `pictures` are the checksums of
    pictures that were made elsewhere, seed by seed.
    """

    suite: str
    item: Item
    variant: str
    name: str
    seeds: tuple[int, ...]
    first: int = 0
    shared: frozenset[int] = frozenset()
    pictures: tuple[str, ...] = ()

    def entries(self, requests: Requests | None = None) -> Iterator[Entry]:
        """The pictures, seed by seed; `requests` says what each is asked for by."""
        pictures = self.pictures or ("",) * len(self.seeds)
        for seed, picture in zip(self.seeds, pictures, strict=True):
            job = digest(f"{self.first + seed}:{self.name}:{picture}", ID_LENGTH)
            yield Entry(self, seed, job, requests)


@dataclass(frozen=True)
class Entry:
    """One picture of the experiment, as the report counts them."""

    group: Group
    seed: int
    job: str
    requests: Requests | None = None

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.group.suite

    @property
    def item(self) -> Item:
        """What was asked for."""
        return self.group.item

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self.group.variant

    @property
    def key(self) -> str:
        """Names the entry within its manifest."""
        return f"{self.suite}/{self.item.id}/{self.variant}/{self.seed}"

    @property
    def makes(self) -> bool:
        """Whether this entry is the one that makes the picture; another may share it."""
        return self.seed not in self.group.shared

    @property
    def request(self) -> Request:
        """What makes the picture.

        Raises:
            EvaluationError: this version reads the manifest otherwise than the one that wrote it.
        """
        assert self.requests is not None  # every manifest's entries have them
        group = self.group
        asked = self.requests.checked(group.suite, group.item, group.variant, group.name)
        return asked.with_seed(group.first + self.seed)


@dataclass(frozen=True)
class Part:
    """What was planned at one time; a run that grew has several.

    `groups` reads them anew at every call. `entries` and `jobs` are counts.
    """

    groups: Callable[[], Iterable[Group]]
    entries: int
    jobs: int


@dataclass(frozen=True)
class Manifest:
    """A header (plain data, of the last part) and the parts, first to last."""

    header: dict[str, Any]
    parts: tuple[Part, ...]

    @cached_property
    def requests(self) -> Requests:
        """Makes the requests of all groups."""
        return Requests.of(self.header)

    @property
    def imported(self) -> bool:
        """Whether its pictures were made elsewhere: no request of it can be made again."""
        return bool(self.header["identity"]["weights"] == IMPORTED)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return sum(part.entries for part in self.parts)

    @property
    def job_count(self) -> int:
        """How many pictures there are to make."""
        return sum(part.jobs for part in self.parts)

    def groups(self) -> Iterator[Group]:
        """All groups, in the order in which they were planned."""
        for part in self.parts:
            yield from part.groups()

    def entries(self) -> Iterator[Entry]:
        """All pictures, one after the other."""
        for group in self.groups():
            yield from group.entries(self.requests)

    def jobs(self) -> Iterator[str]:
        """The names of the pictures to make, each once."""
        return (entry.job for entry in self.entries() if entry.makes)

    @cached_property
    def fingerprint(self) -> str:
        """Changes when anything in the manifest does; a group's name covers all that made it.

        Of pictures that were made elsewhere it does not: their checksums do.
        """
        body = "".join(
            f"{group.suite}/{group.item.id}/{group.variant} {group.name} {group.seeds}"
            f"{' '.join(group.pictures)}\n"
            for group in self.groups()
        )
        return digest(digest(canonical(self.header)) + body, 16)


GROWS = frozenset({"name", "seeds", "variants", "limit"})
"""Settings that may be others when a run grows; `name` decides nothing."""


def plan(experiment: Experiment, model_fingerprint: str, include: Iterable[Path] = ()) -> Manifest:
    """Expand suites x variants x seeds.

    Args:
        experiment: what to make.
        model_fingerprint: changes when the model's weights do (`adhere.eval.run.models`).
        include: more places to look for suites.

    Raises:
        EvaluationError: an unknown suite, or a variant that is limited to one.
    """
    found = suites_of(experiment, include)
    identity = {
        "model": experiment.model,
        "weights": model_fingerprint,
        "dtype": experiment.dtype or default_dtype(experiment.model),
        "code": code_of(experiment),
    }
    head = header(experiment, identity, found)
    requests = Requests(identity, experiment)

    def groups() -> Iterator[Group]:
        return _groups(experiment, requests, found)

    return Manifest(head, (counted(groups),))


def suites_of(experiment: Experiment, include: Iterable[Path] = ()) -> list[Suite]:
    """The suites that an experiment names, cut to its limit."""
    found = [_limit(suites.find(name, include), experiment.limit) for name in experiment.suites]
    _check_names(experiment, found)
    return found


def counted(groups: Callable[[], Iterable[Group]]) -> Part:
    """A part with its numbers of entries and jobs; raises what is wrong with any item."""
    entries = jobs = 0
    for group in groups():
        entries += len(group.seeds)
        jobs += len(group.seeds) - len(group.shared)
    return Part(groups, entries, jobs)


def _groups(experiment: Experiment, requests: Requests, found: Sequence[Suite]) -> Iterator[Group]:
    """Item by item, so that all variants of a prompt are made at about the same time."""
    known = Known()
    for suite in found:
        variants = [variant for variant in experiment.variants if variant.wants(suite.name)]
        for item in suite.items:
            for variant in variants:
                yield known.sharing(_group(experiment, requests, suite.name, item, variant))


def _group(
    experiment: Experiment, requests: Requests, suite: str, item: Item, variant: Variant
) -> Group:
    name = requests.name(requests.request(suite, item, variant.name))
    # A suite that brings its own seed (I2P) keeps it for the first of ours; the others follow it.
    first = int(item.request.get("seed", 0))
    return Group(suite, item, variant.name, name, experiment.seeds, first)


class Known:
    """Which pictures have been planned, so that none is made twice.

    A group's bytes and the set of its noises are all that is kept; groups with the same noises
    share one set.
    """

    def __init__(self) -> None:
        self._noises: dict[bytes, frozenset[int]] = {}
        self._sets: dict[frozenset[int], frozenset[int]] = {}

    def copy(self) -> Known:
        """The same, to go on from twice."""
        made = Known()
        made._noises, made._sets = dict(self._noises), dict(self._sets)
        return made

    def sharing(self, group: Group) -> Group:
        """The group, with the seeds whose pictures are planned already; from now on it is known."""
        name = bytes.fromhex(group.name)
        noises = frozenset(group.first + seed for seed in group.seeds)
        before = self._noises.get(name, frozenset())
        whole = before | noises
        self._noises[name] = self._sets.setdefault(whole, whole)
        shared = frozenset(seed for seed in group.seeds if group.first + seed in before)
        return replace(group, shared=shared) if shared else group


def header(
    experiment: Experiment, identity: dict[str, Any], found: Sequence[Suite]
) -> dict[str, Any]:
    """The first line: what makes the pictures, the experiment, and its suites."""
    return {
        "adhere_manifest": FORMAT,
        "identity": identity,
        "experiment": experiment.settings(),
        "suites": {
            suite.name: {
                "version": suite.version,
                "fingerprint": suite.fingerprint,
                "items": len(suite.items),
                "source": suite.source,
                "licence": suite.licence,
                "overall": suite.overall,
            }
            for suite in found
        },
    }


def default_dtype(model: str) -> str:
    """The type of the weights when none is given: said in the plan, for it changes pixels."""
    return "float32" if model in TOYBOXES else "float16"


def _limit(suite: Suite, limit: int | None) -> Suite:
    return suite if limit is None else replace(suite, items=suite.items[:limit])


def _check_names(experiment: Experiment, found: Sequence[Suite]) -> None:
    names = [suite.name for suite in found]
    if len(set(names)) != len(names):
        raise EvaluationError(f"two suites have the same name: {', '.join(sorted(names))}")
    variants = [variant.name for variant in experiment.variants]
    if len(set(variants)) != len(variants):
        raise EvaluationError(f"two variants have the same name: {', '.join(sorted(variants))}")
    for variant in experiment.variants:
        unknown = sorted(set(variant.suites or ()) - set(names))
        if unknown:
            raise EvaluationError(
                f"variant {variant.name!r} is limited to suite {unknown[0]!r}, which the "
                f"experiment does not have; it has: {', '.join(names)}"
            )


def code_of(experiment: Experiment) -> dict[str, Any]:
    """The hashes of the engine's code and of every plugin's."""
    plugins = [one for variant in experiment.variants for one in variant.plugins]
    return {"engine": provenance.engine_code(), "plugins": provenance.code_of(plugins)}
