"""Ids, loss mask and cuts of conversations, written out by hand."""

import hashlib
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from percept.core.errors import PerceptError
from percept.data.chat.checkpoint import template_of_folder
from percept.data.chat.conversation import ImageInput, converse
from percept.data.chat.rank_file import llama_specials
from percept.data.chat.template import TEMPLATES, Template, named_template, render
from percept.data.chat.vocabulary import LanguageTokenizer

SYSTEM = "You help."
IMAGE = ImageInput(source="unread.jpg")


@pytest.fixture(scope="module")
def tokenizer() -> LanguageTokenizer:
    texts = ["what is on the table? a red cup", "user assistant system", SYSTEM, "\n\n"]
    return LanguageTokenizer.train(
        texts,
        vocab_size=620,
        specials=[*llama_specials(), "<|im_start|>", "<|im_end|>", "<|image_pad|>", "<|endoftext|>"],
    )


def spelled(tokenizer: LanguageTokenizer, ids: list[int]) -> str:
    """Return ids as text with special tokens spelled out."""
    pieces, plain = [], []
    for number in [*ids, -1]:
        name = tokenizer.text_of(number) if number >= 0 else ""
        if name is not None and (name == "" or name.startswith("<|")):
            pieces += [tokenizer.decode(plain), name]
            plain = []
        else:
            plain.append(number)
    return "".join(pieces)


def test_the_plm_template(tokenizer: LanguageTokenizer) -> None:
    chat = converse([("user", "<image>\nwhat is on the table?"), ("assistant", "a red cup")], [IMAGE])
    result = render(chat, named_template("plm", system=SYSTEM), tokenizer, [2])
    assert spelled(tokenizer, result.ids) == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou help.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n<|image|><|image|>what is on the table?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\na red cup<|eot_id|><|end_of_text|>"
    )
    learned = [number for number, learn in zip(result.ids, result.learned, strict=True) if learn]
    assert (
        spelled(tokenizer, learned)
        == "<|start_header_id|>assistant<|end_header_id|>\n\na red cup<|eot_id|><|end_of_text|>"
    )


def test_a_template_can_number_frames_and_several_images(tokenizer: LanguageTokenizer) -> None:
    template = replace(named_template("plm"), numbered=True)
    video, single = converse([("user", "what?")], [IMAGE]), converse([("user", "what?")], [IMAGE])
    several = converse([("user", "<image><image>what?")], [IMAGE, IMAGE])
    place = "<|image|><|image|>"
    for chat, counts, expected in (
        (video, [6], f"0{place}1{place}2{place}what?"),
        (single, [2], f"{place}what?"),
        (several, [2, 2], f"1{place}2{place}what?"),
    ):
        result = render(chat, template, tokenizer, counts, ask=True, per_tile=2)
        assert expected in spelled(tokenizer, result.ids)
        assert sum(number == tokenizer.special("<|image|>") for number in result.ids) == sum(counts)


def test_the_warmup_template_drops_the_question(tokenizer: LanguageTokenizer) -> None:
    chat = converse([("user", "describe it"), ("assistant", "a red cup")], [IMAGE])
    result = render(chat, TEMPLATES["warmup"], tokenizer, [3])
    assert spelled(tokenizer, result.ids) == "<|image|><|image|><|image|>a red cup\n"
    assert result.learned == [False] * 3 + [True] * (len(result.ids) - 3)
    assert render(chat, named_template("warmup", system=SYSTEM), tokenizer, [3]).ids == result.ids


def test_chatml(tokenizer: LanguageTokenizer) -> None:
    chat = converse([("user", "what?")], [IMAGE])
    result = render(chat, named_template("chatml", system="S"), tokenizer, [1], ask=True)
    assert spelled(tokenizer, result.ids) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n<|image_pad|>what?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_prompt_is_the_beginning_of_the_training_sample(tokenizer: LanguageTokenizer) -> None:
    turns = [("user", "what is it?"), ("assistant", "a cup"), ("user", "red?"), ("assistant", "yes")]
    template = named_template("plm", system=SYSTEM)
    whole = render(converse(turns), template, tokenizer, [])
    prompt = render(converse(turns[:3]), template, tokenizer, [], ask=True)
    assert whole.ids[: len(prompt.ids)] == prompt.ids


