"""Spanish: agreement of adjectives, plurals and articles, and the nouns of all categories."""

from percept.world.languages.grammar import Grammar, parse_nouns

_NOUNS = parse_nouns("""
cat: gato, gatos, m
dog: perro, perros, m
rabbit: conejo, conejos, m
elephant: elefante, elefantes, m
giraffe: jirafa, jirafas, f
horse: caballo, caballos, m
pig: cerdo, cerdos, m
sheep: oveja, ovejas, f
teddy bear: oso de peluche, osos de peluche, m
lion: león, leones, m
hedgehog: erizo, erizos, m
fish: pez, peces, m
bird: pájaro, pájaros, m
duck: pato, patos, m
penguin: pingüino, pingüinos, m
owl: búho, búhos, m
turtle: tortuga, tortugas, f
snail: caracol, caracoles, m
butterfly: mariposa, mariposas, f
spider: araña, arañas, f
snake: serpiente, serpientes, f
crab: cangrejo, cangrejos, m
octopus: pulpo, pulpos, m
whale: ballena, ballenas, f
frog: rana, ranas, f
dinosaur: dinosaurio, dinosaurios, m
car: coche, coches, m
bus: autobús, autobuses, m
truck: camión, camiones, m
bicycle: bicicleta, bicicletas, f
boat: barco, barcos, m
airplane: avión, aviones, m
rocket: cohete, cohetes, m
train: tren, trenes, m
helicopter: helicóptero, helicópteros, m
tractor: tractor, tractores, m
hot air balloon: globo aerostático, globos aerostáticos, m
submarine: submarino, submarinos, m
house: casa, casas, f
church: iglesia, iglesias, f
castle: castillo, castillos, m
lighthouse: faro, faros, m
tent: tienda de campaña, tiendas de campaña, f
windmill: molino de viento, molinos de viento, m
bridge: puente, puentes, m
apple: manzana, manzanas, f
banana: plátano, plátanos, m
pair of cherries: par de cerezas, pares de cerezas, m, fp
carrot: zanahoria, zanahorias, f
ice cream: helado, helados, m
cake: tarta, tartas, f
pizza slice: porción de pizza, porciones de pizza, f
mushroom: seta, setas, f
strawberry: fresa, fresas, f
bunch of grapes: racimo de uvas, racimos de uvas, m, fp
hamburger: hamburguesa, hamburguesas, f
pineapple: piña, piñas, f
tree: árbol, árboles, m
palm tree: palmera, palmeras, f
fir tree: abeto, abetos, m
cactus: cactus, cactus, m
flower: flor, flores, f
chair: silla, sillas, f
table: mesa, mesas, f
lamp: lámpara, lámparas, f
bed: cama, camas, f
sofa: sofá, sofás, m
cup: taza, tazas, f
bottle: botella, botellas, f
teapot: tetera, teteras, f
clock: reloj, relojes, m
book: libro, libros, m
hat: sombrero, sombreros, m
shirt: camisa, camisas, f
shoe: zapato, zapatos, m
pair of glasses: par de gafas, pares de gafas, m, fp
sock: calcetín, calcetines, m
umbrella: paraguas, paraguas, m
crown: corona, coronas, f
hammer: martillo, martillos, m
saw: sierra, sierras, f
pair of scissors: par de tijeras, pares de tijeras, m, fp
key: llave, llaves, f
wrench: llave inglesa, llaves inglesas, f
ladder: escalera, escaleras, f
pencil: lápiz, lápices, m
arrow: flecha, flechas, f
stop sign: señal de stop, señales de stop, f
traffic light: semáforo, semáforos, m
flag: bandera, banderas, f
star: estrella, estrellas, f
heart: corazón, corazones, m
anchor: ancla, anclas, f
ball: pelota, pelotas, f
gift: regalo, regalos, m
drum: tambor, tambores, m
guitar: guitarra, guitarras, f
kite: cometa, cometas, f
robot: robot, robots, m
camera: cámara, cámaras, f
""")
_COLOURS = {
    "red": "rojo", "orange": "naranja", "yellow": "amarillo", "green": "verde", "blue": "azul", "purple": "morado",
    "pink": "rosa", "brown": "marrón", "black": "negro", "white": "blanco", "grey": "gris", "cyan": "turquesa",
}  # fmt: skip
_INVARIABLE = ("naranja", "rosa", "turquesa")
_PLURALS = {"verde": "verdes", "azul": "azules", "marrón": "marrones", "gris": "grises"}
"""Adjectives with the same form for both genders."""
_FILLS = {"striped": "a rayas", "dotted": "de lunares", "checked": "a cuadros"}
_NUMBERS = ("", "", "dos", "tres", "cuatro", "cinco", "seis")
_STRESSED_A = ("ancla",)
"""Feminine nouns that begin with a stressed a take the article "un" in the singular."""
_RELATIONS = {
    "left of": "a la izquierda de", "right of": "a la derecha de", "above": "encima de", "below": "debajo de",
    "in front of": "delante de", "behind": "detrás de",
}  # fmt: skip


