"""The Inception network of Fréchet and kernel distances (Heusel et al. 2017), 2048 features.

Either torch-fidelity's (which brings or fetches its weights), or this one with a weights file: the
state of `pt_inception-2015-12-05` as safetensors, or as `.pth` read without unpickling code. It is
torchvision's Inception-v3 with the changes of the TensorFlow graph that published figures rest on:
average pooling that does not count the padding (A, C and E1), maximum pooling in the last
block (E2), and pictures resized by plain bilinear interpolation to 299 x 299 and scaled to (-1, 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from adhere.errors import ExtraMissing, ModelError
from adhere.eval.evaluators import backends
from adhere.eval.evaluators.backends import Extract

SIDE = 299
_CLASSES = 1008
Pair = tuple[int, int]


def load(weights: str | None, device: str) -> Extract:
    """Inception features by a weights file, or by torch-fidelity without one."""
    if weights is None:
        return _torch_fidelity(device)
    network = Inception()
    state = _state(Path(weights))
    wanted = network.state_dict()
    _check_whole(weights, wanted, state)
    network.load_state_dict({name: state[name] for name in wanted if name in state}, strict=False)
    backends.check_finite(network.state_dict(), weights)
    network.eval().requires_grad_(False).to(device)

    @torch.inference_mode()
    def extract(images: Sequence[Image.Image]) -> Tensor:
        # Of any sizes: each is resized alone, then they go through together.
        pixels = torch.cat([resized(image) for image in images])
        found: Tensor = network(pixels.to(device))
        return found.cpu()

    return extract


def _check_whole(weights: str, wanted: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    what = "it is not the state of pt_inception-2015-12-05"
    missing = [name for name in wanted if name not in state and "num_batches" not in name]
    if missing:
        raise ModelError(f"{weights} has no {missing[0]!r}: {what}")
    # The published state ends in a classifier of 1008 classes; torchvision's, whose names are
    # otherwise the same, in one of 1000 and a second one at its side.
    unknown = [name for name in state if name not in wanted and not name.startswith("fc.")]
    if unknown:
        raise ModelError(f"{weights} has a {unknown[0]!r}: {what}")
    classes = len(state["fc.weight"]) if "fc.weight" in state else _CLASSES
    if classes != _CLASSES:
        raise ModelError(f"{weights} has {classes} classes, not {_CLASSES}: {what}")


def _state(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found: dict[str, Tensor] = load_file(path)
            return found
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:
        raise ModelError(f"cannot read Inception's weights {path}: {error}") from error


def _torch_fidelity(device: str) -> Extract:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ExtraMissing(
            "Inception without a weights file (inception:FILE) needs torch-fidelity, which", "eval"
        ) from error
    network: Any = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval().to(device)

    @torch.inference_mode()
    def extract(images: Sequence[Image.Image]) -> Tensor:
        found = [network(_bytes(image).to(device))[0] for image in images]
        return torch.cat(found).float().cpu()

    return extract


def _bytes(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None]


def resized(image: Image.Image) -> Float[Tensor, "1 3 299 299"]:
    """A picture as the graph takes it: TensorFlow 1's bilinear resize, then (x - 128) / 128."""
    pixels = _bytes(image).float()
    height, width = pixels.shape[-2:]
    # TensorFlow 1 maps output pixel i to input i * scale, with neither centres nor antialiasing.
    rows, down = _places(height)
    columns, right = _places(width)
    top = pixels[:, :, rows] + (pixels[:, :, (rows + 1).clamp_max(height - 1)] - pixels[
        :, :, rows
    ]) * down[None, None, :, None]  # fmt: skip
    left = top[..., columns]
    made = left + (top[..., (columns + 1).clamp_max(width - 1)] - left) * right
    return (made - 128) / 128


def _places(size: int) -> tuple[Tensor, Tensor]:
    exact = torch.arange(SIDE, dtype=torch.float32) * (size / SIDE)
    whole = exact.floor().long()
    return whole, exact - whole


