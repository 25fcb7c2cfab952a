"""A region's own LoRA in every family: the whole picture as a region is the LoRA as usual, a region
that is not heard leaves no trace, and nothing of it reaches other cells or the prompt's text.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from adhere import Guidance
from adhere.errors import GuidanceWarning, ModelError
from adhere.layout.layout import Layout, Region
from adhere.pipelines.engine.moments.adapting import Adapting
from adhere.pipelines.toybox import load_toybox
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES
from tests.families.test_extra_texts import NEW, ONE

Regional: Any = PLUGINS["regional-prompting"]
PICTURE = ["to_q", "to_k", "to_v", "to_out.0", "net.0.proj"]
JOINT = [*PICTURE, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]
TARGETS = {
    "sd1": [*PICTURE, "proj_in", "conv1"],
    "sdxl": [*PICTURE, "proj_in", "conv1"],
    "sd3": [*JOINT, "context_embedder"],
    "flux": [*JOINT, "proj_mlp", "proj_out", "context_embedder", "x_embedder"],
    "flux2": [*JOINT, "to_qkv_mlp_proj", "linear_in"],
    "chroma": [*JOINT, "proj_mlp"],
    "pixart": PICTURE,
    "sana": [*PICTURE, "conv_inverted"],
    "qwen-image": JOINT,
    "z-image": [*PICTURE, "w1"],
}
EXACT = {"sd3": 6, "flux": 6, "flux2": None, "chroma": 7, "z-image": None}
"""How many columns the prompt needs, where it would be filled up otherwise."""


def adapt(denoiser: nn.Module, *names: str, targets: list[str]) -> None:
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False)
        if hasattr(denoiser, "add_adapter"):
            denoiser.add_adapter(config, adapter_name=name)
        else:  # PixArt is no peft model in diffusers
            inject_adapter_in_model(config, denoiser, adapter_name=name)
    if len(names) > 1:
        denoiser.set_adapters(list(names), [1.0] * len(names))  # type: ignore[operator]


class Host:
    """A family's pipeline, calls of which have no filling and no classifier-free guidance."""

    def __init__(self, name: str) -> None:
        self.prompt = ONE
        if name in CASES:
            self.pipe = CASES[name].make()
            self.options = {**CASES[name].options, **CASES[name].off}
        else:
            self.pipe = getattr(tiny, name)()
            self.options = {"height": 32, "width": 32, "guidance_scale": 1.0}
        self.denoiser = getattr(self.pipe, "unet", None) or self.pipe.transformer
        if name in EXACT:
            self.options["max_sequence_length"] = EXACT[name] or self._chat(name)
        if name == "z-image":
            del self.options["max_sequence_length"]

    def _chat(self, name: str) -> int:
        if name == "z-image":
            self.options["width"] = 64
            while self._tokens() % 32:
                self.prompt += " a"
            return 32
        chat = self.pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": self.prompt}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=False,
        )
        return len(self.pipe.tokenizer(chat, add_special_tokens=False)["input_ids"])

    def _tokens(self) -> int:
        return len(self.pipe.encode_prompt([self.prompt], do_classifier_free_guidance=False)[0][0])

    def __call__(self, *layouts: Layout, seeds: tuple[int, ...] = (0,), **more: Any) -> Tensor:
        call = {"num_inference_steps": 2, "output_type": "latent", **self.options, **more}
        call |= {"prompt": [self.prompt] * len(seeds), "generator": tiny.generators(*seeds)}
        if not layouts:
            return self.pipe(**call).images
        with Guidance(Regional()).attach(self.pipe, layout=list(layouts)):
            return self.pipe(**call).images

    def region(self, lora: str = "ink", **more: Any) -> Layout:
        given = {"text": self.prompt, "box": (0, 0, 1, 1), "lora": lora, **more}
        return Layout((Region(**given),), base=0.0)


