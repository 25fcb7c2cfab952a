"""Add to a run: more seeds, variants, prompts. What is planned stays planned, to the last bit.

What is added is a part of its own, in a manifest file of its own: batches are never cut across
parts, so no picture that is there would come out otherwise, and none is made twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical
from adhere.eval.run import manifest as manifests
from adhere.eval.run import manifest_file
from adhere.eval.run.experiment import Experiment, Variant
from adhere.eval.run.folder import Folder
from adhere.eval.run.manifest import Group, Known, Manifest, Part
from adhere.eval.run.requests import Requests
from adhere.eval.suites.items import Item, Suite

_Planned = dict[tuple[str, str], dict[str, frozenset[int]]]
"""The seeds of each suite and item, by variant."""


@dataclass(frozen=True)
class More:
    """What a run is to have beside what it has: seeds, variants, suites or more of their items."""

    seeds: tuple[int, ...] = ()
    variants: tuple[Variant, ...] = ()
    suites: tuple[Suite, ...] = ()


def asked(folder: Folder, experiment: Experiment, include: Iterable[Path] = ()) -> More:
    """What an experiment has; only what the run lacks of it will be added.

    Raises:
        EvaluationError: it has another model, other steps, or whatever else was settled for all of
            the run's pictures.
    """
    then, now = folder.manifest.header["experiment"], experiment.settings()
    for key in sorted(set(now) - manifests.GROWS):
        if then.get(key) != now[key]:
            raise EvaluationError(
                f"{folder.path} was planned with {key} {canonical(then.get(key))}, and the "
                f"experiment has {canonical(now[key])}: that is settled for all pictures of a run; "
                "plan into a new folder"
            )
    suites = tuple(manifests.suites_of(experiment, include))
    return More(experiment.seeds, experiment.variants, suites)


def grow(folder: Folder, more: More) -> Part:
    """Plan what a run lacks of what it is to have, and write that beside its plan.

    The part has no groups, and nothing is written, where the run has it all.

    Raises:
        EvaluationError: a variant or item of the same name is another, the code has changed, or the
            run's pictures were made elsewhere.
    """
    before = folder.manifest
    if before.imported:
        if more == More():
            return Part(tuple, 0, 0)
        raise EvaluationError(
            f"{folder.path} holds pictures that were made elsewhere; nothing can be made to add to "
            "them: import all pictures into a new folder, or plan a run of its own and compare "
            "the two (`adhere eval compare`)"
        )
    experiment = _experiment(before.requests.experiment, more)
    identity = {**before.header["identity"], "code": manifests.code_of(experiment)}
    _check_code(before.header["identity"]["code"], identity["code"])
    requests = Requests(identity, experiment)
    header = {
        **before.header,
        "identity": identity,
        "experiment": experiment.settings(),
        "suites": {**before.header["suites"], **_suites(before, more)},
    }
    planned, known = _planned(before)
    part = manifests.counted(lambda: _lacking(before, more, requests, planned, known.copy()))
    if part.entries:
        name = f"manifest-{len(folder.plans()) + 1:04d}.jsonl"
        if not folder.place.create(name, manifest_file.pieces(header, part.groups())):
            raise EvaluationError(f"{folder.path}: somebody else is adding to this run; try again")
    return part


def _experiment(before: Experiment, more: More) -> Experiment:
    variants = {one.name: one for one in before.variants}
    for one in more.variants:
        if variants.setdefault(one.name, one) != one:
            raise EvaluationError(
                f"the run has a variant {one.name!r} with other plugins or settings; give this one "
                "another name"
            )
    seeds = tuple(dict.fromkeys([*before.seeds, *more.seeds]))
    return replace(before, seeds=seeds, variants=tuple(variants.values()))


def _check_code(then: dict[str, object], now: dict[str, object]) -> None:
    old, new = then["plugins"], now["plugins"]
    assert isinstance(old, dict)
    assert isinstance(new, dict)
    changed = [name for name in old if new.get(name) != old[name]]
    if then["engine"] != now["engine"] or changed:
        what = f"plugin {changed[0]!r}" if changed else "the engine"
        raise EvaluationError(
            f"the code of {what} changed since the run was planned: what is added would be made "
            "with other code than what is there; plan into a new folder"
        )


def _suites(before: Manifest, more: More) -> dict[str, object]:
    counts = manifests.header(before.requests.experiment, {}, more.suites)["suites"]
    for name, about in counts.items():
        there = before.header["suites"].get(name, {"items": 0})
        about["items"] = max(about["items"], there["items"])
    return dict(counts)


def _planned(before: Manifest) -> tuple[_Planned, Known]:
    planned: _Planned = defaultdict(dict)
    known = Known()
    for group in before.groups():
        known.sharing(group)
        of_item = planned[group.suite, group.item.id]
        seeds = frozenset(group.seeds)
        of_item[group.variant] = of_item.get(group.variant, frozenset()) | seeds
    return planned, known


def _lacking(
    before: Manifest, more: More, requests: Requests, planned: _Planned, known: Known
) -> Iterator[Group]:
    for suite, item in _items(before, more.suites, planned):
        there = planned.get((suite, item.id), {})
        for variant in requests.experiment.variants:
            if not variant.wants(suite):
                continue
            has = there.get(variant.name, frozenset())
            seeds = tuple(seed for seed in requests.experiment.seeds if seed not in has)
            if seeds:
                name = requests.name(requests.request(suite, item, variant.name))
                first = int(item.request.get("seed", 0))
                yield known.sharing(Group(suite, item, variant.name, name, seeds, first))


def _items(
    before: Manifest, suites: Sequence[Suite], planned: _Planned
) -> Iterator[tuple[str, Item]]:
    """The items of the run, each once, then those that are new; an item never changes."""
    found = {(suite.name, item.id): item for suite in suites for item in suite.items}
    seen: set[tuple[str, str]] = set()
    for group in before.groups():
        place = (group.suite, group.item.id)
        if place not in seen:
            seen.add(place)
            _check_same(group.suite, group.item, found.get(place, group.item))
            yield group.suite, group.item
    yield from (
        (suite, item) for (suite, _), item in found.items() if (suite, item.id) not in planned
    )


def _check_same(suite: str, there: Item, now: Item) -> None:
    if canonical(there.to_json()) != canonical(now.to_json()):
        raise EvaluationError(
            f"item {there.id!r} of suite {suite!r} has changed since it was planned; give the new "
            "one another id, or plan into a new folder"
        )
