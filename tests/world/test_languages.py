"""Captions in German, French and Spanish agree in gender, number and case, and say what the scene shows."""

import random
import re

import pytest

from percept.core.errors import PerceptError
from percept.world import BACKGROUNDS, CATEGORIES, COLOURS, sample_scene, shows_colour
from percept.world.language import groups
from percept.world.languages import GRAMMARS, LANGUAGES, caption_in, name_in
from percept.world.relations import RELATIONS

SCENES = [sample_scene(seed, style="mixed", split="evaluation") for seed in range(150)]
PHRASES = {
    "de": {
        ("hedgehog", "grey", "", 1): "ein grauer Igel",
        ("church", "white", "striped", 1): "eine gestreifte weiße Kirche",
        ("tent", "orange", "", 1): "ein orangefarbenes Zelt",
        ("cactus", "green", "", 3): "drei grüne Kakteen",
        ("heart", "pink", "", 2): "zwei rosafarbene Herzen",
        ("pair of scissors", "cyan", "", 1): "eine türkisfarbene Schere",
    },
    "fr": {
        ("horse", "white", "", 4): "quatre chevaux blancs",
        ("church", "grey", "checked", 1): "une église grise à carreaux",
        ("shirt", "purple", "", 2): "deux chemises violettes",
        ("owl", "brown", "", 2): "deux hiboux marron",
        ("bus", "grey", "", 2): "deux bus gris",
        ("pair of glasses", "blue", "", 1): "une paire de lunettes bleues",
        ("kite", "orange", "dotted", 2): "deux cerfs-volants orange à pois",
    },
    "es": {
        ("fish", "red", "", 2): "dos peces rojos",
        ("lamp", "yellow", "", 1): "una lámpara amarilla",
        ("pencil", "blue", "", 3): "tres lápices azules",
        ("anchor", "white", "", 1): "un ancla blanca",
        ("anchor", "white", "", 2): "dos anclas blancas",
        ("wrench", "brown", "", 2): "dos llaves inglesas marrones",
        ("bunch of grapes", "purple", "", 1): "un racimo de uvas moradas",
        ("house", "pink", "checked", 1): "una casa rosa a cuadros",
    },
}
RELATED = {
    "de": {("lion", "green", "left of"): "links von einem grünen Löwen", ("key", "", "above"): "über einem Schlüssel"},
    "fr": {
        ("star", "white", "right of"): "à droite d'une étoile blanche",
        ("cat", "", "below"): "en dessous d'un chat",
    },
    "es": {("car", "black", "behind"): "detrás de un coche negro", ("house", "", "above"): "encima de una casa"},
}


@pytest.mark.parametrize("language", GRAMMARS)
def test_noun_phrases_agree(language: str) -> None:
    for arguments, phrase in PHRASES[language].items():
        assert GRAMMARS[language].name(*arguments) == phrase
    for arguments, phrase in RELATED[language].items():
        assert GRAMMARS[language].related(*arguments) == phrase


@pytest.mark.parametrize("language", GRAMMARS)
def test_every_category_colour_relation_and_background_has_words(language: str) -> None:
    grammar = GRAMMARS[language]
    assert set(grammar.nouns) == set(CATEGORIES)
    assert set(grammar.places) == set(BACKGROUNDS)
    names = {grammar.name(category, "", "", 1) for category in CATEGORIES}
    assert len(names) == len(CATEGORIES)
    hues = {grammar.name("cup", colour, "", 1) for colour in COLOURS}
    assert len(hues) == len(COLOURS)
    relations = {grammar.related("cup", "red", relation) for relation in RELATIONS}
    assert len(relations) == len(RELATIONS)


def test_articles_and_endings_follow_the_gender() -> None:
    endings = {"m": ("ein", "er"), "f": ("eine", "e"), "n": ("ein", "es")}
    for category, noun in GRAMMARS["de"].nouns.items():
        article, adjective, *_ = name_in(category, "de", colour="red").split()
        assert (article, adjective) == (endings[noun.gender][0], f"rot{endings[noun.gender][1]}")
        dative = GRAMMARS["de"].related(category, "red", "behind").split()
        assert dative[:3] == ["hinter", "einer" if noun.gender == "f" else "einem", "roten"]
        assert noun.one[0].isupper()
    for language, colour, feminine, masculine in (("fr", "green", "verte", "vert"), ("es", "red", "roja", "rojo")):
        for category, noun in GRAMMARS[language].nouns.items():
            adjective = name_in(category, language, colour=colour).split()[-1]
            gender = noun.agrees[:1] or noun.gender
            assert adjective.rstrip("s") == (feminine if gender == "f" else masculine)
            assert adjective.endswith("s") == bool(noun.agrees)


@pytest.mark.parametrize("language", LANGUAGES)
def test_captions_name_every_group_of_things(language: str) -> None:
    for number, scene in enumerate(SCENES):
        text = caption_in(scene, language, random.Random(number))
        assert text == caption_in(scene, language, random.Random(number))
        assert text == re.sub(r"\s+", " ", text).strip()
        if language == "en":
            continue
        for things, _ in groups(scene):
            noun = GRAMMARS[language].nouns[things[0].category]
            forms = (noun.one, noun.dative) if len(things) == 1 else (noun.many,)
            assert any(form and form in text for form in forms), (text, things[0].category)


def test_verbs_agree_with_the_number_of_things() -> None:
    seen = set()
    for number, scene in enumerate(SCENES):
        for language, one, many in (("de", "zu sehen ist ", "zu sehen sind "), ("es", "se ve ", "se ven ")):
            text = caption_in(scene, language, random.Random(number))
            if text.startswith((one, many)):
                rest = text.split(one if text.startswith(one) else many)[1].split()[0]
                several = " und " in text or " y " in text or rest not in ("ein", "eine", "un", "una")
                if len(scene.things) != 2:
                    assert text.startswith(many) == several, text
                seen.add((language, several))
    assert len(seen) == 4


def test_sketches_have_captions_without_colours() -> None:
    scene = next(scene for scene in SCENES if not shows_colour(scene))
    text = caption_in(scene, "de", random.Random(0))
    assert not re.search(r"\b(rot|grün|gelb|blau|schwarz|weiß|grau)(e|er|es|en)\b", text)


def test_unknown_languages_and_categories_are_refused() -> None:
    with pytest.raises(PerceptError, match="Known: de, fr, es"):
        caption_in(SCENES[0], "ed", random.Random(0))
    with pytest.raises(PerceptError, match="'cat'"):
        name_in("catt", "de")