@pytest.mark.parametrize("name", TARGETS)
def test_a_region_that_is_the_picture_is_the_lora_as_usual(name: str) -> None:
    host = Host(name)
    plain = host()
    adapt(host.denoiser, "ink", targets=TARGETS[name])
    usual = host()
    scale = float(usual.abs().max())
    assert not torch.allclose(usual, plain, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(host(host.region()), usual, rtol=1e-4, atol=1e-5 * scale)
    assert torch.equal(host(host.region(start=0.9)), plain)  # no step is so late
    half = host(host.region(box=(0, 0, 0.5, 1)))
    for other in (plain, usual):
        assert not torch.allclose(half, other, rtol=1e-2, atol=1e-2)
    assert torch.equal(host(), usual)


def test_as_many_columns_as_cells_are_told_apart_by_the_layer() -> None:
    """The toybox reads 32 columns a text, and a layer has 64 cells."""
    pipe = load_toybox()
    adapt(pipe.unet, "ink", targets=PICTURE)
    call = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 1.0}
    usual = pipe(["a red cat"], generator=tiny.generators(0), **call).images
    whole = Layout((Region(text="a red cat", box=(0, 0, 1, 1), lora="ink"),), base=0.0)
    with Guidance(Regional(whole)).attach(pipe):
        found = pipe(["a red cat"], generator=tiny.generators(0), **call).images
    torch.testing.assert_close(found, usual, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sd1", "flux", "qwen-image"])
def test_only_the_regions_cells_and_text_hear_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, found = Host(name), {}
    text = {"sd1": ".attn2.to_k", "flux": ".attn.add_k_proj", "qwen-image": ".attn.add_k_proj"}
    adapt(host.denoiser, "ink", targets=TARGETS[name])
    weighed = Adapting._weighed

    def watched(self: Any, mine: Any, adapter: str, layer: str, output: Tensor) -> Tensor:
        found[layer] = weighed(self, mine, adapter, layer, output)
        return found[layer]

    monkeypatch.setattr(Adapting, "_weighed", watched)
    host(host.region(start=0.9))  # and so without a text beside the prompt
    width = next(out for layer, out in found.items() if text[name] in layer).shape[1]
    host(host.region(text=NEW, box=(0.5, 0, 1, 1)))
    said = next(out for layer, out in found.items() if text[name] in layer)[0]
    assert not said[:width].any()
    assert said[width:].abs().sum(-1).all()
    drawn = next(out for layer, out in found.items() if layer.endswith(".to_q"))[0]
    w = 16 if name == "sd1" else 6
    columns = drawn.unflatten(0, (-1, w)).abs().sum(-1)
    assert not columns[:, : w // 2].any()
    assert columns[:, w // 2 :].all()


def test_regions_and_pictures_have_their_own() -> None:
    host = Host("sd1")
    adapt(host.denoiser, "ink", "oil", targets=TARGETS["sd1"])
    two = Layout(
        (
            Region(text=NEW, box=(0, 0, 0.5, 1), lora="ink"),
            Region(text="a red car", box=(0.5, 0, 1, 1), lora="oil"),
        )
    )
    other = host.region("oil", box=(0, 0, 1, 0.4))
    both = host(two, other, seeds=(0, 1), guidance_scale=5.0)
    for image, layout in enumerate((two, other)):
        alone = host(layout, seeds=(image,), guidance_scale=5.0)
        torch.testing.assert_close(both[image : image + 1], alone, rtol=1e-3, atol=1e-3)
    swapped = Layout(tuple(Region(r.phrase, r.box, text=r.text, lora="ink") for r in two.regions))
    assert not torch.allclose(host(swapped), host(two), rtol=1e-2, atol=1e-2)


@pytest.mark.filterwarnings("ignore:what the LoRA")
@pytest.mark.parametrize(("name", "more"), [("flux", ["norm1.linear"]), ("z-image", [])])
def test_beside_a_picture_whose_regions_name_it_others_hear_it_as_ever(
    name: str, more: list[str]
) -> None:
    """With the filling behind their tokens, and in layers that know no tokens."""
    host = Host(name)
    host.options["width"] = 24  # which Z-Image fills up
    adapt(host.denoiser, "ink", "oil", targets=[*TARGETS[name], *more])
    named, silent = (host.region(lora, text=NEW, box=(0, 0, 0.5, 1)) for lora in ("oil", ""))
    both = host(named, silent, seeds=(0, 1))
    torch.testing.assert_close(both[1:], host(silent, seeds=(1,)), rtol=1e-4, atol=1e-4)


def test_it_goes_with_gradients_and_a_call_for_each_half() -> None:
    """ZestGuide's passes hear it as the run does; true guidance calls the denoiser twice a step."""
    host = Host("flux")
    adapt(host.denoiser, "ink", targets=TARGETS["flux"])
    layout = Layout((Region("a cat", box=(0, 0, 0.5, 1), lora="ink"),))
    more = {"negative_prompt": ["a bird"], "true_cfg_scale": 3.0}
    drawn = []
    for plugins in ([Regional()], [Regional(), PLUGINS["zestguide"]()]):
        call = {"num_inference_steps": 2, "output_type": "latent", **host.options, **more}
        with Guidance(*plugins).attach(host.pipe, layout=layout):
            drawn.append(host.pipe([ONE], generator=tiny.generators(0), **call).images)
    assert torch.isfinite(torch.stack(drawn)).all()
    assert not torch.allclose(*drawn, rtol=1e-3, atol=1e-3)


# ---- What cannot be kept to a region -----------------------------------------


def test_what_cannot_be_told_apart_is_refused() -> None:
    host = Host("sd1")
    adapt(host.denoiser, "ink", targets=PICTURE)
    with pytest.raises(ModelError, match="asks for the LoRA 'oil', and the denoiser has 'ink'; lo"):
        host(host.region("oil"))
    host.pipe.unet.disable_adapters()
    with pytest.raises(ModelError, match="'ink' of a region is switched off"):
        host(host.region())
    host.pipe.unet.enable_adapters()
    host.pipe.unet.fuse_lora()
    with pytest.raises(ModelError, match="'ink' of a region is fused into the weights"):
        host(host.region())


def test_another_pipeline_on_the_same_denoiser_hears_it_whole() -> None:
    host = Host("sd1")
    adapt(host.denoiser, "ink", targets=PICTURE)
    usual, between = host(), []
    other = tiny.sd1(unet=host.denoiser)

    def draw(pipe: Any, index: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        call = {"num_inference_steps": 2, "output_type": "latent", **host.options}
        between.append(other([ONE], generator=tiny.generators(0), **call).images)
        return tensors

    host(host.region(box=(0, 0, 0.5, 1)), callback_on_step_end=draw)
    assert all(torch.equal(one, usual) for one in between)
    assert len(between) == 2


def test_what_is_of_all_the_picture_is_left_out_and_said() -> None:
    host = Host("flux")
    adapt(host.denoiser, "ink", targets=["to_q", "norm1.linear"])
    with pytest.warns(GuidanceWarning, match=r"all of the picture at once \(.*norm1.linear\) is"):
        host(host.region())


def test_a_part_in_a_text_encoder_is_said() -> None:
    host = Host("sd1")
    adapt(host.denoiser, "ink", targets=PICTURE)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    inject_adapter_in_model(config, host.pipe.text_encoder, adapter_name="ink")
    with pytest.warns(GuidanceWarning, match="changes the text_encoder, too, which reads every"):
        host(host.region())
