"""Subject guidance against masks written out in NumPy, and a loop of diffusers' masked calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import ModelError, PromptError
from adhere.plugins.bind.subject_guidance import SubjectGuidance, places
from tests import slow, tiny
from tests.families.cases import CASES
from tests.probes import descending


def slowly(planes: np.ndarray, threshold: float, sigma: float) -> np.ndarray:
    """M of `subjects h w` attention, cell by cell."""
    count, h, w = planes.shape
    line = [np.exp(-((d / (2 * sigma)) ** 2)) for d in (-1, 0, 1)] if sigma else [0, 1, 0]
    shares = np.zeros_like(planes)
    for s in range(count):
        padded = np.pad(planes[s], 1, mode="reflect")
        for y in range(h):
            for x in range(w):
                for i in range(3):
                    for j in range(3):
                        part = line[i] * line[j] / sum(line) ** 2
                        shares[s, y, x] += part * padded[y + i, x + j]
        shares[s] -= shares[s].min()
        shares[s] /= shares[s].max()
    found = np.zeros_like(planes)
    for y in range(h):
        for x in range(w):
            for s in range(count):
                first = all(shares[s, y, x] >= shares[k, y, x] for k in range(count))
                found[s, y, x] = first and shares[s, y, x] >= threshold
    return found


@pytest.mark.parametrize("sigma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_masks(sigma: float, threshold: float) -> None:
    attention = torch.rand(3, 5, 7, generator=torch.Generator().manual_seed(0)).double()
    found = places(attention, threshold, sigma)
    np.testing.assert_allclose(
        found.numpy(), slowly(attention.numpy(), threshold, sigma), atol=1e-5
    )
    # Values do not tie: no cell hears two pictures; without a threshold each hears one.
    assert found.sum(dim=0).max() == 1
    if threshold in (0, 1):  # every cell has somebody; only the peaks have
        assert found.sum() == {0: 35, 1: 3}[threshold]


def test_flat_attention_is_nobodys_more_than_anothers() -> None:
    assert torch.isfinite(places(torch.full((2, 4, 4), 0.25), 0.5, 0.5)).all()


PIPES = {"sd1": tiny.sd1, "sd2": tiny.sd2, "sdxl": tiny.sdxl}
SEMANTIC = {
    "sd1": slow.SEMANTIC,
    "sd2": slow.SEMANTIC,
    "sdxl": (
        "down_blocks.1.attentions.0.transformer_blocks.0.attn2",
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2",
        "up_blocks.1.attentions.1.transformer_blocks.0.attn2",
    ),
}
"""The layers at half the latents' size; of the tiny SDXL's coarsest attention these are none."""
COLUMNS = {tiny.PROMPT: ((3,), (7,)), "a photo of a blue car with a small red cat": ((6,), (11,))}
"""Of the two nouns that have pictures, start token first."""


def by_hand(
    pipe: Any, name: str, prompts: list[str], plugin: Any, seeds: Any, steps: int
) -> Tensor:
    """A plain call of the pipeline, whose every denoiser call is masked by what the last attended
    to, as a caller of diffusers would mask it, image by image.
    """
    masks = torch.zeros(len(prompts), 2, 16, 16).double()
    forward, index = pipe.unet.forward, 0

    def masked(*args: Any, **call: Any) -> Any:
        nonlocal masks, index
        heard = masks * (index / steps >= plugin.start)
        if index / steps < plugin.stop:
            given = [torch.cat([heard, heard])]
            call = {**call, "cross_attention_kwargs": {"ip_adapter_masks": given}}
        pipe.unet.forward = forward
        output, found = slow.maps_of(pipe.unet, sample=args[0], timestep=args[1], **call)
        pipe.unet.forward = masked
        attention = slow.cross(found, SEMANTIC[name], (8, 8))[len(prompts) :]
        planes = [
            slowly(
                np.stack([attention[k][..., list(own)].sum(-1).numpy() for own in COLUMNS[prompt]]),
                plugin.threshold,
                plugin.sigma,
            )
            for k, prompt in enumerate(prompts)
        ]
        found_masks = torch.tensor(np.stack(planes))
        masks = found_masks.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        index += 1
        return output

    pipe.unet.forward = masked
    try:
        return tiny.latents(pipe, prompts, seeds=seeds, steps=steps)
    finally:
        del pipe.unet.forward


@pytest.mark.parametrize("name", PIPES)
@pytest.mark.parametrize("settings", [{}, {"start": 0.5, "threshold": 0.2}, {"stop": 0.6}])
def test_it_is_diffusers_own_masked_calls(name: str, settings: dict[str, float]) -> None:
    # In double precision: a cell at the edge of a mask is in or out by a rounding.
    pipe = tiny.shown(PIPES[name]()).to(torch.float64)
    plugin = SubjectGuidance(**settings)
    prompts, seeds = list(COLUMNS), (3, 4)
    wanted = by_hand(pipe, name, prompts, plugin, seeds, 5)
    found = tiny.latents(pipe, prompts, guidance=Guidance(plugin), seeds=seeds, steps=5)
    assert tiny.apart(found, wanted) < 1e-5
    assert tiny.apart(found, tiny.latents(pipe, prompts, seeds=seeds, steps=5)) > 1e-2


def heard(pipe: Any, embeds: list[Tensor], plugin: Any = None, **call: Any) -> Tensor:
    guidance = None if plugin is None else Guidance(plugin)
    return tiny.latents(pipe, ip_adapter_image_embeds=embeds, guidance=guidance, **call)


def test_two_adapters_with_a_picture_each_are_as_good() -> None:
    """The same weights twice, and the pictures parted: one cell hears one of them either way."""
    one, two = (tiny.sd1().to(torch.float64) for _ in range(2))
    tiny.load_ip_adapter(one)
    weights = tiny.ip_adapter(two.unet)
    two.unet._load_ip_adapter_weights([weights, weights])
    two.unet.to(torch.float64)
    both = tiny.pictures().double()
    found = heard(two, [both[:, :1], both[:, 1:]], SubjectGuidance())
    assert tiny.apart(found, heard(one, [both], SubjectGuidance())) < 1e-5


def test_subjects_in_the_order_of_the_pictures() -> None:
    pipe = tiny.sd1().to(torch.float64)
    tiny.load_ip_adapter(pipe)
    both = tiny.pictures().double()
    turned = heard(pipe, [both.flip(1)], SubjectGuidance(subjects=("car", "cat")))
    assert tiny.apart(turned, heard(pipe, [both], SubjectGuidance())) < 1e-5
    said = heard(pipe, [both], SubjectGuidance(), about={"subjects": ("cat", "car")})
    assert torch.equal(said, heard(pipe, [both], SubjectGuidance()))


def test_no_other_cell_hears_a_picture() -> None:
    """Without their own pictures' differences the masks do nothing: all is in the adapter."""
    pipe = tiny.sd1().to(torch.float64)
    tiny.load_ip_adapter(pipe)
    pipe.set_ip_adapter_scale(0.0)
    silent = heard(pipe, [tiny.pictures().double()])
    assert torch.equal(heard(pipe, [tiny.pictures().double()], SubjectGuidance()), silent)
    pipe.set_ip_adapter_scale(1.0)
    late = SubjectGuidance(start=1.0)
    assert tiny.apart(heard(pipe, [tiny.pictures().double()], late), silent) < 1e-5


