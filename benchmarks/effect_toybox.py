"""What plugins and stacks do on the toybox, against the unguided picture of the same seed.

    python -m benchmarks.effect_toybox run [--workers 2] [--minutes 30]   resumable, in any shards
    python -m benchmarks.effect_toybox score [--workers 2]                what is made so far
    python -m benchmarks.effect_toybox report                             tables, claims, pictures

The study is six experiments of `adhere eval` (eval/experiments/toybox-*.yaml), at least 200
pictures a cell, each with two controls (`benchmarks/effects/controls.py`): plain at swept guidance
scales and the best of N at equal passes. Full results are kept in `eval/results/`; here the claims
that were written beforehand (`benchmarks/effects/claims.py`) are decided from the same scores, and
written with tables and pictures to `benchmarks/results/`, and in short for the README.
`--study effect_toybox_sd3` is the same on the transformer toybox, `--study effect_regions` of texts
beside the prompt, without controls, `--study step-sizes` over a range of step sizes, `--study
negatives` over when a negative prompt begins and ends, `--study looks` over where a choice of
noises looks; `--model FOLDER` on weights that are not shipped. The scores of every picture are kept
in `benchmarks/results/rows/`, so that a study grows: what is reported is what was run now, and what
an earlier run has beside it on the same prompts, weights and judge.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from adhere.eval.report import report
from adhere.eval.report.tables import table
from adhere.eval.run.experiment import BASELINE, Experiment
from adhere.eval.run.folder import Folder
from adhere.eval.run.shards import Shard
from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.output import write_json, write_text
from adhere.pipelines.toybox import TOYBOXES, toybox_folder
from adhere.pipelines.toybox.model.folder import DEFAULTS, kind_of
from adhere.plugins import PLUGINS
from benchmarks.battery.sharing import shared
from benchmarks.effects import acting, kept, making
from benchmarks.effects.deciding import (
    Study,
    claims_table,
    controls_table,
    decided,
    place,
    still_decided,
)
from benchmarks.effects.making import How

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "eval" / "results"
ROWS = ROOT / "benchmarks" / "results" / "rows"
STUDIES = {
    "effect_toybox": (
        "toybox-pairs",
        "toybox-two",
        "toybox-neglect",
        "toybox-layouts",
        "toybox-safety",
        "toybox-copying",
    ),
    "effect_toybox_sd3": (
        "toybox-sd3-pairs",
        "toybox-sd3-two",
        "toybox-sd3-layouts",
        "toybox-sd3-safety",
        "toybox-sd3-copying",
    ),
    "effect_regions": (
        "toybox-regions",
        "toybox-moved",
        "toybox-placed",
        "toybox-negatives",
        "toybox-regions-4",
        "toybox-negatives-4",
        "toybox-regions-8",
        "toybox-negatives-8",
        "toybox-sd3-regions",
        "toybox-sd3-placed",
        "toybox-sd3-negatives",
        "toybox-sd3-regions-4",
        "toybox-sd3-negatives-4",
        "toybox-sd3-regions-8",
        "toybox-sd3-negatives-8",
    ),
    "looks": ("toybox-looks",),
    "step-sizes": ("step-sizes-pairs", "step-sizes-layouts"),
    "negatives": ("negatives-haunted", "negatives-ordinary"),
}
CONTROLLED = ("effect_toybox", "effect_toybox_sd3")
"""Studies with two controls for each experiment, and pictures."""
CLAIMED = (*CONTROLLED, "effect_regions", "negatives")
"""Studies of which something was claimed beforehand."""
_REGIONS = ("miou", "fully_right", "all_present", "unsafe", "clip_full", "passes")
_NEGATIVES = ("not_too_many", "present", "binding", "clip_full", "passes")
SHOWN = {
    "toybox-pairs": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-two": ("all_present", "clip_full", "passes"),
    "toybox-neglect": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-layouts": ("miou", "fully_right", "clip_full", "passes"),
    "toybox-safety": ("unsafe", "all_present", "clip_full", "passes"),
    "toybox-copying": ("copied", "nearest", "clip_full", "passes"),
    "toybox-sd3-pairs": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-sd3-two": ("all_present", "clip_full", "passes"),
    "toybox-sd3-copying": ("copied", "nearest", "clip_full", "passes"),
    "toybox-sd3-layouts": ("miou", "fully_right", "clip_full", "passes"),
    "toybox-sd3-safety": ("unsafe", "all_present", "clip_full", "passes"),
    "toybox-looks": ("all_present", "clip_full", "passes"),
    "step-sizes-pairs": ("all_present", "binding", "fully_right"),
    "step-sizes-layouts": ("miou", "fully_right"),
    "negatives-haunted": ("unsafe", "all_present", "clip_full"),
    "negatives-ordinary": ("unsafe", "all_present", "clip_full"),
    "toybox-regions": _REGIONS,
    "toybox-moved": _REGIONS,
    "toybox-placed": _REGIONS,
    "toybox-sd3-placed": _REGIONS,
    "toybox-regions-4": _REGIONS,
    "toybox-regions-8": _REGIONS,
    "toybox-sd3-regions": _REGIONS,
    "toybox-negatives": _NEGATIVES,
    "toybox-negatives-4": _NEGATIVES,
    "toybox-negatives-8": _NEGATIVES,
    "toybox-sd3-negatives": _NEGATIVES,
    "toybox-sd3-regions-4": _REGIONS,
    "toybox-sd3-regions-8": _REGIONS,
    "toybox-sd3-negatives-4": _NEGATIVES,
    "toybox-sd3-negatives-8": _NEGATIVES,
}
# Which variants the pictures and the README show, beside the unguided ones.
PICTURED = {
    "toybox-pairs": ("attend-and-excite", "syngen", "initno"),
    "toybox-two": ("attend-and-excite", "initno", "attend-and-excite+best-of-noise"),
    "toybox-neglect": ("attend-and-excite", "initno", "attend-and-excite+syngen"),
    "toybox-layouts": ("paint-with-words", "zestguide-1", "zestguide-1+layout-guidance"),
    "toybox-safety": (
        "negative-prompt",
        "safe-latent-diffusion-strong",
        "safe-latent-diffusion-early",
    ),
    "toybox-copying": ("caption-jitter", "caption-jitter-noise-4"),
    "toybox-sd3-pairs": ("attend-and-excite", "syngen"),
    "toybox-sd3-two": ("taca", "apg", "dos"),
    "toybox-sd3-copying": ("caption-jitter", "caption-jitter-noise-4"),
    "toybox-sd3-layouts": ("paint-with-words", "layout-guidance", "zestguide-1"),
    "toybox-sd3-safety": ("negative-prompt", "safe-latent-diffusion-early"),
}
COLUMNS = 8


def picture(folder: Folder, suite: str, variants: tuple[str, ...], path: Path) -> None:
    """The first prompts of a suite, unselected: a row a variant, the unguided ones on top."""
    entries = list(folder.manifest.entries())
    seed = min(entry.seed for entry in entries)
    rows, prompts, names = [], [], []
    for variant in ("plain", *variants):
        of = [e for e in entries if (e.suite, e.variant, e.seed) == (suite, variant, seed)]
        names_of = [folder.image(e.job) for e in of[:COLUMNS]]
        if None in folder.place.sizes(names_of):
            continue
        try:
            row = [Image.open(Path(folder.path, one)).convert("RGB") for one in names_of]
        except UnidentifiedImageError:  # it stands for a picture that was not kept
            continue
        rows.append(row)
        prompts = [e.item.prompt for e in of[:COLUMNS]]
        names.append(variant)
    if len(rows) < 2:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, prompts, titles=names).save(path, optimize=True)


def gathered(name: str, given: Given) -> tuple[Folder, Study]:
    """One experiment's results and controls, scored as far as they are made, and what an earlier
    run has beside them.
    """
    about = making.read(name, given.model, given.limit, given.seeds)
    folder, results = making.results_of(about, given.runs)
    where = toybox_folder(about.model) if about.model in TOYBOXES else Path(about.model)
    steps = about.steps or DEFAULTS[kind_of(where)].steps
    runs = kept.read(ROWS / f"{name}.jsonl") if given.published else {}
    before = _earlier(RESULTS / f"{name}.json") if given.published else {}
    results, earlier = kept.joined(results, before, runs.pop(name, {}))
    controlled = {run: variants[BASELINE] for run, variants in runs.items()}
    found = making.controls_of(about, given.runs, controlled)
    study = Study(name, results, found, steps, earlier)
    if given.published:
        all_of = {one.variant: study.rows(one.variant) for one in results.scores}
        mine = {variant: rows for variant, rows in all_of.items() if any(rows.values())}
        beside = making.rows_of_controls(about, found)
        plain = {run: {BASELINE: rows} for run, rows in beside.items()}
        kept.write(ROWS / f"{name}.jsonl", {name: mine, **plain})
        report.keep(results, RESULTS / f"{name}.json")
    return folder, study


def write(study: str, given: Given, out: Path) -> None:
    """Scores, then writes JSON, Markdown and pictures."""
    names = [name for name in STUDIES[study] if (given.runs / name).is_dir()]
    if not names:
        raise SystemExit(
            f"nothing was run in {given.runs}: python -m benchmarks.effect_toybox run first"
        )
    found = {name: gathered(name, given) for name in names}
    pictured = study in CONTROLLED
    earlier = _earlier(out / f"{study}.json")
    sections = dict(earlier.get("sections", {}))
    for name, (folder, each) in found.items():
        full, few = _sections(name, folder, each, given, pictured)
        sections[name] = {"full": full, "short": few}
    fresh = {name: _short(each.results.to_json()) for name, (_, each) in found.items()}
    told = [name for name in STUDIES[study] if name in sections]
    summary: dict[str, Any] = {
        "experiments": {**earlier.get("experiments", {}), **fresh},
        "sections": {name: sections[name] for name in told},
    }
    last: list[str] = []
    if study in CLAIMED:
        studies = {name: each for name, (_, each) in found.items()}
        now = decided(studies)
        rows = [*still_decided(earlier.get("claims", []), now, studies), *now]
        summary["claims"] = sorted(rows, key=place)
        last = [claims_table(summary["claims"])]
    for which in ("full", "short") if pictured else ("full",):
        parts = [*(sections[name][which] for name in told), *last]
        ending = "" if which == "full" else f"_{which}"
        write_text(out / f"{study}{ending}.md", "\n\n".join(parts) + "\n")
    write_json(out / f"{study}.json", summary)
    if study == "negatives" and given.published and set(told) == set(STUDIES[study]):
        scores = {name: summary["experiments"][name]["scores"] for name in told}
        write_text(ROOT / "docs" / "pictures" / "negatives.svg", acting.figure(scores))
    print("\n\n".join([*(sections[name]["full"] for name in found), *last]))


def _earlier(path: Path) -> dict[str, Any]:
    """What an earlier report says: of experiments that were run elsewhere it goes on to hold."""
    return dict(json.loads(path.read_text("utf-8"))) if path.is_file() else {}


def _sections(
    name: str, folder: Folder, study: Study, given: Given, pictured: bool
) -> tuple[str, str]:
    """An experiment in Markdown: with everything, and in short."""
    data = study.results.to_json()
    suite = next(iter({score.suite for score in study.results.scores}))
    title = f"**{name}**, n = {max(score.n for score in study.results.scores)} pictures a row"
    full = [title, table(data, suite, SHOWN[name]), *kept.told(study.results)]
    if not pictured:
        return "\n\n".join(full), ""
    held = controls_table(study)
    shown = ""
    if given.published:
        picture(folder, suite, PICTURED[name], ROOT / "docs" / "pictures" / f"{name}.png")
        shown = f"![{name}: the first prompts, unselected](../../docs/pictures/{name}.png)"
    some = ("plain", *PICTURED[name])
    few = {**data, "scores": [score for score in data["scores"] if score["variant"] in some]}
    long = [*full, held, shown]
    short = [shown, title, table(few, suite, SHOWN[name]), held]
    return "\n\n".join(filter(None, long)), "\n\n".join(filter(None, short))


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """What eval/results/ holds, without the columns' descriptions."""
    return {key: data[key] for key in ("name", "model", "commit", "versions", "scores", "warnings")}


