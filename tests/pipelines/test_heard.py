"""A guide that is not heard says so: hosts that break it, each in another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from torch import Tensor

from adhere import Guidance, ModelError
from adhere.plugins import PLUGINS
from tests import tiny
from tests.leftovers import nothing_left
from tests.pipelines.test_robust import At
from tests.probes import descending

SMALL: dict[str, Any] = {"steps": 2, "size": (32, 32)}
PAINT: Any = PLUGINS["paint-with-words"]()
DENSE: Any = PLUGINS["dense-diffusion"]()
EXCITE: Any = PLUGINS["attend-and-excite"](refinements=0)
SAFE: Any = PLUGINS["safe-latent-diffusion"]("max", concept="a skull")
ABOUT = {"layout": tiny.LAYOUT}


class Other:
    """An attention processor that does not end in `scaled_dot_product_attention`."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        q, k, v = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        q, k, v = map(attn.head_to_batch_dim, (q, k, v))
        weighed = (q @ k.transpose(1, 2) * attn.scale).softmax(-1) @ v
        out: Tensor = attn.to_out[0](attn.batch_to_head_dim(weighed))
        return out


def exchanged(pipe: Any, which: Callable[[str], bool]) -> Any:
    names = pipe.unet.attn_processors
    pipe.unet.set_attn_processor({n: Other() if which(n) else p for n, p in names.items()})
    return pipe


EVERY: dict[str, Callable[[str], bool]] = {
    "all": lambda name: True,
    "cross": lambda name: "attn2" in name,
    "one": lambda name: name.startswith("up_blocks.2.attentions.1") and "attn2" in name,
}


@pytest.mark.parametrize("where", EVERY)
@pytest.mark.parametrize("what", ["read", "biased", "recorded"])
def test_processors_without_sdpa(where: str, what: str) -> None:
    pipe = exchanged(tiny.sd1(), EVERY[where])
    plugins = {"read": [EXCITE], "biased": [PAINT], "recorded": []}[what]
    with (
        nothing_left(pipe),
        Guidance(*plugins).attach(pipe, record=what == "recorded", **ABOUT),
        pytest.raises(ModelError, match=r"attn\d could not be met.*set_default_attn_processor"),
    ):
        tiny.latents(pipe, **SMALL)


def test_processors_exchanged_in_the_middle_of_a_call() -> None:
    pipe = tiny.sd1()
    act = At(0, lambda pipeline: exchanged(pipeline, EVERY["one"]))
    with Guidance(PAINT).attach(pipe, **ABOUT), pytest.raises(ModelError, match="could not be met"):
        tiny.latents(pipe, callback_on_step_end=act, **SMALL)


@pytest.mark.parametrize("fullgraph", [False, True])
def test_repeated_blocks_that_were_compiled(fullgraph: bool) -> None:
    pipe = tiny.sd1()
    guidance = Guidance(PAINT, EXCITE)
    expected = tiny.latents(pipe, guidance=guidance, about=ABOUT, **SMALL)
    pipe.unet.compile_repeated_blocks(backend="eager", fullgraph=fullgraph)
    with guidance.attach(pipe, record=True, **ABOUT) as attached:
        found = tiny.latents(pipe, **SMALL)
    assert tiny.apart(found, expected) < 1e-5
    assert attached.attention is not None
    assert attached.attention.shape[:2] == (1, 2)
    torch.compiler.reset()


def test_a_forward_that_was_compiled() -> None:
    """Nothing but the method itself tells of it, and hooks inside were traced along."""
    pipe, call = tiny.sd1(), {**SMALL, "steps": 3}
    expected = tiny.latents(pipe, guidance=Guidance(PAINT), about=ABOUT, **call)
    pipe.unet.forward = torch.compile(pipe.unet.forward, backend="eager")
    found = tiny.latents(pipe, guidance=Guidance(PAINT), about=ABOUT, **call)
    assert tiny.apart(found, expected) < 1e-5
    torch.compiler.reset()


# ---- More rows ---------------------------------------------------------------


