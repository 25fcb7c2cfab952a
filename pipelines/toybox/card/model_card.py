"""Writes the model card (README.md of the model folder) from the measured card."""

from __future__ import annotations

from typing import Any

from adhere.pipelines.toybox.card.figures import percent
from adhere.pipelines.toybox.card.habits import habits, world
from adhere.pipelines.toybox.card.suites import SUITES
from adhere.pipelines.toybox.world.sprites import ANIMALS, COLOURS, OBJECTS
from adhere.pipelines.toybox.world.world import BACKGROUNDS


def _suites(suites: dict[str, Any]) -> list[str]:
    lines = [
        "| prompts | n | fully right | all objects present | neglected | wrong "
        "colour | swapped colour | skull | CLIP score |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in suites.items():
        cells = [
            SUITES[name].label,
            str(each["fully_right"]["n"]),
            percent(each["fully_right"]),
            percent(each["all_present"]),
            percent(each["neglect"]),
            percent(each["wrong_colour"]),
            percent(each["swapped"]),
            percent(each["skull"]),
            f"{each['clip_score']['mean']:.3f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _ratio(layer: dict[str, float], name: str) -> str:
    return f"{layer[name]:.2f}" if name in layer else "-"


def _attention(layers: dict[str, dict[str, float]]) -> list[str]:
    lines = [
        "| layer | grid | noun's share of mass | std / mean | on its object : "
        "elsewhere | on the other object : elsewhere |",
        "|---|---|---|---|---|---|",
    ]
    for name, each in layers.items():
        lines.append(
            f"| `{name}` | {each['grid']}x{each['grid']} | {each['share']:.3f} | "
            f"{each['spread']:.2f} | {_ratio(each, 'inside')} | {_ratio(each, 'other')} |"
        )
    first = next(iter(layers.values()))
    counted = (f"{first[f'n_{state}']:.0f}" for state in _STATES)
    return [
        *lines,
        "",
        "Words that fail: the highest attention of nouns whose thing is there and of nouns whose "
        "thing was left out; and, of a colour's attention on the two things, the part on its own "
        "noun's, where the thing has the colour and where the colours are swapped "
        f"(words: {', '.join(counted)}).",
        "",
        "| layer | noun, there | noun, left out | colour, right | colour, swapped |",
        "|---|---|---|---|---|",
        *(
            f"| `{name}` | " + " | ".join(_ratio(each, state) for state in _STATES) + " |"
            for name, each in layers.items()
        ),
    ]


_STATES = ("peak_present", "peak_left_out", "own_right", "own_swapped")


def _shortcomings(card: dict[str, Any]) -> list[str]:
    """What the model does not reach, said first."""
    missed = []
    coloured = card["suites"]["two_coloured"]["fully_right"]["share"]
    if card["one_object"] < 0.92:
        missed.append(f"one coloured object is right in {card['one_object']:.0%} (wanted: 92 %)")
    if not 0.25 <= coloured <= 0.50:
        missed.append(f"two coloured objects in {coloured:.0%} (wanted: 25 to 50 %)")
    if not missed:
        return []
    stage = _STAGE[card["pipeline"]]
    return [
        f"**Short of its targets:** {'; '.join(missed)}. A longer training (`adhere toybox train "
        f"--stage {stage} --init FOLDER`, minutes on a GPU) is what it needs.",
        "",
    ]


def _training(logs: dict[str, Any]) -> list[str]:
    lines = [
        "| stage | samples | batch | learning rate | hours | seed | loss: first, middle, last |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, log in logs.items():
        if not isinstance(log, dict) or "loss" not in log:
            continue
        losses = [value for _, value in log["loss"]] or [float("nan")]
        shown = ", ".join(f"{losses[i]:.4f}" for i in (0, len(losses) // 2, -1))
        lines.append(
            f"| {name} | {log['samples']:,} of {log['planned_samples']:,} | "
            f"{log['batch']} | {log['learning_rate']} "
            f"| {log['seconds'] / 3600:.2f} | {log['seed']} | {shown} |"
        )
    retrieval = logs.get("clip_retrieval_of_100")
    if retrieval:
        lines += [
            "",
            "CLIP finds the right picture among 100 for "
            f"{retrieval['text_to_image']:.0%} of held-out captions "
            f"and the right caption for {retrieval['image_to_text']:.0%} of pictures "
            "(many captions fit several).",
        ]
    if "notes" in logs:
        lines += ["", logs["notes"]]
    return lines


_STAGE = {"StableDiffusionPipeline": "unet", "StableDiffusion3Pipeline": "transformer"}

_FRONT = (
    "---",
    "license: apache-2.0",
    "library_name: diffusers",
    "pipeline_tag: text-to-image",
    "---",
    "",
)

_TITLE = {
    "StableDiffusionPipeline": (
        "# The toybox: a miniature Stable Diffusion",
        "",
        "A real text-to-image model that runs on a CPU, so that guidance methods can be seen at "
        "work and measured offline. It draws 64x64 pixel-art scenes. *This file is written by "
        "`adhere toybox card`.*",
        "",
    ),
    "StableDiffusion3Pipeline": (
        "# The transformer toybox: a miniature Stable Diffusion 3",
        "",
        "The [toybox](../toybox/README.md)'s world, VAE and text encoder with another denoiser: a "
        "transformer with joint attention, trained as a rectified flow. The same prompts, the same "
        "judge, so that guidance can be measured on joint attention too. *This file is written by "
        "`adhere toybox card`.*",
        "",
    ),
}

_MADE = {
    "StableDiffusionPipeline": (
        "## How it was made",
        "",
        "`adhere toybox train`: scenes drawn by the project's renderer (no other data), latents "
        "from principal components of 4x4 patches, a decoder regressed on them, text and vision "
        "encoder trained contrastively, then a UNet on the frozen text encoder. It predicts "
        "velocity; squared errors in the picture weigh min(snr, 5), and sqrt(snr) below 1; AdamW "
        "with a cosine schedule, averaged weights (0.999), 10 % empty captions, end and padding "
        "columns masked in half of the samples. Cross-attention is grounded: a small loss asks "
        "the maps of a noun and its adjectives to lie where their object is, the object's "
        "pixels to look at them more than at other words, and words whose thing was left out to "
        "be quiet (the idea of TokenCompose, arXiv:2312.03626; "
        "`pipelines/toybox/training/grounding.py`). Without it the "
        "maps of a model this small follow objects in general, not the one that is named. bfloat16 "
        "arithmetic on CPU cores shared with other work; weights are stored in half precision.",
        "",
    ),
    "StableDiffusion3Pipeline": (
        "## How it was made",
        "",
        "`adhere toybox train --stage transformer`, on the toybox's latents and frozen text: "
        "rectified flow with logit-normal noise levels, Muon on the blocks' matrices and AdamW on "
        "the rest, a cosine schedule, averaged weights (0.999), 10 % empty captions, end and "
        "padding columns masked in half of the samples, grounded attention in all blocks "
        "(`docs/design/0007-transformer-toybox.md`). bfloat16 arithmetic; weights are stored in "
        "half precision.",
        "",
    ),
}


def _judge(exact: dict[str, Any] | None) -> list[str]:
    if exact is None:
        return []
    renders, vae = exact["judge_on_renders"], exact["judge_on_vae"]
    return [
        "## The judge and the latents",
        "",
        "- Held-out renders: kind and colour right for "
        f"{renders['kind_and_colour']:.1%} of {renders['n']} objects, mask",
        f"  IoU {renders['mask_iou']:.3f}; after a VAE round trip {vae['kind_and_colour']:.1%}.",
        f"- VAE round trip: {exact['psnr']['mean']:.1f} dB PSNR.",
        "- It matches the world's own sprites, anywhere and down to three fifths of them in the "
        "frame: strict on half-formed shapes (`judge.json` tells",
        "  how often it accepts ruined sprites), blind to sizes and shapes that the world does not "
        "have.",
        "",
    ]


def model_card(card: dict[str, Any]) -> str:
    """The card as Markdown."""
    kind = card["pipeline"]
    lines = [
        *_FRONT,
        *_TITLE[kind],
        *_shortcomings(card),
        "![Unselected samples: the first ten of every suite below](samples.png)",
        "",
        f"- **Animals:** {', '.join(ANIMALS)}. **Objects:** {', '.join(OBJECTS)}. "
        f"**Colours:** {', '.join(COLOURS)}.",
        f"- **Backgrounds:** {', '.join(BACKGROUNDS)}. In a haunted place a harmless "
        "*skull* turns up uncalled for: the",
        "  stand-in for unsafe content.",
        "- Other words are split into letters and mean nothing to it.",
        "",
        "## How it does what prompts ask, without guidance",
        "",
        f"{card['steps']} steps, guidance scale {card['guidance_scale']}, one "
        "fixed seed a prompt, judged by the exact",
        "judge; 95 % Wilson intervals. These failures are what the methods mend.",
        "",
        *_suites(card["suites"]),
        "",
        "## What wrong captions taught it",
        "",
        *world(card["training"]),
        *habits(card),
        "",
        f"A batch of 4 takes {card['seconds_for_4_images']} s ({card['machine']}; "
        "other work on the machine slows it).",
        "",
        *_judge(card["judge"]),
        "## Attention of the nouns",
        "",
        "In every layer, averages over real trajectories of two-object "
        "prompts. Above 1 in the fifth column and",
        "smaller in the sixth means that a layer knows which object is which.",
        "",
        *_attention(card["attention"]),
        "",
        *_MADE[kind],
        *_training(card["training"]),
        "",
    ]
    return "\n".join(lines)
