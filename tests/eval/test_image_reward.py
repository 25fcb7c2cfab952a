"""ImageReward against BLIP written down slowly, on random weights under the published names."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from adhere.errors import ModelError
from adhere.eval.evaluators import table as evaluators
from adhere.eval.evaluators.evaluator import Shown
from adhere.eval.evaluators.preference import image_reward
from adhere.eval.suites.items import Item
from tests.eval import fakes, tiny_models

WIDE, NARROW, PATCH, SIDE, WORDS = 128, 64, 8, 32, 19
State = dict[str, Tensor]


def published() -> State:
    """A small state with the names of ImageReward.pt."""
    shapes: dict[str, tuple[int, ...]] = {
        "visual_encoder.cls_token": (1, 1, WIDE),
        "visual_encoder.pos_embed": (1, (SIDE // PATCH) ** 2 + 1, WIDE),
        "visual_encoder.patch_embed.proj.weight": (WIDE, 3, PATCH, PATCH),
        "visual_encoder.patch_embed.proj.bias": (WIDE,),
        "text_encoder.embeddings.word_embeddings.weight": (WORDS, NARROW),
        "text_encoder.embeddings.position_embeddings.weight": (40, NARROW),
        "vision_proj.weight": (5, WIDE),
        "text_proj.bias": (5,),
    }
    layers = {"visual_encoder.norm": (WIDE,), "text_encoder.embeddings.LayerNorm": (NARROW,)}
    for n in range(2):
        block = f"visual_encoder.blocks.{n}."
        layers |= {block + "norm1": (WIDE,), block + "norm2": (WIDE,)}
        layers |= {block + "attn.qkv": (3 * WIDE, WIDE), block + "attn.proj": (WIDE, WIDE)}
        layers |= {block + "mlp.fc1": (96, WIDE), block + "mlp.fc2": (WIDE, 96)}
        layer = f"text_encoder.encoder.layer.{n}."
        for kind, width in (("attention", NARROW), ("crossattention", WIDE)):
            layers[f"{layer}{kind}.self.query"] = (NARROW, NARROW)
            layers |= {f"{layer}{kind}.self.{one}": (NARROW, width) for one in ("key", "value")}
            layers[f"{layer}{kind}.output.dense"] = (NARROW, NARROW)
            layers[f"{layer}{kind}.output.LayerNorm"] = (NARROW,)
        layers |= {layer + "intermediate.dense": (48, NARROW), layer + "output.dense": (NARROW, 48)}
        layers[layer + "output.LayerNorm"] = (NARROW,)
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    generator = torch.Generator().manual_seed(0)
    state = {
        f"blip.{name}": torch.randn(shape, generator=generator) * 0.3
        for name, shape in shapes.items()
    }
    sizes = [NARROW, 1024, 128, 64, 16, 1]
    for place, (before, after) in zip((0, 2, 4, 6, 7), pairwise(sizes), strict=True):
        state[f"mlp.layers.{place}.weight"] = torch.randn(after, before, generator=generator) * 0.1
        state[f"mlp.layers.{place}.bias"] = torch.randn(after, generator=generator)
    state["blip.text_encoder.embeddings.position_ids"] = torch.arange(40)[None]
    return state


class Slow:
    """BLIP's encoders and the head for one picture and one prompt, matrix by matrix."""

    def __init__(self, state: State) -> None:
        self.state = state

    def linear(self, x: Tensor, name: str) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def norm(self, x: Tensor, name: str, eps: float) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        spread = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
        return centred / spread * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    @staticmethod
    def attend(q: Tensor, k: Tensor, v: Tensor, told: Tensor) -> Tensor:
        heads = []
        for start in range(0, q.shape[1], 64):
            one = slice(start, start + 64)
            scores = q[:, one] @ k[:, one].T / math.sqrt(64)
            heads.append(scores.masked_fill(~told.bool(), -torch.inf).softmax(-1) @ v[:, one])
        return torch.cat(heads, dim=1)

    def see(self, pixels: Tensor) -> Tensor:
        state, name = self.state, "blip.visual_encoder."
        kernel = state[name + "patch_embed.proj.weight"].reshape(WIDE, -1)
        patches = [
            kernel @ pixels[:, y : y + PATCH, x : x + PATCH].reshape(-1)
            for y in range(0, SIDE, PATCH)
            for x in range(0, SIDE, PATCH)
        ]
        x = torch.stack(patches) + state[name + "patch_embed.proj.bias"]
        x = torch.cat([state[name + "cls_token"][0], x]) + state[name + "pos_embed"][0]
        for n in range(2):
            block = f"{name}blocks.{n}."
            qkv = self.linear(self.norm(x, block + "norm1", 1e-6), block + "attn.qkv")
            seen = self.attend(*qkv.split(WIDE, dim=1), torch.ones(len(x)))
            x = x + self.linear(seen, block + "attn.proj")
            hidden = self.linear(self.norm(x, block + "norm2", 1e-6), block + "mlp.fc1")
            x = x + self.linear(functional.gelu(hidden), block + "mlp.fc2")
        return self.norm(x, name + "norm", 1e-6)

    def read(self, tokens: Tensor, told: Tensor, seen: Tensor) -> Tensor:
        name = "blip.text_encoder."
        x = self.state[name + "embeddings.word_embeddings.weight"][tokens]
        x = x + self.state[name + "embeddings.position_embeddings.weight"][: len(tokens)]
        x = self.norm(x, name + "embeddings.LayerNorm", 1e-12)
        for n in range(2):
            layer = f"{name}encoder.layer.{n}."
            for kind, source, mask in (
                ("attention", None, told), ("crossattention", seen, torch.ones(len(seen))),
            ):  # fmt: skip
                of = x if source is None else source
                q = self.linear(x, f"{layer}{kind}.self.query")
                k, v = (self.linear(of, f"{layer}{kind}.self.{one}") for one in ("key", "value"))
                out = self.linear(self.attend(q, k, v, mask), f"{layer}{kind}.output.dense")
                x = self.norm(out + x, f"{layer}{kind}.output.LayerNorm", 1e-12)
            hidden = functional.gelu(self.linear(x, layer + "intermediate.dense"))
            x = self.norm(self.linear(hidden, layer + "output.dense") + x,
                          layer + "output.LayerNorm", 1e-12)  # fmt: skip
        return x

    def score(self, pixels: Tensor, tokens: Tensor, told: Tensor) -> float:
        x = self.read(tokens, told, self.see(pixels))[0]
        for place in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{place}")
        return (float(x) - 0.16717362830052426) / 1.0333394966054072


