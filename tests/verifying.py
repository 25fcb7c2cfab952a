"""A verifier for any small random pipeline: how much more red than blue its pictures are,
in hundredths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from adhere.verifiers import register


def redness(pictures: Sequence[Image.Image], prompts: Sequence[str]) -> list[float]:
    levels = [np.asarray(one.convert("RGB"), dtype=np.float64) / 255 for one in pictures]
    return [100 * float(one[..., 0].mean() - one[..., 2].mean()) for one in levels]


register("redness", redness)

NEEDED: dict[str, Any] = {
    "edits": ("a cat > a green cat",),
    "texts": ("a cat > a green cat",),
    "verifier": "redness",
    "least": 500.0,
}
"""Parameters that small random models, or prompts of tests, must be given."""
