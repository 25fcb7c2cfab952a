"""The moments of a run at which a guide may act, and the values it is given there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from adhere.errors import ModelError
from adhere.guides.maps import Kind, Maps, Read, Site
from adhere.guides.run import Run
from adhere.guides.selection import Candidates, Selection
from adhere.prompt.tokens import Track

Rule = Literal["plain", "max-abs", "relative", "velocity"]
Change = Callable[[Float[Tensor, "rows tokens channels"]], Float[Tensor, "rows tokens channels"]]
"""What becomes of hidden states."""

PROMPT = "prompt"
"""The name of the prompt's own columns among a guide's `columns`."""

STRIDE = 0.08
"""Share of the run over which a look ahead leaps in one stride: two steps of 25."""


def strides(at: float) -> int:
    """Strides from the first step to a share of the run."""
    return max(1, round(at / STRIDE)) if at > 0 else 0


def passes_of_look(at: float) -> int:
    """Passes of one look at a share of the run: the read one, and two predictions a stride."""
    return 1 + 2 * strides(at)


def passes_of_preview(at: float) -> int:
    """Passes of a preview at a share of the run: two predictions a stride, and two there."""
    return 2 + 2 * strides(at)


@dataclass(frozen=True)
class Step:
    """Where a run is: evaluation `index` of `count`, at `timestep`.

    `progress` is `index / count`, so 0.5 is where 25 of 50 steps are done. `count` follows the
    number of steps that was asked for (PNDM runs 51 evaluations for 50 steps and still counts 50).
    `timestep` is what the model is told, in its scheduler's units (0 to 999, or 0 to 1). `sigma` is
    the noise's standard deviation over the factor of the picture, without a unit:
    sqrt((1 - alpha_bar) / alpha_bar), the scheduler's own where it has sigmas (80 at the start
    of EDM), s / (1 - s) for flow matching. `noise` is the noise's standard deviation in the model's
    units, from 0 to 1: sqrt(1 - alpha_bar), or the flow's s.
    `iteration` counts the refinements already made at this step.
    """

    index: int
    count: int
    timestep: float
    sigma: float
    noise: float
    iteration: int = 0

    @property
    def progress(self) -> float:
        return self.index / self.count

    def at(self, share: float) -> bool:
        """Whether this is the step that lies at `share` of the run (0.2 is step 10 of 50)."""
        return self.index == round(share * self.count)

    def looked_at(self, *shares: float) -> bool:
        """Whether one of some shares is this step's, or is too late for any but the last but one:
        nothing is left to choose after the last.
        """
        return any(self.index == min(round(at * self.count), self.count - 2) for at in shares)


@dataclass(frozen=True)
class Energy:
    """Something a guide wants lower, one number per image, and how to go downhill.

    Attributes:
        loss: `Float[batch]` for the images of the maps, connected to them.
        step_size: length of the step, in the units of `rule`.
        rule: `plain`: step_size * gradient, as tuned on SD 1.x (a family may restate it);
            `max-abs`: gradient divided by its largest absolute entry;
            `relative`: step_size is a share of the latents' RMS;
            `velocity`: s * step_size * N * gradient is what the flow's velocity is turned by over
            the scheduler's step, s being the noise's share and N the number of the latents'
            entries, so that it acts alike at all sizes; other models' steps are read as a flow's.
            It is `when="after"`.
        when: move the latents before the denoiser's own pass, or after the scheduler's step.
        target: refine (repeat pass and step) while an image's loss is above this.
        at_most: number of refinements at this step at the most; 0 for none.
        refine_loss: the loss used while refining, if it is another one.
    """

    loss: Float[Tensor, " batch"]
    step_size: float
    rule: Rule = "plain"
    when: Literal["before", "after"] = "before"
    target: float | Float[Tensor, " batch"] | None = None
    at_most: int = 0
    refine_loss: Float[Tensor, " batch"] | None = None


def _nowhere(texts: Sequence[str], encoder: str, layer: int, change: Change) -> Tensor:
    raise ModelError("this pipeline's text encoders cannot be looked into; attach to the pipeline")


def unpooled(texts: Sequence[str]) -> Tensor:
    """Raise `ModelError`: `Text.pool` of a model that is told no pooled embeddings."""
    raise ModelError("this pipeline's model is told no pooled embedding of a text")


@dataclass(frozen=True)
class Text:
    """The text embeddings of one denoiser call: `Float[batch tokens channels]` each.

    `layers` overrides the conditional embeddings for attention layers by name (P+).
    `encode` gives the embeddings of other texts, one row for each, and `tracks` where their words
    stand in them, by text encoder. `within` is `encode` with what a layer of one of the pipeline's
    text encoders gives out changed on the way: `(texts, "text_encoder", layer from 0, change)`,
    where `change` is given hidden states, `Float[rows tokens channels]`, and gives others.
    `extra` has embeddings that the model is told in place of the guide's own `texts`, by their
    places: one for each image, of the size of `cond`.
    `pooled` is the prompts' pooled embedding, where the model is told one beside the others (SDXL,
    SD3, FLUX), and `pool` gives that of other texts. `verbatim` says whether the layers make keys
    and values of these very embeddings, and not of what the model has made of them before.
    """

    cond: Float[Tensor, "batch tokens channels"]
    uncond: Float[Tensor, "batch tokens channels"] | None
    encode: Callable[[Sequence[str]], Float[Tensor, "batch tokens channels"]]
    sites: tuple[Site, ...] = ()
    layers: Mapping[str, Float[Tensor, "batch tokens channels"]] = field(default_factory=dict)
    tracks: Callable[[Sequence[str]], tuple[Track, ...]] = lambda texts: ()
    within: Callable[[Sequence[str], str, int, Change], Tensor] = _nowhere
    extra: Mapping[int, Float[Tensor, "batch tokens channels"]] = field(default_factory=dict)
    pooled: Float[Tensor, "batch pooled"] | None = None
    pool: Callable[[Sequence[str]], Float[Tensor, "batch pooled"]] = unpooled
    verbatim: bool = True

    def replace(self, **changes: Any) -> Text:
        return replace(self, **changes)


@dataclass(frozen=True)
class Prediction:
    """The denoiser's predictions of one step, `Float[batch channels h w]` each, as noise.

    `extra` holds one prediction for each of the guide's own `texts`, in their order.
    `scale` is the pipeline's classifier-free guidance scale, 1 where it has none; `latents` are
    what the model was shown, the picture by `noise / sigma` of the step and the noise by `noise`.
    """

    uncond: Float[Tensor, "batch channels h w"]
    cond: Float[Tensor, "batch channels h w"]
    extra: tuple[Float[Tensor, "batch channels h w"], ...]
    scale: float
    latents: Float[Tensor, "batch channels h w"]


@runtime_checkable
class Logits(Protocol):
    """A layer about to attend, as a guide that biases it sees it."""

    @property
    def site(self) -> Site: ...

    @property
    def images(self) -> tuple[int, ...]:
        """Which images of the run the rows are."""

    def values(self) -> Float[Tensor, "batch heads cells columns"]:
        """The scaled logits q k^T / sqrt(d) of the conditional rows, computed on demand."""


@runtime_checkable
class Attention(Protocol):
    """A layer that has attended, as a guide that changes what it gives out sees it.

    `number` of `count`: its place among the layers that attend to text, in the model's order, of
    its own part of the model: FLUX's double blocks and single blocks are counted apart.
    """

    @property
    def site(self) -> Site: ...

    @property
    def images(self) -> tuple[int, ...]:
        """Which images of the run the rows are."""

    @property
    def number(self) -> int: ...

    @property
    def count(self) -> int: ...

    def output(
        self,
        texts: Mapping[str, float] | None = None,
        *,
        bias: Mapping[str, float] | None = None,
        cells: Bool[Tensor, "batch cells"] | None = None,
        among: Bool[Tensor, "batch cells"] | None = None,
    ) -> Float[Tensor, "batch heads cells channels"]:
        """What the conditional rows' image cells get from attending, before the output projection.

        In joint attention the softmax is over the texts' columns and the image's own cells.

        Args:
            texts: names of the guide's `columns`, or `PROMPT`, that are attended to, and the
                factor on their values. Left out: the prompt, with every guide's `bias`.
            bias: what is added to the logits of a text's columns.
            cells: the cells that attend; others get zeros.
            among: the image cells that are attended to, in joint attention.
        """


@runtime_checkable
class Look(Protocol):
    """A differentiable read-out of a coming step, for methods that choose the noise."""

    @property
    def step(self) -> Step:
        """The first step."""

    def __call__(
        self,
        noise: Float[Tensor, "batch channels h w"],
        images: Sequence[int] | None = None,
        at: float = 0.0,
    ) -> Maps:
        """Maps of a conditional pass, differentiable in `noise` (unit variance) if grad is on.

        `at` is the share of the run at which to look. Later than at the first step, the latents
        are what the model's own predictions make of the noise in a few strides; a gradient takes
        the predicted picture for given.
        """

    def pictures(
        self,
        noise: Float[Tensor, "batch channels h w"],
        images: Sequence[int] | None = None,
        at: float = 0.0,
    ) -> list[Image.Image]:
        """The pictures that the model predicts of any noise (unit variance), without a gradient.

        `at` is the share of the run at which it predicts: early ones are blurs. Costs
        `passes_of_preview(at)` passes an image, and its decoding.
        """

    def latents(
        self,
        noise: Float[Tensor, "batch channels h w"],
        images: Sequence[int] | None = None,
        at: float = 0.0,
        text: str = "",
    ) -> Float[Tensor, "batch channels h w"]:
        """The latents of those pictures, not decoded.

        `text`, if given, is one of the guide's `columns`: the model hears it in the prompt's place,
        everywhere, and what guides do in its attention is left out.
        """

    def fresh(self, images: Sequence[int], draw: int) -> Float[Tensor, "batch channels h w"]:
        """Other starting noise; the same `draw` of the same image is always the same."""


@runtime_checkable
class Here(Protocol):
    """A step that a guide may go on from with other latents than the run has come to it with.

    `factors` are those of picture and noise in the latents, `noise` is the image's own starting
    noise (unit variance), `picture` what the model takes the run's latents for; all in its units.
    """

    @property
    def factors(self) -> tuple[float, float]: ...
    @property
    def noise(self) -> Float[Tensor, "batch channels h w"]: ...
    @property
    def picture(self) -> Float[Tensor, "batch channels h w"]: ...

    def __call__(self, latents: Float[Tensor, "rows channels h w"], images: Sequence[int]) -> Maps:
        """Maps of a conditional pass at this step, differentiable in the latents if grad is on.

        Args:
            images: which image of the run each row is of; one may have several.
        """

    def fresh(self, images: Sequence[int], draw: int) -> Float[Tensor, "rows channels h w"]:
        """Noise; the same `draw` of the same image is always the same."""


@runtime_checkable
class Finished(Protocol):
    """A run's pictures after its last step, for guides that ask what the model makes of them."""

    def predicted(
        self, texts: Sequence[str], log_snr: float, draw: int = 0
    ) -> Float[Tensor, "texts batch channels h w"]:
        """The noise that the model finds in the pictures with noise added, under each text.

        Args:
            texts: the same for every image; "" for none.
            log_snr: how much noise: the logarithm of the picture's variance over the noise's, as
                far as the model has such a level; the nearest that it has is taken.
            draw: which noise; the same draw of the same image is the same at every level.
        """