def _adjective(colour: str, gender: str, plural: bool) -> str:
    form = _COLOURS[colour]
    if form in _INVARIABLE:
        return form
    if form in _PLURALS:
        return _PLURALS[form] if plural else form
    form = f"{form[:-1]}a" if gender == "f" else form
    return f"{form}s" if plural else form


def name(category: str, colour: str, fill: str, count: int) -> str:
    """Return a noun phrase.

    >>> name("cup", "red", "", 2), name("anchor", "black", "", 1), name("pair of scissors", "red", "striped", 1)
    ('dos tazas rojas', 'un ancla negra', 'un par de tijeras rojas a rayas')
    """
    noun = _NOUNS[category]
    feminine = noun.gender == "f" and noun.one not in _STRESSED_A
    article = _NUMBERS[count] if count > 1 else "una" if feminine else "un"
    gender, plural = (noun.agrees[0], True) if noun.agrees else (noun.gender, count > 1)
    adjective = _adjective(colour, gender, plural) if colour else ""
    words = (article, noun.many if count > 1 else noun.one, adjective, _FILLS.get(fill, ""))
    return " ".join(word for word in words if word)


def related(category: str, colour: str, relation: str) -> str:
    """Return a relation with its object.

    >>> related("cat", "blue", "left of")
    'a la izquierda de un gato azul'
    """
    return f"{_RELATIONS[relation]} {name(category, colour, '', 1)}"


SPANISH = Grammar(
    nouns=_NOUNS,
    name=name,
    related=related,
    places={
        "meadow": ("en un prado", "sobre la hierba", "en el campo"),
        "beach": ("en una playa", "en la arena junto al mar"),
        "sea": ("en el mar", "sobre el agua"),
        "street": ("en una calle", "en una carretera"),
        "room": ("en una habitación", "en un interior"),
        "desk": ("en un escritorio", "sobre una encimera"),
        "desert": ("en un desierto", "en las dunas"),
        "snow": ("en la nieve", "en un paisaje nevado"),
        "night": ("de noche", "bajo un cielo estrellado"),
        "forest": ("en el borde de un bosque", "en un claro del bosque"),
        "wood": ("sobre tablones de madera", "sobre un fondo de madera"),
        "bricks": ("delante de una pared de ladrillo",),
        "tiles": ("delante de una pared de azulejos", "sobre azulejos"),
        "paper": ("sobre papel", "en una hoja de papel"),
        "gradient": ("sobre un fondo liso",),
        "speckle": ("sobre un fondo moteado",),
    },
    openings=(("", ""), ("", ""), ("se ve ", "se ven "), ("hay ", "hay ")),
    word="con la palabra «{}»",
    conjunction="y",
)
