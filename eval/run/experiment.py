"""An experiment: which suites, plugins and seeds on which model, and how it is scored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml

from adhere.errors import ParameterError
from adhere.eval import places, strict
from adhere.eval.errors import EvaluationError
from adhere.eval.suites.reading import LARGEST_SEED
from adhere.guides import parameters
from adhere.guides.guide import Plugin
from adhere.pipelines.studio.loading import PRECISIONS
from adhere.pipelines.studio.request import MOST_SEEDS
from adhere.plugins import plugin, split_stack

T = TypeVar("T")

BASELINE = "plain"
_VARIANT_FIELDS = frozenset({"plugins", "suites", "negative_prompt", "guidance_scale", "base"})
_CONTROLS = frozenset({"scales", "best_of"})
DEFAULT_EVALUATORS = ("judge", "clip-score", "cost")


@dataclass(frozen=True)
class Variant:
    """A named stack of plugins. With `suites`, it is run on these only (a layout method).

    `negative_prompt` replaces the suite's: what safety methods are measured against;
    `guidance_scale` replaces everybody's: what guidance is measured against. With `base`, prompts
    are without what their regions say. `{excluded}` in a plugin's text or in the negative prompt
    stands for what each item excludes.
    """

    name: str
    plugins: tuple[Plugin, ...] = ()
    suites: tuple[str, ...] | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = None
    base: bool = False

    def wants(self, suite: str) -> bool:
        """Whether this variant is run on a suite."""
        return self.suites is None or suite in self.suites


@dataclass(frozen=True)
class Experiment:
    """All that decides which pictures are made, and by default how they are scored.

    `batch` is the number of pictures made together; `limit` cuts every suite for a smoke run.
    `primary` names the score that decides, before any picture is made: then only its comparisons
    have a verdict, and the others describe.
    """

    name: str = "experiment"
    model: str = "toybox"
    dtype: str | None = None
    suites: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = (Variant(BASELINE),)
    seeds: tuple[int, ...] = (0,)
    steps: int | None = None
    guidance_scale: float | None = None
    width: int | None = None
    height: int | None = None
    scheduler: str | None = None
    negative_prompt: str = ""
    limit: int | None = None
    batch: int = 4
    primary: str | None = None
    evaluators: tuple[str | Mapping[str, Any], ...] = field(default=DEFAULT_EVALUATORS)

    def __post_init__(self) -> None:
        if not self.suites:
            raise EvaluationError("the experiment names no suite; `adhere eval ls` shows them")
        if not self.seeds:
            raise EvaluationError("the experiment has no seeds; give for example seeds: 0-3")
        if self.batch < 1 or (self.limit is not None and self.limit < 1):
            raise EvaluationError(f"batch={self.batch}, limit={self.limit}: use 1 or more")

    def settings(self) -> dict[str, Any]:
        """The part that decides which pictures are made, as plain data for the manifest."""
        # The header has the suites by name and content: where their files lie is nobody's matter.
        left_out = {"evaluators", "batch", "variants", "suites"}
        data = {f.name: _plain(getattr(self, f.name)) for f in fields(self)}
        data = {key: value for key, value in data.items() if key not in left_out}
        data["variants"] = [
            {
                "name": variant.name,
                "plugins": [parameters.to_json(one) for one in variant.plugins],
                "suites": _plain(variant.suites),
                "negative_prompt": variant.negative_prompt,
                "guidance_scale": variant.guidance_scale,
                **({"base": True} if variant.base else {}),
            }
            for variant in self.variants
        ]
        return data


def from_settings(data: Mapping[str, Any]) -> Experiment:
    """The experiment of `settings`, as far as it decides which pictures are made."""
    variants = [
        Variant(
            entry["name"],
            tuple(plugin(spec) for spec in entry["plugins"]),
            tuple(entry["suites"]) if entry["suites"] is not None else None,
            entry["negative_prompt"],
            entry["guidance_scale"],
            entry.get("base", False),
        )
        for entry in data["variants"]
    ]
    values: dict[str, Any] = {**data, "seeds": tuple(data["seeds"]), "variants": tuple(variants)}
    return Experiment(**values, suites=("as planned",))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def seeds_from(value: Any) -> tuple[int, ...]:
    """Seeds from a list, a count (`4` is 0 to 3), or text such as `0-3,10`."""
    if isinstance(value, str) and value.strip().isdigit():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        _refuse_many(value, value)
        return tuple(range(value))
    parts = value.split(",") if isinstance(value, str) else value
    found: list[int] = []
    for part in parts if isinstance(parts, Sequence) else (value,):
        match = re.fullmatch(r"\s*(\d+)(?:\s*-\s*(\d+))?\s*", str(part))
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last <= LARGEST_SEED:
            raise EvaluationError(f"seeds {value!r}: write 4, 0-3 or 0,5,9")
        _refuse_many(value, len(found) + last + 1 - first)
        found.extend(range(first, last + 1))
    if len(set(found)) != len(found):
        raise EvaluationError(f"seeds {value!r} name a seed twice")
    return tuple(found)


def _refuse_many(value: Any, count: int) -> None:
    if count > MOST_SEEDS:
        raise EvaluationError(f"seeds {value!r} are {count}; expected at most {MOST_SEEDS}")


def variants_from(data: Any) -> tuple[Variant, ...]:
    """Variants from YAML; the unguided baseline is put first if it is not among them.

    `name: [plugin, plugin]`, or `name: {plugins: [...], suites: [...], negative_prompt: ...}`; a
    list of plugin texts makes one variant of each.
    """
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = [stack_name(spec) for spec in data]
        if len(set(names)) != len(names):
            raise EvaluationError(f"variants {', '.join(names)}: two have the same name; name them")
        data = {name: [spec] for name, spec in zip(names, data, strict=True)}
    if not isinstance(data, Mapping):
        raise EvaluationError(f"variants: {data!r} is neither a mapping nor a list of plugins")
    made = [_variant(str(name), value) for name, value in data.items()]
    if all(variant.name != BASELINE for variant in made):
        made.insert(0, Variant(BASELINE))
    for variant in made:
        if variant.name == BASELINE and variant != Variant(BASELINE):
            raise EvaluationError(
                f"variant {BASELINE!r} is the unguided baseline of every suite; it has no plugins"
            )
    return tuple(made)


def stack_name(spec: str | Mapping[str, Any]) -> str:
    """A name for a stack given as text: its plugins joined by `+`."""
    if isinstance(spec, Mapping):
        return str(spec.get("plugin", "plugin"))
    return "+".join(re.sub(r"\s+", "_", part) for part in split_stack(spec))


def check_name(name: str) -> None:
    """Refuse a variant's name that would break the keys of its pictures (`suite/item/name/0`)."""
    if not re.fullmatch(r"[\w.+:=,|-]+", name):
        raise EvaluationError(f"variant name {name!r}: use letters, digits and . + - _ : =")


