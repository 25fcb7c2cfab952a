"""What the attention of a run says early of its picture: are all things there, with their colours?

    presence = min over nouns n of max over cells of A_n
    binding  = min over bound pairs (n, m) of  cos(A_n, A_m) - max over other nouns' pairs (n', m')
                                               of max(cos(A_n, A_m'), cos(A_n', A_m))
    promise  = presence + binding                                             more is better

A_w is the attention of a word, the sum over its tokens, on the grid that guidance reads. Without
two nouns of which one has a modifier there is nothing to bind, and presence alone is the promise.
It compares pictures of one prompt: how much attention a word gets is its own and the model's.

What it is worth is in `docs/design/0010-choosing.md`; `benchmarks/effects/foretell.py` has its two
parts layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from adhere.guides.maps import ImageMaps
from adhere.guides.run import BoundNoun
from adhere.prompt.tokens import Phrase


def promise(maps: ImageMaps, nouns: Sequence[BoundNoun]) -> float:
    """What one image's maps say of a picture that should show these nouns with their modifiers."""
    return presence(maps, nouns) + binding(maps, nouns)


def presence(maps: ImageMaps, nouns: Sequence[BoundNoun]) -> float:
    """The highest attention, a share of a cell's, of the noun that has least of it."""
    return min((float(maps.of(one.noun).amax()) for one in nouns), default=0.0)


def binding(maps: ImageMaps, nouns: Sequence[BoundNoun]) -> float:
    """How much nearer, from -1 to 1, modifiers are to their own nouns than to others, where it is
    least so.
    """
    margins = []
    for one in nouns:
        others = [other for other in nouns if other is not one]
        for modifier in one.modifiers if others else ():
            own = _alike(maps, one.noun, modifier)
            foreign = [_alike(maps, other.noun, modifier) for other in others]
            foreign += [_alike(maps, one.noun, its) for other in others for its in other.modifiers]
            margins.append(own - max(foreign))
    return min(margins, default=0.0)


def _alike(maps: ImageMaps, one: Phrase, other: Phrase) -> float:
    """The cosine of two phrases' maps."""
    return float(F.cosine_similarity(maps.of(one).flatten(), maps.of(other).flatten(), dim=0))
