"""Word lists of the built-in prompt parser: the English that prompts are written in.

The lists are closed for grammar (determiners, prepositions) and open for the rest: a word that is
in no list is a noun unless its ending says otherwise (`adhere.prompt.chunker`). So a list need not
be complete; it holds what the endings get wrong. An *either* word is a modifier before a noun and a
noun otherwise: "an orange cat", "an orange".
"""

from __future__ import annotations

from functools import lru_cache

__all__ = ["MULTIWORD", "WORDS", "kind_of"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _phrases(lines: str) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple(phrase.split()) for phrase in lines.replace("\n", ",").split(",") if phrase.strip()
    )


DETERMINERS = _set("""
a an the this these those my your his her its their our some any each every another both several
many few no all various multiple numerous other own same such more most lots plenty
""")
NUMBERS = _set("""
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred
thousand dozen dozens hundreds thousands countless single
""")
PREPOSITIONS = _set("""
of in on at by with without within from into onto to toward towards over under above below beneath
underneath beside besides between among amongst amid amidst behind beyond near nearby around about
across along alongside through throughout against inside outside during before after for as like
upon atop past via down off out per despite versus vs opposite up aboard minus unlike until than
""")
CONJUNCTIONS = _set("and or & + plus but nor yet")
COPULAS_SINGULAR = _set("is was 's ’s looks seems appears remains becomes turns isn't wasn't")
COPULAS_PLURAL = _set("are were aren't weren't")
COPULAS_BARE = _set("be being been become look seem appear")
RELATIVES = _set("that which who whom")
PRONOUNS = _set("""
it he she they them him we us you i me himself herself itself themselves someone something
somebody anyone anything everyone everything nobody nothing others there here what it's he's she's
that's there's theirs hers
""")
AUXILIARIES = _set("""
has have had having do does did can could will would shall should may might must cannot isn't
doesn't
""")
DEGREES = _set("""
very quite extremely really rather so too slightly somewhat incredibly super fairly highly almost
completely totally ultra mostly entirely partially
""")
ADVERBS = _set("""
together away back apart also just only still again always never often sometimes then now while
when where if because though although however alike instead else even ahead forward backward
upright sideways not n't please let outdoors indoors outside inside everywhere somewhere halfway
today tonight yesterday well upside overhead
""")

COLOURS = _set("""
red blue green yellow purple pink brown black white gray grey beige cyan magenta maroon navy teal
crimson scarlet azure turquoise lavender indigo blonde blond brunette multicolored multicoloured
multicolor colorful colourful colored coloured golden silvery reddish bluish greenish yellowish
pinkish brownish purplish grayish greyish pale bright dark vivid pastel ginger tan khaki fuchsia
mauve auburn colorless
""")
SIZES = _set("""
small large big tiny huge little giant enormous massive gigantic miniature mini tall short long
thin thick wide narrow fat slim skinny oversized colossal medium medium-sized towering petite vast
""")
LOOKS = _set("""
spotted striped checkered checked plaid dotted patterned floral paisley tartan plain shiny glossy
matte sparkly glittery glittering shimmering metallic transparent translucent opaque clear cloudy
foggy misty rusty dusty muddy dirty clean wet dry damp soaked frozen icy snowy sandy rocky mossy
grassy leafy fluffy furry hairy fuzzy curly shaggy woolly bald feathered scaly horned winged spiky
spiny thorny bumpy smooth rough soft hard fresh ripe rotten raw juicy crispy creamy sticky slimy
greasy wrinkled round square triangular rectangular circular oval spherical cubic cylindrical
hexagonal octagonal pointed pointy sharp blunt flat curved crooked bent straight twisted hollow
empty full open closed shut wooden golden woolen woollen silken earthen knitted woven leathery old
new young ancient modern antique vintage retro classic rustic medieval futuristic elderly aged
newborn used worn torn broken cracked chipped shattered ruined abandoned damaged ragged tattered
""")
MOODS = _set("""
happy sad angry sleepy tired lazy scared brave proud shy curious calm friendly fierce wild tame
cute adorable lovely beautiful pretty handsome ugly elegant fancy cozy cosy spooky scary creepy
eerie haunted mysterious magical enchanted majestic royal noble evil mean kind gentle wise smart
funny silly goofy grumpy cheerful lonely quiet loud busy crowded bustling serene peaceful sunny
rainy stormy windy humid hot cold warm cool chilly sunlit moonlit starry glowing luminous radiant
floating flying sleeping smiling shining burning flaming steaming deep shallow high low heavy
strong weak fast slow lush barren dense sparse fertile rural urban tropical arctic alpine coastal
nocturnal real fake stuffed inflatable mechanical electric robotic cybernetic cyberpunk steampunk
gothic baroque victorian surreal abstract minimalist minimal ornate intricate detailed simple
delicate fragile sturdy solid liquid molten sliced chopped diced peeled baked fried grilled
roasted cooked boiled toasted frosted glazed skewered spicy sweet sour bitter salty delicious
tasty hungry thirsty healthy sick injured dead alive wealthy poor rich famous lone twin double
triple upper lower left right central main distant far nearby front rear inner outer bare nude
naked blind one-eyed lit unlit asleep awake afloat ablaze aflame alone feral exotic rare common
strange weird odd unusual normal typical perfect public private holy sacred american british
french german italian japanese chinese korean indian mexican russian spanish greek roman egyptian
african asian european arabian persian turkish dutch swedish norwegian viking celtic nordic
double-decker calico tortoiseshell siamese fiery feline canine male female adult teenage senior
rolling blooming blossoming sparkling wavy overgrown sunken hidden fallen stained polished painted
covered filled decorated embroidered carved engraved quilted pleated unique tender dramatic
cinematic realistic photorealistic ethereal whimsical hazy blurry faint rugged muscular chubby
plump stout lean slender fit athletic married messy tidy neat cluttered stacked parked folded
rolled crumpled wilted withered dried drooping unripe seedless pitted leafless bushy thatched
tiled cobbled paved winding rippling choppy loose tight bold faded dim brilliant dazzling
""")
ADJECTIVES = COLOURS | SIZES | LOOKS | MOODS

