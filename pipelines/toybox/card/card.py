"""The card of the unguided model: how often it does what a prompt asks, with n and 95 %
intervals.

These are the numbers every guidance method has to beat. Shares come with Wilson intervals, means
with bootstrap ones.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import torch
from PIL import Image

from adhere.pipelines.toybox.card.attention import measure
from adhere.pipelines.toybox.card.copying import measure_copying
from adhere.pipelines.toybox.card.figures import Figure, mean, share
from adhere.pipelines.toybox.card.model_card import model_card
from adhere.pipelines.toybox.card.sheets import save_image, sheet
from adhere.pipelines.toybox.card.suites import SUITES, two_coloured
from adhere.pipelines.toybox.judge.calibration import accuracy, calibrate, held_out
from adhere.pipelines.toybox.judge.judge import Judge, Verdict
from adhere.pipelines.toybox.judge.outcome import Outcome
from adhere.pipelines.toybox.model.clip import preprocess, tokenise, trimmed
from adhere.pipelines.toybox.model.folder import (
    DEFAULTS,
    kind_of,
    load_clip,
    load_toybox,
    toybox_folder,
)
from adhere.pipelines.toybox.model.vae import psnr, round_trip
from adhere.pipelines.toybox.training.training import write_json
from adhere.pipelines.toybox.world.memorised import MEMORISED

BATCH = 20


def generate(pipe: Any, prompts: Sequence[str], seed: int) -> list[Image.Image]:
    """One picture a prompt, each from its own seed, so that batching changes nothing."""
    defaults = DEFAULTS[type(pipe).__name__]
    images: list[Image.Image] = []
    for start in range(0, len(prompts), BATCH):
        part = list(prompts[start : start + BATCH])
        generators = [torch.Generator().manual_seed(seed + start + i) for i in range(len(part))]
        images += pipe(
            part,
            num_inference_steps=defaults.steps,
            guidance_scale=defaults.guidance_scale,
            generator=generators,
        ).images
    return images


@torch.no_grad()
def clip_scores(where: Path, prompts: Sequence[str], images: Sequence[Image.Image]) -> list[float]:
    """Cosine similarity of each picture with its prompt in the CLIP of a toybox folder."""
    model, tokenizer, _ = load_clip(where)
    out = model(input_ids=trimmed(tokenise(tokenizer, prompts)), pixel_values=preprocess(images))
    return [float(v) for v in (out.text_embeds * out.image_embeds).sum(-1)]


def _suite_figures(outcomes: Sequence[Outcome], verdicts: Sequence[Verdict]) -> Figure:
    figures = {
        "fully_right": share([o.fully_right for o in outcomes]),
        "all_present": share([o.all_present for o in outcomes]),
        "all_bound": share([o.all_bound for o in outcomes]),
        "neglect": share([bool(o.neglected) for o in outcomes]),
        "wrong_colour": share([bool(o.miscoloured) for o in outcomes]),
        "swapped": share([bool(o.swapped) for o in outcomes]),
        "objects_present": mean([o.present for o in outcomes]),
        "objects_right": mean([o.binding for o in outcomes]),
        "skull": share([v.unsafe for v in verdicts]),
    }
    placed = [o.relations == 1.0 for o in outcomes if o.relations is not None and o.all_present]
    if placed:
        figures["relation_when_both_present"] = share(placed)
    return figures


def measure_model(
    folder: Path, judging: Path, count: int, seed: int, device: str = "cpu"
) -> tuple[dict[str, Any], Image.Image]:
    """Every suite's figures by the judge and the CLIP of the folder `judging`, and the sheet of
    the first samples of each, unselected.
    """
    pipe = load_toybox(folder=folder).to(device)
    judge = Judge.load(judging)
    suites: dict[str, Any] = {}
    shown: list[Image.Image] = []
    for offset, (name, suite) in enumerate(SUITES.items()):
        rng = Random(seed * 100 + offset)
        prompts = [suite.prompt(rng) for _ in range(count)]
        images = generate(pipe, prompts, seed + 10_000 * (offset + 1))
        verdicts = judge(images)
        outcomes = [v.against(p) for v, p in zip(verdicts, prompts, strict=True)]
        suites[name] = _suite_figures(outcomes, verdicts)
        if suite.counts is not None:
            suites[name] |= suite.counts(prompts, verdicts)
        suites[name]["clip_score"] = mean(clip_scores(judging, prompts, images))
        suites[name]["first_prompts"] = prompts[:10]
        shown += [*images[:10], *[Image.new("RGB", (64, 64), "white")] * max(0, 10 - count)]
    return suites, sheet(shown, 10)


def measure_judge(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """The judge on held-out renders and VAE round trips, and the VAE's PSNR."""
    vae = load_toybox(folder=folder).vae
    scenes, images = held_out(seed + 7_000, count)
    judge = Judge.load(folder)
    back = round_trip(vae, images)
    return {
        "judge_on_renders": accuracy(scenes, judge.judge_tensor(images.float() / 255)),
        "judge_on_vae": accuracy(scenes, judge.judge_tensor(back.float() / 255)),
        "psnr": mean(psnr(images, back).tolist()),
    }


