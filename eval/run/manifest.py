"""The plan: every picture of an experiment, written once and never changed.

A manifest is JSONL: a header, then one line for each item and one for each entry (suite, item,
variant, seed). An entry names its job: the hash of everything that changes pixels. Entries that ask
for the same pixels share a job, so the picture is made once. The code of the engine and of the
plugins belongs to what changes pixels. The last line is the hash of all before it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from adhere.errors import GuidanceError
from adhere.eval.errors import EvaluationError
from adhere.eval.files import canonical, digest
from adhere.eval.run import provenance
from adhere.eval.run.experiment import Experiment, Variant
from adhere.eval.suites import suites
from adhere.eval.suites.items import Item, Suite
from adhere.eval.suites.reading import item_from_json
from adhere.guides.guide import Plugin
from adhere.layout.layout import Layout
from adhere.pipelines.studio.request import Request
from adhere.pipelines.toybox import TOYBOXES
from adhere.plugins import plugin

FORMAT = 2
ID_LENGTH = 24


@dataclass(frozen=True)
class Entry:
    """One picture of the experiment, as the report counts them.

    `picture` is the checksum of one that was made elsewhere.
    """

    suite: str
    item: Item
    variant: str
    seed: int
    job: str
    request: Request
    picture: str = ""

    @property
    def key(self) -> str:
        """Names the entry within its manifest."""
        return f"{self.suite}/{self.item.id}/{self.variant}/{self.seed}"


@dataclass(frozen=True)
class Manifest:
    """A header (plain data) and all entries, in their order."""

    header: dict[str, Any]
    entries: tuple[Entry, ...]

    @cached_property
    def jobs(self) -> dict[str, Request]:
        """The pictures to make, by id, in the order of the first entry that needs each."""
        found: dict[str, Request] = {}
        for entry in self.entries:
            found.setdefault(entry.job, entry.request)
        return found

    @cached_property
    def entries_of(self) -> dict[str, tuple[Entry, ...]]:
        """The entries that share a job."""
        found: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            found[entry.job].append(entry)
        return {job: tuple(entries) for job, entries in found.items()}

    @property
    def fingerprint(self) -> str:
        """Changes when anything in the manifest does."""
        return digest(to_text(self), 16)


def plan(experiment: Experiment, model_fingerprint: str, include: Iterable[Path] = ()) -> Manifest:
    """Expand suites x variants x seeds.

    Args:
        experiment: what to make.
        model_fingerprint: changes when the model's weights do (`adhere.eval.run.models`).
        include: more places to look for suites.

    Raises:
        EvaluationError: an unknown suite, or a variant that is limited to one.
    """
    found = [_limit(suites.find(name, include), experiment.limit) for name in experiment.suites]
    _check_names(experiment, found)
    identity = {
        "model": experiment.model,
        "weights": model_fingerprint,
        "dtype": experiment.dtype or default_dtype(experiment.model),
        "code": code_of(experiment),
    }
    entries = [
        Entry(suite.name, item, variant.name, seed, job_id(identity, request), request)
        for variant in experiment.variants
        for suite in found
        if variant.wants(suite.name)
        for item in suite.items
        for seed, request in _requests(experiment, variant, suite, item)
    ]
    return Manifest(header(experiment, identity, found, entries), tuple(entries))


def header(
    experiment: Experiment,
    identity: dict[str, Any],
    found: Sequence[Suite],
    entries: Sequence[Entry],
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
        "entries": len(entries),
        "jobs": len({entry.job for entry in entries}),
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


def _requests(
    experiment: Experiment, variant: Variant, suite: Suite, item: Item
) -> list[tuple[int, Request]]:
    fixed = dict(item.request)
    # A suite that brings its own seed (I2P) keeps it for the first of ours; the others follow it.
    start = int(fixed.pop("seed", 0))
    layout = None
    if item.layout:
        try:
            layout = Layout.from_json(dict(item.layout))
        except GuidanceError as error:
            raise EvaluationError(f"suite {suite.name!r}, item {item.id!r}: {error}") from error
    made = []
    for seed in experiment.seeds:
        request = Request(
            prompt=item.prompt,
            seed=start + seed,
            negative_prompt=_negative(experiment, variant, item),
            plugins=variant.plugins,
            subjects=tuple(thing.noun for thing in item.things) or None,
            layout=layout,
            steps=experiment.steps,
            guidance_scale=experiment.guidance_scale,
            width=experiment.width,
            height=experiment.height,
            scheduler=experiment.scheduler,
        )
        request = replace(request, **fixed)
        if variant.guidance_scale is not None:
            request = replace(request, guidance_scale=variant.guidance_scale)
        made.append((seed, request if request.plugins else unguided(request)))
    return made


def _negative(experiment: Experiment, variant: Variant, item: Item) -> str:
    if variant.negative_prompt is not None:
        return variant.negative_prompt
    return item.negative_prompt or experiment.negative_prompt


def unguided(request: Request) -> Request:
    """Without plugins, and without what only plugins read: so that equal pictures are one job."""
    return replace(request, plugins=(), subjects=None, layout=None)


def code_of(experiment: Experiment) -> dict[str, Any]:
    """The hashes of the engine's code and of every plugin's."""
    plugins = [one for variant in experiment.variants for one in variant.plugins]
    return {"engine": provenance.engine_code(), "plugins": provenance.code_of(plugins)}


def job_id(identity: dict[str, Any], request: Request, picture: str = "") -> str:
    """The hash of everything that changes pixels: model, weights, type, code and request.

    Of the plugins' code only that of the request's own counts. Of a picture that was made
    elsewhere its checksum is all that is known.
    """
    code = identity["code"]
    own = {one.name: code["plugins"][one.name] for one in request.plugins}
    told = {**identity, "code": {"engine": code["engine"], "plugins": own}}
    what = {"identity": told, "request": request.to_json()}
    return digest(canonical({**what, "picture": picture} if picture else what), ID_LENGTH)


def to_text(manifest: Manifest) -> str:
    """The manifest file; the same plan always gives the same bytes."""
    lines = [canonical(manifest.header)]
    seen: set[tuple[str, str]] = set()
    for entry in manifest.entries:
        place = (entry.suite, entry.item.id)
        if place not in seen:
            seen.add(place)
            lines.append(canonical({"suite": entry.suite, "item": entry.item.to_json()}))
    for entry in manifest.entries:
        request = entry.request.to_json()
        if request["layout"] is not None:
            # Masks are large; the item has them, and the job's hash covers them.
            request["layout"] = "item"
        lines.append(
            canonical(
                {
                    "entry": [entry.suite, entry.item.id, entry.variant, entry.seed],
                    "job": entry.job,
                    "request": request,
                    **({"picture": entry.picture} if entry.picture else {}),
                }
            )
        )
    text = "\n".join(lines) + "\n"
    return text + canonical({"sha256": digest(text)}) + "\n"


def from_text(text: str, where: str) -> Manifest:
    """Read a manifest and check that it is whole and unchanged.

    Raises:
        EvaluationError: another format, a torn file, or a line that was edited by hand.
    """
    body, _, _ = text.rstrip("\n").rpartition("\n")
    try:
        # By line feeds alone: a prompt may hold other things that Python takes for line ends.
        lines = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    except ValueError as error:
        raise EvaluationError(
            f"{where} is damaged: {error}; plan again into a new folder"
        ) from error
    if not lines or not isinstance(lines[0], dict) or "adhere_manifest" not in lines[0]:
        raise EvaluationError(f"{where} is not a manifest: its first line is not a manifest header")
    header = lines[0]
    if header["adhere_manifest"] != FORMAT:
        raise EvaluationError(
            f"{where} has manifest format {header['adhere_manifest']}; this version of adhere "
            f"reads format {FORMAT}. Plan again into a new folder, or use the version that made it"
        )
    if lines[-1].get("sha256") is None:
        raise EvaluationError(f"{where} has no last line: it is torn; plan again")
    if lines[-1]["sha256"] != digest(body + "\n"):
        raise EvaluationError(
            f"{where} was changed since it was written; a manifest is never edited: plan again "
            "into a new folder"
        )
    try:
        return _from_lines(header, lines[1:-1], where)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, GuidanceError):
            raise
        raise EvaluationError(f"{where} does not read: {error!r}") from error


def _from_lines(header: dict[str, Any], lines: list[dict[str, Any]], where: str) -> Manifest:
    items: dict[tuple[str, str], Item] = {}
    layouts: dict[tuple[str, str], Layout] = {}
    stacks: dict[str, tuple[Plugin, ...]] = {}
    entries = []
    for line in lines:
        if "item" in line:
            item = item_from_json(line["item"], where)
            items[line["suite"], item.id] = item
            continue
        suite, name, variant, seed = line["entry"]
        place = (suite, name)
        data = dict(line["request"])
        shared = data.pop("layout") == "item"
        stack = canonical(data.pop("plugins"))
        if stack not in stacks:
            # Every look at the table of plugins asks all installed packages: once is enough.
            stacks[stack] = tuple(plugin(spec) for spec in json.loads(stack))
        request = replace(Request.from_json(data), plugins=stacks[stack])
        if shared:
            if place not in layouts:
                layouts[place] = Layout.from_json(dict(items[place].layout or {}))
            request = replace(request, layout=layouts[place])
        picture = str(line.get("picture", ""))
        if job_id(header["identity"], request, picture) != line["job"]:
            raise EvaluationError(
                f"{where}: the request of job {line['job']} ({request.prompt[:60]!r}) was changed, "
                "or this version of adhere reads it otherwise; a manifest is never edited: "
                "plan again into a new folder"
            )
        entries.append(
            Entry(suite, items[place], variant, int(seed), line["job"], request, picture)
        )
    if len(entries) != header["entries"]:
        raise EvaluationError(
            f"{where} has {len(entries)} of {header['entries']} entries: it is torn; plan again"
        )
    return Manifest(header, tuple(entries))