def test_it_stacks_with_passes_that_hear_the_pictures_too() -> None:
    """An extra pass of the first step is masked as the step's own: there nothing is heard."""
    pipe = tiny.shown(tiny.sd1())
    with slow.moves() as made:
        tiny.latents(pipe, guidance=Guidance(SubjectGuidance(), descending(step_size=50.0)))
    with slow.moves() as alone:
        tiny.latents(pipe, guidance=Guidance(SubjectGuidance(stop=0.0), descending(step_size=50.0)))
    pipe.set_ip_adapter_scale(0.0)
    with slow.moves() as silent:
        tiny.latents(pipe, guidance=Guidance(descending(step_size=50.0)))
    first, heard_everywhere, nowhere = (moves[0][2] for moves in (made, alone, silent))
    torch.testing.assert_close(first, nowhere, rtol=0, atol=1e-5)
    assert not torch.allclose(first, heard_everywhere, rtol=0, atol=1e-5)


def test_what_is_reported() -> None:
    pipe = tiny.shown(tiny.sd1())
    with Guidance(SubjectGuidance(threshold=0.0)).attach(pipe) as attached:
        tiny.latents(pipe, [tiny.PROMPT] * 2, seeds=(0, 1), steps=3)
    covered = torch.tensor(attached.report.plugins["subject-guidance"]["covered"])
    assert covered.shape == (3, 2, 2)  # steps, images, subjects
    torch.testing.assert_close(covered.sum(-1), torch.ones(3, 2))


