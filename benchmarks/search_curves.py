"""What looking at pictures is worth: fully right against passes a picture, on the toyboxes.

    python -m benchmarks.search_curves run [--suite pairs] [--prompts 200] [--only NAME ...]
    python -m benchmarks.search_curves report       the tables, the figure, and every row
    python -m benchmarks.search_curves restore      rows of an earlier report, to go on from

`--model` is `toybox` (as if left out), `toybox-sd3` or a toybox's folder, each with rows and
results of its own; `--processes 16` shares the prompts out, `--device cuda` takes a card. A run is
resumable, on the device that it began on and in any number of processes. Two suites, of seeds that
tune nothing, each prompt its own noises: `pairs` of coloured things, which the model mostly fails
at, and `captions` of its world, half of which it gets right by itself. What steers is the toybox's
CLIP, what scores its exact judge: nobody marks their own work. *best of N* finishes N pictures and
keeps the one that CLIP likes best; *early dropping* (`best-of-n`) foresees them, eight or as many
as the passes of four pictures pay; *steered* are four particles of `fk-steering`, the best kept;
ZestGuide places what the prompt names side by side, as `adhere.composed` lays it out; the
*autopilot* has the passes of eight plain pictures and stops at a CLIP score of `ENOUGH`, or, to say
what a better verifier would be worth, at what the judge takes for right; the *thrifty* one has the
passes of a picture and two thirds: a look at the plain one, and one guided picture where it
promises little. `ENOUGH` is from 120 pictures of other seeds: two in three with such a score were
right, one in ten of the others; what to try, and `CONTENT` of the thrifty one, are from 500
pictures of other seeds again; all of the UNet toybox, and the transformer is flown by the same.
Passes are the denoiser's, with and without the prompt, for the whole of what was made.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from itertools import takewhile
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

import adhere
from adhere.eval.report.statistics import ALPHA, Interval, difference, holm
from adhere.eval.run.shards import Shard
from adhere.guides.guide import passes_of_preview
from adhere.pipelines.families import family_of
from adhere.pipelines.search.costs import Rows
from adhere.pipelines.search.plan import planned
from adhere.pipelines.search.search import APART
from adhere.pipelines.toybox import TOYBOXES, Judge, check_folder, load_toybox, toybox_folder
from adhere.pipelines.toybox.card.figures import share
from adhere.pipelines.toybox.card.suites import two_coloured
from adhere.pipelines.toybox.model.folder import DEFAULTS, kind_of
from adhere.pipelines.toybox.world.captions import caption
from adhere.pipelines.toybox.world.world import sample_scene
from adhere.verifiers import verifier
from benchmarks import record
from benchmarks.curves_figure import figure

RUNS = Path("runs/search-curves")
PICTURES = record.ROOT / "docs" / "pictures"
ALWAYS = "attend-and-excite+syngen"
DROPPING = "early dropping, for 4"
PAIRS, CAPTIONS = "pairs", "captions"


@dataclass(frozen=True)
class Held:
    """What was expected to be better than what, before anything was run; with `at_most_lost`, to be
    no worse than by that.
    """

    suite: str
    one: str
    other: str
    why: str
    at_most_lost: float | None = None


HELD = (
    Held(PAIRS, DROPPING, "best of 4", "at as many passes"),
    Held(PAIRS, "steered, 4", "plain", "though the best of 4 costs as much"),
    Held(PAIRS, "steered, 4", "best of 4", "at as many passes"),
    Held(PAIRS, "syngen, early dropping, 8", "syngen", "foreseeing adds to guidance"),
    Held(PAIRS, "zestguide+syngen", "syngen", "a stack beats a part of it at as many passes"),
    Held(PAIRS, "autopilot", ALWAYS, "guidance that is always on"),
    Held(PAIRS, "autopilot", "zestguide+syngen", "the method that it guides with, always on"),
    Held(PAIRS, "autopilot", "best of 8", "at no more passes"),
    Held(CAPTIONS, "autopilot, thrifty", "plain", "guiding what fails"),
    Held(CAPTIONS, "autopilot, thrifty", ALWAYS,
         "guidance that is always on, at half its extra passes", at_most_lost=0.05),
)  # fmt: skip
LINES = (
    ("plain", "best of 2", "best of 4", "best of 8"),
    ("plain", "early dropping, 8", DROPPING),
    ("syngen", "syngen, early dropping, 8"),
    ("autopilot, thrifty", "autopilot"),
)
SEED = 2_060_000
"""Of the first prompt's first noise; the prompts are drawn from it, too."""
JUDGED = ("fully_right", "all_present")
FIRST = {PAIRS: 22, CAPTIONS: 0}
"""Numbers of the first prompts: those before were looked at with an earlier autopilot."""
VERIFIER = "clip-score"
ENOUGH, CONTENT = 0.82, 0.66


