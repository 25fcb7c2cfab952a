"""Every transformer family as a case: how it is called, and where its text and pictures are.

Where things are is written here by hand from the models' code, not asked of the families.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests import tiny
from tests.families import pipes

PROMPTS = ("a cat and a dog", "a red frog and a blue bird in a car")
H, W = 8, 6
"""The grid of the maps: not square."""
CELLS = H * W


@dataclass(frozen=True)
class Case:
    """One family.

    Attributes:
        make: a fresh pipeline.
        options: of every call; `negative` those that turn guidance on, for prompts.
        read: which attention calls of one denoiser call are the family's maps.
        read_self: the same for self attention.
        image, text: queries that are picture cells, keys that are text.
        rows: rows of the prompts in the denoiser's first call, for a batch.
        cat: every track's columns of "cat" in the first prompt.
        layer: the name of the first layer in `read`.
        off: options of a call without classifier-free guidance.
        mixes_masks: diffusers shuffles the masks of several prompts with several images each.
        bare: options with which a prompt is encoded as it stands.
        negated: how a pipeline is given negative prompts.
    """

    name: str
    make: Callable[[], Any]
    options: dict[str, Any]
    negative: Callable[[Sequence[str]], dict[str, Any]]
    read: tuple[int, ...]
    read_self: tuple[int, ...]
    image: slice
    text: slice
    rows: Callable[[int], slice]
    cat: tuple[tuple[int, ...], ...]
    layer: str
    off: dict[str, Any] = field(default_factory=dict)
    mixes_masks: bool = False
    bare: dict[str, Any] = field(default_factory=dict)
    negated: Callable[[Any, list[str]], dict[str, Any]] = lambda pipe, texts: {
        "negative_prompt": texts
    }

    @functools.cached_property
    def pipe(self) -> Any:
        """A pipeline that no test changes."""
        return self.make()

    def __call__(
        self,
        prompts: Sequence[str] = PROMPTS,
        *,
        seeds: Sequence[int] = (1, 2),
        pipe: Any = None,
        steps: int = 2,
        guided: bool = True,
        **changes: Any,
    ) -> Tensor:
        """The final latents, as the pipeline has them."""
        more = self.negative(prompts) if guided else self.off
        call = {"num_inference_steps": steps, **self.options, **more, **changes}
        call |= {"prompt": list(prompts), "output_type": "latent"}
        images: Tensor = (pipe or self.pipe)(generator=tiny.generators(*seeds), **call).images
        return images


def last(batch: int) -> slice:
    return slice(batch, 2 * batch)


def first(batch: int) -> slice:
    return slice(0, batch)


def embedded(pipe: Any, texts: list[str]) -> dict[str, Any]:
    """As FLUX.2 takes negative prompts."""
    made = pipe.encode_prompt(texts, max_sequence_length=T5)
    return {"negative_prompt_embeds": made[0]}


SIZE = {"height": 32, "width": 24}
T5 = 20
CASES = {
    case.name: case
    for case in (
        Case(
            "sd3",
            pipes.sd3,
            {**SIZE, "max_sequence_length": T5},
            lambda prompts: {"guidance_scale": 4.0, "negative_prompt": ["a bird"] * len(prompts)},
            # Blocks 0 and 1 of 4; the third call is the second attention of block 1.
            read=(0, 1),
            read_self=(0, 1),
            image=slice(0, CELLS),
            text=slice(CELLS, None),
            rows=last,
            cat=((2,), (77 + 1,)),
            layer="transformer_blocks.0.attn",
            off={"guidance_scale": 1.0},
        ),
        Case(
            "flux",
            pipes.flux,
            {**SIZE, "max_sequence_length": T5},
            lambda prompts: {"true_cfg_scale": 3.0, "negative_prompt": ["a bird"] * len(prompts)},
            # Double block 1 of 2.
            read=(1,),
            read_self=(1,),
            image=slice(T5, None),
            text=slice(0, T5),
            rows=first,
            cat=((1,),),
            layer="transformer_blocks.1.attn",
        ),
        Case(
            "flux2",
            pipes.flux2,
            {**SIZE, "max_sequence_length": T5},
            lambda prompts: {"guidance_scale": 4.0},
            # Double block 1 of 2.
            read=(1,),
            read_self=(1,),
            image=slice(T5, None),
            text=slice(0, T5),
            rows=first,
            # "the photo :" is three tokens or more; see the test.
            cat=(),
            layer="transformer_blocks.1.attn",
            off={"guidance_scale": 1.0},
            negated=embedded,
        ),
        Case(
            "pixart",
            pipes.pixart,
            {
                **SIZE,
                "max_sequence_length": T5,
                "use_resolution_binning": False,
                "clean_caption": False,
            },
            lambda prompts: {"guidance_scale": 4.0, "negative_prompt": ["a bird"] * len(prompts)},
            # Blocks 1 and 2 of 4; self and cross take turns.
            read=(3, 5),
            read_self=(2, 4),
            image=slice(None),
            text=slice(None),
            rows=last,
            cat=((1,),),
            layer="transformer_blocks.1.attn2",
            off={"guidance_scale": 1.0},
            mixes_masks=True,
        ),
        Case(
            "sana",
            pipes.sana,
            {
                "height": 64,
                "width": 32,
                "max_sequence_length": T5,
                "use_resolution_binning": False,
                "clean_caption": False,
                "complex_human_instruction": ["a photo", "the prompt:"],
            },
            lambda prompts: {"guidance_scale": 4.0, "negative_prompt": ["a bird"] * len(prompts)},
            read=(1, 2),
            read_self=(),
            image=slice(None),
            text=slice(None),
            rows=last,
            # Start token, the instruction's last token, "a", "cat".
            cat=((3,),),
            layer="transformer_blocks.1.attn2",
            off={"guidance_scale": 1.0},
            mixes_masks=True,
            bare={"complex_human_instruction": None},
        ),
        Case(
            "qwen-image",
            pipes.qwen,
            dict(SIZE),
            lambda prompts: {"true_cfg_scale": 3.0, "negative_prompt": ["a bird"] * len(prompts)},
            read=(1, 2),
            read_self=(1, 2),
            image=slice(-CELLS, None),
            text=slice(0, -CELLS),
            rows=first,
            # The template ends in "a big", of which "big" stays.
            cat=((2,),),
            layer="transformer_blocks.1.attn",
            mixes_masks=True,
        ),
        Case(
            "z-image",
            pipes.z_image,
            dict(SIZE),
            lambda prompts: {"guidance_scale": 3.0, "negative_prompt": ["a bird"] * len(prompts)},
            # After a refiner each for picture and caption; 48 cells are padded to 64.
            read=(3, 4),
            read_self=(3, 4),
            image=slice(0, CELLS),
            text=slice(64, None),
            rows=first,
            # "the photo :" is three tokens or more; see the test.
            cat=(),
            layer="layers.1.attention",
            off={"guidance_scale": 0.0},
        ),
    )
}
# Chroma is FLUX with guidance of its own.
CASES["chroma"] = replace(
    CASES["flux"],
    name="chroma",
    make=pipes.chroma,
    negative=CASES["sd3"].negative,
    off={"guidance_scale": 1.0},
)


@contextmanager
def attention_calls(pipe: Any) -> Any:
    """Every call of scaled dot-product attention in the denoiser, while this is open."""
    found: list[list[dict[str, Any]]] = []
    inside = [False]
    original = F.scaled_dot_product_attention

    def record(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if inside[0]:
            mask = args[0] if args else kwargs.get("attn_mask")
            found[-1].append({"query": query, "key": key, "mask": mask})
        return original(query, key, value, *args, **kwargs)

    def enter(*_: Any) -> None:
        inside[0] = True
        found.append([])

    def leave(*_: Any) -> None:
        inside[0] = False

    hooks = [
        pipe.transformer.register_forward_pre_hook(enter),
        pipe.transformer.register_forward_hook(leave),
    ]
    F.scaled_dot_product_attention = record
    try:
        yield found
    finally:
        F.scaled_dot_product_attention = original
        for hook in hooks:
            hook.remove()


def full_softmax(call: dict[str, Any]) -> Tensor:
    """The whole matrix, averaged over heads: `batch queries keys`."""
    query, key, mask = call["query"], call["key"], call["mask"]
    logits = query.double() @ key.double().transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        added = torch.zeros_like(logits)
        logits = logits + (
            added.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else mask
        )
    return logits.softmax(dim=-1).mean(dim=1)


@contextmanager
def shown_calls(pipe: Any) -> Any:
    """The arguments that the denoiser was called with in the end, call by call."""
    found: list[dict[str, Any]] = []
    names = list(inspect.signature(pipe.transformer.forward).parameters)

    def keep(module: Any, args: Any, kwargs: Any, output: Any) -> None:
        found.append(dict(zip(names, args, strict=False)) | kwargs)

    hook = pipe.transformer.register_forward_hook(keep, with_kwargs=True)
    try:
        yield found
    finally:
        hook.remove()


def unconditional_texts(case: Case, calls: list[dict[str, Any]]) -> list[Tensor]:
    """The embeddings that each unconditional row of a step may attend to."""
    apart = len(calls) > 1
    call = calls[1] if apart else calls[0]
    text = call.get("encoder_hidden_states", call.get("cap_feats"))
    batch = len(text) if apart else len(text) // 2
    rows = first(batch) if apart or case.rows(batch) == last(batch) else last(batch)
    mask = call.get("encoder_attention_mask", call.get("encoder_hidden_states_mask"))
    if mask is None and "attention_mask" in call:  # over text and picture
        mask = call["attention_mask"][:, : text.shape[1]]
    if mask is None:
        return list(text[rows])
    if mask.ndim == 3:
        mask = mask[:, 0] > -1
    return [one[seen > 0.5] for one, seen in zip(text[rows], mask[rows], strict=True)]