def _variant(name: str, value: Any) -> Variant:
    check_name(name)
    suites = negative = scale = None
    base = False
    if isinstance(value, Mapping) and "plugin" not in value:
        unknown = sorted(set(value) - _VARIANT_FIELDS)
        if unknown:
            raise EvaluationError(
                f"variant {name!r} has {unknown[0]!r}; known: {', '.join(sorted(_VARIANT_FIELDS))}"
            )
        suites = strict.texts(value["suites"], "suites") if value.get("suites") else None
        negative = strict.text_or_none(value.get("negative_prompt"), "negative_prompt")
        scale = _scale(value.get("guidance_scale"), f"variant {name!r}")
        base = value.get("base", False)
        if not isinstance(base, bool):
            raise EvaluationError(f"variant {name!r}: base is {base!r}; write true or false")
        value = value.get("plugins")
    specs: list[Any] = []
    for spec in strict.several(value or (), "plugins"):
        specs += split_stack(spec) if isinstance(spec, str) else [spec]
    try:
        plugins = parameters.each_once(map(plugin, specs))
        return Variant(name, plugins, suites, negative, scale, base)
    except ParameterError as error:
        raise ParameterError(f"variant {name!r}: {error}") from error


def _scale(value: Any, where: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000:
        raise EvaluationError(f"{where}: guidance_scale {value!r} is no number of 0 or more")
    return float(value)


def controls_from(data: Any) -> tuple[Variant, ...]:
    """What every claim of a method should stand beside, as variants.

    `scales`: plain at other guidance scales, for a method may be a scale in disguise. `best_of`:
    the best of N starting noises; choose N so that it costs the method's passes.
    """
    if isinstance(data, str):
        pairs = (part.partition("=") for part in data.split(","))
        data = {key.strip(): value.split("|") for key, _, value in pairs}
    if not isinstance(data, Mapping) or set(data) - _CONTROLS:
        raise EvaluationError(
            f"controls: {data!r}; write scales=3|7.5|12,best_of=4 or a mapping of "
            f"{' and '.join(sorted(_CONTROLS))}"
        )
    try:
        scales = [float(one) for one in _several(data.get("scales"))]
        counts = [int(str(one)) for one in _several(data.get("best_of"))]
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"controls: {data!r}: {error}") from error
    return (
        *(Variant(f"plain-scale-{s:g}", guidance_scale=_scale(s, "controls")) for s in scales),
        *(Variant(f"best-of-{n}", (plugin(f"best-of-noise:candidates={n}"),)) for n in counts),
    )


