"""The stages of `adhere toybox train`: vae, clip, unet, judge. Each writes its part of the run
folder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel

from adhere.pipelines.toybox import unet as diffusion
from adhere.pipelines.toybox import vae as autoencoder
from adhere.pipelines.toybox.calibration import calibrate
from adhere.pipelines.toybox.clip import (
    build_clip,
    contrastive_loss,
    text_encoder_of,
    tokenise,
    trimmed,
)
from adhere.pipelines.toybox.data import Pool, latent_pool, picture_pool
from adhere.pipelines.toybox.errors import ToyboxError
from adhere.pipelines.toybox.grounding import WEIGHT, Grounded
from adhere.pipelines.toybox.parallel import Team, run_team
from adhere.pipelines.toybox.tokenizer import build_tokenizer, save_tokenizer
from adhere.pipelines.toybox.training import Job, Trainer, load_state, write_json
from adhere.pipelines.toybox.vae import to_model

STAGES = ("vae", "clip", "unet", "judge")


@dataclass(frozen=True)
class Plan:
    """How long and how large to train. The defaults made the shipped weights; the tests use a
    tiny one.
    """

    out: Path
    seed: int = 0
    device: str = "cpu"
    resume: bool = False
    quiet: bool = False
    vae_samples: int = 24_000
    clip_samples: int = 120_000
    unet_samples: int = 300_000
    unet_batch: int = 32
    unet_rate: float = 1e-3
    judge_samples: int = 600
    pool: int = 60_000
    compile: bool = True
    workers: int = 1
    unet_changes: tuple[tuple[str, Any], ...] = ()
    unet_init: Path | None = None
    stop_after: int | None = None

    def with_samples(self, stage: str, samples: int) -> Plan:
        """The same plan with another number of training pictures for one stage."""
        changes: dict[str, Any] = {f"{stage}_samples": samples}
        return replace(self, **changes)

    def steps(self, samples: int, batch: int) -> int:
        """Optimiser steps that a number of samples makes."""
        return max(1, samples // batch)


def autocast(device: str) -> torch.autocast:
    """bfloat16 where the hardware is quick at it: 1.6x on a CPU with AVX-512 BF16."""
    return torch.autocast(device.split(":")[0], torch.bfloat16)


def load_part(kind: Any, folder: Path) -> Any:
    """Loads a finished stage's model; says which stage is missing or damaged."""
    if not (folder / "config.json").is_file():
        raise ToyboxError(f"{folder} holds no model: train the stage before this one first")
    try:
        return kind.from_pretrained(str(folder)).eval().requires_grad_(False)
    except Exception as error:  # diffusers, transformers and safetensors raise many kinds
        raise ToyboxError(f"the model in {folder} is damaged: {error}") from error


def load_weights(model: UNet2DConditionModel, path: Path) -> None:
    """Starts a UNet from a training's state (its averaged weights) or from a pipeline folder."""
    try:
        if path.is_dir():
            weights = load_part(UNet2DConditionModel, path / "unet").state_dict()
        else:
            weights = load_state(path)["average"]
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise ToyboxError(f"{path} holds no weights for this UNet: {error}") from error


def train_vae(plan: Plan) -> Path:
    """Closed-form encoder, then the decoder's regression. Returns the VAE's folder."""
    torch.manual_seed(plan.seed)
    batch = 16
    steps = plan.steps(plan.vae_samples, batch)
    pool = autoencoder.pictures(plan.seed + 10, min(plan.vae_samples, 12_000))
    matrix, mean, kept = autoencoder.principal_components(pool[:4000])
    model = autoencoder.build_vae()
    autoencoder.write_encoder(model, matrix, mean)
    model.encoder.requires_grad_(False)
    model.to(plan.device)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(pool), (batch,), generator=generator)
        images = pool[pick]
        latents = autoencoder.encode_patches(images, matrix, mean)
        spread = torch.rand(batch, 1, 1, 1, generator=generator) * 0.25 / autoencoder.SCALING
        noise = torch.randn(latents.shape, generator=generator) * spread
        with autocast(plan.device):
            return autoencoder.decoder_loss(
                model, images.to(plan.device), latents.to(plan.device), noise.to(plan.device)
            )

    job = Job("vae", plan.out, model, loss, steps, batch, 2e-3, plan.seed, 50, ema=0.995)
    trainer = Trainer(replace(job, quiet=plan.quiet), plan.resume)
    trainer.run(plan.stop_after)
    model.load_state_dict(trainer.best())
    model.cpu().float().save_pretrained(plan.out / "vae")
    held_out = autoencoder.pictures(plan.seed + 99, 200)
    quality = autoencoder.psnr(held_out, autoencoder.round_trip(model, held_out))
    write_json(
        {"variance_kept": round(kept, 5), "psnr": round(float(quality.mean()), 2)},
        plan.out / "vae.quality.json",
    )
    return plan.out / "vae"


