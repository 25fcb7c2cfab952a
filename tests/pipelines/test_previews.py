"""A small decoder beside the pipeline's own: for what is looked at, never for the picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import load_file, save_file

import adhere
from adhere.errors import ModelError
from adhere.pipelines.studio.studio import Studio
from tests import tiny
from tests.verifying import redness

PROMPT = "a red cat and a blue car"
CALL = {"num_inference_steps": 4, "height": 32, "width": 32}


def small(channels: int, halvings: int) -> AutoencoderTiny:
    """A random decoder of latents of so many channels and so much smaller sides."""
    torch.manual_seed(5)
    shape = (8,) * (halvings + 1)
    blocks = (1,) * (halvings + 1)
    return AutoencoderTiny(
        encoder_block_out_channels=shape,
        decoder_block_out_channels=shape,
        num_encoder_blocks=blocks,
        num_decoder_blocks=blocks,
        latent_channels=channels,
    ).eval()


def for_pipe(pipe: Any) -> AutoencoderTiny:
    halvings = pipe.vae_scale_factor.bit_length() - 1
    return small(pipe.vae.config.latent_channels, halvings)


class Counting:
    """A verifier that keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[Image.Image] = []

    def __call__(self, pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
        self.shown += pictures
        return redness(pictures, prompts)


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sdxl], ids=["sd1", "sdxl"])
def test_a_search_looks_through_it_and_finishes_without_it(make: Any) -> None:
    pipe = make()
    own, given = Counting(), Counting()
    options = {"n": 4, "look_at": 0.5, "together": 1, **CALL}
    by_own = adhere.search(pipe, PROMPT, verifier=own, **options)
    vae, used = for_pipe(pipe), []
    vae.decoder.register_forward_hook(lambda *_: used.append(1))
    by_small = adhere.search(pipe, PROMPT, verifier=given, previews=vae, **options)
    assert len(used) == 4
    assert [one.size for one in given.shown] == [one.size for one in own.shown]
    assert given.shown[0].tobytes() != own.shown[0].tobytes()
    # Whichever seed is chosen, its picture is the pipeline's.
    best = by_small.finished[0]
    generator = torch.Generator().manual_seed(best.seed)
    alone = pipe(PROMPT, generator=generator, **CALL).images[0]
    assert best.picture.tobytes() == alone.tobytes()
    assert by_own.finished[0].picture.size == best.picture.size


def test_an_autopilot_and_methods_that_choose_look_through_it() -> None:
    pipe = tiny.sd1()
    vae, used = for_pipe(pipe), []
    vae.decoder.register_forward_hook(lambda *_: used.append(1))
    flight = adhere.autopilot(pipe, PROMPT, budget=4.0, verifier=redness, previews=vae, **CALL)
    assert len(used) == sum(one.foreseen is not None for one in flight.tries) > 1
    used.clear()
    restart = adhere.Restart(verifier="redness", least=1.0)
    with adhere.Guidance(restart).attach(pipe, previews=vae):
        pipe(PROMPT, generator=tiny.generators(1), **CALL)
    assert used
    used.clear()
    callback = adhere.Guidance(restart).callback(pipe, previews=vae)
    pipe(PROMPT, generator=tiny.generators(1), callback_on_step_end=callback, **CALL)
    assert used


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (small(7, 3), "decodes latents of 7 channels, and the pipeline's have 4"),
        ("madebyollin/taesd", "previews=str decodes nothing"),
        (torch.nn.Linear(2, 2), "previews=Linear decodes nothing"),
    ],
)
def test_what_is_no_decoder_of_these_latents_is_refused(given: Any, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        adhere.Guidance().attach(tiny.sd1(), previews=given)


def toybox_decoder(folder: Path) -> Path:
    small(8, 2).save_pretrained(folder)
    return folder


def test_the_command_line_loads_one(tmp_path: Path) -> None:
    from tests.command import adhere as command

    vae, out = toybox_decoder(tmp_path / "taesd"), tmp_path / "out"
    asked = ("--best-of", "2", "--verifier", "judge", "--steps", "3", "-o", out)
    assert command("generate", "a red cat", "--previews", vae, *asked) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["previews"] == str(vae)


def test_weights_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    folder = toybox_decoder(tmp_path / "taesd")
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 weights"):
        Studio("toybox", previews=str(folder))
    with pytest.raises(ModelError, match="preview decoder '/nowhere' could not be loaded"):
        Studio("toybox", previews="/nowhere")
    small(4, 2).save_pretrained(tmp_path / "other")
    with pytest.raises(ModelError, match="decodes latents of 4 channels, and the pipeline's have"):
        Studio("toybox", previews=str(tmp_path / "other"))
    tiny.sd1().unet.save_pretrained(tmp_path / "unet")
    with pytest.raises(ModelError, match="its config names a UNet2DConditionModel"):
        Studio("toybox", previews=str(tmp_path / "unet"))