class Guide:
    """A plugin at work in one run. Every moment defaults to changing nothing."""

    reads: frozenset[Read] = frozenset()
    """The maps that `energy` and `initial` look at, in passes that are made for them."""
    watches: frozenset[Read] = frozenset()
    """The maps that `watch` looks at, of the pass that is made anyway."""
    biases: frozenset[Kind] = frozenset({"cross", "self"})
    """The kinds of layers that `bias` is asked about, and that must therefore be met."""
    texts: Sequence[str] = ()
    """Extra texts to predict under, the same for every image."""
    columns: Mapping[str, Sequence[str | None]] = MappingProxyType({})
    """Named extra texts that `attend` may attend to, or a look ahead hear in the prompt's place.
    One for each image, or None for no text there.

    They are encoded by the pipeline's own encoders and stand beside the prompt. No other text sees
    them, and the image only as `attend` says; in joint attention each sees itself and the image.
    """
    headless: frozenset[str] = frozenset()
    """Those of `columns` that come without the token that opens a text (CLIP has one).

    It says nothing and holds most of the attention: in one softmax with the prompt, its own is
    enough.
    """
    adapters: Sequence[str] = ()
    """LoRA adapters, by name, that are heard where `adapt` says and nowhere else."""
    off: bool = False
    """Whether it will change nothing in this run: the engine then leaves it out altogether."""
    negative: bool = False
    """Whether it acts through the prediction without the prompt, though it has no extra texts."""
    rewords: bool = False
    """Whether `embed` gives the model another text in the prompt's place, whose words stand
    elsewhere. Such a guide is heard first, alone of its kind, and none beside it can look for the
    prompt's words.
    """
    renegates: bool = False
    """Whether `embed` gives the model another text in the negative prompt's place. Such a guide is
    heard first, and alone of its kind, too.
    """
    unguided: bool = False
    """Whether `predict` makes sense where a call makes no prediction without the prompt.

    One under an empty text is made for it there, in a further row of each image, and `scale` is 1.
    """

    def initial(
        self, noise: Float[Tensor, "batch channels h w"], look: Look
    ) -> Float[Tensor, "batch channels h w"]:
        """Choose or optimise the starting noise (unit variance)."""
        return noise

    def resumes(self, step: Step) -> bool:
        """Whether `resume` wants to be asked at this step."""
        return False

    def resume(self, step: Step, here: Here) -> Float[Tensor, "batch channels h w"] | None:
        """Choose the latents to go on from at this step, in the model's units."""
        return None

    def energy(self, step: Step, maps: Maps) -> Energy | None:
        """State what should be lower at this step; None when this step is not guided."""
        return None

    def guides(self, step: Step) -> bool:
        """Whether `energy` wants to be asked at this step; saves the pass where it does not."""
        return bool(self.reads)

    def bias(self, step: Step, logits: Logits) -> Float[Tensor, "batch heads cells columns"] | None:
        """Add to the conditional rows' attention logits (broadcastable over heads)."""
        return None

    def embed(self, step: Step, text: Text) -> Text:
        """Change the text embeddings of this step, for all layers or some."""
        return text

    def attends(self, step: Step) -> bool:
        """Whether `attend` wants to be asked at this step; saves the columns where it does not."""
        return True

    def attend(
        self, step: Step, attention: Attention
    ) -> Float[Tensor, "batch heads cells channels"] | None:
        """Change what a layer that attends to text gives out for the conditional rows' cells."""
        return None

    def sees(self, name: str, grid: tuple[int, int]) -> Bool[Tensor, "batch cells"] | None:
        """The image cells that one of `columns` sees in joint attention; None for all of them."""
        return None

    def adapt(
        self, step: Step, adapter: str, where: tuple[int, int] | str
    ) -> Float[Tensor, "batch cells"]:
        """How much one of `adapters` is heard, in [0, 1].

        Args:
            where: a grid, for a number in each of its cells; or the name of one of `columns`, or
                `PROMPT` for all other text, for one number for each image.
        """
        raise NotImplementedError

    def observes(self, step: Step) -> bool:
        """Whether `watch` wants to be asked at this step; saves the read-out where it does not."""
        return True

    def watch(self, step: Step, maps: Maps) -> None:
        """After the step's own pass, without a gradient: keep what later steps need of its maps."""

    def mask(self, step: Step) -> Float[Tensor, "batch pictures h w"] | None:
        """Where each picture of the call's IP-Adapters is heard, in [0, 1]; None for everywhere.

        On any grid; the pictures are those of the first adapter, then those of the second...
        """
        return None

    def predicts(self, step: Step) -> bool:
        """Whether `predict` wants to be asked at this step; saves the rows where it does not."""
        return True

    def predict(self, step: Step, eps: Prediction) -> Float[Tensor, "batch channels h w"]:
        """Change the conditional prediction."""
        return eps.cond

    def selects(self, step: Step) -> bool:
        """Whether `select` wants to be asked after this step."""
        return True

    def select(self, step: Step, candidates: Candidates) -> Selection | None:
        """Choose which of the pictures of one prompt go on, by what each will be."""
        return None

    def follow(self, parents: Sequence[int]) -> None:
        """Image k goes on from what was image `parents[k]`: take along what is kept by image."""

    def finished(self, pictures: Finished) -> None:
        """After the last step: ask what the model finds in the pictures. Nothing is changed."""

    def report(self) -> Mapping[str, Any]:
        """What happened, as plain data for logs, the app and evaluation."""
        return {}


@runtime_checkable
class Plugin(Protocol):
    """A published method as a frozen dataclass of plain data.

    Its class may have a `task` (`adhere.guides.tasks`), and `several = True` where it chooses among
    several pictures of one prompt (`num_images_per_prompt`) and leaves a single one alone, and
    `pictures = True` where the call must show pictures to an IP-Adapter.
    """

    name: ClassVar[str]

    def guide(self, run: Run) -> Guide: ...
