"""French: agreement of adjectives, irregular plurals and elision, and the nouns of all categories."""

from percept.world.languages.grammar import Grammar, parse_nouns

_NOUNS = parse_nouns("""
cat: chat, chats, m
dog: chien, chiens, m
rabbit: lapin, lapins, m
elephant: éléphant, éléphants, m
giraffe: girafe, girafes, f
horse: cheval, chevaux, m
pig: cochon, cochons, m
sheep: mouton, moutons, m
teddy bear: ours en peluche, ours en peluche, m
lion: lion, lions, m
hedgehog: hérisson, hérissons, m
fish: poisson, poissons, m
bird: oiseau, oiseaux, m
duck: canard, canards, m
penguin: manchot, manchots, m
owl: hibou, hiboux, m
turtle: tortue, tortues, f
snail: escargot, escargots, m
butterfly: papillon, papillons, m
spider: araignée, araignées, f
snake: serpent, serpents, m
crab: crabe, crabes, m
octopus: pieuvre, pieuvres, f
whale: baleine, baleines, f
frog: grenouille, grenouilles, f
dinosaur: dinosaure, dinosaures, m
car: voiture, voitures, f
bus: bus, bus, m
truck: camion, camions, m
bicycle: vélo, vélos, m
boat: bateau, bateaux, m
airplane: avion, avions, m
rocket: fusée, fusées, f
train: train, trains, m
helicopter: hélicoptère, hélicoptères, m
tractor: tracteur, tracteurs, m
hot air balloon: montgolfière, montgolfières, f
submarine: sous-marin, sous-marins, m
house: maison, maisons, f
church: église, églises, f
castle: château, châteaux, m
lighthouse: phare, phares, m
tent: tente, tentes, f
windmill: moulin à vent, moulins à vent, m
bridge: pont, ponts, m
apple: pomme, pommes, f
banana: banane, bananes, f
pair of cherries: paire de cerises, paires de cerises, f, fp
carrot: carotte, carottes, f
ice cream: glace, glaces, f
cake: gâteau, gâteaux, m
pizza slice: part de pizza, parts de pizza, f
mushroom: champignon, champignons, m
strawberry: fraise, fraises, f
bunch of grapes: grappe de raisin, grappes de raisin, f
hamburger: hamburger, hamburgers, m
pineapple: ananas, ananas, m
tree: arbre, arbres, m
palm tree: palmier, palmiers, m
fir tree: sapin, sapins, m
cactus: cactus, cactus, m
flower: fleur, fleurs, f
chair: chaise, chaises, f
table: table, tables, f
lamp: lampe, lampes, f
bed: lit, lits, m
sofa: canapé, canapés, m
cup: tasse, tasses, f
bottle: bouteille, bouteilles, f
teapot: théière, théières, f
clock: horloge, horloges, f
book: livre, livres, m
hat: chapeau, chapeaux, m
shirt: chemise, chemises, f
shoe: chaussure, chaussures, f
pair of glasses: paire de lunettes, paires de lunettes, f, fp
sock: chaussette, chaussettes, f
umbrella: parapluie, parapluies, m
crown: couronne, couronnes, f
hammer: marteau, marteaux, m
saw: scie, scies, f
pair of scissors: paire de ciseaux, paires de ciseaux, f, mp
key: clé, clés, f
wrench: clé à molette, clés à molette, f
ladder: échelle, échelles, f
pencil: crayon, crayons, m
arrow: flèche, flèches, f
stop sign: panneau stop, panneaux stop, m
traffic light: feu de circulation, feux de circulation, m
flag: drapeau, drapeaux, m
star: étoile, étoiles, f
heart: cœur, cœurs, m
anchor: ancre, ancres, f
ball: ballon, ballons, m
gift: cadeau, cadeaux, m
drum: tambour, tambours, m
guitar: guitare, guitares, f
kite: cerf-volant, cerfs-volants, m
robot: robot, robots, m
camera: appareil photo, appareils photo, m
""")
_COLOURS: dict[str, tuple[str, str]] = {
    "red": ("rouge", "rouge"), "orange": ("orange", ""), "yellow": ("jaune", "jaune"), "green": ("vert", "verte"),
    "blue": ("bleu", "bleue"), "purple": ("violet", "violette"), "pink": ("rose", "rose"), "brown": ("marron", ""),
    "black": ("noir", "noire"), "white": ("blanc", "blanche"), "grey": ("gris", "grise"), "cyan": ("turquoise", ""),
}  # fmt: skip
"""Masculine and feminine; the feminine is empty if the adjective is invariable."""
_FILLS = {"striped": "à rayures", "dotted": "à pois", "checked": "à carreaux"}
_NUMBERS = ("", "", "deux", "trois", "quatre", "cinq", "six")
_RELATIONS = {
    "left of": "à gauche d'", "right of": "à droite d'", "above": "au-dessus d'", "below": "en dessous d'",
    "in front of": "devant ", "behind": "derrière ",
}  # fmt: skip


def _adjective(colour: str, gender: str, plural: bool) -> str:
    masculine, feminine = _COLOURS[colour]
    if not feminine:
        return masculine
    form = feminine if gender == "f" else masculine
    return f"{form}s" if plural and not form.endswith("s") else form


def name(category: str, colour: str, fill: str, count: int) -> str:
    """Return a noun phrase.

    >>> name("horse", "white", "", 2), name("cup", "green", "striped", 1), name("pair of scissors", "green", "", 1)
    ('deux chevaux blancs', 'une tasse verte à rayures', 'une paire de ciseaux verts')
    """
    noun = _NOUNS[category]
    article = _NUMBERS[count] if count > 1 else "une" if noun.gender == "f" else "un"
    gender, plural = (noun.agrees[0], True) if noun.agrees else (noun.gender, count > 1)
    adjective = _adjective(colour, gender, plural) if colour else ""
    words = (article, noun.many if count > 1 else noun.one, adjective, _FILLS.get(fill, ""))
    return " ".join(word for word in words if word)


def related(category: str, colour: str, relation: str) -> str:
    """Return a relation with its object.

    >>> related("cat", "blue", "left of")
    "à gauche d'un chat bleu"
    """
    return _RELATIONS[relation] + name(category, colour, "", 1)


FRENCH = Grammar(
    nouns=_NOUNS,
    name=name,
    related=related,
    places={
        "meadow": ("dans un pré", "sur l'herbe", "sur une pelouse"),
        "beach": ("sur une plage", "sur le sable au bord de la mer"),
        "sea": ("en mer", "sur l'eau"),
        "street": ("dans une rue", "sur une route", "en ville"),
        "room": ("dans une pièce", "à l'intérieur"),
        "desk": ("sur un bureau", "sur un plan de travail"),
        "desert": ("dans un désert", "dans les dunes"),
        "snow": ("dans la neige", "dans un paysage enneigé"),
        "night": ("la nuit", "sous un ciel étoilé"),
        "forest": ("à la lisière d'une forêt", "dans une clairière"),
        "wood": ("sur des planches de bois", "sur un fond en bois"),
        "bricks": ("devant un mur de briques",),
        "tiles": ("devant un mur carrelé", "sur du carrelage"),
        "paper": ("sur du papier", "sur une feuille de papier"),
        "gradient": ("sur un fond uni",),
        "speckle": ("sur un fond moucheté",),
    },
    openings=(("", ""), ("", ""), ("on voit ", "on voit "), ("il y a ", "il y a ")),
    word="avec le mot « {} »",
    conjunction="et",
)
