"""The words that say places in prompts: patterns of what stands before a thing and behind it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from adhere.layout.scene import TURNED, Way
from adhere.prompt.lexicon import MEASURES, NUMBERS

RELATIONS: tuple[tuple[str, Way], ...] = (
    (r"(?:(?:to|on|at|in) the )?(?:immediate |far )?left(?:[- ]hand)?(?: side)? of", "left"),
    (r"(?:(?:to|on|at|in) the )?(?:immediate |far )?right(?:[- ]hand)?(?: side)? of", "right"),
    (r"on (?:either|each|both|opposite) sides? of", "flanks"),
    (r"on (?:the )?side of", "beside"),
    (r"(?:sitting |standing |lying )?(?:above|over|upon|on (?:the )?top of|atop)", "above"),
    (r"(?:sitting |standing |lying )?on(?: the back of)?", "above"),
    (r"(?:below|under|underneath|beneath|on the bottom of)", "below"),
    (r"(?:(?:right|directly|just|immediately) )?in front of", "front"),
    (r"(?:(?:right|directly|just|immediately) )?(?:behind|in back of)", "behind"),
    (r"(?:hidden|obscured|occluded) by", "behind"),
    (r"(?:inside(?: of)?|within)", "inside"),
    (r"(?:containing|that contains)", "around"),
    (r"(?:in )?between", "between"),
    (r"flanked by", "between"),
    (r"(?:(?:surrounded|encircled|enclosed|ringed) by|among(?:st)?|amid(?:st)?)", "amid"),
    (r"(?:surrounding|encircling|enclosing|flanking)", "about"),
    # "A dog running around a tree" is not on all sides of it.
    (r"(?:(?<!ing )|(?:sitting|seated|standing|lying|gathering|growing) )(?:all )?around", "about"),
    (r"(?:next to|beside|near|by|alongside|close to|side by side with)", "beside"),
)
SIDES = tuple((pattern, way) for pattern, way in RELATIONS if way in TURNED)
ENDING = tuple(
    (re.compile(rf"(?:^|[\s,;:(\"\u2013\u2014]){pattern}$"), way) for pattern, way in RELATIONS
)
"""The relations, at the end of what stands before a thing."""
_NUMBER = rf"(?:{'|'.join(sorted(NUMBERS))})"
_DETERMINER = (
    r"(?:an?|the|these|those|my|your|our|some|each|every|both|several|many|few|all|various|"
    r"multiple|numerous|most|more|other|same|half|[1-9]\d*|"
    rf"{_NUMBER}(?:-{_NUMBER})?)"
)
_MEASURE = rf"(?:{'|'.join(sorted(MEASURES))})"
QUANTITY = re.compile(
    rf"(?<![\w-])(?:{_DETERMINER}\s+(?:(?:[\w-]+\s+)?{_MEASURE}\s+of\s+|of\s+)?"
    rf"|{_MEASURE}\s+of\s+)+$",
    re.IGNORECASE,
)
"""How many of a thing there are, before it: "a", "two", "a large group of", "most of the"."""
RESUMED = re.compile(r"^,?\s*(?:is|are|sits?|stands?|lies|lie)\b", re.IGNORECASE)
"""Behind the second thing of a relation, what is said of the first: "a cat on a mat is left of"."""
NOT = re.compile(r"(?:\bnot|n't|\bnever)(?: directly| exactly)?$")
AGAIN = re.compile(
    r"\b(?:and|but)(?: also)?(?: it| they)?(?: is| are| sits?| stands?| lies?)?(?: also)?$"
)
"""Before a relation whose first thing is not named again: "a cat left of a dog and below it"."""
STANDS = r"(?:(?:there )?(?:is|are|sits?|stands?|lies?|lie) )?"
IT = r"(?:it|him|her|them)\b"
ITS = r"(?:to|on|at) (?:its|his|her|their) "
NO_OTHER = r"(?![\s,]*(?:there )?(?:is|are|sits?|stands?|lies?)\b)"
"""Not before another thing that is there: "a cat, to the left of it is a dog"."""
_ALONE = r"(?=$|\s*[,;.)]|\s+and\b)"
_BEHIND = rf"^\s(?:that |which )?{STANDS}"
_AHEAD = rf",? {STANDS}(?:(?:an?|the|[\w-]+) )?$"
ITS_SIDE = re.compile(rf"{_BEHIND}{ITS}(left|right)\b{NO_OTHER}", re.IGNORECASE)
ITS_PLACE = tuple(
    (re.compile(rf"{_BEHIND}{pattern}{NO_OTHER}", re.IGNORECASE), way)
    for pattern, way in (
        *((rf"{words} {IT}", way) for words, way in SIDES),
        (rf"in front{_ALONE}", "front"),
        (rf"behind{_ALONE}", "behind"),
    )
)
ITS_SIDE_AHEAD = re.compile(rf"\b{ITS}(left|right)\b{_AHEAD}", re.IGNORECASE)
ITS_PLACE_AHEAD = tuple(
    (re.compile(rf"\b{pattern} (?:{IT}|which\b|whom\b){_AHEAD}", re.IGNORECASE), way)
    for pattern, way in SIDES
)
PLACES: tuple[tuple[str, str], ...] = (
    ("left", "x0"), ("right", "x1"), ("top", "y0"), ("upper", "y0"), ("bottom", "y1"),
    ("lower", "y1"), ("middle", "c"), ("centre", "c"), ("center", "c"), ("background", "back"),
    ("distance", "back"), ("back", "back"), ("foreground", "fore"), ("front", "fore"),
)  # fmt: skip
PICTURE = r"(?:picture|image|photo|photograph|frame|canvas|scene|screen)"
SPOT = (
    r"(?:on|at|in|to) (?:the )?(?:(?:very|far|extreme|distant|immediate) )*"
    r"((?:(?:top|upper|bottom|lower|left|right|middle|cent(?:re|er))\b[\s-]*)+"
    r"|(?<=the )(?:front|back)\b|background\b|foreground\b|distance\b)"
    rf"(?:hand side|side|corner|half|edge|part|third|row)?(?:\s?\bof (?:the|this) {PICTURE}\b)?"
)
GROUND = (
    r"in the (?:(?:very|far|extreme|distant|immediate) )*(background|foreground|distance)\b"
    rf"(?:\s?\bof (?:the|this) {PICTURE}\b|(?!\s+of\b))"
)
PLACE = re.compile(
    rf"^[\s,(]*(?:(?:is|are|sits?|stands?|lies|lie|hangs?) )?"
    rf"(?:(?:sitting|standing|lying|hanging|placed) )?{SPOT}"
    rf"(?![\w\s-]*\bof\b(?! (?:the|this) {PICTURE}\b))"
    rf"|^[\s,(]*(?:\w+ing )?{GROUND}"
    r"|^\s*\((left|right|top|bottom|middle|cent(?:re|er))\)"
    r"|^\s(left|right)(?=\s*(?:$|[,;.)]|\band\b))",
    re.IGNORECASE,
)
PLACE_AHEAD = re.compile(
    rf"(?:[;.:]\s*{SPOT},?|(?:,|\band)\s*{SPOT}"
    r"|[;.,]\s*((?:(?:top|bottom|left|right|middle|cent(?:re|er))\b[\s-]*)+)(?:side|corner)?:)"
    r"\s*(?:there(?: is| are|['\u2019]s) |sits |stands |is |are )?(?:an? |the |[\w-]+ )?$",
    re.IGNORECASE,
)
"""A place in front of its thing: "on the left a cat, on the right a dog"."""
POSITIONS = frozenset({"left", "right", "top", "bottom", "corner", "side", "middle", "center",
                        "centre", "half", "upper", "lower", "hand", "immediate", "edge",
                        "part", "far", "extreme"})  # fmt: skip
PARTS = frozenset({"third", "row", "either", "each", "both"})
"""Of a place where one of the words above stands with them; "a row of trees" is a thing."""
WHERE = re.compile(r"\b(?:in|on|at|inside|within|from|against) (?:an? |the )?$", re.IGNORECASE)
OF_THE_PICTURE = re.compile(
    r"\b(?:left|right|top|bottom|upper|lower|middle|cent(?:re|er)|side|half|corner|edge|part"
    r"|background|foreground)"
    r" of (?:the|this) $",
    re.IGNORECASE,
)
HELD = re.compile(
    r"(?:\b(?:in|(?<!\bside )(?<!\balong )(?<!\btogether )with|(?<!\bfront )of"
    r"|wearing|holding|carrying|having|has|have) "
    r"(?:an? |the |its |his |her |their )?|['\u2019]s "
    r"|\b(?:(?:on|around) (?:its|his|her|their)|whose) )$",
    re.IGNORECASE,
)
"""Before what belongs to the thing before it ("a cat in a hat") and so has no place of its own."""
ANY = r"(?:(?:an?|any|no|the) )?"
UNWANTED = re.compile(
    r"(?:(?<!\ba )(?<!\bthe )\b(?:no|without|not(?= an? | any )|lacking|minus|excluding"
    rf"|instead of|rather than) {ANY}(?:[\w-]+ (?:[\w-]+ )?n?or {ANY})*|(?<![\w.,-])0 )$",
    re.IGNORECASE,
)
"""Before what is not to be there."""
ZERO = re.compile(r"zero (?!gravity\b|degrees?\b|waste\b|[\w-]*point)", re.IGNORECASE)
THEM = re.compile(
    r"^\s(?:(?:that|which) (?:is|are) |is |are )?(?:\w+ing )?(?:in )?between"
    r"(?: (?:them|both|the two)\b|(?=$|[,;.]|\s+(?:and|is|are)\b))",
    re.IGNORECASE,
)
"""Behind what is between the two things before: "a cat and a dog with a bird between them"."""
WITH_PLACE = re.compile(
    r"^\s(?:(?:that|which) )?(?:is |are |\w+ing )?(?:(?:right |directly )?(?:behind|beside|near|by|"
    rf"next to|around|in front of|close to|between) {IT}|on (?:either|each) side\b"
    rf"|(?:behind|in front){_ALONE}"
    r"|in the (?:(?:far|distant) )?(?:background|foreground|distance)\b)",
    re.IGNORECASE,
)
"""Behind what has a place of its own though "with" is before it: "a cat with a dog behind it"."""
FLANKING = re.compile(
    r"^\s(?:(?:that|which) (?:is|are) |\w+ing )?on (?:either|each|both) sides?\b(?! of\b)",
    re.IGNORECASE,
)
"""Behind what is on both sides of the thing before: "a tree with a cat on either side"."""
OWNED = re.compile(
    r"^['\u2019]s? (left|right)(?:[- ]hand)?(?: side)?\b(?=$|[,;.)]|\s+(?:and|is|are|with)\b)",
    re.IGNORECASE,
)
"""Behind a thing whose left is meant: "a cat on the dog's left"."""
OPENED = re.compile(
    r"^,?\s*((?:there\s+)?(?:is|are|sits?|stands?|lies?|hangs?)\b|there['\u2019]s\b)"
    r"|^,\s*(?:an?|the|another|two|three|\d+) ",
    re.IGNORECASE,
)
"""Behind a place that a sentence opens with: "To the left of the cat is a dog"."""
NEXT = re.compile(r"^\s(?:an?|another|two|three|\d+) ", re.IGNORECASE)
"""Behind a place, its thing: "on top of the table a cat, under the table a dog"."""
THERE_IS = re.compile(
    r"^,?\s(?:there )?(?:is|are|sits?|stands?|lies|lie) (?:an?|the|another|two|three|\d+) ",
    re.IGNORECASE,
)
"""Behind a place that "and" stands before: "... and left of the cat is a dog"."""
SIDED = (
    (("left", "leftmost"), ("right", "rightmost")),
    (("top", "upper", "topmost", "uppermost"), ("bottom", "lower", "bottommost", "lowermost")),
)
"""Adjectives of which two things have both: "the top shelf and the bottom shelf"."""
FRAME = (
    r"(?:photo|photograph|picture|image|drawing|painting|sketch|illustration|portrait|snapshot|"
    r"render|close-?up) of\b"
)
FRAMED = re.compile(rf"\b(?:an?|the|another)\s+(?:[\w-]+\s+)?{FRAME}", re.IGNORECASE)
JOINED = re.compile(r"^(,?) ?(and )?(?:(?:an?|the|another|[\w-]+) )?$", re.IGNORECASE)
"""Between things that stand in one row of words: "a cat, a dog and two birds"."""
ORDER = re.compile(
    r"(?:^|[,;:(.]\s*|(?<!ing)\s)from (left to right|right to left|top to bottom|bottom to top"
    r"|front to back|back to front)"
    r"(?:$|[\s,]*[,;:).])",
    re.IGNORECASE,
)
"""In which order things stand that are named."""
ORDERED: dict[str, Way] = {
    "left": "left", "right": "right", "top": "above", "bottom": "below", "front": "front",
    "back": "behind",
}  # fmt: skip
DEEP = re.compile(
    r"\b(?:in front of|in back of|behind|(?:hidden|obscured|occluded) by|in front"
    r"|in the (?:(?:very|far|extreme|distant|immediate) )?"
    r"(?:background|foreground|distance|front|back))\b",
    re.IGNORECASE,
)
"""Words of depth, which are said where other words contradict them."""
UPRIGHT = re.compile(
    r"\b(?:above|on top of|over|atop|upon|below|under|underneath|beneath) "
    r"(?:each other|one another|the other)\b|\bin a (?:vertical )?column\b"
    r"|\bin a vertical (?:line|row)\b|\b(?:arranged|stacked|aligned|lined up) vertically\b"
    r"|\bvertically (?:arranged|stacked|aligned)\b",
    re.IGNORECASE,
)
"""What has things in a row of words stand over one another, the first on top."""
SCENERY = frozenset({"background", "foreground", "beach", "meadow", "sky", "field", "forest",
                      "street", "room", "snow", "grass", "desert", "night", "day", "sunset",
                      "kitchen", "garden", "park", "city", "house", "scene", "wall",
                      "ceiling"})  # fmt: skip
"""Where a scene plays: behind "in", "on" and "at" they are no thing with a place."""
STAGES = (SCENERY - {"house", "snow", "grass", "wall"}) | frozenset(
    {"place", "landscape", "world", "room", "sea", "bathroom", "bedroom", "office", "restaurant",
     "market", "village", "town", "jungle", "valley"}
)  # fmt: skip
"""Where a scene plays that begins with it: "a meadow with a cat left of a dog"."""
STAGED = re.compile(
    r"^\s(?:(?:that|which) )?(?:with|where|has|containing|contains|full of|filled with)\b",
    re.IGNORECASE,
)
"""Behind a scene, before what is in it."""
BACKDROPS = frozenset({"sea", "ocean", "lake", "river", "water", "seaside", "stars", "sky"})
BACKDROP = re.compile(r"\b(?:by|under|beneath|below) the $", re.IGNORECASE)
"""Before one of these it says where a scene plays: "by the sea", "under the stars"."""
VIEW = re.compile(r"\bin front of (?:\S+ )?$", re.IGNORECASE)
"""Before a wall or the sea, and the camera, it says nothing of one thing and another."""
VIEWERS = frozenset({"camera", "viewer", "lens", "photographer"})
PART_OF = re.compile(r"^\s(?:full )?of (?:an? |the )?$", re.IGNORECASE)
"""Between a thing and what it is of, whatever is said behind: "a glass of water to its right"."""
BODY = frozenset({"ear", "ears", "eye", "eyes", "head", "heads", "tail", "face", "hand", "hands",
                  "paw", "paws", "nose", "back", "leg", "legs", "arm", "arms", "hair", "mouth",
                  "wing", "wings", "foot", "feet", "fur", "neck", "shoulder", "shoulders", "lap",
                  "chest", "beard", "mane", "horn", "horns", "beak", "body", "skin",
                  "cheek"})  # fmt: skip
"""What goes with its owner in "the cat's tail"; of "the cat's bowl" the bowl has the place."""
MOST = 20
"""More things than that are a crowd, which has one place."""
COUNTED = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
COUNTS = {word: count for count, word in enumerate(COUNTED, 2)}
COUNTS |= {str(count): count for count in COUNTS.values()}
TENS = frozenset({"twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"})
COUNTS |= {"both": 2, "couple": 2, "pair": 2, "duo": 2, "trio": 3, "quartet": 4, "dozen": 12}
TWINS = frozenset({"glasses", "sunglasses", "jeans", "pants", "trousers", "shorts", "scissors",
                   "pliers", "tweezers", "headphones", "binoculars"})  # fmt: skip
"""Of which a pair is one thing."""

# ---- Words that change no layout, so that they can be said and are not passed over ---------------

_NEVER = re.compile(
    r"\b(?:opposite|facing|against|alongside of|across(?: from)?|outside|past|through|beyond"
    r"|diagonal(?:ly)?|in an? (?:circle|ring|triangle|semicircle|pyramid|diagonal)"
    r"|(?:north|south|east|west)(?:-?(?:east|west))? of|(?:higher|lower|further|closer) than"
    r"|(?:one|the other) side of"
    r"|(?:at|on|in|by|near) the (?:foot|edge|edges|end|rear|base) of|(?:at|in) the back of)\b",
    re.IGNORECASE,
)
"""Places that no rule reads."""
_SIDE = r"(?:left|right|top|bottom|upper|lower|middle|cent(?:re|er))"
_UNREAD = re.compile(
    r"(?:\b(?:on|at|in|to|from|near) (?:the |its |his |her |their )?)?"
    rf"\b(?:{_SIDE}|corners?|above|below|beneath|under|underneath|over|between"
    r"|(?:either|each|both) sides?|(?:sides?|back)(?= of\b)|behind|in front|(?:all )?around"
    r"|(?<=in the )(?:far |distant )?(?:background|foreground|distance|front|back)"
    r"|(?:hidden|obscured|occluded) by)\b"
    rf"(?:[\s-]+(?:{_SIDE}|hand|side|half|corners?|edge))*(?: of\b)?",
    re.IGNORECASE,
)
"""Words of places, where nothing was read from what they stand in."""
_ONE_EACH = re.compile(
    r"\bone (?:is )?on the left(?: side)?(?:,| and|, and) (?:one|another|the other) (?:is )?on the "
    r"right\b",
    re.IGNORECASE,
)
"""What two of a kind, and two in a row of words, stand like anyway."""
_QUOTED = re.compile('"[^"]*"|\u201c[^\u201d]*\u201d')
_WRITING = re.compile(
    r"\b(?:say(?:s|ing)?|read(?:s|ing)?|words?|text|letters|letter(?:ing)?|written|writ(?:es|ing)|"
    r"titled?|caption(?:ed)?|labell?ed|label|called|named|spell(?:s|ing)|sign|signs|logo|slogan|"
    r"phrase|inscription|inscribed|message|with|that)[\s:,]*$",
    re.IGNORECASE,
)
"""Before writing in the picture. Elsewhere, what is in quotation marks may be meant as things."""
_LONGEST = 40
"""Characters that words before writing have at the most."""


def unread(text: str, gaps: Sequence[str]) -> tuple[str, ...]:
    """The words of places in a prompt that change nothing, as they stand, each once.

    Args:
        text: the prompt without markup.
        gaps: what stands between its things where nothing was read from it.
    """
    quoted = [found for found in _QUOTED.finditer(text) if not _writing(text, found)]
    bare = _QUOTED.sub(" ", text)
    found = [one[0] for one in _NEVER.finditer(bare)]
    for gap in gaps:
        rest = _NEVER.sub(" ", _ONE_EACH.sub(" ", _QUOTED.sub(" ", gap)))
        found += [one[0] for one in _UNREAD.finditer(rest)]
    words = [" ".join(one.split()) for one in (*found, *(one[0] for one in quoted))]
    return tuple(dict.fromkeys(words))


def of_a_place(between: str) -> bool:
    """Whether what stands before a thing ends with words of a place that it is the holder of, and
    which no rule reads: "north of a", "at the foot of the".
    """
    bare = re.sub(r"\s(?:an?|the|its|his|her|their) $", "", between)
    words = (one for pattern in (_NEVER, _UNREAD) for one in pattern.finditer(bare))
    return bare.endswith(" of") and any(one.end() == len(bare) for one in words)


def _writing(text: str, found: re.Match[str]) -> bool:
    """Whether quotation marks hold what is written in the picture."""
    before = text[max(0, found.start() - _LONGEST) : found.start()]
    return bool(_WRITING.search(before)) or not re.search(r"\w", found[0])