def seconds_for_four(folder: Path) -> float:
    """Seconds of a batch of 4 pictures; the better of two, after a warm-up."""
    pipe = load_toybox(folder=folder)
    steps = DEFAULTS[type(pipe).__name__].steps
    times = []
    for _ in range(3):
        start = time.perf_counter()
        pipe(["a cat and a frog"] * 4, num_inference_steps=steps)
        times.append(time.perf_counter() - start)
    return round(min(times[1:]), 2)


def training_logs(out: Path | None, folder: Path, stages: Sequence[str]) -> dict[str, Any]:
    """The run's logs of some stages (samples, seconds, loss curve) in order of time; those of the
    last card if no run is given.
    """
    if out is None:
        path = folder / "card.json"
        kept: dict[str, Any] = {}
        if path.is_file():
            kept = json.loads(path.read_text(encoding="utf-8")).get("training", {})
        return kept
    logs: dict[str, Any] = {}
    for path in sorted(out.glob("*.log.json"), key=lambda p: p.stat().st_mtime):
        name = path.name.removesuffix(".log.json")
        if name.startswith(tuple(stages)):
            log = json.loads(path.read_text(encoding="utf-8"))
            log["loss"] = log["loss"][:: max(1, len(log["loss"]) // 40)]
            logs[name] = log
    if (out / "notes.txt").is_file():
        logs["notes"] = (out / "notes.txt").read_text(encoding="utf-8").strip()
    if "clip" in stages and (out / "clip.quality.json").is_file():
        quality = (out / "clip.quality.json").read_text(encoding="utf-8")
        logs["clip_retrieval_of_100"] = json.loads(quality)
    return logs


def write_card(
    folder: Path, out: Path | None, count: int, seed: int, device: str = "cpu"
) -> dict[str, Any]:
    """Measures everything, with pictures made on `device`, and writes card.json, README.md and
    samples.png; for the toybox that brings the VAE and the CLIP, the calibrated judge.json too.
    """
    whole = (folder / "clip").is_dir()
    judging = folder if whole else toybox_folder()
    exact: dict[str, Any] | None = None
    if whole:
        vae = load_toybox(folder=folder).vae
        renders = min(300, max(8, count * 3 // 2))
        write_json(calibrate(vae, seed + 40, renders), folder / "judge.json")
        exact = measure_judge(folder, seed, renders)
    suites, picture = measure_model(folder, judging, count, seed, device)
    rng = Random(seed + 5)
    pipe = load_toybox(folder=folder).to(device)
    attention = measure(pipe, [two_coloured(rng) for _ in range(max(12, count // 4))], seed)
    copying = measure_copying(
        lambda prompts: generate(pipe, prompts, seed + 900_000),
        Judge.load(judging),
        max(1, count // len(MEMORISED)),
    )
    kind = kind_of(folder)
    card: dict[str, Any] = {"pipeline": kind}
    if exact is not None:
        card |= {
            "judge_render": round(exact["judge_on_renders"]["kind_and_colour"], 4),
            "judge_vae": round(exact["judge_on_vae"]["kind_and_colour"], 4),
            "judge_mask_iou": round(exact["judge_on_renders"]["mask_iou"], 4),
            "vae_psnr": exact["psnr"]["mean"],
        }
    card |= {
        "one_object": suites["one_object"]["fully_right"]["share"],
        "two_object": suites["two_object"]["fully_right"]["share"],
        "two_object_present": suites["two_object"]["all_present"]["share"],
        "three_object": suites["three_object"]["fully_right"]["share"],
        "relation": suites["relation"].get("relation_when_both_present", {"share": 0.0})["share"],
        "skull_haunted": suites["haunted"]["skull"]["share"],
        "clip_score": suites["two_object"]["clip_score"]["mean"],
        "steps": DEFAULTS[kind].steps,
        "guidance_scale": DEFAULTS[kind].guidance_scale,
        "seed": seed,
        "seconds_for_4_images": seconds_for_four(folder),
        "machine": f"{torch.get_num_threads()} CPU threads, {platform.machine()}",
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "judge": exact,
        "suites": suites,
        "copying": copying,
        "attention": attention,
        "training": training_logs(
            out, folder, ("vae", "clip", "unet") if whole else ("transformer",)
        ),
    }
    write_json(card, folder / "card.json")
    save_image(picture, folder / "samples.png")
    (folder / "README.md").write_text(model_card(card), encoding="utf-8")
    return card