@pytest.mark.parametrize("scale", [7.5, 1.0])
@pytest.mark.parametrize("plugin", [PAINT, SAFE, EXCITE])
def test_perturbed_attention_is_refused_and_its_processors_are_put_back(
    plugin: Any, scale: float
) -> None:
    pipe: Any = diffusers.StableDiffusionPAGPipeline(
        **tiny.sd1_parts(), pag_applied_layers=["mid"], requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    call = {"guidance_scale": scale, **SMALL}
    with (
        nothing_left(pipe),
        Guidance(plugin).attach(pipe, **ABOUT),
        pytest.raises(ModelError, match=r"pag_scale=3.0.*switch it off"),
    ):
        tiny.latents(pipe, pag_scale=3.0, **call)
    if scale > 1:  # switched off it is the plain pipeline
        found = tiny.latents(pipe, guidance=Guidance(plugin), about=ABOUT, pag_scale=0.0, **call)
        expected = tiny.latents(tiny.sd1(), guidance=Guidance(plugin), about=ABOUT, **call)
        assert torch.equal(found, expected)


def test_a_pipeline_that_fails_with_other_processors_on_gets_its_own_back() -> None:
    pipe = tiny.sd1()

    def fail(pipeline: Any) -> None:
        exchanged(pipeline, EVERY["all"])
        raise ZeroDivisionError

    with nothing_left(pipe), Guidance(descending()).attach(pipe), pytest.raises(ZeroDivisionError):
        tiny.latents(pipe, callback_on_step_end=At(0, fail), **SMALL)


def test_sag_is_refused() -> None:
    pipe: Any = diffusers.StableDiffusionSAGPipeline(
        **tiny.sd1_parts(), requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    with Guidance(EXCITE).attach(pipe), pytest.raises(ModelError, match=r"sag_scale=0.75"):
        tiny.latents(pipe, sag_scale=0.75, **SMALL)


def test_a_pipeline_that_inverts_is_refused() -> None:
    pipe: Any = diffusers.LEditsPPPipelineStableDiffusion(
        **tiny.sd1_parts(
            scheduler=diffusers.DPMSolverMultistepScheduler(
                algorithm_type="sde-dpmsolver++", solver_order=2
            )
        ),
        requires_safety_checker=False,
    )
    with (
        Guidance(EXCITE).attach(pipe),
        pytest.raises(ModelError, match="picture that was inverted"),
    ):
        pipe(editing_prompt=["a frog"])


# ---- Another forward ---------------------------------------------------------


def test_a_forward_that_only_passes_on_changes_nothing() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(EXCITE, SAFE, PAINT)
    expected = tiny.latents(pipe, guidance=guidance, about=ABOUT, **SMALL)
    own = pipe.unet.forward
    pipe.unet.forward = lambda *args, **kwargs: own(*args, **kwargs)
    found = tiny.latents(pipe, guidance=guidance, about=ABOUT, **SMALL)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("plugin", [PAINT, EXCITE])
def test_a_forward_that_leaves_blocks_out_is_refused(plugin: Any) -> None:
    """As a feature cache does at later steps."""

    pipe = tiny.sd1()
    block = pipe.unet.up_blocks[2]
    own, calls = block.forward, 0

    def cached(hidden_states: Tensor, res_hidden_states_tuple: Any, *a: Any, **k: Any) -> Tensor:
        nonlocal calls
        calls += 1
        if calls < 3:
            out: Tensor = own(hidden_states, res_hidden_states_tuple, *a, **k)
            return out
        return hidden_states.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :16]

    block.forward = cached
    with (
        Guidance(plugin).attach(pipe, **ABOUT),
        pytest.raises(ModelError, match=r"up_blocks.2.* was not run .*DeepCache"),
    ):
        tiny.latents(pipe, **{**SMALL, "steps": 4})


def test_hooks_that_look_for_positional_arguments() -> None:
    """As `tomesd.apply_patch` has one."""
    pipe = tiny.sd1()
    expected = tiny.latents(pipe, guidance=Guidance(EXCITE, SAFE), **SMALL)
    sizes: list[Any] = []
    pipe.unet.register_forward_pre_hook(lambda module, args: sizes.append(args[0].shape[2:]))
    found = tiny.latents(pipe, guidance=Guidance(EXCITE, SAFE), **SMALL)
    assert torch.equal(found, expected)
    assert len(sizes) > SMALL["steps"]


def test_merged_tokens() -> None:
    """What reads or biases words' attention works; what biases the merged layers is refused."""
    pipe = tiny.sd1()
    block = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0]
    inner = block.attn1
    own = inner.forward
    inner.forward = lambda hidden, **more: own(hidden[:, ::2], **more).repeat_interleave(2, dim=1)
    plain = tiny.latents(pipe, **SMALL)
    assert not torch.equal(tiny.latents(pipe, guidance=Guidance(EXCITE), **SMALL), plain)
    painted = tiny.latents(pipe, guidance=Guidance(PAINT), about=ABOUT, **SMALL)
    assert not torch.equal(painted, plain)
    with (
        Guidance(DENSE).attach(pipe, **ABOUT),
        pytest.raises(ModelError, match="merges or drops tokens"),
    ):
        tiny.latents(pipe, **SMALL)