def call(pipe: Any, plugin: Any, **options: Any) -> None:
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    hook = pipe.unet.get_submodule("conv_in").register_forward_pre_hook(count)
    try:
        tiny.latents(pipe, guidance=Guidance(plugin), **options)
    finally:
        hook.remove()
        assert calls == 0, "refused before any denoising"


@pytest.mark.parametrize("make", [tiny.sd1, tiny.sdxl])
def test_no_adapter_is_refused(make: Any) -> None:
    with pytest.raises(ModelError, match=r"takes masks, .* was called with none: pipe.load_ip_ad"):
        call(make(), SubjectGuidance())


@pytest.mark.parametrize("case", ["flux", "sd3"])
def test_families_whose_adapters_take_no_masks_are_refused(case: str) -> None:
    host = CASES[case]
    with (
        pytest.raises(ModelError, match=rf"this {case} pipeline .* on Stable Diffusion 1.x"),
        Guidance(SubjectGuidance()).attach(host.pipe),
    ):
        host(["a red cat and a blue dog"], seeds=[0], pipe=host.pipe, steps=2)


def test_other_numbers_of_subjects_than_of_pictures_are_refused() -> None:
    pipe = tiny.shown(tiny.sd1())
    said = r"2 pictures for the subjects 'cat' of 'a red cat'; give one picture for each"
    with pytest.raises(PromptError, match=said):
        call(pipe, SubjectGuidance(), prompt="a red cat")
    with pytest.raises(PromptError, match="2 pictures for the subjects 'red cat', 'car', 'blue'"):
        call(pipe, SubjectGuidance(subjects=("red cat", "car", "blue")))
    with pytest.raises(PromptError, match="frog"):
        call(pipe, SubjectGuidance(subjects=("cat", "frog")))


def test_masks_of_the_callers_own_are_refused() -> None:
    pipe = tiny.shown(tiny.sd1())
    own = {"cross_attention_kwargs": {"ip_adapter_masks": [torch.ones(1, 2, 32, 32)]}}
    with pytest.raises(ModelError, match=r"has ip_adapter_masks of its own.*leave one"):
        call(pipe, SubjectGuidance(), **own)
    # Methods that mask nothing leave them alone, and so does a guide that is off.
    plain = tiny.latents(pipe, **own)
    off = tiny.latents(pipe, guidance=Guidance(SubjectGuidance(stop=0.0)), **own)
    assert torch.equal(off, plain)
    assert not torch.equal(plain, tiny.latents(pipe))


def test_a_size_at_which_masks_would_lie_askew_is_refused() -> None:
    pipe = tiny.shown(tiny.sd1())
    with pytest.raises(ModelError, match=r"at 20x16 latents.*both divisible by 8"):
        call(pipe, SubjectGuidance(), size=(40, 32))


def test_oblong_pictures() -> None:
    """Each layer is masked on its own grid, rows and columns as they are."""
    pipe = tiny.shown(tiny.sd1())
    with Guidance(SubjectGuidance()).attach(pipe):
        found = tiny.latents(pipe, size=(48, 32))
    assert found.shape[-2:] == (24, 16)


def test_other_arguments_for_attention_stay() -> None:
    pipe = tiny.shown(tiny.sd1())
    given = {"scale": 1.0}
    with slow.calls(pipe.unet) as seen:
        tiny.latents(
            pipe, guidance=Guidance(SubjectGuidance()), cross_attention_kwargs=given, steps=2
        )
    assert given == {"scale": 1.0}
    assert all(one["cross_attention_kwargs"]["scale"] == 1.0 for one in seen)