@dataclass(frozen=True)
class Toybox:
    """A model and how it draws."""

    name: str
    folder: Path
    steps: int
    scale: float

    @classmethod
    def of(cls, model: str) -> Toybox:
        """By its name, or a folder."""
        folder = toybox_folder(model) if model in TOYBOXES else Path(model).resolve()
        if wrong := check_folder(folder):
            raise SystemExit("; ".join(wrong))
        usual = DEFAULTS[kind_of(folder)]
        return cls(folder.name, folder, usual.steps, usual.guidance_scale)

    @property
    def plain(self) -> int:
        """Passes of a plain picture: with the prompt, and without."""
        return 2 * self.steps

    def results(self, runs: Path) -> tuple[Path, Path]:
        """Where table and figure are kept: with the rows, unless the model comes with adhere."""
        if self.folder != toybox_folder("toybox").with_name(self.name):
            return runs / "search_curves.json", runs / "search-curves.svg"
        of = self.name.removeprefix("toybox")
        table = record.RESULTS / f"search_curves{of.replace('-', '_')}.json"
        return table, PICTURES / f"search-curves{of}.svg"


@dataclass(frozen=True)
class Kept:
    """One picture that was kept, and the passes of all that was made, where its maker counts."""

    image: Image.Image
    passes: int | None = None


Make = Callable[["Counted", str, int], Kept]


