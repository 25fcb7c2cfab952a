"""Choosing among the pictures of one prompt while they are made: what is seen, what is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from adhere.errors import ParameterError


@runtime_checkable
class Candidates(Protocol):
    """The pictures of a run after a step, as a guide that chooses among them sees them."""

    def predicted(self) -> Float[Tensor, "batch channels h w"]:
        """The latents of the pictures that the step's predictions stand for."""

    def pictures(self) -> list[Image.Image]:
        """Those latents, decoded; early in a run they are blurs."""


@dataclass(frozen=True)
class Selection:
    """How the images of a run go on after a step.

    Attributes:
        parents: image k goes on from the picture that image `parents[k]` was; its own number for
            one that goes on as it is. A parent is of the same prompt.
        fresh: for each image the share of its noise's standard deviation that is drawn anew, from
            0 to 1, about the picture predicted: copies part again where a sampler draws no noise.
        again: images that begin again from other starting noise, brought to this step in a few
            long strides; costs two passes a stride.
    """

    parents: tuple[int, ...]
    fresh: tuple[float, ...] = ()
    again: tuple[int, ...] = ()

    def check(self, groups: Sequence[Sequence[int]]) -> None:
        """Refuse what cannot be done.

        Args:
            groups: which images are of one prompt.

        Raises:
            ParameterError: it is not about each image, or would mix prompts.
        """
        group = {image: number for number, images in enumerate(groups) for image in images}
        if len(self.parents) != len(group) or len(self.fresh) not in (0, len(group)):
            raise ParameterError(
                f"a selection of {len(self.parents)} parents and {len(self.fresh)} shares of fresh "
                f"noise for {len(group)} images; give one for each image"
            )
        for image, parent in enumerate(self.parents):
            if group.get(parent) != group[image]:
                raise ParameterError(
                    f"image {image} cannot go on from image {parent}, which is of another prompt"
                )