MATERIALS = _set("""
wood metal glass gold silver bronze copper steel iron stone brick marble leather silk velvet
cotton wool denim lace plastic rubber paper cardboard ceramic porcelain clay crystal diamond jade
ivory bamboo straw concrete tin chrome brass linen satin fur felt neon pearl ruby emerald sapphire
aluminum aluminium granite vinyl suede fleece tweed wicker terracotta origami lego platinum
titanium obsidian amber mahogany oak
""")
EITHER_COLOURS = _set("""
orange violet rose cream lime olive peach salmon coral mint mustard rust charcoal chestnut plum
lilac burgundy rainbow aqua
""")
EITHER = (
    MATERIALS
    | EITHER_COLOURS
    | _set("""
baby toy light cartoon tabby chubby plush dwarf native magic fantasy winter summer spring autumn
christmas halloween pirate evening morning camouflage flannel zebra-print human alien sports
matching square oval giant
""")
)

NOUNS = _set("""
cat dog bird bear lion horse elephant monkey frog turtle rabbit mouse cow sheep pig chicken duck
goat fox wolf tiger zebra giraffe penguin owl fish whale dolphin shark snake lizard spider bee
snail crab panda koala kitten puppy bunny pony donkey turkey parrot eagle dragon unicorn robot
astronaut knight man woman boy girl child person people kid lady baby chef king queen prince
princess wizard witch suitcase backpack glasses crown chair balloon bow car bowl bench clock apple
banana pear grape strawberry cherry lemon tomato carrot broccoli pizza cake donut sandwich bread
cheese egg cup mug plate fork knife spoon bottle vase book table desk bed couch sofa lamp door
window wall floor roof house castle tower tent bridge road street city town tree flower grass leaf
rose tulip forest meadow field hill mountain river lake sea ocean beach desert island sky moon sun
star cloud rain snow sand bus truck train boat ship plane airplane bicycle bike motorcycle
skateboard surfboard umbrella hat shirt dress coat jacket shoe boot sock scarf glove tie ball kite
guitar piano violin drum trumpet skull key mushroom cactus heart cube sphere sign camera laptop
phone computer keyboard remote building painting ring wing string ceiling evening morning clothing
wedding awning railing earring pudding duckling lighting crossing frosting icing stocking swing
spring sibling sling viking herring starling gosling parking thing nothing something everything
anything dumpling carving lightning ping drawing beijing sting sewing washing flooring covering
rigging pegging sapling inkling seedling seed shed weed sled reed thread steed speed feed breed
creed deed shred moped biped hundred moorhen shepherd locomotive animal crystal cathedral canal
medal pedal petal hospital mammal jackal mural festival carnival signal terminal portal journal
criminal seal meal coal goal cereal bagel gal pal rival arrival chemical official picnic music
fabric mosaic comic mechanic clinic traffic attic garlic relic critic beehive hive archive
detective dive vegetable cable stable fable timetable constable syllable collectible bible dish
radish starfish goldfish jellyfish swordfish catfish polish finish rubbish crayfish cuttlefish
handful mouthful spoonful teddy country candy berry body party tray toy day bay highway galaxy
library butterfly dragonfly firefly fly lily daisy peony poppy ivy pastry jewelry jewellery bakery
brewery gallery cemetery factory battery pottery lottery nursery grocery surgery machinery scenery
cutlery embroidery tapestry history story century laboratory observatory canary dictionary dairy
fairy ferry cranberry blueberry raspberry blackberry mulberry gooseberry monastery mystery
artillery archery stationery family enemy army academy mummy dummy tummy jelly belly valley alley
trolley balcony colony ceremony canopy copy guppy hippy husky whisky whiskey hockey jockey jersey
money honey chimney kidney attorney journey pulley barley parsley volley buggy piggy doggy kitty
kiddy daddy mommy granny nanny bully gully lobby hobby rugby derby sentry pantry entry gantry
cavalry artistry forestry infantry property university community facility celebrity deity entity
majesty beauty pharmacy policy currency agency emergency infancy melody comedy tragedy parody
custody study caddy paddy symphony trophy calligraphy photography geography philosophy economy
energy technology allergy strategy effigy clergy dynasty royalty safety fishery confectionery
essay ray spray railway runway subway driveway doorway hallway stairway gateway clay display bouy
buoy cowboy playboy convoy envoy decoy storey survey prey police lens gas glass cross class walrus
octopus virus campus platypus hippopotamus rhinoceros sandal capital sunset sunrise
""")