def test_scores_are_imagerewards(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    state, words = published(), tiny_models.blip(tmp_path / "blip")
    torch.save(state, tmp_path / "ImageReward.pt")
    save_file({name: one.contiguous() for name, one in state.items()}, tmp_path / "ir.safetensors")
    pictures = [fakes.noisy(50, 34), Image.new("RGB", (34, 50), "red")]
    prompts = ["a red cat and a blue car", "a dog"]
    shown = [
        Shown(picture, fakes.entry(Item(str(n), prompt)))
        for n, (picture, prompt) in enumerate(zip(pictures, prompts, strict=True))
    ]
    tokens = AutoTokenizer.from_pretrained(words)(
        prompts, padding="max_length", truncation=True, max_length=35, return_tensors="pt"
    )
    slow = [
        Slow(state).score(image_reward.prepared(picture, SIDE), ids, told)
        for picture, ids, told in zip(
            pictures, tokens["input_ids"], tokens["attention_mask"], strict=True
        )
    ]
    for name in ("ImageReward.pt", "ir.safetensors"):
        spec = f"image-reward:weights={tmp_path / name},tokenizer={words}"
        scorer: Any = evaluators.evaluator(spec).load("cpu")  # type: ignore[union-attr]
        found = [row.values["image_reward"] for row in scorer(shown)]
        assert found == pytest.approx(slow, abs=2e-4)
    assert abs(slow[0] - slow[1]) > 0.01


def test_pictures_are_cut_to_their_middle() -> None:
    picture = Image.new("RGB", (80, 40), (255, 0, 0))
    picture.paste((0, 0, 255), (20, 0, 60, 40))
    pixels = image_reward.prepared(picture, 20)
    assert pixels.shape == (3, 20, 20)
    assert pixels[2, 10, 10] == pytest.approx((1 - 0.40821073) / 0.27577711)
    assert pixels[0, 10, 10] == pytest.approx(-0.48145466 / 0.26862954)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    state = published()
    lacks = {name: one for name, one in state.items() if "layer.1.crossattention" not in name}
    for wrong in (lacks, {**state, "more": torch.zeros(1)}, {"cat": torch.zeros(1)}):
        torch.save(wrong, tmp_path / "x.pt")
        with pytest.raises(ModelError, match="is not ImageReward's"):
            image_reward.network(str(tmp_path / "x.pt"))
    state[next(iter(state))].view(-1)[0] = torch.nan
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="1 weights hold NaN"):
        image_reward.network(str(tmp_path / "x.pt"))
    torch.save({"code": Slow({})}, tmp_path / "x.pt")
    for path in ("x.pt", "none.pt", "none.safetensors"):
        with pytest.raises(ModelError, match="cannot read"):
            image_reward.network(str(tmp_path / path))
    with pytest.raises(ModelError, match="cannot read"):
        image_reward.network("")
