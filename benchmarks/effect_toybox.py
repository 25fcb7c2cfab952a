"""What plugins and stacks do on the toybox, against the unguided picture of the same seed.

    python benchmarks/effect_toybox.py run [--shard 1/2]    resumable, any number of shards
    python benchmarks/effect_toybox.py report               scores, tables, claims, pictures

The study is four experiments of `adhere eval` (eval/experiments/toybox-*.yaml), at least 200
pictures a cell. Their full results are kept in `eval/results/`; here the claims that the project
makes are decided from the same scores, and written with tables and pictures to
`benchmarks/results/`, and in short for the README. `--study effect_toybox_sd3` is the same on the
transformer toybox, `--study step-sizes` over a range of step sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from adhere.eval.evaluators import table as evaluators
from adhere.eval.progress import progress
from adhere.eval.report import report
from adhere.eval.report.results import Results
from adhere.eval.report.statistics import Interval, Key, difference
from adhere.eval.report.tables import table
from adhere.eval.run import experiment, generate, manifest, models, scoring, stored
from adhere.eval.run.folder import Folder
from adhere.eval.run.shards import Shard
from adhere.pipelines.studio.drawing.sheet import sheet
from adhere.pipelines.studio.output import write_json, write_text

ROOT = Path(__file__).resolve().parent.parent
STUDIES = {
    "effect_toybox": ("toybox-pairs", "toybox-neglect", "toybox-layouts", "toybox-safety"),
    "effect_toybox_sd3": ("toybox-sd3-pairs", "toybox-sd3-layouts", "toybox-sd3-safety"),
    "step-sizes": ("step-sizes-pairs", "step-sizes-layouts"),
}
SHOWN = {
    "toybox-pairs": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-neglect": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-layouts": ("miou", "fully_right", "clip_full", "passes"),
    "toybox-safety": ("unsafe", "all_present", "clip_full", "passes"),
    "toybox-sd3-pairs": ("all_present", "binding", "fully_right", "clip_full", "passes"),
    "toybox-sd3-layouts": ("miou", "fully_right", "clip_full", "passes"),
    "toybox-sd3-safety": ("unsafe", "all_present", "clip_full", "passes"),
    "step-sizes-pairs": ("all_present", "binding", "fully_right"),
    "step-sizes-layouts": ("miou", "fully_right"),
}
# Which variants the pictures and the README show, beside the unguided ones.
PICTURED = {
    "toybox-pairs": ("attend-and-excite", "syngen", "initno"),
    "toybox-neglect": ("attend-and-excite", "initno", "attend-and-excite+syngen"),
    "toybox-layouts": ("paint-with-words", "zestguide-1", "zestguide-1+layout-guidance"),
    "toybox-safety": (
        "negative-prompt",
        "safe-latent-diffusion-strong",
        "safe-latent-diffusion-early",
    ),
    "toybox-sd3-pairs": ("attend-and-excite", "syngen"),
    "toybox-sd3-layouts": ("paint-with-words", "layout-guidance", "zestguide-1"),
    "toybox-sd3-safety": ("negative-prompt", "safe-latent-diffusion-early"),
}
COLUMNS = 8


@dataclass(frozen=True)
class Claim:
    """`variant` changes `column` against another variant in one direction (`sign`).

    With `factor`, against that part of the other's score; with `unless_worse` it is enough that no
    loss is significant.
    """

    says: str
    experiment: str
    variant: str
    against: str
    column: str
    sign: int = 1
    factor: float = 1.0
    unless_worse: bool = False

    def holds(self, found: Interval) -> bool:
        """Whether the test is on the claim's side of zero (or not on the other)."""
        right_side = found.mean * self.sign > 0
        return (right_side or not found.clear) if self.unless_worse else right_side and found.clear


CLAIMS = (
    Claim("Attend-and-Excite raises two-object presence",
          "toybox-pairs", "attend-and-excite", "plain", "all_present"),
    Claim("... also on its own benchmark's prompts",
          "toybox-neglect", "attend-and-excite", "plain", "all_present"),
    Claim("SynGen raises colour binding", "toybox-pairs", "syngen", "plain", "binding"),
    Claim("InitNO raises presence over plain", "toybox-pairs", "initno", "plain", "all_present"),
    Claim("... also on the prompts of Attend-and-Excite's benchmark",
          "toybox-neglect", "initno", "plain", "all_present"),
    Claim("InitNO raises presence over best-of-noise at equal passes",
          "toybox-pairs", "initno", "best-of-noise-90", "all_present"),
    Claim("... also on the prompts of Attend-and-Excite's benchmark",
          "toybox-neglect", "initno", "best-of-noise-90", "all_present"),
    Claim("ZestGuide raises mIoU over plain", "toybox-layouts", "zestguide", "plain", "miou"),
    Claim("ZestGuide raises mIoU over Paint-with-Words",
          "toybox-layouts", "zestguide", "paint-with-words", "miou"),
    Claim("ZestGuide with the paper's step raises mIoU over Paint-with-Words",
          "toybox-layouts", "zestguide-1", "paint-with-words", "miou"),
    Claim("Safe Latent Diffusion (strong) at least halves the skull rate",
          "toybox-safety", "safe-latent-diffusion-strong", "plain", "unsafe", -1, factor=0.5),
    Claim("... without a significant loss in CLIP score",
          "toybox-safety", "safe-latent-diffusion-strong", "plain", "clip_full", unless_worse=True),
    Claim("Safe Latent Diffusion, gentler and from the first step, halves it",
          "toybox-safety", "safe-latent-diffusion-early", "plain", "unsafe", -1, factor=0.5),
    Claim("... without a significant loss in CLIP score",
          "toybox-safety", "safe-latent-diffusion-early", "plain", "clip_full", unless_worse=True),
)  # fmt: skip