# Words that close a noun phrase in front of them. Third person and plain forms are made from these.
_VERBS_TRANSITIVE = _set("""
wear hold ride eat drink chase carry watch play read drive pull push throw catch hit kick juggle
cook cut slice make use sell feed guard face show feature contain surround overlook touch hug kiss
pet brush wash fight bite lick grab lift drag follow hunt cover fill decorate hang tie cross
approach enter leave climb build fix repair open close pour serve hide find lead attack protect
take give offer receive get put bring send draw write paint examine inspect admire point operate
pilot row sail steer tow explore visit frame light reflect depict include wield sniff smell hear
see share lean say spell train
""")
_VERBS_OTHER = _set("""
sit stand run walk lie lay sleep jump fly swim dance sing smile laugh cry talk speak wait work
live stay rest graze float hover soar glide drift grow bloom shine glow sparkle flow fall rise set
land perch crawl climb swing hop skip roam wander march travel move turn stop lean kneel crouch
squat pose stare gaze look peek peer stretch relax nap bark meow roar howl chirp splash dive surf
ski skate snowboard skateboard gather gallop trot grin wave rain snow burn melt erupt explode spin
roll bounce curl cuddle snuggle shop camp fish hike race sail cycle compete attend arrive come go
appear emerge stick sprout belong happen chat
""")
VERBS = _VERBS_TRANSITIVE | _VERBS_OTHER
PAST = _set("""
sat stood ran threw held rode wore ate flew fought lay laid slept swam sang drove caught took gave
got went came saw looked drank fell rose grew blew wrote drew spoke found left leapt hung
""")
# Past participles whose ending does not show it.
PARTICIPLES = _set("""
broken torn worn frozen fallen hidden driven woven built made lit held seen shown bound drawn
grown blown thrown sunken stolen swollen shaken written eaten chosen beaten bitten hung spread cut
split spilt burnt bent taken given kept
""")
# "is painted red", "a wall painted blue"
COLOURED = _set("painted colored coloured dyed tinted stained glazed lit")
CLAUSE_OPENERS = _set("where while when because although though if then")
TIMES = _set("day days night nights morning evening afternoon time weekend year season")
POSTPOSED = _set("asleep awake ablaze aflame afloat alone alive")


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeou":
        return verb[:-1] + "ies"
    return verb + "s"