# ---- Off is off --------------------------------------------------------------

OFF: dict[str, dict[str, Any]] = {
    "sega": {"edits": ("a skull",), "scale": 0.0},
    "safe-latent-diffusion": {"scale": 0.0},
    "paint-with-words": {"strength": 0.0},
    "dense-diffusion": {"cross": 0.0, "own": 0.0, "splice": False},
    "delayed-negative": {"start": 0.0, "stop": 1.0},
    "nothing": {},
}


@pytest.mark.parametrize("name", OFF)
def test_what_is_off_adds_no_row_no_hook_and_no_pass(name: str) -> None:
    pipe = tiny.sd1()
    guidance = Guidance(*([] if name == "nothing" else [PLUGINS[name](**OFF[name])]))
    expected = tiny.latents(pipe, **SMALL)
    hooks: list[int] = []
    rows: list[int] = []

    def note(_: Any) -> None:
        hooks.extend(len(m._forward_pre_hooks) for m in pipe.unet.modules())

    pipe.unet.conv_in.register_forward_hook(lambda m, args, out: rows.append(len(out)))
    with nothing_left(pipe), guidance.attach(pipe, **ABOUT) as attached:
        found = tiny.latents(pipe, callback_on_step_end=At(0, note), **SMALL)
    assert torch.equal(found, expected)
    assert rows == [2] * SMALL["steps"]
    assert not any(hooks)
    assert attached.report.passes == [0]


# ---- Embeddings of other widths ----------------------------------------------


def embedded(pipe: Any, width: int) -> dict[str, Tensor]:
    """The prompt and an empty negative one, chunked or cut to a width."""
    with torch.no_grad():
        cond, none = pipe.encode_prompt(tiny.PROMPT, "cpu", 1, True, negative_prompt="")
    wide = [torch.cat([one, none, none], dim=1)[:, :width] for one in (cond, none)]
    return {"prompt_embeds": wide[0], "negative_prompt_embeds": wide[1]}


@pytest.mark.parametrize("width", [50, 154, 231])
def test_embeddings_of_other_widths(width: int) -> None:
    pipe = tiny.sd1()
    delayed = PLUGINS["delayed-negative"](start=0.5)
    guidance = Guidance(EXCITE, SAFE, delayed)
    with guidance.attach(pipe, prompt=tiny.PROMPT, record=True) as attached:
        found = tiny.latents(pipe, None, **embedded(pipe, width), **SMALL)
    assert torch.isfinite(found).all()
    assert attached.attention is not None
    assert attached.attention.shape[-1] == width
    assert not any("cut" in note for note in attached.report.notes)


def test_words_are_found_in_later_chunks() -> None:
    from adhere.pipelines.families import family_of
    from adhere.pipelines.hooks.denoiser_call import Call

    pipe = tiny.sd1()
    prompt = "big " * 80 + "cat"
    call = Call({"encoder_hidden_states": torch.zeros(2, 154, 32)}, 2)
    (track,) = family_of(pipe).tracks([prompt], call)
    assert track.images[0].pieces[-1].column == 77 + 1 + (80 - 75)
    assert track.images[0].cut is None
