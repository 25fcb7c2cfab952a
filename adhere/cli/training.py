"""`adhere train`: the small files that some methods read beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adhere.cli.options import LAST_SEED, PIXELS, STEPS, ClipFolder, Loading, in_groups
from adhere.cli.speaking import NOTHING, if_stopped
from adhere.errors import ParameterError

if TYPE_CHECKING:  # commands import what they need when they run
    from adhere.guides.stored import Stored
    from adhere.pipelines.tools.autoencoder import Learnt, Plan

Texts = Annotated[
    Path | None,
    typer.Option(help="Prompts to learn from, a file as for --prompts; a toybox has its own."),
]

_GOES_ON = "parts of {} that were finished are kept, and the same command goes on from them"
_LEARNS_ANEW = "the {} are kept, and the same command learns from them anew"

train_app = typer.Typer(
    name="train",
    no_args_is_help=True,
    help="Train the small files that some methods read beside the model; the model stays as it is.",
    rich_markup_mode="markdown",
    add_completion=False,  # that is `adhere --install-completion`
)


@train_app.callback()
def _root() -> None:
    """Each command is called as the method that reads what it makes."""


@dataclass(frozen=True)
class Learning:
    """How an autoencoder learns, and what of."""

    encoder: Annotated[str, typer.Option(help="Which text encoder, as the pipeline calls it.")] = (
        "text_encoder"
    )
    layer: Annotated[
        int | None,
        typer.Option(min=0, help="Whose output is learnt; 5/6 of the way through if left out."),
    ] = None
    features: Annotated[
        int, typer.Option(min=1, max=64, help="Features for each channel of the hidden states.")
    ] = 4
    k: Annotated[
        int | None, typer.Option(min=1, help="Features of a token; 32, fewer in small encoders.")
    ] = None
    steps: Annotated[int, typer.Option(min=0, help="Training steps.")] = 1500
    batch: Annotated[int, typer.Option(min=1, help="Tokens in a training step.")] = 1024
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED, help="Of texts and training.")] = 0


@train_app.command("concept-steering")
@in_groups
def concept_steering(
    loading: Loading,
    learning: Learning,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path(
        "concepts.safetensors"
    ),
    texts: Texts = None,
    size: Annotated[int, typer.Option(min=10, help="Texts that are read at the most.")] = 4000,
    begin: Annotated[
        Path | None,
        typer.Option(
            help="Go on from these weights, this command's or others' (.safetensors with "
            "encoder.weight, decoder.weight, pre_bias, latent_bias)."
        ),
    ] = None,
) -> None:
    """Train a k-sparse autoencoder of a text encoder's hidden states.

    For the toybox, in minutes on a CPU; and a picture without the concept:

        adhere train concept-steering

        adhere generate "a haunted cat"
        -p "concept-steering:autoencoder=concepts.safetensors,concept=a skull"

    Others' weights for a model, as they are:

        adhere train concept-steering -m MODEL --begin theirs.safetensors --layer 9 --steps 0
    """
    if_stopped(NOTHING)
    from adhere.cli.making import studio
    from adhere.guides import stored
    from adhere.pipelines.tools.autoencoder import Plan
    from adhere.pipelines.tools.captions import captions
    from adhere.plugins.mathematics.autoencoder import AUTOENCODER, MAKE

    _check_place(out, AUTOENCODER, MAKE)
    how = learning
    plan = Plan(how.encoder, how.layer, how.features, how.k, how.steps, how.batch, seed=how.seed)
    given = stored.opened(begin, AUTOENCODER, MAKE) if begin else None
    as_is = given is not None and how.steps == 0
    said = [] if as_is else _texts(texts, size) or captions(loading.model, size, how.seed)
    found = _learnt(studio(loading).pipe, said, plan, given)
    stored.write(out, AUTOENCODER, found.tensors, {**found.about, "model": loading.model})
    typer.echo(f"wrote {out}: layer {found.about['layer']} of the {how.encoder}")
    if found.explained is not None:
        typer.echo(
            f"of the texts that were held out, its features tell {found.explained:.1%} of the "
            f"variance; {found.idle:.1%} of them lie idle"
        )


def _learnt(pipe: Any, texts: list[str], plan: Plan, begin: Stored | None) -> Learnt:
    """An autoencoder that has learnt from texts, or `begin` as it is where there are none."""
    from adhere.pipelines.studio.progress import progress
    from adhere.pipelines.tools.autoencoder import check, learnt, states_of, taken_over

    if begin is not None and not texts:
        return taken_over(pipe, plan, begin)
    check(pipe, plan, begin)
    with progress("texts", len(texts)) as tick:
        states = states_of(pipe, texts, plan, tick)
    with progress("steps", plan.steps) as tick:
        return learnt(pipe, states, plan, begin, tick)


@train_app.command("golden-noise")
@in_groups
def golden_noise(
    loading: Loading,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path(
        "golden.safetensors"
    ),
    texts: Texts = None,
    size: Annotated[int, typer.Option(min=2, help="Pairs that are made at the most.")] = 500,
    verifier: Annotated[
        str,
        typer.Option(help="By which pairs are chosen, as for --best-of; `none` keeps them all."),
    ] = "clip-score",
    steps: Annotated[int | None, typer.Option(min=2, max=1000, help=STEPS)] = None,
    training: Annotated[int, typer.Option(min=0, help="Training steps.")] = 1000,
    seed: Annotated[int, typer.Option(min=0, max=LAST_SEED)] = 0,
    width: Annotated[int | None, typer.Option(min=16, max=4096, help=PIXELS)] = None,
    height: Annotated[int | None, typer.Option(min=16, max=4096, help=PIXELS)] = None,
) -> None:
    """Train a network that moves starting noises towards their prompts.

    First it makes pairs of noises, which costs two pictures a pair (three passes with
    `--verifier none`) and goes on where it was stopped; then it learns them. U-Net models.

        adhere train golden-noise

        adhere generate "a red cat" -p golden-noise:network=golden.safetensors
    """
    if_stopped(_GOES_ON.format("16 pairs"))
    from adhere import verifiers
    from adhere.cli.making import studio
    from adhere.pipelines.studio.progress import progress
    from adhere.pipelines.tools.captions import captions
    from adhere.pipelines.tools.golden_noise import Collector, Plan, learnt
    from adhere.plugins.mathematics.noise_network import MAKE, NETWORK

    _check_place(out, NETWORK, MAKE)
    judge = None if verifier == "none" else (verifier, verifiers.verifier(verifier))
    said = _texts(texts, size) or captions(loading.model, size, seed)
    held = studio(loading)
    collector = Collector(held, said, judge, out, (width, height), steps)
    missing = collector.missing()
    with progress("pairs", sum(map(len, missing))) as tick:
        for part in missing:
            collector.make(part, tick)
    if_stopped(_LEARNS_ANEW.format("pairs"))
    with progress("steps", training) as tick:
        pairs, told = learnt(collector, Plan(steps=training, seed=seed), out, tick)
    typer.echo(f"wrote {out}: learnt from {pairs} of {len(said)} pairs")
    typer.echo(f"of pairs that were held out, it tells {told:.1%} of the way")


@train_app.command("prototype")
@in_groups
def prototype(
    loading: Loading,
    concept: Annotated[str, typer.Option(help="What is to be kept out, in words.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file.")] = Path(
        "prototypes.safetensors"
    ),
    texts: Texts = None,
    size: Annotated[int, typer.Option(min=1, help="Texts that are drawn at the most.")] = 100,
    pictures: Annotated[
        int, typer.Option(min=1, help="Pictures of each text with the concept, and without.")
    ] = 4,
    count: Annotated[
        int,
        typer.Option(min=1, help="Prototypes: 16 for a broad concept, 1 for a style."),
    ] = 16,
    clip: ClipFolder = None,
    training: Annotated[int, typer.Option(min=0, help="Training steps.")] = 2000,
    seed: Annotated[
        int, typer.Option(min=0, max=LAST_SEED, help="Of texts, pictures and training.")
    ] = 0,
) -> None:
    """Make prototypes of a concept, from pictures of texts with it and without.

    For the toybox, and a picture that is guided away from the nearest one:

        adhere train prototype --concept "a skull" --pictures 1 --count 4

        adhere generate "a cat in a haunted house" -p prototype:prototypes=prototypes.safetensors

    The texts are such as the concept may turn up in; its words are put before each. It goes on
    where it was stopped. Models with one CLIP text encoder (Stable Diffusion 1.x).
    """
    if_stopped(_GOES_ON.format("8 texts' pictures"))
    from adhere.cli.making import studio
    from adhere.guides import stored
    from adhere.pipelines.studio.progress import progress
    from adhere.pipelines.tools import prototypes
    from adhere.pipelines.tools.captions import captions
    from adhere.pipelines.tools.clip import clip_of
    from adhere.plugins.mathematics.prototypes import MAKE, PROTOTYPES

    _check_place(out, PROTOTYPES, MAKE)
    plan = prototypes.Plan(concept, count, pictures, training, seed=seed)
    said = _texts(texts, size) or captions(loading.model, size, seed)
    prototypes.check_count(said, plan)
    held = studio(loading)
    found = prototypes.clip_for(held.pipe, clip_of(loading.model, clip))
    with progress("pictures", 2 * pictures * len(said)) as tick:
        seen = prototypes.directions(held, found, said, plan, loading.batch_size, tick, out)
    if_stopped(_LEARNS_ANEW.format("pictures"))
    trainer = prototypes.Trainer(held.pipe, found, seen, plan)
    with progress("steps", training) as tick:
        trainer.train(tick)
    about = {"model": loading.model, "concept": concept, "texts": str(len(said))}
    stored.write(out, PROTOTYPES, trainer.tensors(), about)
    typer.echo(f"wrote {out}: {count} prototypes of {concept!r}, from {len(said)} texts")
    typer.echo(f"they point where the pictures do, with a cosine of {trainer.reached():.2f}")


def _check_place(out: Path, kind: str, made_by: str) -> None:
    """Refuse, before anything is learnt, a name that such a file cannot have or another file has.

    Raises:
        ParameterError: it does not end as such files do, is a folder or another kind of file, or
            lies where nothing can be written.
    """
    from adhere.guides import stored
    from adhere.pipelines.studio.output import named, writable_file

    named(out, kind)
    writable_file(out)
    if out.exists():
        try:
            stored.read(out, kind, made_by)
        except ParameterError as error:
            raise ParameterError(
                f"--out {str(out)!r} is there already and no {kind}; give another name"
            ) from error


def _texts(path: Path | None, most: int) -> list[str]:
    """The prompts of a file.

    Raises:
        ParameterError: it does not read, or has none.
    """
    from adhere.pipelines.studio import prompts

    if path is None:
        return []
    said = [line.prompt for line in prompts.read(path, "--texts").lines if line.fault is None][
        :most
    ]
    if not said:
        raise ParameterError(f"--texts {str(path)!r} has no prompt; write one a line")
    return said