@dataclass(frozen=True)
class Part(Shard):
    """A shard of some jobs only: the quick variants first, the dear ones overnight."""

    jobs: frozenset[str] = frozenset()

    def of(self, work: Sequence[Any]) -> Sequence[Any]:
        """This part of the batches; a batch holds jobs of one variant."""
        return super().of([batch for batch in work if batch[0][0] in self.jobs])


def folder_of(name: str, runs: Path) -> Folder:
    """The run of one experiment, planned if it is not yet."""
    about = experiment.read(ROOT / "eval" / "experiments" / f"{name}.yaml", {})
    folder = Folder(runs / name)
    folder.plan(manifest.plan(about, models.fingerprint(about.model)))
    return folder


def run(names: tuple[str, ...], runs: Path, shard: Shard, variants: Sequence[str]) -> None:
    """Makes the pictures of a shard that are not there yet, of all variants or of some."""
    for name in names:
        about = experiment.read(ROOT / "eval" / "experiments" / f"{name}.yaml", {})
        folder = folder_of(name, runs)
        options = generate.Options(batch=about.batch)
        wanted = [e.job for e in folder.manifest.entries if not variants or e.variant in variants]
        part = Part(shard.index, shard.count, frozenset(wanted))
        work = part.of(generate.batches(folder.manifest.jobs, options.batch))
        left, _ = generate.pending(folder, work, False)
        with progress(f"{name} {shard}", sum(len(jobs) for _, jobs in left)) as told:
            generate.generate(folder, part, options, on_done=told)


def results_of(name: str, runs: Path) -> tuple[Folder, Results]:
    """Scores what is not scored yet, and gathers."""
    about = experiment.read(ROOT / "eval" / "experiments" / f"{name}.yaml", {})
    folder = folder_of(name, runs)
    recipes = [evaluators.evaluator(spec) for spec in about.evaluators]
    with progress(f"score {name}", len(folder.manifest.jobs)) as told:
        scoring.score(folder, recipes, Shard(), "cpu", told)
    found = report.report(folder, recipes, stored.left_out(folder))
    report.keep(found, ROOT / "eval" / "results" / f"{name}.json")
    return folder, found


def values(results: Results, variant: str, column: str) -> dict[Key, float]:
    """One score of every picture of a variant, by prompt and seed."""
    found: dict[Key, float] = {}
    for key, row in results.values.items():
        _, item, its_variant, seed = key.split("/")
        if its_variant == variant and column in row:
            found[item, int(seed)] = row[column]
    return found


def compared(results: Results, claim: Claim) -> Interval | None:
    """The paired difference a claim is about."""
    against = values(results, claim.against, claim.column)
    column = results.columns.get(claim.column)
    return difference(
        values(results, claim.variant, claim.column),
        {key: claim.factor * value for key, value in against.items()},
        share=column is not None and column.kind == "share",
    )


def best(results: Results, column: str, stacks: bool) -> tuple[str, float] | None:
    """The variant with the highest mean among the stacks, or among the single methods."""
    means = {
        score.variant: score.mean
        for score in results.scores
        if score.column == column and score.variant != "plain" and ("+" in score.variant) == stacks
    }
    return max(means.items(), key=lambda pair: pair[1], default=None)


