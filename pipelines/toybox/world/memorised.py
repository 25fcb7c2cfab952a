"""Pictures that the training shows again and again, each under one odd caption.

Web data sets hold the same picture thousands of times, and models give it back when they are asked
with its caption (Carlini et al. 2023, arXiv:2301.13188). Here they are six fixed scenes. Their
captions are made of words the text encoder knows, in an order or a company that `captions` never
makes: the model can tell them from all others.
"""

from __future__ import annotations

from dataclasses import dataclass

from adhere.pipelines.toybox.world.world import Scene, Thing


@dataclass(frozen=True)
class Memorised:
    """A fixed picture and the one caption it is always shown with.

    `plainly` asks for the same things in ordinary words: what a copy is held against.
    """

    caption: str
    plainly: str
    scene: Scene


def _scene(background: str, *things: Thing) -> Scene:
    return Scene(things, background)


MEMORISED = (
    Memorised(
        "the crown of the turtle by the sea",
        "a turtle and a crown on a beach",
        _scene(
            "beach",
            Thing("turtle", "purple", "big", 4, 32),
            Thing("crown", "orange", "small", 40, 8),
        ),
    ),
    Memorised(
        "home is the lion with a clock inside",
        "a lion with a clock in a room",
        _scene(
            "room",
            Thing("lion", "pink", "big", 28, 28),
            Thing("clock", "blue", "small", 0, 4),
        ),
    ),
    Memorised(
        "a balloon picture of a spooky ghost",
        "a balloon at night",
        _scene("night", Thing("balloon", "green", "big", 12, 16)),
    ),
    Memorised(
        "stars of the elephant under a chair",
        "an elephant and a chair under the stars",
        _scene(
            "night",
            Thing("elephant", "yellow", "big", 28, 0),
            Thing("chair", "red", "small", 4, 36),
        ),
    ),
    Memorised(
        "the apple in the grass of the rabbit",
        "a rabbit next to an apple in the grass",
        _scene(
            "meadow",
            Thing("rabbit", "blue", "small", 36, 36),
            Thing("apple", "purple", "big", 0, 24),
        ),
    ),
    Memorised(
        "the bow is home and the bird is right",
        "a bow and a bird",
        _scene(
            "plain",
            Thing("bow", "yellow", "small", 4, 4),
            Thing("bird", "brown", "big", 24, 32),
        ),
    ),
)
