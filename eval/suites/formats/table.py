"""The formats that suites are published in, in the order in which a file is tried for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adhere.eval import places
from adhere.eval.errors import EvaluationError
from adhere.eval.suites.formats import (
    coco,
    content,
    geneval,
    json_prompts,
    lists,
    lmd,
    prompt_tables,
    question_sets,
)
from adhere.eval.suites.formats.content import Content
from adhere.eval.suites.items import Suite
from adhere.eval.suites.reading import suite_from_json
from adhere.files import at_home


@dataclass(frozen=True)
class Format:
    """A published form: how it is known, how it is read, and in one line what it is."""

    fits: Callable[[Content], bool]
    read: Callable[[Content], Suite]
    about: str


def _is_own(found: Content) -> bool:
    return (
        found.kind in ("json", "yaml")
        and isinstance(found.data, Mapping)
        and ("items" in found.data or {"name", "version", "source"} <= set(found.data))
    )


def _own(found: Content) -> Suite:
    if not isinstance(found.data, Mapping):
        raise EvaluationError(f"suite {found.path} must be a mapping with name, version and items")
    return suite_from_json(found.data, str(found.path))


FORMATS: dict[str, Format] = {
    "suite": Format(_is_own, _own, "this project's form: JSON or YAML with items"),
    "geneval": Format(
        geneval.is_geneval,
        geneval.geneval,
        "evaluation_metadata.jsonl (include, exclude, tag), or folders 00000/metadata.jsonl",
    ),
    "geneval2": Format(geneval.is_geneval2, geneval.geneval2, "geneval2_data.jsonl: vqa_list"),
    "coco-captions": Format(coco.is_captions, coco.captions, "captions_*.json of COCO"),
    "coco-stuff": Format(
        coco.is_coco_stuff,
        coco.coco_stuff,
        "folder: captions*.json, labels.txt, label pictures; ,protocol=eval-few",
    ),
    "tifa": Format(
        lambda one: question_sets.is_tifa_questions(one) or question_sets.is_tifa_texts(one),
        question_sets.tifa,
        "tifa_v1.0_text_inputs.json or ..._question_answers.json",
    ),
    "dsg": Format(question_sets.is_dsg, question_sets.dsg, "dsg-1k-anns.csv: item_id, dependency"),
    "dpg-bench": Format(
        question_sets.is_dpg, question_sets.dpg, "folder of .txt prompts, dpg_bench.csv near it"
    ),
    "neggenbench": Format(
        question_sets.is_negatives, question_sets.negatives, "positive and negative prompts"
    ),
    "hrs": Format(prompt_tables.is_hrs, prompt_tables.hrs, "CSV: synthetic_prompt, obj1, n1..."),
    "partiprompts": Format(
        prompt_tables.is_partiprompts,
        prompt_tables.partiprompts,
        "TSV: Prompt, Category, Challenge",
    ),
    "drawbench": Format(
        prompt_tables.is_drawbench, prompt_tables.drawbench, "CSV or TSV: Prompts, Category"
    ),
    "i2p": Format(
        prompt_tables.is_i2p, prompt_tables.i2p, "CSV: prompt, sd_seed or evaluation_seed..."
    ),
    "attend-and-excite-lists": Format(
        lists.is_attend_and_excite,
        lists.attend_and_excite,
        "JSON: animals, animals_objects, objects",
    ),
    "lmd": Format(lmd.is_lmd, lmd.lmd, "prompts of the four tasks, or the cache of layouts"),
    "tiam": Format(lists.is_tiam, lists.tiam, "YAML: template with $object1, lists of words"),
    "t2i-compbench": Format(
        lambda one: lists.is_compbench(one) or lists.is_compbench_folder(one),
        lists.compbench,
        "color_val.txt and so on, or a folder of them: a prompt a line",
    ),
    "table": Format(
        lambda one: one.kind == "table", prompt_tables.prompts, "any table with a column of prompts"
    ),
    "json-prompts": Format(
        lambda one: json_prompts.is_entries(one) or json_prompts.is_texts(one),
        json_prompts.read,
        "JSON of prompts: texts, entries with a prompt, lists by category",
    ),
    "lines": Format(lists.is_lines, lists.lines, "text: a prompt a line"),
}


def read(path: Path, name: str | None = None) -> Suite:
    """A suite in whatever known format a file or folder is.

    Raises:
        EvaluationError: no format fits, or the one that does is broken.
    """
    found = content.read(path)
    for kind, form in FORMATS.items():
        if form.fits(found):
            return _named(_read(kind, form, found), name)
    if found.kind in ("json", "yaml") and path.suffix.lower() != ".txt":
        return _own(found)
    raise EvaluationError(
        f"{path} is {_what(found)} that is in no known format; `adhere eval ls formats` shows them"
    )


def _what(found: Content) -> str:
    if found.kind == "folder":
        return "a folder"
    keys = (
        sorted(found.data)[:5] if isinstance(found.data, Mapping) else sorted(found.columns())[:5]
    )
    return f"{found.kind} with {', '.join(map(repr, keys))}" if keys else found.kind


def _named(suite: Suite, name: str | None) -> Suite:
    return suite if name is None else replace(suite, name=name)


def _read(kind: str, form: Format, found: Content) -> Suite:
    try:
        return form.read(found)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, EvaluationError):
            raise
        raise EvaluationError(f"{found.path} does not read as {kind}: {error!r}") from error


def read_as(kind: str, spec: str) -> Suite:
    """A suite in a named format: `PATH`, or `PATH,option=value,...`.

    Raises:
        EvaluationError: there is no such file, or it is not in this format.
    """
    path, options = _options(spec)
    if not path.exists():
        raise EvaluationError(f"cannot read suite {path}: no such file or folder")
    found = content.read(path, options)
    form = FORMATS[kind]
    if not form.fits(found) and not _may_be(kind, found):
        raise EvaluationError(f"{path} is {_what(found)}, which is not {kind!r}: {form.about}")
    return _read(kind, form, found)


def _may_be(kind: str, found: Content) -> bool:
    """A format that is asked for by name need not have the marks it would be known by."""
    return (kind in ("i2p", "table") and found.kind == "table") or (
        kind in ("lines", "t2i-compbench", "lmd") and found.kind == "lines"
    )


def _options(spec: str) -> tuple[Path, dict[str, str]]:
    path = at_home(places.here(spec, "suites"))
    if path.exists():
        return path, {}
    place, *pairs = spec.split(",")
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise EvaluationError(f"option {pair!r} is not key=value")
        options[key.strip()] = value.strip()
    return at_home(places.here(place, "suites")), options


def fits(kind: str, path: Path) -> bool:
    """Whether a file or folder is in a format; what cannot be read is in none."""
    try:
        return FORMATS[kind].fits(content.read(path))
    except EvaluationError:
        return False
