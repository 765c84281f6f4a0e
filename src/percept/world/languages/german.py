"""German: articles, adjective endings in the nominative and dative, and the nouns of all categories."""

from percept.world.languages.grammar import Grammar, parse_nouns

_NOUNS = parse_nouns("""
cat: Katze, Katzen, f
dog: Hund, Hunde, m
rabbit: Kaninchen, Kaninchen, n
elephant: Elefant, Elefanten, m, , Elefanten
giraffe: Giraffe, Giraffen, f
horse: Pferd, Pferde, n
pig: Schwein, Schweine, n
sheep: Schaf, Schafe, n
teddy bear: Teddybär, Teddybären, m, , Teddybären
lion: Löwe, Löwen, m, , Löwen
hedgehog: Igel, Igel, m
fish: Fisch, Fische, m
bird: Vogel, Vögel, m
duck: Ente, Enten, f
penguin: Pinguin, Pinguine, m
owl: Eule, Eulen, f
turtle: Schildkröte, Schildkröten, f
snail: Schnecke, Schnecken, f
butterfly: Schmetterling, Schmetterlinge, m
spider: Spinne, Spinnen, f
snake: Schlange, Schlangen, f
crab: Krabbe, Krabben, f
octopus: Oktopus, Oktopusse, m
whale: Wal, Wale, m
frog: Frosch, Frösche, m
dinosaur: Dinosaurier, Dinosaurier, m
car: Auto, Autos, n
bus: Bus, Busse, m
truck: Lastwagen, Lastwagen, m
bicycle: Fahrrad, Fahrräder, n
boat: Boot, Boote, n
airplane: Flugzeug, Flugzeuge, n
rocket: Rakete, Raketen, f
train: Zug, Züge, m
helicopter: Hubschrauber, Hubschrauber, m
tractor: Traktor, Traktoren, m
hot air balloon: Heißluftballon, Heißluftballons, m
submarine: U-Boot, U-Boote, n
house: Haus, Häuser, n
church: Kirche, Kirchen, f
castle: Burg, Burgen, f
lighthouse: Leuchtturm, Leuchttürme, m
tent: Zelt, Zelte, n
windmill: Windmühle, Windmühlen, f
bridge: Brücke, Brücken, f
apple: Apfel, Äpfel, m
banana: Banane, Bananen, f
pair of cherries: Kirschenpaar, Kirschenpaare, n
carrot: Karotte, Karotten, f
ice cream: Eistüte, Eistüten, f
cake: Torte, Torten, f
pizza slice: Pizzastück, Pizzastücke, n
mushroom: Pilz, Pilze, m
strawberry: Erdbeere, Erdbeeren, f
bunch of grapes: Weintraube, Weintrauben, f
hamburger: Hamburger, Hamburger, m
pineapple: Ananas, Ananas, f
tree: Baum, Bäume, m
palm tree: Palme, Palmen, f
fir tree: Tanne, Tannen, f
cactus: Kaktus, Kakteen, m
flower: Blume, Blumen, f
chair: Stuhl, Stühle, m
table: Tisch, Tische, m
lamp: Lampe, Lampen, f
bed: Bett, Betten, n
sofa: Sofa, Sofas, n
cup: Tasse, Tassen, f
bottle: Flasche, Flaschen, f
teapot: Teekanne, Teekannen, f
clock: Uhr, Uhren, f
book: Buch, Bücher, n
hat: Hut, Hüte, m
shirt: Hemd, Hemden, n
shoe: Schuh, Schuhe, m
pair of glasses: Brille, Brillen, f
sock: Socke, Socken, f
umbrella: Regenschirm, Regenschirme, m
crown: Krone, Kronen, f
hammer: Hammer, Hämmer, m
saw: Säge, Sägen, f
pair of scissors: Schere, Scheren, f
key: Schlüssel, Schlüssel, m
wrench: Schraubenschlüssel, Schraubenschlüssel, m
ladder: Leiter, Leitern, f
pencil: Bleistift, Bleistifte, m
arrow: Pfeil, Pfeile, m
stop sign: Stoppschild, Stoppschilder, n
traffic light: Ampel, Ampeln, f
flag: Flagge, Flaggen, f
star: Stern, Sterne, m
heart: Herz, Herzen, n, , Herzen
anchor: Anker, Anker, m
ball: Ball, Bälle, m
gift: Geschenk, Geschenke, n
drum: Trommel, Trommeln, f
guitar: Gitarre, Gitarren, f
kite: Drachen, Drachen, m
robot: Roboter, Roboter, m
camera: Kamera, Kameras, f
""")
_COLOURS = {
    "red": "rot", "orange": "orangefarben", "yellow": "gelb", "green": "grün", "blue": "blau", "purple": "violett",
    "pink": "rosafarben", "brown": "braun", "black": "schwarz", "white": "weiß", "grey": "grau", "cyan": "türkisfarben",
}  # fmt: skip
_FILLS = {"striped": "gestreift", "dotted": "gepunktet", "checked": "kariert"}
_NUMBERS = ("", "", "zwei", "drei", "vier", "fünf", "sechs")
_ENDINGS = {"m": "er", "f": "e", "n": "es"}
_RELATIONS = {
    "left of": "links von", "right of": "rechts von", "above": "über", "below": "unter", "in front of": "vor",
    "behind": "hinter",
}  # fmt: skip


