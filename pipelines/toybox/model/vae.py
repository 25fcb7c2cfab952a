"""Latents in closed form: principal components of 4x4 patches, and a small decoder trained on
them.

    z = W (p - mean),   W = 8 leading components, each over sqrt(its standard deviation)

`AutoencoderTiny` without encoder blocks is linear, so the encoder holds W exactly. Its decoder is
a regression from fixed latents, slightly noised so that it tidies the latents a diffusion model
bends.
"""

from __future__ import annotations

from random import Random

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from adhere.pipelines.toybox.world.world import ASKED_SKULL_SHARE, SIDE, pixels, sample_scene

CHANNELS = 8
PATCH = 4
WIDTH_ENCODER = 64
WIDTH_DECODER = 40
# AutoencoderTiny's decoder squashes its input by 3 tanh(z / 3): keep latents well inside, at a
# spread of 0.4.
SCALING = 2.5


def build_vae() -> AutoencoderTiny:
    """An untrained VAE of the toybox's shape: 64x64 pixels to 8x16x16 latents."""
    vae = AutoencoderTiny(
        encoder_block_out_channels=(WIDTH_ENCODER,) * 3,
        decoder_block_out_channels=(WIDTH_DECODER,) * 3,
        num_encoder_blocks=(0, 0, 0),
        num_decoder_blocks=(3, 2, 1),
        latent_channels=CHANNELS,
        scaling_factor=SCALING,
    )
    return vae


def pictures(seed: int, count: int) -> Tensor:
    """Random scenes as bytes, `(count, 3, 64, 64)`."""
    rng = Random(seed)
    stack = np.stack(
        [
            pixels(sample_scene(rng, asked_skull=rng.random() < ASKED_SKULL_SHARE))
            for _ in range(count)
        ]
    )
    return torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()


def to_model(images: Tensor) -> Tensor:
    """Bytes to floats in [-1, 1]."""
    return images.float() / 127.5 - 1


def _patches(images: Tensor) -> Tensor:
    """`(n, 3, 64, 64)` to `(n * 256, 48)`, channel-major."""
    folded = nn.functional.unfold(images, PATCH, stride=PATCH)
    return folded.transpose(1, 2).reshape(-1, 3 * PATCH * PATCH)


def principal_components(images: Tensor) -> tuple[Tensor, Tensor, float]:
    """Encoding matrix `(8, 48)`, patch mean `(48,)`, and the share of variance that is kept.

    The latents' mean square is (1 / SCALING)^2, so that the pipeline's scaled latents have unit
    variance.
    """
    patches = _patches(to_model(images)).double()
    mean = patches.mean(0)
    covariance = (patches - mean).T @ (patches - mean) / len(patches)
    variance, vectors = torch.linalg.eigh(covariance)
    order = variance.argsort(descending=True)[:CHANNELS]
    kept = variance[order]
    basis = vectors[:, order].T
    basis = basis * basis.sum(1, keepdim=True).sign()  # eigenvectors' signs are arbitrary: fix them
    matrix = basis / kept.pow(0.25)[:, None]
    spread = ((patches - mean) @ matrix.T).pow(2).mean().sqrt()
    matrix = matrix / (spread * SCALING)
    return matrix.float(), mean.float(), float(kept.sum() / variance.sum())


@torch.no_grad()
def write_encoder(vae: AutoencoderTiny, matrix: Tensor, mean: Tensor) -> None:
    """Puts the linear map into the encoder's four convolutions, which only gather pixels.

    The first copies RGB; the two strided ones collect 2x2 and then 4x4 pixels into 48 channels;
    the last multiplies.
    """
    first, second, third, last = vae.encoder.layers
    for layer in (first, second, third, last):
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    for colour in range(3):
        first.weight[colour, colour, 1, 1] = 1
    for index in range(12):  # colour, row, column of a 2x2 patch
        colour, row, column = index // 4, index // 2 % 2, index % 2
        second.weight[index, colour, 1 + row, 1 + column] = 1
    for index in range(48):  # colour, row, column of a 4x4 patch
        colour, row, column = index // 16, index // 4 % 4, index % 4
        source = colour * 4 + row % 2 * 2 + column % 2
        third.weight[index, source, 1 + row // 2, 1 + column // 2] = 1
    # The encoder maps [-1, 1] to [0, 1] first: p = 2 q - 1.
    last.weight[:, :48, 1, 1] = 2 * matrix
    last.bias.copy_(-(matrix @ (mean + 1)))


def encode_patches(images: Tensor, matrix: Tensor, mean: Tensor) -> Tensor:
    """Byte images to the VAE's latents `(n, 8, 16, 16)` by one matrix product, as the encoder
    does.
    """
    grid = SIDE // PATCH
    flat = (_patches(to_model(images)) - mean) @ matrix.T
    return flat.reshape(len(images), grid, grid, CHANNELS).permute(0, 3, 1, 2).contiguous()


def linear_map(vae: AutoencoderTiny) -> tuple[Tensor, Tensor]:
    """The matrix `(8, 48)` and mean `(48,)` that an encoder written by `write_encoder` holds."""
    last = vae.encoder.layers[-1]
    matrix = last.weight[:, :48, 1, 1].detach().float() / 2
    mean = torch.linalg.pinv(matrix) @ -last.bias.detach().float() - 1
    return matrix, mean


def decoder_loss(vae: AutoencoderTiny, images: Tensor, latents: Tensor, noise: Tensor) -> Tensor:
    """Absolute and squared error of decoding noised latents, pixels in [-1, 1]."""
    target = to_model(images)
    decoded = vae.decoder(latents + noise)
    error = decoded.float() - target
    loss: Tensor = error.abs().mean() + 2 * error.pow(2).mean()
    return loss


@torch.no_grad()
def round_trip(vae: AutoencoderTiny, images: Tensor) -> Tensor:
    """Byte images through encoder and decoder, as bytes."""
    out = []
    for part in images.split(64):
        decoded = vae.decode(vae.encode(to_model(part).to(vae.dtype)).latents).sample
        out.append(((decoded.float() + 1) * 127.5).round().clamp(0, 255).byte())
    return torch.cat(out)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of byte images in dB, one an image."""
    error = (a.float() - b.float()).pow(2).flatten(1).mean(1).clamp(min=1e-6)
    return 10 * torch.log10(255**2 / error)