def _gerund(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith("ee"):
        return verb[:-1] + "ing"
    if verb in {
        "sit",
        "run",
        "swim",
        "cut",
        "hit",
        "hug",
        "grab",
        "drag",
        "pet",
        "set",
        "put",
        "get",
        "hop",
        "skip",
    }:
        return verb + verb[-1] + "ing"
    return verb + "ing"


# "leaves", "lights" and the like are things far more often than deeds in prompts.
_THINGS = _set(
    "leaves lights fishes snows rains turns sets seats faces frames boxes points camps looks"
)
VERBS_S = frozenset(_third_person(verb) for verb in VERBS) - _THINGS
VERBS_BARE = VERBS - _set("""
play light set frame fish rain snow box paint camp face point ring row surf pet land cook lead
open close
""")
OBJECT_TAKERS = frozenset(_gerund(verb) for verb in _VERBS_TRANSITIVE)

PLURALS = _set("people men women children sheep geese mice feet teeth cattle deer police oxen fish")
MEASURES = _set("""
bunch pair group couple lot lots set stack stacks pile piles herd flock pack row rows piece pieces
slice slices handful number variety collection crowd bit kind type sort dozen dozens plenty team
series cluster array swarm heap heaps loaf scoop bunches pairs groups hundreds thousands rest
bundle touch hint abundance assortment duo trio quartet
""")

LEAD_INS = _set("""
photo photograph picture image painting drawing sketch illustration render rendering portrait
close-up closeup shot view depiction watercolor watercolour snapshot poster cartoon art artwork
scene print postcard selfie screenshot still macro engraving etching polaroid woodcut lithograph
linocut collage doodle caricature fresco daguerreotype snap footage clipart rendition
""")
LEAD_LINKS = _set("of showing featuring depicting with containing")
# With "with", only these are frames around a picture; "a painting with a frame" is a thing.
LEAD_WITH = _set("scene picture photo image photograph illustration")
STYLE_KEYS = _set("""
detailed details detail 4k 8k 16k hd uhd hdr artstation octane unreal render rendering rendered
masterpiece photorealistic realistic hyperrealistic photoreal bokeh lighting focus resolution
quality illustration painting drawing art photography photo photograph 35mm 50mm 85mm dslr film
cinematic cgi 3d vector watercolor watercolour sketch anime trending style aesthetic ultra
wallpaper deviantart pixiv raytracing ray-tracing composition symmetrical award-winning grain poly
low-poly impressionist impressionism surrealism ukiyo-e noir vaporwave claymation hyperdetailed
ultra-detailed f/1.8 highres hi-res
""")
STYLE_WORDS = STYLE_KEYS | _set("""
highly extremely very intricate best high soft natural studio dramatic volumetric warm golden hour
depth of field sharp vivid vibrant colors colours color light ambient on engine concept digital
oil ink pencil by and beautiful stunning elegant colorful professional smooth trending epic
background blurred blurry wide angle shot close-up in low poly
""")

_NOUN_PHRASES = _phrases("""
hot air balloon, hot dog, hot dogs, polar bear, polar bears, black hole, living room, dining room
dining table, orange juice, orange tree, orange slice, orange slices, ice cream, ice cube
ice cubes, traffic light, traffic lights, street light, street lights, stop sign, stop signs
fire hydrant, fire hydrants, parking meter, parking lot, top hat, top hats, cutting board
washing machine, sewing machine, swimming pool, rocking chair, baby carriage, baby stroller
baby bottle, baby carrot, baby carrots, baby shoes, guinea pig, sea lion, rose garden, rose petals
wine glass, wine glasses, magnifying glass, stained glass, looking glass, hour glass, french fries
french horn, green beans, bell pepper, brussels sprouts, fairy lights, christmas lights
christmas tree, light bulb, light bulbs, gold mine, gold fish, silver screen, stone age
roller skates, high heels, high chair, high school, running shoes, tennis racket, baseball bat
hair dryer, remote control, cell phone, potted plant, tooth brush, snow man, steam train
sail boat, rubber duck, straw hat, straw hats, metal band, chocolate cake, chocolate bar
peach tree, olive tree, lime tree, cherry blossom, cherry blossoms, sports car, race car
racing car, light house, dark knight, great white shark, trash can, garbage can, watering can
spray can, blue jay, red panda, red pandas, black swan, bald eagle, flying saucer, jack o'lantern
merry-go-round, ferris wheel, roller coaster, grand piano, electric guitar, solar system
milky way, northern lights
""")
_ADJECTIVE_PHRASES = _phrases("""
polka dot, polka dots, polka dotted, polka-dot, double decker, tie dye, tie dyed, stained glass
wide open, rose gold, black and-white, art deco, art nouveau, science fiction, sci fi
old fashioned, one eyed, hand made, worn out, ice cold, leopard print, zebra print, high tech
left handed, medium sized, brand new, candy cane striped
""")
_PREPOSITION_PHRASES = _phrases("""
next to, in front of, on top of, to the left of, to the right of, on the left of, on the right of
left of, right of, on the left side of, on the right side of, to the left side of
to the right side of, at the top of, at the bottom of, in the middle of, in the center of
in the centre of, in the corner of, on the side of, by the side of, at the foot of, at the edge of
on the edge of, made of, made out of, made from, out of, full of, because of, instead of
along with, together with, close to, such as, inside of, outside of, away from, due to
on the back of, across from, ahead of, up to, in the shape of, on either side of, on both sides of
at the end of, in the style of, in style of, top of, in between, on board, adjacent to
at the side of, at the base of, off of, filled with, covered in, covered with, covered by
topped with, surrounded by, in the hands of, beneath the surface of, to the side of
on the other side of, north of, south of, east of, west of
""")
_ADVERB_PHRASES = _phrases("""
at night, at sunset, at dusk, at dawn, at sunrise, at noon, at midnight, in the background
in the foreground, in the middle, in the center, in the centre, in the distance, on the left
on the right, to the left, to the right, on the side, at the bottom, at the top, on top
on the bottom, on the left side, on the right side, side by side, each other, one another
in the morning, in the evening, in the afternoon, during the day, during the night, by night
in the air, in mid-air, in midair, in the dark, in a row, in a line, in a circle, at the same time
face to face, in watercolor, in watercolour, in pixel art, in oil, in ink, in pencil
in black and white, in the daytime, by day, at golden hour, in full bloom, in bloom, in flight
in motion, at rest, on display, on its own, by itself, at least, upside down, inside out, in total
in general, for sale, of course, at home, on fire, in the corner, taking off, curled up
lying down, laying down, sitting down, standing up, in action, on guard, in profile
""")
_CONJUNCTION_PHRASES = _phrases(
    "as well as, and also, and then, followed by, accompanied by, and / or"
)

MULTIWORD: dict[tuple[str, ...], str] = {
    **dict.fromkeys(_NOUN_PHRASES, "noun"),
    **dict.fromkeys(_ADJECTIVE_PHRASES, "adj"),
    **dict.fromkeys(_PREPOSITION_PHRASES, "prep"),
    **dict.fromkeys(_ADVERB_PHRASES, "adv"),
    **dict.fromkeys(_CONJUNCTION_PHRASES, "conj"),
}
"""Phrases read as one word, and what kind of word."""

# The first list that holds a word decides.
_ORDER: tuple[tuple[frozenset[str], str], ...] = (
    (NUMBERS, "num"),
    (DETERMINERS, "det"),
    (COPULAS_SINGULAR | COPULAS_PLURAL | COPULAS_BARE, "cop"),
    (RELATIVES, "rel"),
    (frozenset({"whose"}), "whose"),
    (CONJUNCTIONS, "conj"),
    (PREPOSITIONS, "prep"),
    (PRONOUNS, "pron"),
    (AUXILIARIES, "aux"),
    (DEGREES, "degree"),
    (ADVERBS, "adv"),
    (EITHER, "either"),
    (ADJECTIVES, "adj"),
    (NOUNS, "noun"),
    (VERBS_S | PAST, "verb"),
    (PARTICIPLES, "ed"),
    (VERBS_BARE, "bare"),
)
WORDS: dict[str, str] = {word: kind for words, kind in reversed(_ORDER) for word in words}
"""Every listed word and its kind."""

_ADJECTIVE_ENDINGS = (
    *(
        "ful",
        "ous",
        "ish",
        "less",
        "ive",
        "ical",
        "able",
        "ible",
        "esque",
        "like",
        "ese",
        "ic",
        "al",
    ),
    *("proof", "sized", "style", "y"),
)


@lru_cache(maxsize=4096)
def kind_of(word: str) -> str:
    """The kind of one lower-case word, from the lists or else from its ending."""
    listed = WORDS.get(word)
    if listed:
        return listed
    if not word[0].isalnum():
        return {",": "comma", ";": "comma", "(": "comma", ")": "comma"}.get(word, "stop")
    if word.replace(".", "").isdigit():
        return "num"
    if "-" in word:
        return _kind_of_hyphenated(word)
    if word.endswith("ing") and len(word) > 4:
        return "ing"
    if word.endswith("ed") and len(word) > 4:
        return "ed"
    if word.endswith("ly") and len(word) > 4:
        return "adv"
    if (
        word.endswith(_ADJECTIVE_ENDINGS)
        and len(word) > 4
        and not word.endswith(("oy", "ay", "ey"))
    ):
        return "either"  # only a guess, so it may still be the noun when nothing follows
    return "noun"


def _kind_of_hyphenated(word: str) -> str:
    first, last = word.split("-")[0], word.split("-")[-1]
    if last in {"up", "out", "off", "down"}:
        return "adj" if kind_of(first) in {"ed", "adj"} else "noun"
    if (
        not last
        or kind_of(last) in {"adj", "ed", "ing", "either"}
        or last in {"like", "style", "old", "free"}
    ):
        return "adj"
    return "either" if kind_of(first) in {"adj", "num"} else "noun"