def average(x: Tensor) -> Tensor:
    """3x3 average pooling that leaves the padding out."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class Conv(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(
        self, ins: int, outs: int, size: int | Pair, stride: int = 1, pad: int | Pair = 0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(ins, outs, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class BlockA(nn.Module):
    """35 x 35 cells."""

    def __init__(self, ins: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(ins, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = Conv(ins, 48, 1), Conv(48, 64, 5, pad=2)
        self.branch3x3dbl_1 = Conv(ins, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = Conv(64, 96, 3, pad=1), Conv(96, 96, 3, pad=1)
        self.branch_pool = Conv(ins, pool, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(average(x))], 1)


class BlockB(nn.Module):
    """From 35 x 35 to 17 x 17."""

    def __init__(self, ins: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(ins, 384, 3, 2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(ins, 64, 1), Conv(64, 96, 3, pad=1)
        self.branch3x3dbl_3 = Conv(96, 96, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class BlockC(nn.Module):
    """17 x 17 cells, convolutions of seven by one."""

    def __init__(self, c: int) -> None:
        super().__init__()
        wide: tuple[Pair, Pair] = ((1, 7), (0, 3))
        high: tuple[Pair, Pair] = ((7, 1), (3, 0))
        self.branch1x1 = Conv(768, 192, 1)
        self.branch7x7_1 = Conv(768, c, 1)
        self.branch7x7_2 = Conv(c, c, wide[0], pad=wide[1])
        self.branch7x7_3 = Conv(c, 192, high[0], pad=high[1])
        self.branch7x7dbl_1 = Conv(768, c, 1)
        self.branch7x7dbl_2 = Conv(c, c, high[0], pad=high[1])
        self.branch7x7dbl_3 = Conv(c, c, wide[0], pad=wide[1])
        self.branch7x7dbl_4 = Conv(c, c, high[0], pad=high[1])
        self.branch7x7dbl_5 = Conv(c, 192, wide[0], pad=wide[1])
        self.branch_pool = Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), seven, twice, self.branch_pool(average(x))], 1)


class BlockD(nn.Module):
    """From 17 x 17 to 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = Conv(768, 192, 1), Conv(192, 320, 3, 2)
        self.branch7x7x3_1 = Conv(768, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, (1, 7), pad=(0, 3))
        self.branch7x7x3_3 = Conv(192, 192, (7, 1), pad=(3, 0))
        self.branch7x7x3_4 = Conv(192, 192, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x)))
        return torch.cat([three, self.branch7x7x3_4(seven), F.max_pool2d(x, 3, 2)], 1)


class BlockE(nn.Module):
    """8 x 8 cells; the last of the two pools by maximum, a slip that all figures rest on."""

    def __init__(self, ins: int, maximum: bool) -> None:
        super().__init__()
        self.maximum = maximum
        self.branch1x1, self.branch3x3_1 = Conv(ins, 320, 1), Conv(ins, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3_2b = Conv(384, 384, (3, 1), pad=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = Conv(ins, 448, 1), Conv(448, 384, 3, pad=1)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3), pad=(0, 1))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1), pad=(1, 0))
        self.branch_pool = Conv(ins, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_1(x)
        twice = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.maximum else average(x)
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(twice), self.branch3x3dbl_3b(twice)]
        return torch.cat([*parts, self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    """Pictures in (-1, 1), 299 x 299, to 2048 features; names as in torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3, self.Conv2d_2a_3x3 = Conv(3, 32, 3, 2), Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3, pad=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = Conv(64, 80, 1), Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c = BlockA(192, 32), BlockA(256, 64)
        self.Mixed_5d, self.Mixed_6a = BlockA(288, 64), BlockB(288)
        self.Mixed_6b, self.Mixed_6c = BlockC(128), BlockC(160)
        self.Mixed_6d, self.Mixed_6e = BlockC(160), BlockC(192)
        self.Mixed_7a, self.Mixed_7b = BlockD(), BlockE(1280, maximum=False)
        self.Mixed_7c = BlockE(2048, maximum=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))
