"""What regions and negatives cost, in operations, on the meta device: no weights, no time.

    python -m benchmarks.flops_regions         # writes benchmarks/results/flops_regions.json

For the published configurations of SD 1.5, SDXL and FLUX.1 [dev]: the conditional pass of one
image, as it is, with three regions that each have a text of their own (and see the others, or do
not), with Normalized Attention Guidance and with Value Sign Flip, as multiples of it; and the
largest mask that any attention is given on the way, in entries of one head (a mask over all pairs
of FLUX's tokens has 21 million).
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel
from torch import Tensor
from torch.overrides import TorchFunctionMode

from adhere.guides.guide import Attention, Guide, Step
from adhere.guides.run import Prompt, Run
from adhere.layout.layout import Layout, Region
from adhere.pipelines.families.family import Family
from adhere.pipelines.families.flux import Flux
from adhere.pipelines.hooks.attending import ExtraText, Pass, Split
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.pipelines.hooks.readout import reading
from adhere.plugins.negate.nag import NormalizedAttentionGuidance
from adhere.plugins.negate.vsf import ValueSignFlip
from adhere.plugins.place.regional_prompting import RegionalPrompting
from benchmarks import models, record
from benchmarks.asked import answered
from benchmarks.flops_meta import count

THIRDS = Layout(
    tuple(Region(text=f"thing {k}", box=(k / 3, 0.0, (k + 1) / 3, 1.0)) for k in range(3))
)
STEP = Step(0, 50, 981.0, 10.0, 0.99)
SHORT = 24
"""Tokens of a region's text where a family leaves filling out."""


class Case:
    """A denoiser on the meta device, one call of it, and the columns of an extra text."""

    def __init__(self, name: str) -> None:
        with torch.device("meta"):
            if name == "flux":
                self.denoiser: Any = FluxTransformer2DModel(guidance_embeds=True).eval()
                given = _flux_call()
                self.family: Family = Flux(_Only(self.denoiser))
            else:
                self.denoiser, given = models.unet(name), models.call(name)
                self.family = models.family(name, self.denoiser)
        self.columns = SHORT if name == "flux" else 77
        self.grid = (128, 128) if name == "flux" else tuple(given["sample"].shape[-2:])
        self.call = Call(given, 1)

    def plain(self) -> None:
        with torch.no_grad():
            self.denoiser(**self.call.values)

    def guided(self, guide: Guide) -> None:
        """The pass with a guide's texts, split in every layer."""
        width = int(self.call.values[self.family.text].shape[1])
        extras: dict[str, ExtraText] = {}
        for k, name in enumerate(guide.columns):
            columns = slice(k * self.columns, (k + 1) * self.columns)
            shown = torch.ones(1, self.columns, dtype=torch.bool)
            extras[name] = ExtraText(columns, shown, lambda grid, name=name: guide.sees(name, grid))
        total = self.columns * len(extras)
        given: Tensor = self.call.values[self.family.text]
        extra = given.new_empty(1, total, given.shape[2])
        places = list(range(self.columns)) * len(extras)
        longer = self.family.lengthened(self.call, extra, places)

        def attend(attention: Attention) -> Tensor | None:
            return guide.attend(STEP, attention)

        layers = self.family.attention_layers()
        cross = tuple(layer.name for layer in layers if layer.kind == "cross")
        running = Pass(
            reader=self.family,
            grid=self.grid,
            rows=slice(0, 1),
            images=(0,),
            total=1,
            split=Split(slice(width, width + total), extras, attend, cross, tuple(places)),
        )
        with torch.no_grad(), reading(running, self.family.modules(), layers):
            self.denoiser(**longer.values)
        assert running.split is not None
        assert running.split.met == set(cross), "a layer was not split"


class Masks(TorchFunctionMode):
    """Watches which masks attention is given; `largest` has so many entries in one head."""

    largest = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
            if mask is not None:
                self.largest = max(self.largest, math.prod(mask.shape[-2:]))
        return func(*args, **kwargs)


class _Only:
    def __init__(self, denoiser: Any) -> None:
        self.transformer = denoiser


def _flux_call() -> dict[str, Any]:
    """A call of FLUX.1 [dev] at 1024 px."""
    return {
        "hidden_states": torch.randn(1, 4096, 64),
        "encoder_hidden_states": torch.randn(1, 512, 4096),
        "pooled_projections": torch.randn(1, 768),
        "timestep": torch.ones(1),
        "guidance": torch.ones(1),
        "img_ids": torch.zeros(4096, 3),
        "txt_ids": torch.zeros(512, 3),
    }


def measure(name: str) -> dict[str, Any]:
    case = Case(name)
    run = Run((Prompt("a photo", layout=THIRDS),), (), case.grid, 50, case.family.name)
    methods = {
        "three_regions": RegionalPrompting(),
        "three_regions_not_apart": RegionalPrompting(apart=False),
        "nag": NormalizedAttentionGuidance(),
        "vsf": ValueSignFlip(),
    }
    plain = count(case.plain)
    found: dict[str, Any] = {"pass_in_gigaflops": round(plain / 1e9, 1)}
    for label, method in methods.items():
        guide = method.guide(run)
        with Masks() as masks:
            found[f"{label}_over_plain"] = round(count(lambda g=guide: case.guided(g)) / plain, 4)
        found[f"{label}_largest_mask"] = masks.largest
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="*", default=["sd15", "sdxl", "flux"])
    parser.add_argument("--out", default=str(record.RESULTS / "flops_regions.json"))
    args = parser.parse_args()
    record.write(args.out, {"device": "meta"}, {name: measure(name) for name in args.models})


if __name__ == "__main__":
    answered(main)