class Counted:
    """A pipeline whose passes are counted."""

    def __init__(self, toybox: Toybox, device: str = "cpu") -> None:
        self.toybox = toybox
        self.pipe = load_toybox(folder=toybox.folder).to(device)
        self.pipe.set_progress_bar_config(disable=True)
        self._prompt = ""
        self._kept: dict[tuple[int, tuple[Any, ...]], tuple[Image.Image, int]] = {}
        self._again = 0

    def __call__(
        self, prompt: str, seeds: Sequence[int], *plugins: Any, each: bool = True
    ) -> list[Image.Image]:
        """Pictures of some seeds: calls' prompts, or (`each` false) one prompt's pictures."""
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        asked = {"prompt": [prompt] * len(seeds)} if each else {
            "prompt": prompt, "num_images_per_prompt": len(seeds)
        }  # fmt: skip
        placed = any(hasattr(one, "layout") for one in plugins)
        layout = [adhere.composed(prompt)] * len(seeds) if placed else None
        with adhere.Guidance(*plugins).attach(self.pipe, layout=layout):
            images: list[Image.Image] = self.pipe(
                **asked, generator=generators, **self.usual
            ).images
        return images

    @property
    def usual(self) -> dict[str, Any]:
        """Arguments of every call."""
        return {
            "num_inference_steps": self.toybox.steps,
            "guidance_scale": self.toybox.scale,
        }

    def alone(self, prompt: str, seeds: Sequence[int], *plugins: Any) -> list[Image.Image]:
        """Pictures of some seeds. One that another variant has had made for the same prompt is not
        made again, but paid for all the same.
        """
        if self._prompt != prompt:
            self._prompt, self._kept = prompt, {}
        missing = [seed for seed in seeds if (seed, plugins) not in self._kept]
        self._again = sum(self._kept[seed, plugins][1] for seed in seeds if seed not in missing)
        if missing:
            with Rows(family_of(self.pipe)) as made:
                images = self(prompt, missing, *plugins)
            for seed, image in zip(missing, images, strict=True):
                self._kept[seed, plugins] = (image, made.rows // len(missing))
        return [self._kept[seed, plugins][0] for seed in seeds]

    def counted(self, make: Make, prompt: str, seed: int) -> tuple[Image.Image, int]:
        """A picture, and the denoiser's passes for all that was made."""
        self._again = 0
        with Rows(family_of(self.pipe)) as counted:
            kept = make(self, prompt, seed)
        made = counted.rows + self._again
        return kept.image, made if kept.passes is None else kept.passes


def liked_best(images: Sequence[Image.Image], prompt: str) -> Image.Image:
    scores = list(verifier(VERIFIER)(images, [prompt] * len(images)))
    return images[scores.index(max(scores))]


def best_of(count: int, *plugins: Any) -> Make:
    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        seeds = [seed + k * APART for k in range(count)]
        return Kept(liked_best(pipe.alone(prompt, seeds, *plugins), prompt))

    return make


def foreseen(count: int, *plugins: Any) -> Make:
    look = adhere.BestOfN(VERIFIER, count, together=count)

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        return Kept(pipe(prompt, [seed], look, *plugins)[0])

    return make


def foreseen_for(pictures: int) -> Make:
    """As many candidates as the passes of some pictures pay, beside the one that is finished."""

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        look = passes_of_preview(adhere.BestOfN().look_at)
        return foreseen((pictures - 1) * pipe.toybox.plain // look)(pipe, prompt, seed)

    return make


def steered(count: int, *plugins: Any) -> Make:
    steering = adhere.FkSteering(VERIFIER, strength=20.0)

    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        seeds = [seed + k * APART for k in range(count)]
        return Kept(liked_best(pipe(prompt, seeds, steering, *plugins, each=False), prompt))

    return make


def flown(judged: str, enough: float, **settings: float) -> Make:
    def make(pipe: Counted, prompt: str, seed: int) -> Kept:
        plan = planned(prompt, verifier=judged, enough=enough, **settings)
        flight = adhere.autopilot(pipe.pipe, plan, seed=seed, **pipe.usual)
        return Kept(flight.picture, round(flight.cost * pipe.toybox.plain))

    return make


_THRIFTY = flown(VERIFIER, CONTENT, budget=5 / 3)
VARIANTS: dict[str, dict[str, Make]] = {
    PAIRS: {
        "best of 8": best_of(8),  # first: those below choose among its pictures
        "best of 4": best_of(4),
        "best of 2": best_of(2),
        "plain": best_of(1),
        "early dropping, 8": foreseen(8),
        DROPPING: foreseen_for(4),
        "steered, 4": steered(4),
        "attend-and-excite": best_of(1, adhere.AttendAndExcite()),
        "syngen": best_of(1, adhere.SynGen()),
        "syngen, early dropping, 8": foreseen(8, adhere.SynGen()),
        ALWAYS: best_of(1, adhere.AttendAndExcite(), adhere.SynGen()),
        "zestguide+syngen": best_of(1, adhere.ZestGuide(), adhere.SynGen()),
        "autopilot, thrifty": _THRIFTY,
        "autopilot": flown(VERIFIER, ENOUGH),
        "autopilot, by the judge": flown("judge", 1.0),
    },
    CAPTIONS: {
        "plain": best_of(1),
        "syngen": best_of(1, adhere.SynGen()),
        ALWAYS: best_of(1, adhere.AttendAndExcite(), adhere.SynGen()),
        "autopilot, thrifty": _THRIFTY,
    },
}


def prompts(suite: str, count: int) -> list[tuple[int, str]]:
    """Numbered."""
    rng = Random(SEED)
    first = FIRST[suite]
    drawn = [
        caption(sample_scene(rng), rng) if suite == CAPTIONS else two_coloured(rng)
        for _ in range(first + count)
    ]
    return list(enumerate(drawn))[first:]


@cache
def judge() -> Judge:
    return Judge.load()


def row(pipe: Counted, make: Make, number: int, prompt: str) -> dict[str, Any]:
    image, passes = pipe.counted(make, prompt, SEED + number)
    outcome = judge()([image])[0].against(prompt)
    return {
        "prompt": prompt,
        "number": number,
        **{column: getattr(outcome, column) for column in JUDGED},
        "passes": passes,
    }


def run(
    suite: str,
    names: Sequence[str],
    count: int,
    runs: Path,
    toybox: Toybox,
    device: str = "cpu",
    shard: Shard = Shard(),
) -> None:
    """Make what is missing, prompt by prompt, so that every stop leaves whole comparisons."""
    torch.set_num_threads(max(1, torch.get_num_threads() // shard.count))
    pipe = Counted(toybox, device)
    done = {name: {one["number"] for one in rows(runs, suite, name)} for name in names}
    (runs / suite).mkdir(parents=True, exist_ok=True)
    own = [one for place, one in enumerate(prompts(suite, count)) if shard.takes(place)]
    for place, (number, prompt) in enumerate(own, 1):
        for name in names:
            if number not in done[name]:
                found = row(pipe, VARIANTS[suite][name], number, prompt)
                # One write of one line: processes that append do not cut into each other's.
                with (runs / suite / f"{name}.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")
        print(f"{place} of {len(own)} prompts of {shard}", flush=True)


def in_processes(processes: int, work: Callable[..., None]) -> None:
    """A run, in several processes: each has its part of the prompts."""
    if processes == 1:
        work()
        return
    shards = [Shard(k, processes) for k in range(1, processes + 1)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        for done in [pool.submit(work, shard=one) for one in shards]:
            done.result()


def begun(runs: Path, device: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the rows of a folder are made on: said once, since those of one are of one device."""
    path = runs / "made.json"
    if not path.is_file():
        runs.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about or record.about(device)), "utf-8")
    made: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if made["device"] != device:
        raise SystemExit(
            f"the rows in {runs} are made on {made['device']}, and --device {device} would mix "
            "them; give another --runs"
        )
    return made


def rows(runs: Path, suite: str, name: str) -> Iterator[dict[str, Any]]:
    """In the order of their prompts, whichever process was first."""
    path = runs / suite / f"{name}.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    found = sorted(map(json.loads, lines), key=lambda one: one["number"])
    return (one for one in found if one["number"] >= FIRST[suite])


def whole(runs: Path, suite: str, name: str) -> list[dict[str, Any]]:
    """The rows before the first prompt that is missing yet."""
    placed = enumerate(rows(runs, suite, name), FIRST[suite])
    return [one for _, one in takewhile(lambda each: each[0] == each[1]["number"], placed)]


def report(runs: Path, suite: str) -> dict[str, dict[str, Any]]:
    """By variant its share and mean passes, on the prompts that all variants have."""
    found = {name: whole(runs, suite, name) for name in VARIANTS[suite]}
    found = {name: own for name, own in found.items() if own}
    count = min(map(len, found.values()), default=0)
    return {
        name: {
            "fully_right": share([one["fully_right"] for one in own[:count]]),
            "passes": sum(one["passes"] for one in own[:count]) / count,
        }
        for name, own in found.items()
    }


def packed(runs: Path, suite: str) -> dict[str, dict[str, str]]:
    """Every row, small enough to be kept with the results: the prompts are the seed's."""
    found = {}
    for name in VARIANTS[suite]:
        if own := whole(runs, suite, name):
            found[name] = {column: "".join("01"[one[column]] for one in own) for column in JUDGED}
            found[name]["passes"] = " ".join(str(one["passes"]) for one in own)
    return found


def restore(runs: Path, result: Path) -> None:
    """Lay a report's rows where there are none yet."""
    if not result.is_file():
        raise SystemExit(f"there is no report yet in {result}: nothing to go on from")
    kept = json.loads(result.read_text("utf-8"))
    begun(runs, kept["made"]["device"], kept["made"])
    for suite, found in kept["results"]["suites"].items():
        (runs / suite).mkdir(parents=True, exist_ok=True)
        for name, own in found["rows"].items():
            path = runs / suite / f"{name}.jsonl"
            if path.exists():
                continue
            passes = own["passes"].split()
            lines = [
                {"prompt": prompt, "number": number}
                | {column: own[column][k] == "1" for column in JUDGED}
                | {"passes": int(passes[k])}
                for k, (number, prompt) in enumerate(prompts(suite, len(passes)))
            ]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
            print(f"{suite}, {name}: {len(lines)} rows")


def differences(runs: Path) -> list[dict[str, Any]]:
    """What was said beforehand of two variants: paired, on the prompts that both have.

    It `holds` where the interval is clear of zero, or of the loss that is allowed; and a better one
    only where Holm's procedure over all of those leaves the difference one at the 5 % level.
    """
    found = []
    for held in HELD:
        mine, its = (
            {
                (row["prompt"], row["number"]): float(row["fully_right"])
                for row in rows(runs, held.suite, name)
            }
            for name in (held.one, held.other)
        )
        if apart := difference(mine, its, share=True):
            found.append((held, apart))
    better = [apart.p for held, apart in found if held.at_most_lost is None]
    adjusted = iter(holm(better))
    return [told(held, apart, adjusted) for held, apart in found]


def told(held: Held, apart: Interval, adjusted: Iterator[float | None]) -> dict[str, Any]:
    """A difference and whether what was said of it holds, as plain data."""
    p = next(adjusted) if held.at_most_lost is None else None
    if held.at_most_lost is None:
        holds = apart.clear and apart.mean > 0 and p is not None and p < ALPHA
    else:
        holds = apart.low is not None and apart.low > -held.at_most_lost
    return {**vars(held), "holds": holds, "p_adjusted": p, **vars(apart)}


def costs(curves: dict[str, dict[str, Any]], plain: int) -> dict[str, dict[str, float]]:
    """Shares against plain pictures' passes, for the figure."""
    found = {}
    for name, own in curves.items():
        low, high = own["fully_right"]["ci95"]
        cost = own["passes"] / plain
        found[name] = {"cost": cost, "mean": own["fully_right"]["share"], "low": low, "high": high}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("command", choices=["run", "report", "restore"])
    parser.add_argument("--suite", choices=list(VARIANTS), default=PAIRS)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="variants; all if left out")
    parser.add_argument("--runs", type=Path, default=RUNS, help="a folder of each model's rows")
    parser.add_argument("--model", default="toybox", help=f"{', '.join(TOYBOXES)}, or a folder")
    parser.add_argument("--device", default="cpu", help="cuda, say")
    parser.add_argument("--processes", type=int, default=1)
    asked = parser.parse_args()
    names = asked.only or list(VARIANTS[asked.suite])
    if unknown := set(names) - set(VARIANTS[asked.suite]):
        parser.error(f"no variant is called {min(unknown)!r}: {', '.join(VARIANTS[asked.suite])}")
    if asked.processes < 1:
        parser.error(f"--processes {asked.processes}: give 1 or more")
    toybox = Toybox.of(asked.model)
    runs = asked.runs / toybox.name
    if asked.command == "run":
        if asked.device == "cpu":  # verifiers take the best device that they see
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        begun(runs, asked.device)
        work = partial(run, asked.suite, names, asked.prompts, runs, toybox, asked.device)
        in_processes(asked.processes, work)
    elif asked.command == "restore":
        restore(runs, toybox.results(runs)[0])
    else:
        write(runs, toybox)


def write(runs: Path, toybox: Toybox) -> None:
    """The result and figure that are kept."""
    suites = {}
    for suite in VARIANTS:
        if found := report(runs, suite):
            count = next(iter(found.values()))["fully_right"]["n"]
            suites[suite] = {"prompts": count, "curves": found, "rows": packed(runs, suite)}
    if PAIRS not in suites:
        raise SystemExit(f"there are no {PAIRS} in {runs} yet: `run` makes them")
    table, picture = toybox.results(runs)
    drawn = figure(costs(suites[PAIRS]["curves"], toybox.plain), LINES)
    picture.write_text(drawn, encoding="utf-8")
    how = {
        "model": toybox.name,
        "verifier": VERIFIER,
        "steps": toybox.steps,
        "guidance_scale": toybox.scale,
    }
    made = json.loads((runs / "made.json").read_text("utf-8"))
    record.write(table, how, {"suites": suites, "differences": differences(runs)}, made)


if __name__ == "__main__":
    main()
