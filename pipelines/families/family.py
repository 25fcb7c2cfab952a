"""What a family must say about its pipelines, and what most families have in common."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from adhere.errors import ModelError
from adhere.guides.guide import Energy, Guide
from adhere.guides.maps import Read, Site
from adhere.pipelines.hooks.attending import Attending, AttentionLayer, Pass
from adhere.pipelines.hooks.compat import execution_device, unwrapped
from adhere.pipelines.hooks.denoiser_call import Call
from adhere.prompt.tokens import Track, moved

PLAIN = ("CLIP", "T5")
"""Encoders that read a text and nothing beside it."""


@dataclass(frozen=True)
class Encoded:
    """Extra texts ready for the denoiser: its text arguments by name, one row for each text."""

    values: Mapping[str, Any]


class Family:
    """Base of the families: how a pipeline's denoiser is called, read and moved.

    Attributes:
        name: for reports and tables.
        leading: the denoiser's argument that carries the latents.
        text: the denoiser's argument that carries the text embeddings.
        gain: what makes the words' share of a cell whole again. In a CLIP model the start token
            takes most; ZestGuide's code for SD 1.4 has 10 (`gcouairon/zestguide@4a04fe5`).
        drop_padding: whether the end token and padding stay out of a softmax over tokens.
        shared: arguments of the denoiser without a batch axis, whatever their size.
        layer_texts: whether an attention layer can be given a text of its own.
        joint: whether picture and text attend to each other in one attention.
        extras_first: whether extra texts stand before the prompt's columns, not behind them.
        rounds: whether the denoiser is shown a rounded copy of the scheduler's sample.
        distilled: for models that need no unconditional prediction, why a call without one cannot
            be steered by methods that need the pipeline's own, and what works; None where a low
            guidance scale is the only reason.
        unsteered: why no method can steer the prediction in this loop; None where some can.
        asked: arguments of the pipeline's call that goes on, by name.
        encodings: arguments of the pipeline's own `encode_prompt` calls of the run that goes on.
        modular: this family's kinds of modular pipeline, by diffusers' name for their blocks: the
            class of the classic pipeline that is made of the same parts.
        scale: the guidance scale, where a guider joins the predictions (modular pipelines).
        from_picture: whether a modular pipeline was given a picture to start from.
    """

    name: ClassVar[str]
    leading: ClassVar[str] = "sample"
    text: ClassVar[str] = "encoder_hidden_states"
    gain: ClassVar[float] = 10.0
    drop_padding: bool = False
    shared: ClassVar[frozenset[str]] = frozenset()
    layer_texts: ClassVar[bool] = True
    joint: ClassVar[bool] = False
    extras_first: ClassVar[bool] = False
    rounds: ClassVar[bool] = False
    distilled: str | None = None
    unsteered: str | None = None
    modular: ClassVar[Mapping[str, str]] = MappingProxyType({})
    scale: float | None = None
    from_picture: bool = False

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe
        self.asked: Mapping[str, Any] = {}
        self.encodings: list[Mapping[str, Any]] = []
        self.separate = False

    @classmethod
    def knows(cls, pipe: Any) -> bool:
        raise NotImplementedError

    # The denoiser and its batch

    @property
    def denoiser(self) -> nn.Module:
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.denoiser.dtype  # type: ignore[assignment]
        return dtype

    @property
    def device(self) -> torch.device:
        """Where the pipeline runs its models."""
        return execution_device(self.pipe)

    def argument(self, name: str, default: Any) -> Any:
        """An argument of the pipeline's call that goes on; the default where it has none."""
        given = self.asked.get(name)
        return default if given is None else given

    def bind(self, args: Any, kwargs: Any) -> Call:
        return Call.bind(self.denoiser, args, kwargs, self.leading, self.shared)

    def arguments(self, call: Call) -> dict[str, Any]:
        """What the denoiser is called with, by name."""
        return dict(call.values)

    def form(self, call: Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The inverse of `bind`: arguments by position and by name, as the pipeline gives them."""
        values = self.arguments(call)
        placed = list(values)[: call.positional]
        return tuple(values.pop(name) for name in placed), values

    def conditional_rows(self, call: Call, batch: int) -> slice | None:
        """The rows of the batch that are predicted under the prompt; None if this call has none.

        Raises:
            ModelError: there are more rows than a prompt and a negative prompt account for.
        """
        if call.rows not in (batch, 2 * batch):
            raise ModelError(
                f"{type(self.pipe).__name__} calls its denoiser with {call.rows} rows for {batch} "
                f"image{'s' * (batch > 1)}, and which of them are the prompt's is not known; use "
                "the pipeline without a third prediction (no PAG, no InstructPix2Pix)"
            )
        return slice(call.rows - batch, call.rows)

    def text_width(self, call: Call) -> int | None:
        """Text columns that each row attends to; None where rows differ."""
        return int(call.values[self.text].shape[1])

    def widened(self, embeds: Tensor, width: int) -> Tensor:
        """Text embeddings with as many columns as the call's: zeros where masks hide them."""
        return F.pad(embeds, (0, 0, 0, width - embeds.shape[1]))

    def unconditional_rows(self, call: Call, batch: int) -> slice | None:
        """The rows predicted under the negative prompt; None without classifier-free guidance."""
        return slice(0, batch) if call.rows == 2 * batch else None

    def apart(self, call: Call) -> bool:
        """Whether each step's unconditional prediction is a call of its own, after this one."""
        return self.separate

    def images_per_prompt(self, count: int) -> int:
        """Images for each prompt, as `encode_prompt` was told or as the pipeline keeps it."""
        return count

    def fitted(self, call: Call, extra: dict[str, Any]) -> tuple[Call, dict[str, Any]]:
        """A call and extra texts whose text arguments have the same size."""
        return call, extra

    def guidance_scale(self) -> float:
        """The pipeline's classifier-free guidance scale in the call that goes on."""
        if self.scale is not None:
            return self.scale
        return float(getattr(self.pipe, "guidance_scale", 1.0) or 1.0)

    def recombined(self, given: Tensor, uncond: Tensor, cond: Tensor, changed: Tensor) -> Tensor:
        """What a pipeline that calls apart makes of the `changed` conditional prediction.

        Args:
            given: what it made of `uncond` and `cond`.
        """
        return given + self.guidance_scale() * (changed - cond)

    def timestep(self, call: Call) -> float:
        value = call.values["timestep"]
        return float(value.flatten()[0]) if isinstance(value, Tensor) else float(value)

    def at_timestep(self, call: Call, timestep: float) -> Call:
        """The call at another timestep, in the scheduler's units: the inverse of `timestep`."""
        return self.with_time(call, "timestep", timestep)

    @staticmethod
    def with_time(call: Call, name: str, time: float) -> Call:
        """The call with another number in its argument for the time, in that argument's form."""
        value = call.values[name]
        filled = torch.full_like(value, time) if isinstance(value, Tensor) else type(value)(time)
        return call.replace(**{name: filled})

    def guided(self, call: Call, batch: int) -> bool:
        """Whether a step makes an unconditional prediction, in this call or in one of its own."""
        return self.apart(call) or self.unconditional_rows(call, batch) is not None

    # Latents

    def latents(self, call: Call, unscaled: Tensor | None, batch: int) -> Tensor:
        """The latents as the scheduler has them, `Float[batch channels h w]`."""
        source: Tensor = call.values[self.leading] if unscaled is None else unscaled
        return source[-batch:]

    def with_latents(self, call: Call, scaled: Tensor) -> Call:
        """The call on other latents (as the model sees them), the same for all its rows' parts.

        Inpainting models carry the mask in further channels, which stay.
        """
        given = call.values[self.leading]
        parts = call.rows // scaled.shape[0]
        rows = torch.cat([scaled.to(given.dtype)] * parts)
        carried = given[:, rows.shape[1] :]
        return call.replace(
            **{self.leading: torch.cat([rows, carried], 1) if carried.shape[1] else rows}
        )

    def as_sample(self, latents: Tensor, sample: Tensor) -> Tensor:
        """Latents in the form and precision that the scheduler holds."""
        return latents.to(sample.dtype).reshape(sample.shape)

    def from_sample(self, sample: Tensor, like: Tensor) -> Tensor:
        """The inverse of `as_sample`, in the form of other latents of the run."""
        return sample.reshape(like.shape)

    def grid(self, latents: Tensor, call: Call) -> tuple[int, int]:
        """`(h, w)` of the latents."""
        return int(latents.shape[-2]), int(latents.shape[-1])

    def output(self, output: Any, call: Call) -> Tensor:
        """The prediction in what the denoiser returned, `Float[rows channels h w]`."""
        prediction: Tensor = output[0]
        return prediction

    def with_output(self, output: Any, prediction: Tensor) -> Any:
        if isinstance(output, tuple):
            return (prediction, *output[1:])
        changed = type(output)(**output)
        changed[next(iter(output.keys()))] = prediction
        return changed

    # Text

    def tracks(self, prompts: Sequence[str], call: Call) -> tuple[Track, ...]:
        """Token columns of the call's own prompts, one track for each text encoder.

        Raises:
            GuidanceError: the prompts are not what was encoded, or cannot be tokenised.
        """
        raise NotImplementedError

    def tracked(self, texts: Sequence[str], values: Mapping[str, Any]) -> tuple[Track, ...]:
        """Token columns of any texts, one track for each text encoder that reads them.

        Args:
            values: the denoiser's text arguments by name, one row for each text.
        """
        raise NotImplementedError

    def tracks_of(self, texts: Sequence[str], call: Call) -> tuple[Track, ...]:
        """Token columns of texts that are not the call's prompts, as `encode` encodes them."""
        found = self.tracked(texts, call.values)
        if all(one.encoder in PLAIN for track in found for one in track.images):
            return found
        raise ModelError(
            f"texts can be compared as CLIP and T5 encode them, and {type(self.pipe).__name__} "
            "reads them with a language model, among words of its own; use Stable Diffusion 1.x, "
            "2.x, XL or 3, or another plugin with this model"
        )

    def encoded_with(self, name: str, default: Any = None) -> Any:
        """An argument of the pipeline's own first `encode_prompt` call."""
        given = self.encodings[0].get(name) if self.encodings else None
        return default if given is None else given

    def refuse_other_prompts(self, prompts: Sequence[str], *names: str) -> None:
        """Raise `ModelError` where an encoder was given another text than the prompt.

        Args:
            names: the pipeline's arguments for single encoders, as in `prompt_2`.
        """
        for name in names:
            # Pipelines take `prompt_2 or prompt`: an empty text is the prompt.
            if not same_text(prompts, self.encoded_with(name) or None):
                raise ModelError(
                    f"{type(self.pipe).__name__} was given a {name} of its own, whose words stand "
                    "in its attention beside the prompt's or in their place, and guides look for "
                    f"words of the prompt; give the text as prompt and leave out {name}"
                )

    def refuse_other_columns(self, first: Track, second: Track) -> None:
        """Raise `ModelError` where encoders that share columns read a word in different ones."""
        for one, other in zip(first.images, second.images, strict=True):
            word = moved(one, other)
            if word is not None:
                raise ModelError(
                    f"the two CLIP tokenizers of this {type(self.pipe).__name__} put {word!r} into "
                    "different columns, and a column of its attention would stand for two words; "
                    "load a learnt word (textual inversion) into both tokenizers, of as many "
                    "vectors each, and write no run of exclamation marks before other words"
                )

    def options(self) -> dict[str, Any]:
        """What the pipeline encodes its prompt with, for texts that are to be encoded alike."""
        given = {name: self.encoded_with(name) for name in ("clip_skip", "lora_scale")}
        return {name: value for name, value in given.items() if value is not None}

    def encode(self, texts: Sequence[str]) -> Encoded:
        """Embed extra texts with the pipeline's own encoders."""
        raise NotImplementedError

    def shown(self, encoded: Encoded, texts: Sequence[str]) -> Bool[Tensor, "texts columns"]:
        """Which columns of some encoded texts the model is to be shown as a text of its own.

        Filling is left out where a model can do without it, since every column costs time.
        """
        embeds: Tensor = encoded.values[self.text]
        return torch.ones(embeds.shape[:2], dtype=torch.bool)

    def opening(self, width: int) -> Sequence[int]:
        """Which columns of a text are tokens that open it and say nothing, as CLIP's first one.

        Args:
            width: columns of the text.
        """
        return ()

    def room(self, columns: int) -> int:
        """How many columns the model is given for extra texts of so many."""
        return columns

    def refining(self) -> tuple[str, ...]:
        """The layers in which text attends to text alone, by name."""
        return ()

    def placed(self, running: Pass) -> AbstractContextManager[None]:
        """While a lengthened call is made: every text stands where it would as a prompt."""
        return nullcontext()

    def lengthened(self, call: Call, extra: Tensor, places: Sequence[int]) -> Call:
        """The call with further text columns beside its own.

        Args:
            extra: `Float[rows columns channels]` for all rows of the call, with all their `room`.
            places: which columns they were in the texts that they come from.
        """
        given: Tensor = call.values[self.text]
        return call.replace(**{self.text: torch.cat([given, extra.to(given)], dim=1)})

    def retexted(self, call: Call, embeds: Tensor) -> Call:
        """The call with other text embeddings of the same size."""
        return call.replace(**{self.text: embeds})

    def retouched(self, call: Call, embeds: Tensor, guides: Sequence[Guide]) -> Call:
        """The call with what the guides made of its text.

        Where none of them puts another text in, what was hidden of the text stays hidden: noise on
        columns that are filling is no words.
        """
        if any(guide.rewords or guide.renegates for guide in guides):
            return self.retexted(call, embeds)
        return call.replace(**{self.text: embeds})

    def pooled(self, values: Mapping[str, Any]) -> Float[Tensor, "rows pooled"] | None:
        """The texts' pooled embeddings among the denoiser's arguments; None where it has none."""
        return values.get("pooled_projections")

    def repooled(self, call: Call, pooled: Float[Tensor, "rows pooled"]) -> Call:
        """The call with other pooled embeddings of the same size."""
        return call.replace(pooled_projections=pooled)

    # Pictures

    def pictures(self, call: Call) -> tuple[int, ...]:
        """How many pictures each IP-Adapter was given, of those that take masks."""
        return ()

    def unmaskable(self, call: Call, grid: tuple[int, int]) -> str | None:
        """Why pictures cannot be heard in parts of a picture of this size; None if they can."""
        return f"no IP-Adapter of {type(self.pipe).__name__} takes masks"

    def masked(self, call: Call, masks: Float[Tensor, "rows pictures h w"]) -> Call:
        """The call with each picture of its IP-Adapters heard where the masks say."""
        raise NotImplementedError

    # Attention

    def attention_layers(self) -> tuple[AttentionLayer, ...]:
        """Every attention layer, in no particular order."""
        raise NotImplementedError

    def wanted(self, read: Read) -> tuple[AttentionLayer, ...]:
        """The layers whose maps serve a read."""
        raise NotImplementedError

    def selectable(self, read: Read) -> tuple[AttentionLayer, ...]:
        """The layers among which a user may choose for a read."""
        return self.wanted(read)

    def site(self, layer: AttentionLayer, attending: Attending, grid: tuple[int, int]) -> Site:
        h, w = math.ceil(grid[0] / layer.factor), math.ceil(grid[1] / layer.factor)
        return Site(layer.name, layer.kind, (h, w), int(attending.query.shape[1]))

    def places(self, site: Site, attending: Attending) -> tuple[slice, slice]:
        """Which queries are image cells, and which keys are the site's columns."""
        return slice(None), slice(0, attending.key.shape[2])

    def logits(
        self, site: Site, attending: Attending, rows: slice
    ) -> Float[Tensor, "rows heads cells columns"]:
        """What a bias is added to: the site's own part of the logits, with the pipeline's mask."""
        return attending.logits(rows)

    def probabilities(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor | None
    ) -> Float[Tensor, "rows heads cells columns"]:
        logits = attending.logits(rows)
        return (logits if bias is None else logits + bias).softmax(dim=-1)

    def biased(
        self, site: Site, attending: Attending, rows: slice, bias: Tensor
    ) -> Float[Tensor, "all_rows heads queries keys"]:
        query, key = attending.query, attending.key
        everything = query.shape[0]
        shape = (everything, bias.shape[1], query.shape[2], key.shape[2])
        mask = torch.zeros(shape, dtype=query.dtype, device=query.device)
        mask[rows] = bias.to(query.dtype)
        return mask if attending.mask is None else mask + attending.mask

    def modules(self) -> dict[str, nn.Module]:
        return dict(unwrapped(self.denoiser).named_modules())

    # Steps

    def restate(self, energy: Energy) -> Energy:
        """Put a step that was tuned to SD 1.x gradients into this family's terms."""
        return energy

    def samples_from_noise(self) -> bool:
        """Whether a call of the pipeline starts from pure noise."""
        takes = inspect.signature(type(self.pipe).__call__).parameters
        return "strength" not in takes and not self.from_picture

    def refuse(self, prediction: bool) -> str | None:
        """Why this pipeline cannot be guided as asked; None if it can."""
        return self.unsteered if prediction else None


def same_text(prompts: Sequence[str], other: Any) -> bool:
    """Whether an encoder's own prompt argument says the same as the prompt, or was left out.

    Args:
        prompts: one for each image; `other` has one for each prompt.
    """
    if other is None:
        return True
    given = [other] if isinstance(other, str) else list(other)
    per_prompt = len(prompts) // max(1, len(given))
    return [one for one in given for _ in range(per_prompt)] == list(prompts)
