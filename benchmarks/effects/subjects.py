"""What live masks are worth where two subjects are given as pictures, on the toybox.

    python -m benchmarks.effects.subjects [--pairs 30] [--noises 2] [--scale 0.6]

The toybox has no IP-Adapter, so one is made in seconds, with everything else frozen. A picture's
CLIP embedding is projected to four tokens by a regression, from pictures of a thing alone, on what
the text encoder makes of its words: the start token, the colour, the kind and the end token. Keys
and values are the text's own. `--keep` writes it as a file that `pipe.load_ip_adapter` reads.

Two things are shown alone, in colours that are not usual for them, and the prompt names them
without a colour, "a car and a frog". Does the picture show both, each with its given look? Held
against each other, from the same noises: the IP-Adapter as it is, and with subject-guidance.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from adhere import Guidance
from adhere.pipelines.toybox import (
    COLOURS,
    KINDS,
    Judge,
    Scene,
    Thing,
    load_clip,
    load_toybox,
    parse_prompt,
    render,
)
from adhere.pipelines.toybox.judge.outcome import compare
from adhere.pipelines.toybox.model.clip import preprocess, tokenise
from adhere.pipelines.toybox.model.unet import embed
from adhere.pipelines.toybox.world.captions import article
from adhere.pipelines.toybox.world.faults import TYPICAL
from adhere.pipelines.toybox.world.world import place
from adhere.plugins.bind.subject_guidance import SubjectGuidance
from benchmarks import record
from benchmarks.effects.paired import told
from benchmarks.effects.witnesses import Row, Witness, heard, whole

ALONE = 8
"""Pictures of each kind in each colour, for the regression."""
RIDGE = 1e-2
COLUMNS = [0, 2, 3, 4]
"""Of "a red cat": the start token, the colour, the kind, the end token."""
SEED = 7_000_000
GUIDANCE, STEPS = 4.0, 15
ARMS = {"ip-adapter": None, "subject-guidance": SubjectGuidance()}

Weights = dict[str, dict[str, Tensor]]


def alone(kind: str, colour: str, rng: Random) -> Scene:
    """A picture of a thing: somewhere on a plain background, in any size."""
    thing = Thing(kind, colour, rng.choice(("small", "big")), 0, 0)
    ((x, y),) = place(rng, [thing.side])
    return Scene((replace(thing, x=x, y=y),), shade=rng.randrange(2))


@torch.no_grad()
def embedded(clip: Any, scenes: Sequence[Scene]) -> Tensor:
    """The CLIP embeddings of some pictures, `(n, 128)`."""
    given = preprocess([render(scene) for scene in scenes])
    found: Tensor = clip.visual_projection(clip.vision_model(pixel_values=given).pooler_output)
    return found


@torch.no_grad()
def projection(pipe: Any, clip: Any, rng: Random) -> dict[str, Tensor]:
    """The regression on the text's tokens; its layer norm is that of the text encoder."""
    looks = [(kind, colour) for kind in KINDS for colour in COLOURS]
    shown = embedded(clip, [alone(*look, rng) for look in looks for _ in range(ALONE)]).double()
    norm = pipe.text_encoder.get_submodule("final_layer_norm")
    ids = tokenise(pipe.tokenizer, [f"a {colour} {kind}" for kind, colour in looks])
    said = (embed(pipe.text_encoder, ids)[:, COLUMNS] - norm.bias) / norm.weight
    wanted = said.flatten(1).double().repeat_interleave(ALONE, dim=0)
    given = torch.cat([shown, torch.ones(len(shown), 1)], dim=1)
    inner = given.T @ given + RIDGE * len(given) * torch.eye(given.shape[1])
    solved = torch.linalg.solve(inner, given.T @ wanted).float()
    return {
        "proj.weight": solved[:-1].T.contiguous(),
        "proj.bias": solved[-1].contiguous(),
        "norm.weight": norm.weight.clone(),
        "norm.bias": norm.bias.clone(),
    }