def _several(value: Any) -> Sequence[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple) else (value,)


def _precision(value: Any) -> str | None:
    if value not in (None, *PRECISIONS):
        raise TypeError(f"dtype is {value!r}; use {', '.join(PRECISIONS)}")
    return None if value is None else str(value)


def _or_none(read: Callable[..., T], *more: Any) -> Callable[[Any, str], T | None]:
    return lambda value, key: None if value is None else read(value, key, *more)


# How each field is read, from what was written and the field's name.
_READ: dict[str, Callable[[Any, str], Any]] = {
    "name": strict.text,
    "model": strict.text,
    "dtype": lambda value, _: _precision(value),
    "suites": strict.texts,
    "variants": lambda value, _: variants_from(value),
    "controls": lambda value, _: controls_from(value),
    "seeds": lambda value, _: seeds_from(value),
    "steps": _or_none(strict.whole, 1),
    "guidance_scale": _or_none(strict.number),
    "width": _or_none(strict.whole, 1),
    "height": _or_none(strict.whole, 1),
    "scheduler": strict.text_or_none,
    "negative_prompt": lambda value, key: strict.text_or_none(value, key) or "",
    "limit": _or_none(strict.whole, 1),
    "batch": lambda value, key: strict.whole(value, key, 1),
    "primary": strict.text_or_none,
    "evaluators": strict.several,
}


def from_mapping(data: Mapping[str, Any]) -> Experiment:
    """An experiment from plain data; unknown names are refused.

    Raises:
        EvaluationError: an unknown field or one that does not read.
        ParameterError: an unknown plugin or a parameter out of range.
    """
    # `published` is what `adhere eval check` reads.
    data = {key: value for key, value in data.items() if key != "published"}
    unknown = sorted(map(str, set(data) - set(_READ)))
    if unknown:
        raise EvaluationError(
            f"the experiment has no field {unknown[0]!r}; known: {', '.join(sorted(_READ))}"
        )
    try:
        values = {key: _READ[key](value, key) for key, value in data.items()}
    except TypeError as error:
        raise EvaluationError(f"the experiment does not read: {error}") from error
    controls = values.pop("controls", ())
    if controls:
        values["variants"] = (*values.get("variants", (Variant(BASELINE),)), *controls)
    return Experiment(**values)


def bundled() -> dict[str, Path]:
    """The experiments that come with adhere, by name."""
    folder = Path(__file__).resolve().parent.parent / "experiments"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def read(path: Path | str | None, overrides: Mapping[str, Any]) -> Experiment:
    """An experiment from a YAML file and flags that override it; without a file, flags alone.

    The name of a bundled experiment stands for its file.
    """
    data: dict[str, Any] = {} if path is None else data_of(path)
    data.update({key: value for key, value in overrides.items() if value is not None})
    return from_mapping(data)


def data_of(path: Path | str) -> dict[str, Any]:
    """An experiment's file, here or in a store, or a bundled one by its name, as plain data.

    Its name is the file's where it says none.
    """
    place, name = places.file(path)
    known = bundled().get(str(path))
    if known is not None and name not in place.names(""):
        place, name = places.file(known)
    try:
        loaded = strict.from_yaml(place.read(name).decode("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise EvaluationError(
            f"cannot read experiment {path}: {error}; give a YAML file, or one that comes with "
            f"adhere: {', '.join(bundled())}"
        ) from error
    if not isinstance(loaded, dict):
        raise EvaluationError(f"experiment {path} must be a mapping of field: value")
    return {"name": Path(name).stem, **loaded}


def limited(experiment: Experiment, limit: int | None) -> Experiment:
    """The same experiment with every suite cut to its first `limit` items."""
    return experiment if limit is None else replace(experiment, limit=limit)