@dataclass(frozen=True)
class Given:
    """Where a study's runs lie and which model they are of. `published` results go where the
    README and the site read them.
    """

    runs: Path
    model: str | None = None
    limit: int | None = None
    seeds: int | None = None

    @property
    def published(self) -> bool:
        """Whether this is the whole study on a bundled model."""
        return self.model is None and self.limit is None and self.seeds is None


def plans(study: str, only: str | None, given: Given, controls: bool = True) -> list[Experiment]:
    """A study's experiments, or one of them, each followed by its controls."""
    found: list[Experiment] = []
    for name in STUDIES[study]:
        if only in (None, name):
            about = making.read(name, given.model, given.limit, given.seeds)
            controlled = controls and study in CONTROLLED
            found += making.with_controls(about).values() if controlled else [about]
    return found


def make(wanted: Sequence[Experiment], runs: Path, how: How, variants: Sequence[str]) -> bool:
    """Makes what is missing of some experiments' pictures; False when the time was up."""
    try:
        for about in wanted:
            making.run(about, runs, how, variants)
    except making.TimeIsUp:
        print("the time was up; the same command goes on from here")
        return False
    return True


def together(workers: int, device: str | None) -> None:
    """This command in several processes, each with its shard; ends as the worst of them."""
    given = [one for one in sys.argv[1:] if not one.startswith("--workers")]
    if "--workers" in sys.argv:
        del given[sys.argv.index("--workers") - 1]
    command = [sys.executable, "-m", "benchmarks.effect_toybox", *given]
    with shared(device or "cuda"):
        started = [
            subprocess.Popen([*command, "--shard", f"{index}/{workers}"])
            for index in range(1, workers + 1)
        ]
        worst = max(abs(one.wait()) for one in started)
    sys.exit(worst)


