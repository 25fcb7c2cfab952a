"""The stages that train a denoiser on frozen latents and frozen text: `unet` and `transformer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModel

from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.model import transformer, unet
from adhere.pipelines.toybox.model import vae as autoencoder
from adhere.pipelines.toybox.model.clip import tokenise
from adhere.pipelines.toybox.model.tokenizer import build_tokenizer
from adhere.pipelines.toybox.training.data import Pool, latent_pool
from adhere.pipelines.toybox.training.grounding import WEIGHT, Grounded, GroundedTransformer
from adhere.pipelines.toybox.training.parallel import Team, run_team
from adhere.pipelines.toybox.training.plan import Plan, autocast, load_part, take_over
from adhere.pipelines.toybox.training.training import Job, Trainer, load_state
from adhere.pipelines.toybox.world.world import VERSION


@dataclass(frozen=True)
class Batch:
    """What a denoiser learns from in a step.

    `latents`, `noise` `(n, 8, 16, 16)`; `ids` `(n, 32)`; `mask` `(n, 32)` is 0 at columns that
    are hidden; `places`, `words` and `silent` as in `Grounded`.
    """

    latents: Tensor
    noise: Tensor
    ids: Tensor
    mask: Tensor
    places: Tensor
    words: Tensor
    silent: Tensor

    def __len__(self) -> int:
        return len(self.latents)


Loss = Callable[[Batch, torch.Generator], tuple[Tensor, Tensor]]
"""Weighted squared errors, one a sample, and the grounding loss."""


@dataclass(frozen=True)
class Setup:
    """A denoiser, the module that trains it, the loss by that module's forward pass, the batch,
    and which matrices Muon trains.
    """

    model: Any
    grounded: Callable[[Any], nn.Module]
    loss: Callable[[nn.Module], Loss]
    batch: int
    orthogonal: Callable[[str], bool] | None = None


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor on a device, without waiting for what an accelerator is doing."""
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal noise. On an accelerator its own generator makes it: a CPU is slow at it."""
    if like.device.type == "cpu":
        return torch.randn(like.shape, generator=generator)
    own = torch.Generator(like.device).manual_seed(generator.initial_seed())
    return torch.randn(like.shape, generator=own, device=like.device)


def drawn(pool: Pool, count: int, empty: Tensor, generator: torch.Generator) -> Batch:
    """A batch of a pool, on its device, with some captions dropped and some columns hidden."""
    device = pool.images.device
    pick = sent(torch.randint(len(pool), (count,), generator=generator), device)
    which = sent(torch.randint(pool.ids.shape[1], (count,), generator=generator), device)
    dropped, hidden = (sent(each, device) for each in unet.conditioned(count, generator))
    ids, mask = unet.conditioning(pool.ids[pick, which].long(), empty, dropped, hidden)
    kept = ~dropped
    latents = pool.images[pick].float()
    return Batch(
        latents=latents,
        noise=noise(latents, generator),
        ids=ids,
        mask=mask,
        places=pool.places(pick, which) * kept[:, None, None],
        words=unet.without_start(unet.word_columns(ids)),
        silent=pool.silent(pick, which) * kept[:, None],
    )


def train_unet(plan: Plan) -> Path:
    """The diffusion model on frozen latents and text. Returns the UNet's folder."""
    return _train(plan, "unet", _unet_setup)


def train_transformer(plan: Plan) -> Path:
    """The second denoiser, on the same latents and text. Returns the transformer's folder."""
    return _train(plan, "transformer", _transformer_setup)