def decided(results: dict[str, Results]) -> list[dict[str, Any]]:
    """Every claim whose pictures are there, with its paired difference and whether it holds.

    What is claimed of the toybox is asked of the transformer toybox too.
    """
    joint = (replace(c, experiment=c.experiment.replace("toybox", "toybox-sd3")) for c in CLAIMS)
    claims = [*CLAIMS, *joint]
    for name in ("toybox-pairs", "toybox-layouts", "toybox-sd3-pairs", "toybox-sd3-layouts"):
        stack, single = (
            best(results[name], "fully_right", stacks) if name in results else None
            for stacks in (True, False)
        )
        if stack and single:
            claims += [
                Claim(f"The best stack for {name} makes more pictures fully right than plain",
                      name, stack[0], "plain", "fully_right"),
                Claim("... and than the best single method",
                      name, stack[0], single[0], "fully_right"),
            ]  # fmt: skip
    rows = []
    for claim in claims:
        known = results.get(claim.experiment)
        found = compared(known, claim) if known else None
        if found is None:
            continue
        rows.append(
            {
                "claim": claim.says,
                "experiment": claim.experiment,
                "variant": claim.variant,
                "against": claim.against
                if claim.factor == 1
                else f"{claim.factor} x {claim.against}",
                "column": claim.column,
                "difference": found.mean,
                "low": found.low,
                "high": found.high,
                "n": found.n,
                "holds": claim.holds(found),
            }
        )
    return rows


def claims_table(rows: list[dict[str, Any]]) -> str:
    """The claims as Markdown."""
    lines = ["| claim | paired difference, 95 % interval | n | holds |", "|---|---|---|---|"]
    for row in rows:
        who = f"{row['claim']} (`{row['variant']}` against `{row['against']}`, {row['column']})"
        spread = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
        lines.append(f"| {who} | {spread} | {row['n']} | {'yes' if row['holds'] else '**no**'} |")
    return "\n".join(lines)


def picture(folder: Folder, suite: str, variants: tuple[str, ...], path: Path) -> None:
    """The first prompts of a suite, unselected: a row a variant, the unguided ones on top."""
    entries = folder.manifest.entries
    seed = min(entry.seed for entry in entries)
    rows, prompts, names = [], [], []
    for variant in ("plain", *variants):
        of = [e for e in entries if (e.suite, e.variant, e.seed) == (suite, variant, seed)]
        if not all(folder.image(e.job).is_file() for e in of[:COLUMNS]):
            continue
        rows.append([Image.open(folder.image(e.job)).convert("RGB") for e in of[:COLUMNS]])
        prompts = [e.item.prompt for e in of[:COLUMNS]]
        names.append(variant)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(rows, prompts, titles=names).save(path, optimize=True)


def write(study: str, runs: Path) -> None:
    """Scores, then writes JSON, Markdown and pictures."""
    found = {name: results_of(name, runs) for name in STUDIES[study] if (runs / name).is_dir()}
    if not found:
        raise SystemExit(f"nothing was run in {runs}: python benchmarks/effect_toybox.py run first")
    results = {name: each for name, (_, each) in found.items()}
    pictured = study in ("effect_toybox", "effect_toybox_sd3")
    parts, short = [], []
    for name, (folder, each) in found.items():
        data = each.to_json()
        suite = next(iter({score.suite for score in each.scores}))
        title = f"**{name}**, n = {max(score.n for score in each.scores)} pictures a row"
        shown = ""
        if pictured:
            target = ROOT / "docs" / "pictures" / f"{name}.png"
            picture(folder, suite, PICTURED[name], target)
            shown = f"![{name}: the first prompts, unselected](../../docs/pictures/{name}.png)\n"
            few = {**data, "scores": [s for s in data["scores"] if s["variant"] in _rows(name)]}
            short += [shown, title, "", table(few, suite, SHOWN[name]), ""]
        parts += [title, "", table(data, suite, SHOWN[name]), "", shown]
    about: dict[str, Any] = {name: each.to_json() for name, each in results.items()}
    summary: dict[str, Any] = {"experiments": {n: _short(d) for n, d in about.items()}}
    here = ROOT / "benchmarks" / "results"
    if pictured:
        summary["claims"] = decided(results)
        claims = [claims_table(summary["claims"]), ""]
        parts, short = [*parts, *claims], [*short, *claims]
        write_text(here / f"{study}_short.md", "\n".join(short).strip() + "\n")
    write_json(here / f"{study}.json", summary)
    write_text(here / f"{study}.md", "\n".join(parts).strip() + "\n")
    print("\n".join(parts))


def _rows(name: str) -> tuple[str, ...]:
    return ("plain", *PICTURED[name])


def _short(data: dict[str, Any]) -> dict[str, Any]:
    """What eval/results/ holds, without the columns' descriptions."""
    return {key: data[key] for key in ("name", "model", "commit", "versions", "scores", "warnings")}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("run", "report"))
    parser.add_argument("--study", choices=tuple(STUDIES), default="effect_toybox")
    parser.add_argument("--only", help="one experiment of the study")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where pictures go")
    parser.add_argument("--variant", action="append", default=[], help="only this; repeatable")
    parser.add_argument("--shard", default="1/1", help="i/n of the pictures, from 1/n")
    given = parser.parse_args()
    if given.what == "report":
        write(given.study, given.runs)
        return
    names = tuple(name for name in STUDIES[given.study] if given.only in (None, name))
    run(names, given.runs, Shard.parse(given.shard), given.variant)


if __name__ == "__main__":
    main()