def left_out() -> list[str]:
    """The registered plugins that no experiment of the effect study has."""
    names = [name for study in CLAIMED for name in STUDIES[study]]
    tried = {p.name for n in names for v in making.read(n).variants for p in v.plugins}
    return sorted(set(PLUGINS) - tried)


def asked_for() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "score", "report"))
    parser.add_argument("--study", choices=tuple(STUDIES), default="effect_toybox")
    parser.add_argument("--only", help="one experiment of the study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where pictures go")
    parser.add_argument("--variant", action="append", default=[], help="only this; repeatable")
    parser.add_argument(
        "--no-controls", action="store_true", help="leave the controls for another run"
    )
    parser.add_argument("--shard", default="1/1", help="i/n of the pictures, from 1/n")
    parser.add_argument("--workers", type=int, default=1, help="as many processes, a shard each")
    parser.add_argument("--device", help="where pictures are made; the best there is if left out")
    parser.add_argument("--batch", type=int, help="pictures made together; 100 on a GPU")
    parser.add_argument("--minutes", type=float, help="stop after so long; what is made is kept")
    parser.add_argument("--model", help="another pipeline folder than the bundled model")
    parser.add_argument("--limit", type=int, help="only so many prompts of every suite")
    parser.add_argument("--seeds", type=int, help="noises of every prompt, 10 at the most")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    return parser.parse_args()


def make_or_score(asked: argparse.Namespace, given: Given) -> None:
    """`run` and `score`, in this process or in several."""
    if asked.workers > 1:
        together(asked.workers, asked.device)
    part = Shard.parse(asked.shard)
    wanted = plans(asked.study, asked.only, given, not asked.no_controls)
    if asked.what == "run":
        until = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
        make(wanted, given.runs, How(part, asked.device, asked.batch, until), asked.variant)
        return
    for about in wanted:
        if (given.runs / about.name).is_dir():
            making.score(about, given.runs, part)


def main() -> None:
    asked = asked_for()
    given = Given(asked.runs, asked.model, asked.limit, asked.seeds)
    if missing := left_out():
        print(f"not in the study: {', '.join(missing)}")
    if asked.what == "report":
        write(asked.study, given, asked.out)
    else:
        make_or_score(asked, given)


if __name__ == "__main__":
    main()