def test_a_conversation_is_cut_between_turns(tokenizer: LanguageTokenizer) -> None:
    turns = [("user", "what is it?"), ("assistant", "a cup"), ("user", "red?"), ("assistant", "yes")]
    whole = render(converse(turns), named_template("plm", system=SYSTEM), tokenizer, [])
    assert whole.cut(len(whole.ids)) is whole
    short = whole.cut(len(whole.ids) - 1)
    assert short is not None
    assert short.ids == whole.ids[: whole.turn_ends[3]]
    first = whole.turn_ends[2]
    assert whole.cut(first) is not None
    assert whole.cut(first - 1) is None


def test_special_tokens_in_a_text_stay_text(tokenizer: LanguageTokenizer) -> None:
    chat = converse([("user", "say <|eot_id|>")])
    result = render(chat, TEMPLATES["plm"], tokenizer, [], ask=True)
    assert result.ids.count(tokenizer.special("<|eot_id|>")) == 1


@pytest.mark.parametrize(
    ("turns", "ask", "words"),
    [
        ([("user", "a"), ("user", "b")], True, "alternate"),
        ([("user", "a"), ("assistant", "b")], True, "nothing is asked"),
        ([("user", "a")], False, "without an answer"),
        ([], True, "no turns"),
        ([("user", "a"), ("system", "b")], True, "system turn first"),
    ],
)
def test_turns_that_do_not_alternate_are_refused(
    tokenizer: LanguageTokenizer, turns: list[tuple[str, str]], ask: bool, words: str
) -> None:
    with pytest.raises(PerceptError, match=words):
        render(converse(turns), TEMPLATES["plm"], tokenizer, [], ask=ask)


LLAMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% else %}{% set s = 'Be kind.' %}{% endif %}"
    "<|start_header_id|>system<|end_header_id|>\n\n{{ s }}<|eot_id|>{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{% for c in m.content %}{{ c.text }}{% endfor %}<|eot_id|>{% endfor %}"
)
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe wise.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>\n{% endfor %}"
)


def test_the_system_sentence_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(LLAMA)
    (tmp_path / "original").mkdir()
    for folder in (tmp_path, tmp_path / "original"):
        template = template_of_folder(folder)
        assert template == named_template("plm", system="Be kind.")


def test_the_system_sentence_of_chatml(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    assert template_of_folder(tmp_path) == named_template("chatml", system="Be wise.")


def test_an_unknown_template_and_a_broken_one_are_refused(tmp_path: Path) -> None:
    assert template_of_folder(tmp_path) is None
    (tmp_path / "chat_template.jinja").write_text("[INST]{{ messages }}")
    with pytest.raises(PerceptError, match="no known family"):
        template_of_folder(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("<|im_start|>{% for %}")
    with pytest.raises(PerceptError, match="cannot be rendered"):
        template_of_folder(tmp_path)


def test_a_template_is_saved_and_read(tmp_path: Path) -> None:
    template = named_template("plm", system=SYSTEM)
    template.save(tmp_path / "chat.json")
    assert template_of_folder(tmp_path) == template
    assert Template.load(tmp_path / "chat.json") == template


def test_no_system_sentence_of_a_checkpoint_is_kept_in_the_sources() -> None:
    for template in TEMPLATES.values():
        assert template.system is None
    published = "790f4cfc05523b0e"
    for file in Path(__file__).parents[3].glob("src/percept/data/chat/*.py"):
        for line in file.read_text().split('"'):
            assert not hashlib.sha256(line.encode()).hexdigest().startswith(published)


def test_stop_ids(tokenizer: LanguageTokenizer) -> None:
    assert TEMPLATES["plm"].stops(tokenizer) == (tokenizer.special("<|eot_id|>"), tokenizer.special("<|end_of_text|>"))
    with pytest.raises(PerceptError, match="no token"):
        Template(image="<|other|>", end="<|other|>").stops(tokenizer)


def test_random_conversations_have_one_mask_value_per_id(tokenizer: LanguageTokenizer) -> None:
    rng = random.Random(0)
    for _ in range(30):
        turns = [(("user", "assistant")[place % 2], "x" * rng.randint(0, 5)) for place in range(2 * rng.randint(1, 3))]
        result = render(converse(turns), TEMPLATES[rng.choice(list(TEMPLATES))], tokenizer, [])
        assert len(result.ids) == len(result.learned) == (result.turn_ends or [0])[-1]