def train_clip(plan: Plan) -> Path:
    """Tokenizer, then both encoders contrastively. Returns the CLIP's folder."""
    torch.manual_seed(plan.seed)
    batch = min(128, plan.clip_samples)
    save_tokenizer(plan.out / "tokenizer")
    tokenizer = build_tokenizer()
    pool = picture_pool(plan.seed + 20, min(plan.pool // 2, plan.clip_samples), tokenizer)
    model = build_clip(tokenizer).to(plan.device)

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(pool), (batch,), generator=generator)
        which = torch.randint(pool.ids.shape[1], (batch,), generator=generator)
        ids = trimmed(pool.ids[pick, which].long()).to(plan.device)
        images = to_model(pool.images[pick]).to(plan.device)
        same = (ids[:, None] == ids[None]).all(-1)
        with autocast(plan.device):
            return contrastive_loss(model, images, ids, same)

    steps = plan.steps(plan.clip_samples, batch)
    job = Job("clip", plan.out, model, loss, steps, batch, 1.5e-3, plan.seed, 60, ema=0.99)
    trainer = Trainer(replace(job, quiet=plan.quiet), plan.resume)
    trainer.run(plan.stop_after)
    model.load_state_dict(trainer.best())
    model.cpu().float().save_pretrained(plan.out / "clip")
    tokenizer.save_pretrained(str(plan.out / "clip"))
    text_encoder_of(model).save_pretrained(plan.out / "text_encoder")
    write_json(retrieval(model, plan.seed + 98), plan.out / "clip.quality.json")
    return plan.out / "clip"


@torch.no_grad()
def retrieval(model: CLIPModel, seed: int, count: int = 100) -> dict[str, float]:
    """Share of held-out captions whose picture is the best of 100, and of pictures likewise."""
    pool = picture_pool(seed, count, build_tokenizer())
    logits = model(
        input_ids=pool.ids[:, 0].long(), pixel_values=to_model(pool.images)
    ).logits_per_text
    target = torch.arange(count)
    return {
        "text_to_image": float((logits.argmax(1) == target).float().mean()),
        "image_to_text": float((logits.argmax(0) == target).float().mean()),
    }


def train_unet(plan: Plan) -> Path:
    """The diffusion model on frozen latents and text. Returns the UNet's folder."""
    if plan.workers > 1:
        torch.set_num_threads(1)  # the workers are forked, and forks do not survive threads
    torch.manual_seed(plan.seed)
    tokenizer = build_tokenizer()
    vae = load_part(AutoencoderTiny, plan.out / "vae")
    encoder = load_part(CLIPTextModel, plan.out / "text_encoder").to(plan.device)
    matrix, mean = autoencoder.linear_map(vae)
    scale = float(vae.config.scaling_factor)
    pool = latent_pool(plan.seed + 30, plan.pool, tokenizer, matrix, mean, scale)
    empty = tokenise(tokenizer, [""])
    model = diffusion.build_unet(**dict(plan.unet_changes)).to(plan.device)
    if plan.unet_init is not None:
        load_weights(model, plan.unet_init)

    def work(team: Team) -> None:
        _train_unet(plan, team, model, encoder, pool, empty)

    run_team(work, model, plan.workers)
    return plan.out / "unet"


def _train_unet(
    plan: Plan,
    team: Team,
    model: UNet2DConditionModel,
    encoder: CLIPTextModel,
    pool: Pool,
    empty: Tensor,
) -> None:
    batch = min(plan.unet_batch, plan.unet_samples)
    share = batch // team.workers
    grounded = Grounded(model)
    forward = torch.compile(grounded) if plan.compile else grounded
    alphas = diffusion.build_scheduler().alphas_cumprod

    def loss(generator: torch.Generator) -> Tensor:
        pick = torch.randint(len(pool), (share,), generator=generator)
        which = torch.randint(pool.ids.shape[1], (share,), generator=generator)
        ids, mask, kept = diffusion.conditioning(pool.ids[pick, which].long(), empty, generator)
        places = pool.places(pick, which) * kept[:, None, None]
        latents = pool.images[pick].float()
        noise = torch.randn(latents.shape, generator=generator)
        t = diffusion.spread_timesteps(len(alphas), share, generator)
        x = diffusion.noised(latents, noise, alphas[t])
        text = diffusion.embed(encoder, ids.to(plan.device))
        words = diffusion.without_start(diffusion.word_columns(ids))
        with autocast(plan.device):
            predicted, grounding = forward(
                x.to(plan.device),
                t.to(plan.device),
                text,
                mask.to(plan.device),
                places.to(plan.device),
                words.to(plan.device),
            )
        target = diffusion.velocity(latents, noise, alphas[t]).to(plan.device)
        error = (predicted.float() - target).pow(2).mean((1, 2, 3))
        weighted = error * diffusion.loss_weights(alphas, t).to(plan.device)
        return torch.stack([weighted.mean(), WEIGHT * grounding])

    steps = plan.steps(plan.unet_samples, batch)
    job = Job(
        "unet", plan.out, model, loss, steps, batch, plan.unet_rate, plan.seed, 200, ema=0.999
    )
    trainer = Trainer(replace(job, quiet=plan.quiet, team=team), plan.resume)
    trainer.run(plan.stop_after)
    if team.rank == 0:
        model.load_state_dict(trainer.best())
        model.cpu().save_pretrained(plan.out / "unet")


def train_judge(plan: Plan) -> Path:
    """Measures the judge and sets its threshold. Returns the file with both."""
    vae = load_part(AutoencoderTiny, plan.out / "vae")
    count = max(8, plan.judge_samples)
    write_json(calibrate(vae, plan.seed + 40, count), plan.out / "judge.json")
    return plan.out / "judge.json"


RUNNERS = {"vae": train_vae, "clip": train_clip, "unet": train_unet, "judge": train_judge}