def _adjectives(colour: str, fill: str, ending: str) -> list[str]:
    stems = [stem for stem in (_FILLS.get(fill, ""), _COLOURS.get(colour, "")) if stem]
    return [f"{stem}{ending}" for stem in stems]


def name(category: str, colour: str, fill: str, count: int) -> str:
    """Return a noun phrase in the nominative.

    >>> name("dog", "red", "", 1), name("cat", "blue", "", 2), name("heart", "", "", 1)
    ('ein roter Hund', 'zwei blaue Katzen', 'ein Herz')
    """
    noun = _NOUNS[category]
    if count > 1:
        return " ".join((_NUMBERS[count], *_adjectives(colour, fill, "e"), noun.many))
    article = "eine" if noun.gender == "f" else "ein"
    return " ".join((article, *_adjectives(colour, fill, _ENDINGS[noun.gender]), noun.one))


def related(category: str, colour: str, relation: str) -> str:
    """Return a relation with its object in the dative.

    >>> related("cat", "blue", "left of"), related("lion", "red", "behind")
    ('links von einer blauen Katze', 'hinter einem roten Löwen')
    """
    noun = _NOUNS[category]
    article = "einer" if noun.gender == "f" else "einem"
    return " ".join((_RELATIONS[relation], article, *_adjectives(colour, "", "en"), noun.dative or noun.one))


GERMAN = Grammar(
    nouns=_NOUNS,
    name=name,
    related=related,
    places={
        "meadow": ("auf einer Wiese", "im Gras", "auf einem Rasen"),
        "beach": ("an einem Strand", "im Sand am Meer"),
        "sea": ("auf dem Meer", "auf dem Wasser"),
        "street": ("auf einer Straße", "in einer Stadt"),
        "room": ("in einem Zimmer", "in einem Innenraum"),
        "desk": ("auf einem Schreibtisch", "auf einer Tischplatte"),
        "desert": ("in einer Wüste", "in den Dünen"),
        "snow": ("im Schnee", "in einer Schneelandschaft"),
        "night": ("bei Nacht", "unter einem Sternenhimmel"),
        "forest": ("am Waldrand", "auf einer Lichtung"),
        "wood": ("auf Holz", "vor einer Holzwand"),
        "bricks": ("vor einer Ziegelmauer",),
        "tiles": ("vor einer gefliesten Wand", "auf Fliesen"),
        "paper": ("auf Papier", "auf einem Blatt Papier"),
        "gradient": ("vor einem schlichten Hintergrund",),
        "speckle": ("vor einem gesprenkelten Hintergrund",),
    },
    openings=(("", ""), ("", ""), ("zu sehen ist ", "zu sehen sind ")),
    word="mit dem Wort „{}“",
    conjunction="und",
)
