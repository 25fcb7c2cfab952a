"""What cannot work is refused before any denoising, and the message says what to do."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from adhere import Guidance, Layout, ModelError, ParameterError, PromptError, Region
from adhere.errors import LayoutError
from adhere.pipelines.families import family_of
from adhere.pipelines.studio.loading import load
from adhere.plugins import PLUGINS, plugin
from tests import tiny
from tests.leftovers import nothing_left
from tests.probes import descending

AttendAndExcite: Any = PLUGINS["attend-and-excite"]
SafeLatentDiffusion: Any = PLUGINS["safe-latent-diffusion"]


def refused(pipe: Any, error: Any, match: str, *plugins: Any, **options: Any) -> None:
    """The call fails as said, in each way of registering."""
    for mode in ("attach", "callback"):
        with nothing_left(pipe), pytest.raises(error, match=match):
            tiny.latents(pipe, guidance=Guidance(*plugins), mode=mode, **options)


@pytest.fixture
def pipe() -> Any:
    made = tiny.sd1()

    def never(*_: Any) -> None:
        pytest.fail("the denoiser ran before the mistake was found")

    made.unet.conv_in.register_forward_pre_hook(never)
    return made


def embeddings() -> dict[str, Any]:
    with torch.no_grad():
        cond, none = tiny.sd1().encode_prompt(tiny.PROMPT, "cpu", 1, True)
    return {"prompt": None, "prompt_embeds": cond, "negative_prompt_embeds": none}


def offloaded(unet: Any) -> None:
    cpu = torch.device("cpu")
    unet.enable_group_offload(cpu, offload_device=cpu, offload_type="leaf_level")


def cast(unet: Any) -> None:
    unet.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=torch.float32)


# What is wrong; the pipeline's parts; what is done to its UNet; the plugin; the call; and what the
# message says was given, was expected, and is to be done.
LIST: dict[str, tuple[Any, ...]] = {
    "an absent phrase": (
        PromptError, {}, None, AttendAndExcite(("cat", "dragon")), dict,
        ("'dragon'", "1:a 2:red 3:cat 4:and 5:a 6:blue 7:car", "use words of the prompt"),
    ),
    "a phrase beyond the last token": (
        PromptError, {}, None, AttendAndExcite(("frog",)),
        lambda: {"prompt": "a red cat and " + "big " * 80 + "a frog"},
        ("'frog'", "beyond token 77 of the CLIP encoder", "shorten the prompt or move the phrase"),
    ),
    "an empty prompt": (
        PromptError, {}, None, AttendAndExcite(), lambda: {"prompt": ""},
        ("the prompt is empty", "finds subjects by their words", "write a prompt"),
    ),
    "no text encoder": (
        ModelError, {"text_encoder": None}, None, SafeLatentDiffusion(concept="a skull"),
        embeddings,
        ("text encoder of this StableDiffusionPipeline was left out", "needs to encode 'a skull'",
         "load the pipeline with its text encoder"),
    ),
    "group offload": (
        ModelError, {}, offloaded, AttendAndExcite(), dict,
        ("group offload", "gradients through it would be wrong", "enable_model_cpu_offload()"),
    ),
    "layerwise casting": (
        ModelError, {}, cast, AttendAndExcite(), dict,
        ("layerwise casting", "gradients through it would be wrong", "plugins without a gradient"),
    ),
    "a guidance-distilled model": (
        ModelError, {"unet": {"time_cond_proj_dim": 8}}, None, PLUGINS["apg"](), dict,
        ("guidance-distilled", "no unconditional prediction", "use the undistilled model"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("mode", ["attach", "callback"])
@pytest.mark.parametrize("case", LIST)
def test_the_message_says_what_was_given_what_was_expected_and_what_to_do(
    case: str, mode: str
) -> None:
    error, parts, change, plugin, call, said = LIST[case]
    parts = {**parts, "unet": tiny.unet(**parts.get("unet", {}))}
    pipe = tiny.sd1(**parts)
    ran: list[str] = []
    for name in ("conv_in", "mid_block"):
        pipe.unet.get_submodule(name).register_forward_pre_hook(lambda *_: ran.append("denoiser"))
    if change is not None:
        change(pipe.unet)
    # Diffusers' own hooks of a model that is cast or offloaded come and go with its calls.
    with pytest.raises(error) as found:
        tiny.latents(pipe, guidance=Guidance(plugin), mode=mode, **call())
    assert ran == []
    for words in said:
        assert words in str(found.value)
    if change is None:
        found.value.__traceback__ = None
        with nothing_left(pipe), pytest.raises(error):
            tiny.latents(pipe, guidance=Guidance(plugin), mode=mode, **call())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("atend-and-excite", ("'atend-and-excite'", "there are:", "attend-and-excite, best")),
        ("attend-and-excite:untill=1", ("'untill'", "it has:", "stop")),
        ("attend-and-excite:stop=7", ("stop=7.0", "expected a number from 0 to 1", "share of")),
        ("attend-and-excite:stop=half", ("stop='half'", "read as a number", "share of")),
    ],
)
def test_plugin_specs_that_are_wrong(spec: str, said: tuple[str, ...]) -> None:
    with pytest.raises(ParameterError) as found:
        plugin(spec)
    for words in said:
        assert words in str(found.value)


def test_an_absent_phrase(pipe: Any) -> None:
    refused(
        pipe, PromptError, r"(?s)dragon.*1.*red.*cat",
        AttendAndExcite(("cat", "dragon")),
    )  # fmt: skip


def test_a_phrase_beyond_the_last_token(pipe: Any) -> None:
    prompt = "a red cat and " + "big " * 80 + "a frog"
    refused(pipe, PromptError, r"'frog' lies beyond token 77", AttendAndExcite(), prompt=prompt)


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt(pipe: Any, prompt: str) -> None:
    refused(pipe, PromptError, "the prompt is empty", AttendAndExcite(), prompt=prompt)


def test_a_prompt_without_things(pipe: Any) -> None:
    refused(pipe, PromptError, "name the subjects", AttendAndExcite(), prompt="and the of with")


def test_no_subjects(pipe: Any) -> None:
    refused(pipe, PromptError, "subjects is empty", AttendAndExcite(()))


def test_an_occurrence_that_is_not_there(pipe: Any) -> None:
    refused(pipe, PromptError, r"cat", AttendAndExcite(("cat#3",)), prompt="a cat and a cat")


def test_lists_that_do_not_fit_the_prompts(pipe: Any) -> None:
    about = {"subjects": [["cat"], ["car"], ["frog"]]}
    refused(
        pipe, PromptError, "3 entries in subjects for 1 prompts", AttendAndExcite(), about=about
    )
    about = {"prompt": ["a cat", "a car"]}
    refused(pipe, PromptError, "2 prompt texts .* the call has 1", AttendAndExcite(), about=about)


def test_safety_without_a_text_encoder() -> None:
    whole = tiny.sd1()
    with torch.no_grad():
        cond, none = whole.encode_prompt(tiny.PROMPT, "cpu", 1, True)
    pipe = tiny.sd1(text_encoder=None)
    refused(
        pipe, ModelError, "text encoder of this StableDiffusionPipeline was left out.*load",
        SafeLatentDiffusion(), prompt=None, prompt_embeds=cond, negative_prompt_embeds=none,
    )  # fmt: skip


def test_words_without_a_tokenizer() -> None:
    whole = tiny.sd1()
    with torch.no_grad():
        cond, none = whole.encode_prompt(tiny.PROMPT, "cpu", 1, True)
    pipe = tiny.sd1(text_encoder=None, tokenizer=None)
    refused(
        pipe, ModelError, "has no tokenizer.*load the pipeline with its tokenizer",
        AttendAndExcite(), prompt=None, prompt_embeds=cond, negative_prompt_embeds=none,
        about={"prompt": tiny.PROMPT},
    )  # fmt: skip


def test_group_offload(pipe: Any) -> None:
    pipe.unet.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
    )
    match = r"group offload swaps .*enable_model_cpu_offload"
    with pytest.raises(ModelError, match=match):
        tiny.latents(pipe, guidance=Guidance(AttendAndExcite()))


def test_layerwise_casting(pipe: Any) -> None:
    pipe.unet.enable_layerwise_casting(
        storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32
    )
    with pytest.raises(ModelError, match="layerwise casting swaps"):
        tiny.latents(pipe, guidance=Guidance(AttendAndExcite()))


def test_a_method_without_a_gradient_works_under_group_offload() -> None:
    pipe = tiny.sd1()
    guidance = Guidance(SafeLatentDiffusion("max", concept="a skull"))
    expected = tiny.latents(pipe, guidance=guidance, steps=2)
    pipe.unet.enable_group_offload(
        onload_device=torch.device("cpu"),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
    )
    assert torch.equal(tiny.latents(pipe, guidance=guidance, steps=2), expected)


def test_a_guidance_distilled_model() -> None:
    pipe = tiny.sd1(unet=tiny.unet(time_cond_proj_dim=8))
    refused(pipe, ModelError, "guidance-distilled.*use the undistilled model", PLUGINS["apg"]())
    guided = tiny.latents(pipe, guidance=Guidance(descending()), steps=1)
    assert torch.isfinite(guided).all()


def test_a_pipeline_whose_batch_is_laid_out_otherwise() -> None:
    """Three rows an image: which of them is the prompt's is not a family's to guess."""
    pipe = diffusers.StableDiffusionPAGPipeline(
        **tiny.sd1_parts(), pag_applied_layers=["mid"], requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    assert torch.isfinite(tiny.latents(pipe, pag_scale=3.0)).all()
    refused(pipe, ModelError, r"pag_scale=3.0.*switch it off", descending(), pag_scale=3.0)
    pipe = tiny.sd1()
    rows = torch.cat  # a hook that adds a third prediction, as no argument tells

    def tripled(module: Any, args: Any, kwargs: Any) -> Any:
        text = kwargs["encoder_hidden_states"]
        kwargs = {**kwargs, "encoder_hidden_states": rows([text, text[-1:]])}
        return (rows([args[0], args[0][-1:]]), *args[1:]), kwargs

    pipe.unet.register_forward_pre_hook(tripled, with_kwargs=True)
    refused(pipe, ModelError, r"3 rows for 1 image.*no PAG", descending())


def test_a_pipeline_that_encodes_no_prompts() -> None:
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(
        **tiny.sd1_parts(unet=tiny.unet(in_channels=8)), requires_safety_checker=False
    )
    with (
        nothing_left(pipe),
        pytest.raises(ModelError, match="InstructPix2PixPipeline is of no family"),
    ):
        tiny.latents(pipe, guidance=Guidance(descending()))


def test_an_unknown_family() -> None:
    class Other:
        def __init__(self) -> None:
            self.components = {"unet": None, "vae": object()}

    with pytest.raises(ModelError, match=r"Other is of no family that adhere knows .*vae"):
        family_of(Other())


def test_plugins_that_are_none() -> None:
    for wrong in (AttendAndExcite, "attend-and-excite", None):
        with pytest.raises(ParameterError, match=r"not a plugin; write for example Guidance\("):
            Guidance(wrong)


def test_an_unknown_plugin_or_parameter() -> None:
    with pytest.raises(
        ParameterError, match=r"no plugin is called 'attend'; there are: .*attend-and-"
    ):
        plugin("attend")
    with pytest.raises(ParameterError, match=r"has no parameter 'stepsize'; it has: .*step_size"):
        plugin("attend-and-excite:stepsize=3")
    with pytest.raises(ParameterError, match=r"step_size=-1.* out of range.* from 0 to 1000"):
        plugin("attend-and-excite:step_size=-1")
    with pytest.raises(ParameterError, match="not key=value"):
        plugin("attend-and-excite:step_size")


def test_a_report_before_any_call() -> None:
    with (
        Guidance().attach(tiny.sd1()) as attached,
        pytest.raises(ParameterError, match="no guided call has been made yet"),
    ):
        _ = attached.report


def test_a_model_folder_that_is_none(tmp_path: Path) -> None:
    for model in (str(tmp_path), str(tmp_path / "nowhere"), "./nowhere"):
        with pytest.raises(ModelError, match=r"no model_index.json.*saved with save_pretrained"):
            load(model, "cpu", None)
    tiny.sd1().save_pretrained(tmp_path)
    with pytest.raises(ParameterError, match="dtype='float8' is not one of float32"):
        load(str(tmp_path), "cpu", "float8")


def test_pickled_weights(tmp_path: Path) -> None:
    pipe = tiny.sd1()
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    for weights in tmp_path.rglob("*.safetensors"):
        weights.unlink()  # what only writes safetensors
    assert list(tmp_path.rglob("*.bin"))
    with pytest.raises(ModelError, match=r"weights must be safetensors; pickled"):
        load(str(tmp_path), "cpu", None)


FOLLOWERS = [kind for kind in PLUGINS.values() if "layout" in inspect.signature(kind).parameters]


@pytest.mark.parametrize("kind", FOLLOWERS, ids=lambda kind: kind.name)
def test_a_mask_of_another_shape_is_refused_by_all_that_follow_layouts(
    pipe: Any, kind: Any
) -> None:
    wide = Layout((Region.painted("red cat", np.ones((32, 64))),))
    match = "mask of 'red cat' is 32x64, and the picture is 32x32 .* aspect ratio"
    refused(pipe, LayoutError, match, kind(layout=wide))


def test_the_size_that_counts_is_the_one_that_was_asked_for() -> None:
    """Latents may be coarse, or of a size that the pipeline likes better."""
    tall = Layout((Region.painted("red cat", np.ones((48, 32))),))
    pipe, guidance = tiny.sd1(), Guidance(PLUGINS["regional-prompting"](tall))
    tiny.latents(pipe, guidance=guidance, size=(48, 32))
    with pytest.raises(LayoutError, match="is 48x32, and the picture is 32x48"):
        tiny.latents(pipe, guidance=guidance, size=(32, 48))


@pytest.mark.parametrize(
    "plugin",
    [PLUGINS["nag"](), PLUGINS["regional-prompting"](tiny.LAYOUT), PLUGINS["taca"]()],
    ids=lambda plugin: plugin.name,
)
def test_attention_without_text_is_refused(plugin: Any) -> None:
    """As in a model of pictures alone."""
    unet = tiny.unet(
        down_block_types=("DownBlock2D",) * 4,
        up_block_types=("UpBlock2D",) * 4,
        mid_block_type="UNetMidBlock2D",
    )
    pipe, match = (
        tiny.sd1(unet=unet),
        f"no layer of this UNet2D.* attends to text, so {plugin.name}",
    )
    refused(pipe, ModelError, match, plugin)