def adapter(pipe: Any, clip: Any, rng: Random) -> Weights:
    """An IP-Adapter of a toybox, in the form of diffusers' files."""
    weights: dict[str, Tensor] = {}
    layers = [name for name in pipe.unet.attn_processors if ".attn1." not in name]
    for number, name in enumerate(layers):
        layer = pipe.unet.get_submodule(name.removesuffix(".processor"))
        for part in ("k", "v"):
            weight = getattr(layer, f"to_{part}").weight.detach().clone()
            weights[f"{2 * number + 1}.to_{part}_ip.weight"] = weight
    return {"image_proj": projection(pipe, clip, rng), "ip_adapter": weights}


def keep(weights: Weights, path: Path) -> None:
    """Write an adapter in half precision."""
    named = {f"{part}.{n}": w.half() for part, inner in weights.items() for n, w in inner.items()}
    save_file({name: weight.contiguous() for name, weight in named.items()}, path)


def pairs(count: int, rng: Random) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """Kinds, and colours that are different and not usual for them."""
    while count:
        kinds, colours = rng.sample(KINDS, 2), rng.sample(COLOURS, 2)
        if all(c not in TYPICAL[k] for k, c in zip(kinds, colours, strict=True)):
            yield (kinds[0], kinds[1]), (colours[0], colours[1])
            count -= 1


def said(things: Sequence[str]) -> str:
    return " and ".join(f"{article(thing)} {thing}" for thing in things)


def answers(
    pipe: Any, shown: Tensor, looks: Sequence[tuple[str, str]], seeds: Sequence[int]
) -> Iterator[Row]:
    """A pair's scores with each arm: `looks` are its kinds and colours, `shown` their pictures."""
    judge = Judge.load()
    expected = parse_prompt(said([f"{colour} {kind}" for kind, colour in looks]))
    for arm, plugin in ARMS.items():
        with nullcontext() if plugin is None else Guidance(plugin).attach(pipe):
            images = pipe(
                said([kind for kind, _ in looks]),
                num_images_per_prompt=len(seeds),
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                ip_adapter_image_embeds=[torch.stack([torch.zeros_like(shown), shown])],
            ).images
        for noise, verdict in enumerate(judge(list(images))):
            seen = compare(expected, verdict.things)
            yield "both with their looks", arm, noise, seen.all_bound
            yield "things with their looks", arm, noise, seen.binding
            yield "both there", arm, noise, seen.all_present
            yield "a look exchanged", arm, noise, bool(seen.swapped)


def witnesses(pipe: Any, clip: Any, count: int, noises: int, rng: Random) -> Iterator[Witness]:
    """The pairs; their pictures are drawn whether they are asked or not, for what follows."""
    for number, (kinds, colours) in enumerate(pairs(count, rng)):
        looks = list(zip(kinds, colours, strict=True))
        shown = embedded(clip, [alone(*look, rng) for look in looks])
        seeds = [SEED + 100 * number + noise for noise in range(noises)]
        yield f"{number}", partial(answers, pipe, shown, looks, seeds)


def main() -> None:
    """Measure, print, and keep JSON; given again after a stop it goes on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--noises", type=int, default=2, help="pictures of each pair")
    parser.add_argument("--scale", type=float, default=0.6, help="of the IP-Adapter")
    parser.add_argument("--keep", type=Path, help="where the adapter is written, if anywhere")
    parser.add_argument("--out", type=Path, default=record.RESULTS / "subjects.json")
    given = parser.parse_args()
    pipe, (clip, *_) = load_toybox(), load_clip()
    pipe.set_progress_bar_config(disable=True)
    rng = Random(SEED)
    weights = adapter(pipe, clip, rng)
    if given.keep:
        keep(weights, given.keep)
    pipe.load_ip_adapter(weights, subfolder="", weight_name="", image_encoder_folder=None)
    pipe.set_ip_adapter_scale(given.scale)
    how = {
        "device": "cpu",
        "pairs": given.pairs,
        "noises": given.noises,
        "scale": given.scale,
        "steps": STEPS,
        "guidance_scale": GUIDANCE,
    }
    *_, found = heard(given.out, how, witnesses(pipe, clip, given.pairs, given.noises, rng))
    record.write(given.out, how, {name: told(rows, "ip-adapter") for name, rows in found.items()})
    whole(given.out)


if __name__ == "__main__":
    main()
