"""What only one family has, and what is refused."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    ChromaImg2ImgPipeline,
    DiffusionPipeline,
    Flux2KleinKVPipeline,
    Flux2KleinPipeline,
    Flux2Pipeline,
    FluxImg2ImgPipeline,
    FluxKontextPipeline,
    QwenImageImg2ImgPipeline,
    StableDiffusion3Img2ImgPipeline,
    ZImageImg2ImgPipeline,
)
from PIL import Image
from torch import Tensor, nn

from adhere import Guidance, Memory
from adhere.errors import GuidanceError, GuidanceWarning, ModelError, PromptError
from adhere.guides.guide import Guide, Step
from adhere.guides.maps import Read
from adhere.layout.layout import Layout, Region
from adhere.pipelines.families import family_of
from adhere.pipelines.families.flux import packed, unpacked
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families import pipes
from tests.families.cases import (
    CASES,
    PROMPTS,
    SIZE,
    T5,
    Case,
    H,
    W,
    attention_calls,
    embedded,
    full_softmax,
    shown_calls,
)
from tests.families.test_extra_texts import Attends
from tests.families.test_families import Other, Seeing, every
from tests.probes import Energetic, Probe

AttendAndExcite: Any = PLUGINS["attend-and-excite"]
SafeLatentDiffusion: Any = PLUGINS["safe-latent-diffusion"]
SD3, FLUX, FLUX2, PIXART, Z = (
    CASES[name] for name in ("sd3", "flux", "flux2", "pixart", "z-image")
)


# Stable Diffusion 3


def test_the_skip_layer_call_follows_and_is_not_guided() -> None:
    options = {
        "skip_guidance_layers": [1],
        "skip_layer_guidance_start": -1.0,
        "skip_layer_guidance_stop": 1.0,
    }
    guide = Energetic(lambda maps: maps.cross()[..., 2].mean(dim=(1, 2)), step_size=20.0)
    plain = SD3(**options)
    with Guidance(Probe(lambda run: guide)).attach(SD3.pipe), shown_calls(SD3.pipe) as calls:
        moved = SD3(**options)
    assert [step.index for step in guide.steps[::2]] == [0, 1]  # two tracks a step
    own = [call for call in calls if call.get("skip_layers") is None]
    third = [call for call in calls if call.get("skip_layers") is not None]
    assert len(third) == 2
    for one, other in zip(own[-2:], third, strict=True):
        assert torch.equal(one["hidden_states"][2:], other["hidden_states"])
    assert not torch.allclose(moved, plain, atol=1e-3)
    with Guidance(Probe(lambda run: Other())).attach(SD3.pipe), shown_calls(SD3.pipe) as calls:
        SD3(steps=1, **options)
    assert [len(call["hidden_states"]) for call in calls] == [6, 2]


def test_losses_are_averaged_over_the_encoders() -> None:
    losses: list[Tensor] = []

    def loss(maps: Any) -> Tensor:
        losses.append(maps.cross()[..., 2 if maps.encoder == 0 else 78].mean(dim=(1, 2)))
        return losses[-1]

    guide = Energetic(loss)
    with Guidance(Probe(lambda run: guide)).attach(SD3.pipe) as attached:
        SD3(steps=1)
    reported = [image[0][1] for image in attached.report.losses["probe"]]
    assert reported == pytest.approx(((losses[0] + losses[1]) / 2).tolist())


def test_without_t5_words_are_found_in_clip_alone() -> None:
    pipe = pipes.sd3(text_encoder_3=None)
    with Guidance(AttendAndExcite(refinements=0)).attach(pipe) as attached:
        SD3(pipe=pipe)
    assert attached.report.losses
    guide = Seeing([])
    runs: list[Any] = []
    with Guidance(Probe(lambda run: runs.append(run) or guide)).attach(pipe):
        SD3(pipe=pipe, steps=1)
    assert len(runs[0].tracks) == 1
    assert runs[0].phrase(0, "cat").columns == ((2,),)


# FLUX


def test_packing_is_that_of_diffusers() -> None:
    latents = torch.randn(2, 4, 2 * H, 2 * W)
    theirs = FLUX.pipe._pack_latents(latents, 2, 4, 2 * H, 2 * W)
    assert torch.equal(packed(latents), theirs)
    assert torch.equal(unpacked(theirs, (H, W)), latents)
    assert torch.equal(FLUX.pipe._unpack_latents(theirs, 32, 24, 2), latents)


def test_single_blocks_can_be_chosen() -> None:
    """The text's length is known there though the block sees one stream."""
    with attention_calls(FLUX.pipe) as calls:
        FLUX(steps=1, guided=False)
    guide = Seeing([Read("cross")])
    memory = Memory(layers=("single_transformer_blocks.1.*",))
    with Guidance(Probe(lambda run: guide), memory=memory).attach(FLUX.pipe):
        FLUX(steps=1, guided=False)
    expected = full_softmax(calls[0][3])[:, T5:, :T5].unflatten(1, (H, W))
    torch.testing.assert_close(guide.cross[0].double(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("distilled", [True, False], ids=["dev", "schnell"])
def test_what_reshapes_guidance_on_a_distilled_model_is_refused_before_denoising(
    distilled: bool,
) -> None:
    pipe = pipes.flux(guided=distilled)
    both = Guidance(SafeLatentDiffusion("strong"), PLUGINS["apg"]())
    with (
        shown_calls(pipe) as calls,
        both.attach(pipe),
        pytest.raises(ModelError, match=r"^apg: .*true_cfg_scale above 1"),
    ):
        FLUX(pipe=pipe, guided=False)
    assert calls == []
    with both.attach(pipe):  # with a negative prompt it works
        FLUX(pipe=pipe)


@every
def test_what_needs_no_unconditional_prediction_is_named_where_there_is_none(case: Case) -> None:
    """Distilled families refuse; the others, where a low scale is the reason, warn."""
    refuses = case.name in ("flux", "flux2", "chroma", "qwen-image", "z-image")
    said = "nag, vsf, delayed-negative with negative="
    for name in ("apg", "cfg-zero", "delayed-negative"):
        asked, warned = pytest.raises(ModelError, match=said), pytest.warns(GuidanceWarning)
        with Guidance(PLUGINS[name]()).attach(case.pipe), asked if refuses else warned as told:
            case(steps=1, guided=False)
        if not refuses:
            assert any(name in str(one.message) and said in str(one.message) for one in told)
    for plugin in (PLUGINS["nag"]("a skull"), PLUGINS["vsf"]("a skull")):
        with Guidance(plugin).attach(case.pipe):
            found = case(steps=1, guided=False)
        assert not torch.allclose(found, case(steps=1, guided=False), atol=1e-3)


class KolorsPipeline(DiffusionPipeline):
    """As diffusers' own, which wants sentencepiece."""

    def __init__(self, vae: Any, unet: Any, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(vae=vae, unet=unet, scheduler=scheduler)


def test_kolors_is_refused_and_what_to_use_is_said() -> None:
    sdxl = tiny.sdxl()
    pipe = KolorsPipeline(sdxl.vae, sdxl.unet, sdxl.scheduler)
    with pytest.raises(ModelError, match=r"ChatGLM.*use a Stable Diffusion XL pipeline"):
        Guidance(AttendAndExcite()).attach(pipe)


@pytest.mark.parametrize(
    "name",
    [
        *("BlipDiffusion", "BlipDiffusionControlNet", "CycleDiffusion", "StableDiffusionPanorama"),
        *("StableDiffusionAttendAndExcite", "StableDiffusionLatentUpscale", "TextToVideoZero"),
        *("StableDiffusionParadigms", "TextToVideoZeroSDXL", "VisualCloze", "ZImageOmni"),
    ],
)
def test_a_loop_of_its_own_is_refused_when_guidance_is_attached(name: str) -> None:
    kind = getattr(diffusers, f"{name}Pipeline")
    for one in (kind, type("Mine", (kind,), {})):
        with pytest.raises(ModelError, match=r"cannot be guided: .*(use|guide) "):
            Guidance(AttendAndExcite()).attach(object.__new__(one))


class TwoViews(diffusers.StableDiffusionPipeline):
    """A loop that nobody here knows: in each step it asks for the picture and for its mirror."""

    def __call__(self, prompt: str, generator: Any) -> list[Tensor]:  # type: ignore[override]
        text = torch.cat(self.encode_prompt(prompt, "cpu", 1, True)[::-1])
        self.scheduler.set_timesteps(2)
        latents, drawn = torch.randn(1, 4, 16, 16, generator=generator), []
        for t in self.scheduler.timesteps:
            both = [
                self.unet(view.repeat(2, 1, 1, 1), t, encoder_hidden_states=text).sample[1:]
                for view in (latents, latents.flip(-1))
            ]
            latents = self.scheduler.step(both[0] + both[1].flip(-1), t, latents).prev_sample
            drawn.append(latents)
        return drawn


def test_other_latents_in_one_step_are_refused() -> None:
    pipe = TwoViews(**tiny.sd1_parts(), requires_safety_checker=False)
    stepped: list[Any] = []
    pipe.scheduler.step = lambda *call: stepped.append(call)
    with (
        Guidance(AttendAndExcite(refinements=0)).attach(pipe),
        pytest.raises(ModelError, match="several times a step on different latents"),
    ):
        pipe("a cat and a car", torch.Generator().manual_seed(0))
    assert stepped == []


def test_an_own_text_for_t5_is_refused() -> None:
    with (
        Guidance(AttendAndExcite()).attach(FLUX.pipe),
        pytest.raises(ModelError, match="leave out prompt_2"),
    ):
        FLUX(prompt_2=["a bird", "a car"])
    with (
        Guidance(AttendAndExcite()).attach(FLUX.pipe),
        pytest.raises(ModelError, match="leave out prompt_2"),
    ):
        FLUX(PROMPTS[:2], prompt_2=PROMPTS[1::-1])


@pytest.mark.parametrize("name", ["flux", "flux2"])
def test_reference_pictures_are_shown_and_left_alone(name: str) -> None:
    """FLUX Kontext and FLUX.2: their tokens follow the picture's own."""
    case = CASES[name]
    pipe, more = case.pipe, {"image": Image.new("RGB", (64, 64), "red")}
    if name == "flux":
        pipe = pipes.quiet(FluxKontextPipeline(**case.pipe.components))
        more |= {"_auto_resize": False, "max_area": 32 * 24}
    call = {"prompts": PROMPTS[:1], "seeds": [1], "pipe": pipe, "steps": 2, **more}
    with attention_calls(pipe) as calls:
        plain = case(**call)
    with Guidance().attach(pipe):
        assert torch.equal(case(**call), plain)
    guide = Seeing([Read("cross"), Read("self")])
    with Guidance(Probe(lambda run: guide)).attach(pipe):
        case(**call)
    whole = full_softmax(calls[0][case.read[0]])
    own = slice(T5, T5 + H * W)
    assert whole.shape[-1] > own.stop
    expected = whole[:, own, :T5].unflatten(1, (H, W))
    torch.testing.assert_close(guide.cross[0].double(), expected, rtol=0, atol=1e-5)
    among = whole[:, own, own].unflatten(1, (H, W)).unflatten(3, (H, W))
    torch.testing.assert_close(guide.own[0].double(), among, rtol=0, atol=1e-5)
    with shown_calls(pipe) as made:
        case(**call)
        with Guidance(AttendAndExcite(refinements=0)).attach(pipe):
            moved = case(**call)
    assert not torch.allclose(moved, plain, atol=1e-3)
    references = [each["hidden_states"][:, H * W :] for each in made]
    assert references[0].shape[1] > 0
    assert all(torch.equal(each, references[0]) for each in references)
    with Guidance(Probe(lambda run: Other())).attach(pipe):
        changed = case(**call)
    wanted = case(**call | {"prompts": ["a green car"]})
    torch.testing.assert_close(changed, wanted, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(changed, plain, atol=1e-2)
    with Guidance(Attends(texts={"other": "a green car"})).attach(pipe):  # which nobody hears
        assert torch.equal(case(**call), plain)
    regional = PLUGINS["regional-prompting"](
        Layout((Region(text="a green car", box=(0.0, 0.0, 0.5, 1.0)),))
    )
    with shown_calls(pipe) as made, Guidance(regional).attach(pipe):
        assert not torch.allclose(case(**call), plain, atol=1e-3)
    assert all(torch.equal(each["hidden_states"][:, H * W :], references[0]) for each in made)


def test_reference_pictures_of_other_families_are_refused() -> None:
    family = family_of(CASES["qwen-image"].pipe)
    shown = {"hidden_states": torch.zeros(1, 2 * H * W, 16), "img_shapes": [[(1, H, W)]]}
    with pytest.raises(ModelError, match="with reference pictures it cannot be guided"):
        family.bind((), shown)


# FLUX.2


def test_words_are_found_in_a_chat_that_is_padded_on_the_left() -> None:
    pipe = pipes.flux2()
    columns = []
    for side in ("right", "left"):
        pipe.tokenizer.padding_side = side
        runs: list[Any] = []
        guide = Seeing([Read("cross")])
        probe = Probe(lambda run, runs=runs, guide=guide: runs.append(run) or guide)
        with Guidance(probe).attach(pipe), shown_calls(pipe) as calls:
            FLUX2(PROMPTS[:1], seeds=[1], pipe=pipe, steps=1, guided=False)
        columns.append(runs[0].phrase(0, "cat").columns[0][0])
        shown = calls[0]["encoder_hidden_states"][0]
        alike = [k for k in range(1, T5) if torch.allclose(shown[k], shown[k - 1], atol=1e-5)]
        padded = range(T5 - len(alike), T5) if side == "right" else range(len(alike))
        assert columns[-1] not in padded
    text = pipe.tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPTS[0]}], tokenize=False
    )
    assert columns[1] - columns[0] == T5 - len(pipe.tokenizer(text).input_ids)


def test_apg_on_a_distilled_klein_is_refused_before_denoising() -> None:
    pipe = pipes.quiet(Flux2KleinPipeline(**FLUX2.pipe.components, is_distilled=True))
    with (
        Guidance(PLUGINS["apg"]()).attach(pipe),
        shown_calls(pipe) as calls,
        pytest.raises(ModelError, match="undistilled model"),
    ):
        FLUX2(pipe=pipe)
    assert calls == []
    with Guidance(AttendAndExcite()).attach(pipe):
        moved = FLUX2(pipe=pipe)
    assert not torch.allclose(moved, FLUX2(pipe=pipe), atol=1e-3)


def test_klein_with_a_cache_of_its_pictures_is_refused() -> None:
    pipe = pipes.quiet(Flux2KleinKVPipeline(**FLUX2.pipe.components))
    call = {"prompt": PROMPTS[0], "image": Image.new("RGB", (64, 64), "red"), **SIZE}
    with (
        Guidance(AttendAndExcite()).attach(pipe),
        pytest.raises(ModelError, match="use Flux2KleinPipeline"),
    ):
        pipe(**call, num_inference_steps=2, max_sequence_length=T5, output_type="latent")


class Processor:
    """As FLUX.2 [dev] has one: a chat with a start token and a system message."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def apply_chat_template(self, talk: Any, tokenize: bool = False, **options: Any) -> Any:
        if not tokenize:
            system, user = (turn["content"][0]["text"] for turn in talk)
            return f"</s> big {system} the {user} and"
        texts = [self.apply_chat_template(each) for each in talk]
        asked = {k: options[k] for k in ("padding", "truncation", "max_length")}
        tensors = options.get("return_tensors")
        return self.tokenizer(texts, add_special_tokens=False, return_tensors=tensors, **asked)


def dev(side: str = "left") -> Any:
    parts = pipes.flux2_parts(text_encoder=pipes.Qwen3ForCausalLM(pipes.qwen3(layers=30)).eval())
    parts["tokenizer"] = Processor(parts["tokenizer"])
    parts["tokenizer"].tokenizer.padding_side = side
    pipe = pipes.quiet(Flux2Pipeline(**parts))
    pipe.system_message = "a photo of a cat or a dog"
    return pipe


def drawn(pipe: Any, prompt: str) -> Tensor:
    more = {"guidance_scale": 2.5, "max_sequence_length": 60}
    return FLUX2([prompt], seeds=[1], pipe=pipe, steps=1, guided=False, **more)


@pytest.mark.parametrize("side", ["left", "right"])
def test_words_of_dev_are_found_behind_its_system_message(side: str) -> None:
    pipe = dev(side)
    runs: list[Any] = []
    shown = []
    for prompt in ("a cat in a car", "a frog in a car"):
        guide = Seeing([Read("cross")])
        probe = Probe(lambda run, guide=guide: runs.append(run) or guide)
        with Guidance(probe).attach(pipe), shown_calls(pipe) as calls:
            drawn(pipe, prompt)
        shown.append(calls[0]["encoder_hidden_states"][0])
    (column,) = runs[0].phrase(0, "cat").columns[0]
    moved = (shown[0] - shown[1]).abs().mean(dim=-1)
    assert moved[column] > 0
    assert moved.nonzero()[0] == column  # a causal encoder: nothing before it moves
    plain = drawn(pipe, PROMPTS[0])
    with Guidance(AttendAndExcite()).attach(pipe):
        assert not torch.allclose(drawn(pipe, PROMPTS[0]), plain, atol=1e-3)


def test_a_prompt_that_a_chat_changes_is_refused() -> None:
    pipe = dev()
    with (
        Guidance(AttendAndExcite()).attach(pipe),
        pytest.raises(PromptError, match="marks such as"),
    ):
        drawn(pipe, r"a cat \[IMG\] and a dog")


def test_a_tokenizer_that_does_not_do_what_it_says_is_refused() -> None:
    pipe = dev()
    pipe.tokenizer.tokenizer = pipes.t5_tokenizer()
    pipe.tokenizer.apply_chat_template = Processor(pipes.chat_tokenizer()).apply_chat_template
    pipe.tokenizer.tokenizer.add_tokens(["cat in"])
    with (
        Guidance(AttendAndExcite()).attach(pipe),
        pytest.raises(ModelError, match="it was published with"),
    ):
        drawn(pipe, "a cat in a car")


def test_a_prompt_that_is_a_word_of_the_template_is_found_behind_it() -> None:
    case = CASES["z-image"]
    runs: list[Any] = []
    probe = Probe(lambda run: runs.append(run) or Seeing([Read("cross")]))
    with Guidance(probe).attach(case.pipe):
        case(["photo"], seeds=[1], steps=1, guided=False)  # "the photo: photo and big"
    (column,) = runs[0].phrase(0, "photo").columns[0]
    assert column > case.pipe.tokenizer("the photo: a").input_ids.index(
        case.pipe.tokenizer("photo").input_ids[-1]
    )


# All of them


PICTURES = {
    "sd3": StableDiffusion3Img2ImgPipeline,
    "flux": FluxImg2ImgPipeline,
    "chroma": ChromaImg2ImgPipeline,
    "qwen-image": QwenImageImg2ImgPipeline,
    "z-image": ZImageImg2ImgPipeline,
}


@pytest.mark.parametrize("name", PICTURES)
def test_image_to_image(name: str) -> None:
    case = CASES[name]
    pipe = PICTURES[name](**case.pipe.components)
    for setting in ("prompt_template_encode", "prompt_template_encode_start_idx"):
        if hasattr(case.pipe, setting):
            setattr(pipe, setting, getattr(case.pipe, setting))
    pipe.set_progress_bar_config(disable=True)
    steps: list[Step] = []

    class Counting(Energetic):
        def energy(self, step: Step, maps: Any) -> Any:
            steps.append(step)
            return super().energy(step, maps)

    guide = Counting(lambda maps: maps.cross()[..., 2].mean(dim=(1, 2)), step_size=20.0)
    call = {"pipe": pipe, "steps": 4, "strength": 0.5, "image": [torch.rand(3, 32, 24)] * 2}
    plain = case(**call)
    runs: list[Any] = []
    with Guidance(Probe(lambda run: runs.append(run) or guide)).attach(pipe) as attached:
        moved = case(**call)
    assert not torch.allclose(moved, plain, atol=1e-3)
    assert not runs[0].sampling
    assert {step.index for step in steps} == {0, 1}
    assert attached.report.passes == [2, 2]


@every
def test_a_bias_is_added_to_the_prompts_rows_and_words(case: Case) -> None:
    """The recorded maps are the softmax with the bias in it; the other half is as it was."""
    k, memory = 2, Memory(layers=(case.layer,))
    given: list[Tensor] = []

    class Raising(Guide):
        def bias(self, step: Step, logits: Any) -> Tensor | None:
            if logits.site.name != case.layer:
                return None
            values = logits.values()
            added = torch.zeros_like(values[:, :1])
            added[:, :, : values.shape[2] // 2, k] = 3.0
            given.append(added)
            return added

    with attention_calls(case.pipe) as calls:
        plain = case(steps=1)
    with Guidance(Probe(lambda run: Raising()), memory=memory).attach(
        case.pipe, record=True
    ) as attached:
        moved = case(steps=1)
    call, rows = dict(calls[0][case.read[0]]), case.rows(2)
    shape = (*call["query"].shape[:3], call["key"].shape[2])
    mask = torch.zeros(shape)
    if call["mask"] is not None:
        own = call["mask"]
        mask += (
            torch.zeros(own.shape).masked_fill(~own, -torch.inf) if own.dtype == torch.bool else own
        )
    mask[rows][:, :, case.image][..., case.text] += given[0]
    call["mask"] = mask
    expected = full_softmax(call)[rows][:, case.image][..., case.text]
    found = attached.attention[:, 0].flatten(1, 2).double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.allclose(moved, plain, atol=1e-4)


@pytest.mark.parametrize("name", ["sd3", "flux", "pixart"])
def test_checkpointing_gives_the_same(name: str) -> None:
    case, recipe = CASES[name], AttendAndExcite(refinements=0)
    with Guidance(recipe).attach(case.pipe):
        plain = case()
    with Guidance(recipe, memory=Memory(checkpointing=True)).attach(case.pipe):
        torch.testing.assert_close(case(), plain, rtol=1e-4, atol=1e-4)


@every
def test_half_precision_is_finite(case: Case) -> None:
    pipe = case.make()
    pipe.transformer.to(torch.bfloat16)
    if case.name not in ("sana", "z-image"):
        pipe.to(torch.bfloat16)
    elif case.name == "z-image":
        pipe.text_encoder.to(torch.bfloat16)
    with Guidance(AttendAndExcite(refinements=0)).attach(pipe):
        assert torch.isfinite(case(pipe=pipe).float()).all()


def test_z_image_finds_words_in_embeddings_whose_text_it_is_told() -> None:
    own, other = Z.pipe.encode_prompt(list(PROMPTS), negative_prompt=["a bird"] * 2)
    embeds = {"prompt": None, "prompt_embeds": own, "negative_prompt_embeds": other}
    call = {"generator": None, "output_type": "latent", "num_inference_steps": 1, **Z.options}
    with Guidance(AttendAndExcite()).attach(Z.pipe, prompt=PROMPTS) as attached:
        Z.pipe(**embeds, **call)
    assert len(attached.report.losses["attend-and-excite"]) == 2


# Refused


def test_an_unknown_family_is_refused() -> None:
    class Strange:
        def __init__(self) -> None:
            self.components = {"transformer": nn.Linear(1, 1)}

    with pytest.raises(ModelError, match=r"no family that adhere knows.*docs/families.md"):
        family_of(Strange())


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("sd3", ("tokenizer", "tokenizer_2", "tokenizer_3")),
        ("flux", ("tokenizer_2",)),
        ("flux2", ("tokenizer",)),
        ("chroma", ("tokenizer",)),
        ("pixart", ("tokenizer",)),
        ("sana", ("tokenizer",)),
        ("qwen-image", ("tokenizer",)),
        ("z-image", ("tokenizer",)),
    ],
)
def test_a_tokenizer_that_was_left_out_is_refused(name: str, missing: tuple[str, ...]) -> None:
    case = CASES[name]
    pipe = case.make()
    with shown_calls(pipe) as calls:
        embeds = _embedded(case, pipe)
        for part in missing:
            setattr(pipe, part, None)
        with (
            Guidance(AttendAndExcite()).attach(pipe, prompt=PROMPTS),
            pytest.raises(ModelError, match=f"with(out)? (its )?{missing[-1][:9]}"),
        ):
            pipe(**embeds)
        assert calls == []


@pytest.mark.parametrize("name", CASES)
def test_a_text_encoder_that_was_dropped_is_refused_for_own_texts(name: str) -> None:
    missing = "text_encoder"
    case = CASES[name]
    pipe = case.make()
    embeds = _embedded(case, pipe)
    setattr(pipe, missing, None)
    recipe = AttendAndExcite(subjects=("cat",))
    prompts = [PROMPTS[0]] * 2
    with (
        Guidance(SafeLatentDiffusion("strong"), recipe).attach(pipe, prompt=prompts),
        shown_calls(pipe) as calls,
        pytest.raises(ModelError, match=f"without its {missing}"),
    ):
        pipe(**embeds)
    assert calls == []


def _embedded(case: Case, pipe: Any) -> dict[str, Any]:
    """A call by embeddings, all of one prompt."""
    kept: dict[str, Any] = {}
    options = case.options | case.negative(PROMPTS) | case.bare
    options.pop("negative_prompt", None)
    prompts, negative = [PROMPTS[0]] * 2, ["a bird"] * 2
    if case.name == "sd3":
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds")
        made = pipe.encode_prompt(
            prompts, None, None, negative_prompt=negative, max_sequence_length=T5
        )
        kept = dict(zip((*names, "negative_pooled_prompt_embeds"), made, strict=True))
    elif case.name == "flux":
        for sign, texts in (("", prompts), ("negative_", negative)):
            embeds, pooled, _ = pipe.encode_prompt(texts, None, max_sequence_length=T5)
            kept |= {f"{sign}prompt_embeds": embeds, f"{sign}pooled_prompt_embeds": pooled}
    elif case.name == "flux2":
        kept = embedded(pipe, negative)
        kept["prompt_embeds"] = embedded(pipe, prompts)["negative_prompt_embeds"]
    elif case.name == "chroma":
        made = pipe.encode_prompt(prompts, negative, max_sequence_length=T5)
        for sign, (embeds, _, mask) in (("", made[:3]), ("negative_", made[3:])):
            kept |= {f"{sign}prompt_embeds": embeds, f"{sign}prompt_attention_mask": mask}
    elif case.name in ("pixart", "sana"):
        names = ("prompt_embeds", "prompt_attention_mask")
        made = pipe.encode_prompt(prompts, True, negative_prompt=negative, max_sequence_length=T5)
        kept = dict(zip((*names, *(f"negative_{name}" for name in names)), made, strict=True))
        kept["negative_prompt"] = None
    elif case.name == "qwen-image":
        for sign, texts in (("", prompts), ("negative_", negative)):
            kept[f"{sign}prompt_embeds"], kept[f"{sign}prompt_embeds_mask"] = pipe.encode_prompt(
                texts
            )
    else:
        own, other = pipe.encode_prompt(prompts, negative_prompt=negative)
        kept = {"prompt_embeds": own, "negative_prompt_embeds": other}
    return {**options, "num_inference_steps": 1, "output_type": "latent", "prompt": None, **kept}


@pytest.mark.parametrize("put_on", ["enable_cache", "apply"])
@pytest.mark.parametrize("what", ["read", "biased", "recorded", "split"])
def test_a_feature_cache_is_refused(what: str, put_on: str) -> None:
    """Before denoising, though it leaves out layers at later steps only."""
    from diffusers import FirstBlockCacheConfig
    from diffusers.hooks import apply_first_block_cache

    pipe, config = pipes.flux(), FirstBlockCacheConfig(threshold=0.1)
    if put_on == "apply":  # the denoiser does not know of it
        apply_first_block_cache(pipe.transformer, config)
    else:
        pipe.transformer.enable_cache(config)
    layout = {"regions": [{"phrase": "cat", "box": [0, 0, 0.5, 1]}]}
    blocks: list[Any] = []
    pipe.transformer.x_embedder.register_forward_hook(lambda *call: blocks.append(call))
    guidance = {
        "read": Guidance(AttendAndExcite()),
        "biased": Guidance(PLUGINS["paint-with-words"]()),
        "recorded": Guidance(),
        "split": Guidance(PLUGINS["nag"]()),
    }[what]
    with (
        guidance.attach(pipe, layout=layout, record=what == "recorded"),
        pytest.raises(ModelError, match="disable_cache"),
    ):
        FLUX(["a cat in a car"], seeds=(1,), pipe=pipe)
    assert blocks == []


def test_a_layer_that_lets_no_gradient_through_is_refused() -> None:
    """As some quantised kernels do."""

    pipe = pipes.sd3()
    inner = pipe.transformer.pos_embed.proj
    pipe.transformer.pos_embed.proj = nn.Sequential(inner, Cut())
    with (
        Guidance(AttendAndExcite()).attach(pipe),
        pytest.raises(ModelError, match="no gradient comes through"),
    ):
        SD3(pipe=pipe)


class Cut(nn.Module):
    def forward(self, given: Tensor) -> Tensor:
        return given.detach()


def test_a_prompt_that_was_rewritten_on_the_way_is_refused() -> None:
    embeds = _embedded(PIXART, PIXART.pipe)
    with (
        Guidance(AttendAndExcite(subjects=("cat",))).attach(
            PIXART.pipe, prompt="a cat in a big car"
        ),
        pytest.raises(PromptError, match="it was rewritten"),
    ):
        PIXART.pipe(**embeds)


def test_maps_that_a_model_does_not_have_are_refused() -> None:
    case = CASES["sana"]
    with (
        Guidance(Probe(lambda run: Seeing([Read("self")]))).attach(case.pipe),
        pytest.raises(GuidanceError, match="has no self attention that could be read"),
    ):
        case()


@pytest.mark.parametrize("name", ["caption-jitter", "diverse"])
def test_filling_that_is_hidden_stays_hidden_under_noise(name: str) -> None:
    """Noise on columns that the model is not shown makes no words of them."""
    pipe = pipes.pixart()
    plugin: Any = PLUGINS[name](**({"way": "noise"} if name == "caption-jitter" else {"clear": 1}))
    masks: list[Tensor] = []

    def made() -> Tensor:
        hook = pipe.transformer.transformer_blocks[0].register_forward_pre_hook(
            lambda module, args, kwargs: masks.append(kwargs["encoder_attention_mask"]),
            with_kwargs=True,
        )
        call = {"num_inference_steps": 1, "output_type": "latent", "max_sequence_length": 20,
                "use_resolution_binning": False}  # fmt: skip
        found: Tensor = pipe("a red cat", generator=tiny.generators(0), **call).images
        hook.remove()
        return found

    plain = made()
    with Guidance(plugin).attach(pipe):
        guided = made()
    assert (guided - plain).abs().max() > 1e-3
    assert (masks[0] < -100).any(), "no column is hidden"
    assert torch.equal(masks[0], masks[-1])
