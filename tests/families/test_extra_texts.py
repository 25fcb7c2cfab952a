"""Extra texts in every family: apart from the prompt to the bit, and as good as a prompt alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.errors import GuidanceError, GuidanceWarning
from adhere.guides.guide import PROMPT, Attention, Guide, Step
from adhere.guides.parameters import Method
from adhere.guides.run import Run
from adhere.layout.layout import Layout, Region
from adhere.pipelines.engine.memory import Memory
from adhere.plugins import PLUGINS
from tests import tiny
from tests.families.cases import CASES, T5, Case

ONE = "a cat and a frog"
OTHER = "a red dog and a bird"
NEW = "a skull"


@dataclass(frozen=True, eq=False)
class Attends(Method):
    """Whatever a test wants of a layer."""

    name: ClassVar[str] = "attends"

    attend: Callable[[Attention], Tensor | None] = lambda attention: None
    texts: Mapping[str, str] = None  # type: ignore[assignment]

    def guide(self, run: Run) -> Guide:
        given = self

        class Attending(Guide):
            def __init__(self) -> None:
                texts = given.texts or {}
                self.columns = {name: [text] * run.batch for name, text in texts.items()}

            def attend(self, step: Step, attention: Attention) -> Tensor | None:
                return given.attend(attention)

        return Attending()


def draw(case: Case, *plugins: Any, seeds: Sequence[int] = (0,), **call: Any) -> Tensor:
    options = {**case.options, **case.off, "num_inference_steps": 2, "output_type": "latent"}
    given = {"prompt": [ONE], **options, **call}
    if given["prompt"]:  # Z-Image writes its chat into the list
        given["prompt"] = list(given["prompt"])
    given["generator"] = tiny.generators(*seeds)
    if not plugins:
        return case.pipe(**given).images
    with Guidance(*plugins).attach(case.pipe):
        return case.pipe(**given).images


def as_a_prompt(case: Case) -> dict[str, Any]:
    """A call with the other text as its prompt, without filling, and the first's pooled vector."""
    pipe, name = case.pipe, case.name
    if name == "z-image":  # which fills up to 32 tokens: a text that needs no filling
        text = OTHER
        while len(pipe.encode_prompt([text], do_classifier_free_guidance=False)[0][0]) % 32:
            text += " a"
        return {"prompt": [text], "width": 32}  # nor does the picture
    if name in ("pixart", "sana", "qwen-image"):
        return {"prompt": [OTHER]}
    length = {"max_sequence_length": T5}
    tokens = len(pipe.tokenizer_2(OTHER)["input_ids"]) if name == "flux" else 0
    if name == "flux":
        embeds, _, _ = pipe.encode_prompt([OTHER], None, **length)
        _, pooled, _ = pipe.encode_prompt([ONE], None, **length)
        return {"prompt_embeds": embeds[:, :tokens], "pooled_prompt_embeds": pooled}
    if name == "sd3":
        tokens = 77 + len(pipe.tokenizer_3(OTHER)["input_ids"])
        encode = lambda text: pipe.encode_prompt([text], None, None, **length)  # noqa: E731
        (embeds, *_), (_, _, pooled, _) = encode(OTHER), encode(ONE)
        return {"prompt_embeds": embeds[:, :tokens], "pooled_prompt_embeds": pooled}
    if name == "chroma":
        embeds, _, mask, *_ = pipe.encode_prompt([OTHER], **length)
        count = int(mask.sum())
        return {"prompt_embeds": embeds[:, :count], "prompt_attention_mask": mask[:, :count]}
    assert name == "flux2"
    chat = pipe.tokenizer.apply_chat_template(
        [{"role": "user", "content": OTHER}],
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=False,
    )
    embeds, _ = pipe.encode_prompt([OTHER], **length)
    tokens = len(pipe.tokenizer(chat, add_special_tokens=False)["input_ids"])
    return {"prompt_embeds": embeds[:, :tokens]}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_texts_that_nobody_hears_change_no_bit(case: Case) -> None:
    plain = draw(case)
    silent = draw(case, Attends(texts={"other": OTHER, "new": NEW}))
    assert torch.equal(silent, plain)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_text_in_the_prompts_place_is_the_prompt(case: Case) -> None:
    spoken = as_a_prompt(case)
    prompt = {"prompt": None} if "prompt_embeds" in spoken else {}
    wanted = draw(case, **{**prompt, **spoken})
    other = spoken["prompt"][0] if "prompt" in spoken else OTHER
    size = {"width": spoken["width"]} if "width" in spoken else {}
    swapped = Attends(lambda one: one.output({"other": 1.0}), {"new": NEW, "other": other})
    assert torch.allclose(draw(case, swapped, **size), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(draw(case, **size), wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cells_by_parts_are_the_whole(case: Case) -> None:
    def by_parts(attention: Attention) -> Tensor:
        h, w = attention.site.grid
        left = (torch.arange(h * w) % w < w // 3)[None].expand(len(attention.images), -1)
        whole = torch.ones_like(left)
        ours = {"other": 1.0, PROMPT: 0.5}
        return attention.output(ours, cells=left, among=whole) + attention.output(ours, cells=~left)

    texts = {"other": OTHER}
    at_once = draw(case, Attends(lambda one: one.output({"other": 1.0, PROMPT: 0.5}), texts))
    assert torch.allclose(draw(case, Attends(by_parts, texts)), at_once, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_batch_is_its_images_one_by_one(case: Case) -> None:
    """Prompts of different lengths, each image from a noise of its own."""
    prompts = [ONE, "a big green car and a dog"]
    mixed = Attends(
        lambda one: 0.5 * one.output() + 0.5 * one.output({"other": 1.0}), {"other": OTHER}
    )
    both = draw(case, mixed, prompt=prompts, seeds=(0, 1))
    for image, text in enumerate(prompts):
        alone = draw(case, mixed, prompt=[text], seeds=(image,))
        assert torch.allclose(both[image : image + 1], alone, rtol=1e-3, atol=1e-3)
        plain = draw(case, prompt=[text], seeds=(image,))
        assert not torch.allclose(alone, plain, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("name", ["flux", "flux2", "chroma", "sd3"])
def test_layers_are_numbered_in_their_own_kind_of_block(name: str) -> None:
    """As published codes choose blocks: every second double block, every second single block."""
    found: dict[str, list[tuple[int, int]]] = {}

    def note(attention: Attention) -> None:
        kind, block, _ = attention.site.name.split(".")
        assert attention.number == int(block)
        found.setdefault(kind, []).append((attention.number, attention.count))

    draw(CASES[name], Attends(note), num_inference_steps=1)
    assert set(found) == {"transformer_blocks", "single_transformer_blocks"} - (
        {"single_transformer_blocks"} if name == "sd3" else set()
    )
    for numbers in found.values():
        assert numbers == [(k, len(numbers)) for k in range(len(numbers))]


LONG = "a cat and " + "big " * 1100 + "frog"
"""Beyond what any encoder reads."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_text_that_its_encoder_cuts_is_said(case: Case) -> None:
    length = {"max_sequence_length": T5}
    with (
        Guidance(Attends(texts={"other": LONG, "new": NEW})).attach(case.pipe) as attached,
        pytest.warns(GuidanceWarning, match="a plugin's text 'a cat and big.*was cut before 'big"),
    ):
        draw(case, **length)
    cut = [note for note in attached.report.notes if "cut before 'big big" in note]
    # SD3's CLIP and T5 columns both are read.
    encoders = {note.split()[1] for note in cut}
    assert len(cut) == len(encoders) == (2 if case.name == "sd3" else 1)
    assert all("so a plugin's text 'a cat and big" in note for note in cut)
    assert not any(NEW in note for note in attached.report.notes)


@pytest.mark.parametrize("name", ["flux", "sd3", "pixart"])
def test_what_an_encoder_has_no_tokens_for_is_said(name: str) -> None:
    """T5 reads every Chinese text, and every picture character, as one and the same nothing."""
    case = CASES[name]
    odd = Attends(texts={"other": "a \u732b and a cat", "new": NEW})
    with (
        Guidance(odd).attach(case.pipe) as attached,
        pytest.warns(GuidanceWarning, match="has no tokens for '\u732b' in a plugin's"),
    ):
        draw(case, prompt=["a cat and a frog \U0001f438"])
    notes = [note for note in attached.report.notes if "T5 encoder has no tokens" in note]
    assert len(notes) == 2
    assert "'\U0001f438' in the prompt, so it does not read them" in "".join(notes)


def test_a_text_is_said_to_be_cut_before_anything_is_denoised() -> None:
    pipe = tiny.sd1()
    steps: list[int] = []
    pipe.scheduler.step = lambda *args, **kwargs: steps.append(1)
    with pytest.raises(GuidanceWarning, match="was cut before"):  # as pytest makes of a warning
        drawn(pipe, ONE, Attends(texts={"other": LONG}))
    assert not steps


@pytest.mark.parametrize("name", ["sd1", "sd3", "flux"])
def test_gradients_go_through_what_attention_gives_out(name: str) -> None:
    """... of every picture by its own regions, in one pass or several, kept or made again."""
    case = CASES.get(name)
    pipe = tiny.sd1() if case is None else case.pipe
    call = {"height": 32, "width": 32} if case is None else {**case.options, **case.off}
    prompts = [ONE, "a big green cat and a dog"]
    layouts = [
        Layout(
            (
                Region(text=OTHER, box=(0, 0, 0.6, 1), feather=0.2, strength=0.8),
                Region(text="a car", negative=NEW, box=(0.4, 0.3, 1, 1), strength=1.5, stop=0.6),
            ),
            overlap="share",
        ),
        Layout((Region(text=NEW, box=(0, 0.5, 1, 1)),)),
    ]
    excite = PLUGINS["attend-and-excite"](("cat",), refinements=1)
    heard = (PLUGINS["regional-prompting"](), PLUGINS["nag"](NEW))

    def made(*images: int, plugins: Any = (excite, *heard), **memory: Any) -> Tensor:
        guidance = Guidance(*plugins, memory=Memory(**memory))
        with guidance.attach(pipe, layout=[layouts[k] for k in images]):
            return pipe(
                prompt=[prompts[k] for k in images],
                generator=tiny.generators(*images),
                **{"num_inference_steps": 2, "output_type": "latent", **call},
            ).images

    both = made(0, 1)
    assert tiny.apart(both, made(0, 1, plugins=heard)) > 1e-2
    assert tiny.apart(both, made(0, 1, plugins=(excite, heard[1]))) > 1e-2
    for memory in ({"sub_batch": 1}, {"checkpointing": True}):
        assert tiny.apart(made(0, 1, **memory), both) < 1e-4
    assert tiny.apart(made(1), both[1:]) < 1e-4


# ---- U-Nets ------------------------------------------------------------------

UNETS = {"sd1": tiny.sd1, "sd2": tiny.sd2, "sdxl": tiny.sdxl}


def drawn(pipe: Any, prompt: str, *plugins: Any, **more: Any) -> Tensor:
    """Under guidance: rows of both halves, of which only the prompt's may attend to more."""
    call = {"num_inference_steps": 2, "output_type": "latent", "guidance_scale": 5.0, **more}
    call |= {"height": 32, "width": 32, "generator": tiny.generators(0)}
    if not plugins:
        return pipe(prompt, **call).images
    with Guidance(*plugins).attach(pipe):
        return pipe(prompt, **call).images


@pytest.mark.parametrize("make", UNETS.values(), ids=UNETS)
def test_a_u_net_hears_an_extra_text_as_a_prompt(make: Callable[[], Any]) -> None:
    pipe = make()
    plain, more = drawn(pipe, ONE), {}
    assert torch.equal(drawn(pipe, ONE, Attends(texts={"other": OTHER, "new": NEW})), plain)
    if hasattr(pipe, "tokenizer_2"):  # whose pooled text stays the prompt's
        embeds, no, _, nothing = pipe.encode_prompt(OTHER)
        _, _, pooled, _ = pipe.encode_prompt(ONE)
        more = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
        more |= {"negative_prompt_embeds": no, "negative_pooled_prompt_embeds": nothing}
    wanted = drawn(pipe, None if more else OTHER, **more)  # type: ignore[arg-type]
    swapped = Attends(lambda one: one.output({"other": 1.0}), {"new": NEW, "other": OTHER})
    assert torch.allclose(drawn(pipe, ONE, swapped), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, wanted, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    "plugin",
    [
        PLUGINS["nag"](LONG),
        PLUGINS["safe-latent-diffusion"]("max", concept=LONG),
        PLUGINS["sega"]((f"+{LONG}",)),
        PLUGINS["regional-prompting"](Layout((Region(text=LONG, box=(0, 0, 0.5, 1)),))),
        PLUGINS["regional-prompting"](
            Layout((Region(text=NEW, negative=LONG, box=(0, 0, 0.5, 1)),))
        ),
    ],
    ids=lambda plugin: str(plugin.name),
)
def test_whoever_has_the_text(plugin: Any) -> None:
    pipe = tiny.sd1()
    with (
        warnings.catch_warnings(action="ignore"),  # of texts that stand beside the prompt
        Guidance(plugin).attach(pipe) as attached,
    ):
        drawn(pipe, ONE)
    (note,) = (note for note in attached.report.notes if "cut before" in note)
    assert "CLIP encoder reads 75 tokens of a text, so a plugin's text 'a cat and" in note


def test_syntax_of_other_programs_in_a_text_is_said_to_be_read_as_it_stands() -> None:
    region = Region(text="a (red:1.3) cat", negative="a (dog:1.2)", box=(0, 0, 0.5, 1))
    regional = PLUGINS["regional-prompting"](Layout((region,)))
    with (
        Guidance(regional).attach(pipe := tiny.sd1()) as attached,
        pytest.warns(GuidanceWarning, match="has no effect as a weight"),
    ):
        drawn(pipe, ONE)
    assert all(any(text in note for note in attached.report.notes) for text in ("1.3", "1.2"))


def test_markup_in_a_text_is_said_to_be_read_as_it_stands() -> None:
    region = Region(text="a [red|cat]", negative="a [big|dog]", box=(0, 0, 0.5, 1))
    regional = PLUGINS["regional-prompting"](Layout((region,)))
    with (
        Guidance(regional).attach(pipe := tiny.sd1()) as attached,
        pytest.warns(GuidanceWarning, match="around '(red cat|big dog)' in a plugin's text"),
    ):
        drawn(pipe, ONE)
    found = [note for note in attached.report.notes if "are read as plain text" in note]
    assert [text in "".join(found) for text in ("'a [red|cat]'", "'a [big|dog]'")] == [True, True]


# ---- Misuse ------------------------------------------------------------------


def test_a_text_that_nobody_named_is_refused() -> None:
    odd = Attends(lambda one: one.output({"othr": 1.0}), {"other": OTHER})
    with pytest.raises(GuidanceError, match="'othr', which is not among its columns: prompt, oth"):
        drawn(tiny.sd1(), ONE, odd)


def test_two_guides_keep_their_texts_apart() -> None:
    """Both call theirs the same; each is heard, and their order does not matter."""
    pipe = tiny.sd1()
    one, two = (
        Attends(lambda seen: 0.7 * seen.output() + 0.3 * seen.output({"text": 1.0}), {"text": text})
        for text in (OTHER, NEW)
    )
    both = drawn(pipe, ONE, one, two)
    assert torch.allclose(both, drawn(pipe, ONE, two, one), rtol=1e-4, atol=1e-5)
    for alone in (one, two):
        assert not torch.allclose(both, drawn(pipe, ONE, alone), rtol=1e-3, atol=1e-3)