def _unet_setup(plan: Plan) -> Setup:
    encoder = load_part(CLIPTextModel, plan.out / "text_encoder").to(plan.device)
    alphas = unet.build_scheduler().alphas_cumprod.to(plan.device)

    def loss(forward: nn.Module) -> Loss:
        def of(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            t = unet.spread_timesteps(len(alphas), len(batch), generator)
            t = sent(t, plan.device)
            x = unet.noised(batch.latents, batch.noise, alphas[t])
            text = unet.embed(encoder, batch.ids)
            given = (x, t, text, batch.mask, batch.places, batch.words, batch.silent)
            with autocast(plan.device):
                predicted, grounding = forward(*given)
            target = unet.velocity(batch.latents, batch.noise, alphas[t])
            error = (predicted.float() - target).pow(2).mean((1, 2, 3))
            return error * unet.loss_weights(alphas, t), grounding

        return of

    return Setup(unet.build_unet(**dict(plan.unet_changes)), Grounded, loss, 32)


def _transformer_setup(plan: Plan) -> Setup:
    clip = load_part(CLIPModel, plan.out / "clip")
    encoders = [encoder.to(plan.device) for encoder in transformer.text_encoders(clip)]

    def loss(forward: nn.Module) -> Loss:
        def of(batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            sigmas = sent(transformer.spread_sigmas(len(batch), generator), plan.device)
            x = transformer.flowed(batch.latents, batch.noise, sigmas)
            text, pooled = transformer.embed(encoders, batch.ids)
            whole = (batch.mask > 0).all(1, keepdim=True)
            columns = transformer.column_bias(batch.mask)
            t = sigmas * transformer.TIMESTEPS
            given = (x, t, text, pooled * whole, columns, batch.places, batch.silent)
            with autocast(plan.device):
                predicted, grounding = forward(*given)
            target = batch.noise - batch.latents
            return (predicted.float() - target).pow(2).mean((1, 2, 3)), grounding

        return of

    model = transformer.build_transformer(**dict(plan.transformer_changes))
    return Setup(model, GroundedTransformer, loss, 64, transformer.orthogonal)


def load_weights(model: nn.Module, name: str, path: Path) -> None:
    """Starts a denoiser from a training's state (its averaged weights) or a pipeline folder."""
    try:
        if path.is_dir():
            weights = load_part(type(model), path / name).state_dict()
        else:
            weights = load_state(path)["average"]
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise ToyboxError(f"{path} holds no weights for this {name}: {error}") from error


def _encoded(images: Tensor, matrix: Tensor, mean: Tensor, scale: float) -> Tensor:
    return autoencoder.encode_patches(images, matrix, mean) * scale


def _train(plan: Plan, name: str, prepare: Callable[[Plan], Setup]) -> Path:
    if plan.workers > 1:  # before any tensor is made: forked workers do not survive threads
        torch.set_num_threads(1)
    take_over(plan)
    tokenizer = build_tokenizer()
    vae = load_part(AutoencoderTiny, plan.out / "vae")
    matrix, mean = autoencoder.linear_map(vae)
    encode = partial(_encoded, matrix=matrix, mean=mean, scale=float(vae.config.scaling_factor))
    # Before anything is on an accelerator: processes are forked for it.
    pool = latent_pool(plan.seed + 30, plan.pool, tokenizer, encode, plan.faults)
    torch.manual_seed(plan.seed)
    setup = prepare(plan)
    model = setup.model.to(plan.device)
    pool, empty = pool.to(plan.device), tokenise(tokenizer, [""]).to(plan.device)
    if plan.init is not None:
        load_weights(model, name, plan.init)
    samples = plan.samples(name)
    batch = min(plan.batch or setup.batch, samples)
    about = {"world": VERSION, **asdict(plan.faults)}

    def work(team: Team) -> None:
        share = batch // team.workers
        learner = setup.grounded(model)
        if plan.compile:
            learner.compile()
        loss_in = setup.loss(learner)

        def loss(generator: torch.Generator) -> Tensor:
            errors, grounding = loss_in(drawn(pool, share, empty, generator), generator)
            return torch.stack([errors.mean(), WEIGHT * grounding])

        steps = plan.steps(samples, batch)
        rate = plan.learning_rate
        job = Job(name, plan.out, model, loss, steps, batch, rate, plan.seed, 200, ema=0.999)
        if plan.minutes is not None:
            job.most_seconds = 60 * plan.minutes
        job = replace(job, orthogonal=setup.orthogonal, quiet=plan.quiet, team=team, about=about)
        trainer = Trainer(job, plan.resume)
        trainer.run(plan.stop_after)
        if team.rank == 0:
            model.load_state_dict(trainer.best())
            model.cpu().save_pretrained(plan.out / name)

    run_team(work, model, plan.workers)
    return plan.out / name
