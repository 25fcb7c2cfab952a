"""Extra texts in every family: apart from the prompt to the bit, and as good as a prompt alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from adhere import Guidance
from adhere.guides.guide import PROMPT, Attention, Guide, Step
from adhere.guides.parameters import Method
from adhere.guides.run import Run
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


def draw(case: Case, *plugins: Any, **call: Any) -> Tensor:
    options = {**case.options, **case.off, "num_inference_steps": 2, "output_type": "latent"}
    given = {"prompt": [ONE], **options, **call}
    if given["prompt"]:  # Z-Image writes its chat into the list
        given["prompt"] = list(given["prompt"])
    given["generator"] = tiny.generators(*range(len(given["prompt"] or given["prompt_embeds"])))
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
    """Texts of different lengths, and under guidance where the family has it."""
    mixed = Attends(lambda one: 0.5 * one.output() + 0.5 * one.output({"other": 1.0}))
    single = [
        draw(case, Attends(mixed.attend, {"other": OTHER}), prompt=[text])
        for text in (ONE, "a big green car and a dog")
    ]
    both = draw(
        case, Attends(mixed.attend, {"other": OTHER}), prompt=[ONE, "a big green car and a dog"]
    )
    assert torch.allclose(both[:1], single[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(single[1], draw(case, prompt=["a big green car and a dog"]))
