"""What `Assistant.ask` takes and refuses, streaming, conversations, what is remembered, and likelihoods."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.data.chat.conversation import ImageInput, VideoInput, converse
from percept.data.files import BadFile
from percept.infer import memory
from percept.infer.asking import BadPrompt, ViewOptions, asked, drawn, media_of, seen, with_boxes
from percept.infer.contracts import Generates
from percept.infer.memory import Bounded, Memory
from tests.data.video.films import film
from tests.infer import speaking

PICTURE = speaking.picture(0)
QUESTION = "what colour is the cup?"
SPOKEN = speaking.assistant()
NEW: Any = {"max_new_tokens": 8}


def test_every_form_of_an_image_gives_the_same_answer(tmp_path: Path) -> None:
    PICTURE.save(tmp_path / "a.png")
    pixels = np.asarray(PICTURE)
    tensor = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    data = (tmp_path / "a.png").read_bytes()
    forms = [
        PICTURE,
        pixels,
        tensor,
        data,
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        ImageInput(source=PICTURE),
        [PICTURE],
    ]
    answers = set()
    for form in forms:
        SPOKEN.forget()
        answers.add(SPOKEN.ask(form, QUESTION, **NEW))
    assert len(answers) == 1
    assert answers == {SPOKEN.ask(iter([PICTURE]), QUESTION, **NEW)}


def test_lists_of_questions_several_images_clips_and_no_image() -> None:
    questions = [QUESTION, "yes or no?", "left?"]
    assert SPOKEN.ask(PICTURE, questions, **NEW) == [SPOKEN.ask(PICTURE, text, **NEW) for text in questions]
    assert SPOKEN.ask(iter([PICTURE]), questions, **NEW) == SPOKEN.ask(PICTURE, questions, **NEW)
    both = [PICTURE, speaking.picture(1)]
    first, second = (SPOKEN.scores(asked(images, QUESTION), ["yes", "no"]) for images in (both, both[::-1]))
    assert first != pytest.approx(second, abs=1e-3)
    assert SPOKEN.ask(both, "is <image> or <image> red?", **NEW) != SPOKEN.ask(both, "is or red?", **NEW)
    clip = speaking.clip(0, 6)
    assert SPOKEN.ask(clip, QUESTION, frames=1, **NEW) != SPOKEN.ask(clip, QUESTION, frames=2, **NEW)
    assert isinstance(SPOKEN.ask(None, QUESTION, **NEW), str)
    with_system = SPOKEN.ask(PICTURE, QUESTION, system="a red cup", **NEW)
    assert with_system != SPOKEN.ask(PICTURE, QUESTION, **NEW)
    assert with_system == speaking.assistant(system="a red cup").ask(PICTURE, QUESTION, **NEW)


def test_a_video_file(tmp_path: Path) -> None:
    path = film(tmp_path / "walk.mp4", 30)
    answer = SPOKEN.ask(path, QUESTION, frames=2, **NEW)
    assert answer == SPOKEN.ask(VideoInput(source=path), QUESTION, frames=2, **NEW)
    assert SPOKEN.ask(VideoInput(source=path, start=0.8), QUESTION, frames=2, **NEW) != answer


def test_tiles_and_several_images() -> None:
    wide = speaking.picture(3, 64, 32)
    counts = {}
    for name, images, view in (
        ("one", wide, {}), ("single", wide, {"mode": "single"}), ("budget", wide, {"budget": 12}), ("two", [wide, wide], {}),
        ("two cut", [wide, wide], {"tiles": 4}), ("aspect", wide, {"mode": "aspect", "tiles": 2}),
    ):  # fmt: skip
        prepared = seen(SPOKEN.processor, cast(ViewOptions, view))(asked(images, QUESTION), ask=True)
        counts[name] = [len(tiles) for tiles in prepared.tiles]
    assert counts["single"] == [1]
    assert sum(counts["budget"]) <= 3
    assert counts["two"] == [1, 1]
    assert min(counts["two cut"]) > 1


def test_regions_are_drawn_or_written() -> None:
    marked = drawn(media_of(PICTURE), [(2, 3, 10, 12)])
    assert marked.boxes == ((2.0, 3.0, 10.0, 12.0),)
    assert SPOKEN.ask(PICTURE, QUESTION, regions=[(2, 3, 10, 12)], **NEW) == SPOKEN.ask(marked, QUESTION, **NEW)
    text = with_boxes("what is in <|bbox0|> and <|bbox1|>?", media_of(PICTURE), [(0, 0, 10, 8), (10, 8, 20, 16)])
    assert text == "what is in [000,000,500,500] and [500,500,999,999]?"
    named = SPOKEN.ask(PICTURE, "what is in <|bbox0|>?", regions=[(0, 0, 10, 8)], **NEW)
    assert named == SPOKEN.ask(PICTURE, "what is in [000,000,500,500]?", **NEW)


@pytest.mark.parametrize("stop", [(), ("e",), ("ri", "an"), ("never",)])
@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.2, "seed": 2}])
def test_a_stream_is_the_answer_in_pieces(stop: tuple, sampling: dict) -> None:
    for number in range(3):
        options: Any = {"max_new_tokens": 16, "stop": stop, **sampling}
        pieces = list(SPOKEN.ask(speaking.picture(number), QUESTION, stream=True, **options))
        assert all(pieces)
        assert "".join(pieces) == SPOKEN.ask(speaking.picture(number), QUESTION, **options)
        assert not any(text in "".join(pieces) for text in stop)


def test_a_stop_text_cuts_the_answer_that_would_go_on() -> None:
    whole = SPOKEN.ask(PICTURE, QUESTION, max_new_tokens=20)
    for stop in (whole[3:6], whole[1], whole[:2]):
        assert SPOKEN.ask(PICTURE, QUESTION, max_new_tokens=20, stop=stop) == whole[: whole.index(stop)]


def test_a_stream_gives_pieces_before_the_answer_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    forward = SPOKEN.model.decoder.forward
    monkeypatch.setattr(SPOKEN.model.decoder, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k))
    stream = SPOKEN.ask(PICTURE, QUESTION, stream=True, max_new_tokens=30)
    next(stream)
    begun = len(calls)
    list(stream)
    assert begun < len(calls) / 2
    with torch.enable_grad():
        next(SPOKEN.ask(PICTURE, QUESTION, stream=True, **NEW))
        assert torch.is_grad_enabled()


def test_a_conversation_goes_on() -> None:
    chat = SPOKEN.chat(PICTURE)
    first = chat.ask(QUESTION, **NEW)
    second = "".join(chat.ask("and why?", stream=True, **NEW))
    third = chat.ask("which?", speaking.picture(1), **NEW)
    turns = [("user", QUESTION), ("assistant", first), ("user", "and why?"), ("assistant", second)]
    fresh = speaking.assistant()
    assert fresh.reply(converse(turns[:1], media_of(PICTURE)), **NEW) == first
    assert fresh.reply(converse(turns[:3], media_of(PICTURE)), **NEW) == second
    assert fresh.reply(chat.conversation.__class__(turns=chat.turns[:-1], media=chat.media), **NEW) == third
    assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 3
    assert [part for turn in chat.turns for part in turn.parts if isinstance(part, int)] == [0, 1]
    with pytest.raises(PerceptError, match="more than the context"):
        chat.ask("why? " * 400)
    assert len(chat.turns) == 6
    with pytest.raises(PerceptError, match="samples was given"):
        chat.ask("why?", samples=2, temperature=1.0)


def test_an_empty_answer_counts_and_an_interrupted_one_as_far_as_it_went(monkeypatch: pytest.MonkeyPatch) -> None:
    assistant = speaking.assistant()
    chat, stream = assistant.chat(PICTURE), assistant.chat(PICTURE)
    pieces = stream.ask(QUESTION, stream=True, **NEW)
    first = next(pieces)
    pieces.close()
    assert [turn.text for turn in stream.turns] == [QUESTION, first]
    unheard = assistant.chat(PICTURE)
    unheard.ask(QUESTION, stream=True, **NEW).close()
    assert unheard.turns == ()
    monkeypatch.setattr(assistant.answerer, "_stops", frozenset(range(assistant.config.decoder.vocabulary)))
    assert chat.ask(QUESTION, **NEW) == ""
    assert [turn.role for turn in chat.turns] == ["user", "assistant"]
    assert chat.ask("why?", **NEW) == ""


def test_an_image_is_encoded_once_and_its_tokens_run_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assistant = speaking.assistant()
    PICTURE.save(tmp_path / "a.png")
    encoded, sizes = [], []
    encode, forward = assistant.model.encode, assistant.model.decoder.forward

    def watched(ids=None, **options):
        sizes.append((options["embeddings"] if ids is None else ids[..., None]).shape[:2].numel())
        return forward(ids, **options)

    monkeypatch.setattr(assistant.model, "encode", lambda tiles: encoded.append(len(tiles)) or encode(tiles))
    monkeypatch.setattr(assistant.model.decoder, "forward", watched)
    assistant.ask(tmp_path / "a.png", [QUESTION, "left?"], max_new_tokens=1)
    assert encoded == [5]
    sizes.clear()
    reads = []
    read = type(assistant.processor).read
    monkeypatch.setattr(type(assistant.processor), "read", lambda *a, **k: reads.append(1) or read(*a, **k))
    answer = assistant.ask(tmp_path / "a.png", "right?", max_new_tokens=1)
    assert (encoded, reads) == ([5], [])
    assert sum(sizes) < 20 < len(assistant.processor(asked(PICTURE, "right?"), ask=True))
    assistant.ask(
        PICTURE, "right?", max_new_tokens=1
    )  # the same pixels from elsewhere are another identity, known from then on
    assistant.ask(PICTURE, "left?", max_new_tokens=1)
    assert encoded == [5, 5]
    assistant.forget()
    assert assistant.ask(tmp_path / "a.png", "right?", max_new_tokens=1) == answer
    assert encoded == [5, 5, 5]


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PICTURE.save(path)
    before = SPOKEN.ask(path, QUESTION, **NEW)
    speaking.picture(2).save(path)
    os.utime(path, (0, 0))  # the clock of a file system can stand still between two writes
    after = SPOKEN.ask(path, QUESTION, **NEW)
    assert after == SPOKEN.ask(speaking.picture(2), QUESTION, **NEW) != before


def test_a_changed_weight_makes_it_forget() -> None:
    assistant, changed = speaking.assistant(), speaking.assistant()
    before = assistant.ask(PICTURE, QUESTION, max_new_tokens=20)
    for some in (assistant, changed):
        with torch.no_grad():
            some.model.projector.down.weight.mul_(-2)
    assert (
        assistant.ask(PICTURE, QUESTION, max_new_tokens=20)
        == changed.ask(PICTURE, QUESTION, max_new_tokens=20)
        != before
    )


def test_what_is_remembered_is_bounded() -> None:
    some: Bounded[torch.Tensor] = Bounded(100)
    for number in range(5):
        some.put(number, torch.zeros(40, dtype=torch.uint8))
        some.get(0)
    assert some.recent() == [4, 0]
    some.put("large", torch.zeros(101, dtype=torch.uint8))
    assert some.recent() == [4, 0]
    few: Bounded[torch.Tensor] = Bounded(100, count=2)
    for key in (1, 2, 3, 1):
        few.put(key, torch.zeros(10, dtype=torch.uint8))
    assert (few.recent(), few.nbytes) == ([3, 1], 20)
    few.put(3, torch.zeros(7, dtype=torch.uint8))
    assert few.nbytes == 17
    few.clear()
    assert (len(few), few.nbytes) == (0, 0)
    kept = Memory(SPOKEN.model, prefix_bytes=1)
    assistant = speaking.assistant()
    assistant._memory.prefixes = kept.prefixes
    assert assistant.ask(PICTURE, [QUESTION, "left?"], **NEW) == SPOKEN.ask(PICTURE, [QUESTION, "left?"], **NEW)
    assert not len(kept.prefixes)
    assert memory.common((1, 2, 3), (1, 2, 3)) == 3


def test_likelihoods_are_those_of_the_whole_sequence() -> None:
    choices = ["yes", "no", "a red cup on the table", "left"]
    prompt = asked(PICTURE, QUESTION)
    prepared = SPOKEN.processor(prompt, ask=True)
    tokens, stop = SPOKEN.processor.tokenizer, SPOKEN.config.stop_ids[0]
    expected, counts = [], []
    for choice in choices:
        text = [*tokens.encode(choice), stop]
        ids = torch.tensor([prepared.rendered.ids + text])
        logits = SPOKEN.logits(ids, SPOKEN.preprocess.normalise(prepared.stacked))[0, -len(text) - 1 : -1]
        expected.append(float(logits.log_softmax(dim=-1)[torch.arange(len(text)), text].sum()))
        counts.append(len(text))
    assert SPOKEN.scores(prompt, choices) == pytest.approx(expected, abs=1e-3)
    assert speaking.assistant(batch=2).scores(prompt, choices) == pytest.approx(expected, abs=1e-3)
    ranked = SPOKEN.choose(PICTURE, QUESTION, choices)
    assert [choice.label for choice in ranked] == [choices[place] for place in np.argsort(expected)[::-1]]
    assert sum(choice.probability for choice in ranked) == pytest.approx(1)
    means = np.array(expected) / counts
    assert [one.label for one in SPOKEN.choose(PICTURE, QUESTION, choices, per_token=True)] == [
        choices[p] for p in means.argsort()[::-1]
    ]


def test_samples_are_as_frequent_as_the_model_predicts() -> None:
    prepared, letters, count = SPOKEN.processor(asked(PICTURE, QUESTION), ask=True), "abcd", 400
    ids = torch.tensor([prepared.rendered.ids])
    logits = SPOKEN.logits(ids, SPOKEN.preprocess.normalise(prepared.stacked))[0, -1]
    shares = logits[[SPOKEN.processor.tokenizer.encode(letter)[0] for letter in letters]].softmax(dim=-1).tolist()
    sampling: Any = {"temperature": 1.0, "samples": count, "seed": 0, "pattern": f"[{letters}]"}
    drawn = Counter(SPOKEN.ask(PICTURE, QUESTION, **sampling))
    assert len(drawn) == len(letters)
    for letter, share in zip(letters, shares, strict=True):
        assert drawn[letter] / count == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


def test_the_contract() -> None:
    assert isinstance(SPOKEN, Generates)
    prompts = [speaking.about(number) for number in range(3)]
    assert SPOKEN.answers(prompts, max_new_tokens=4) == [SPOKEN.reply(prompt, max_new_tokens=4) for prompt in prompts]
    with pytest.raises(PerceptError, match="prompt 1: there is no file"):
        SPOKEN.answers([prompts[0], asked("none.png", "what?")])


def test_files(tmp_path: Path) -> None:
    for number in range(2):
        speaking.picture(number).save(tmp_path / f"{number}.png")
    (tmp_path / "bad.png").write_bytes(b"")
    paths = [tmp_path / "0.png", tmp_path / "bad.png", tmp_path / "1.png"]
    found = list(SPOKEN.files(paths, QUESTION, **NEW))
    assert [path for path, _ in found] == paths
    assert found[1][1] == BadFile(paths[1], "is empty (0 bytes)")
    assert [found[0][1], found[2][1]] == [SPOKEN.ask(paths[place], QUESTION, **NEW) for place in (0, 2)]


def test_a_saved_folder_answers_and_one_without_a_tokenizer_says_what_is_missing(tmp_path: Path) -> None:
    folder = speaking.folder(tmp_path / "model")
    assert percept.assistant(folder, device="cpu").ask(PICTURE, QUESTION, **NEW) == SPOKEN.ask(PICTURE, QUESTION, **NEW)
    (folder / "tokenizer.json").unlink()
    bare = percept.assistant(folder, device="cpu")
    assert bare.logits(torch.tensor([[5, 6]])).shape[:2] == (1, 2)
    with pytest.raises(PerceptError, match=r"no tokenizer or no chat template. Put tokenizer.json"):
        bare.ask(PICTURE, QUESTION)


def test_encoders_and_assistants_are_told_apart(tmp_path: Path) -> None:
    folder = speaking.folder(tmp_path / "model")
    for call, words in (
        (lambda: percept.load(folder), "gives answers and no vectors. Open it with percept.assistant"),
        (lambda: percept.load("plm-nano"), "gives answers and no vectors"),
        (lambda: percept.assistant("nano"), "is an encoder, which cannot answer in words"),
    ):
        with pytest.raises(PerceptError, match=words):
            call()


REFUSED: dict[str, Any] = {
    "an empty list of images": (([], QUESTION), {}, "list of images is empty"),
    "no image": ((3, QUESTION), {}, "int is not an image"),
    "frames in a list": (([[PICTURE]], QUESTION), {}, r"VideoInput\(source=\[...\]\)"),
    "prepared tiles": ((torch.zeros(3, 16, 16), QUESTION), {}, "a tensor of torch.float32"),
    "no question": ((None, " "), {}, "a question must be a non-empty string"),
    "no questions": ((PICTURE, []), {}, "list of questions is empty"),
    "half a character": ((PICTURE, "a \ud83d"), {}, "half of a surrogate pair"),
    "one tag for two images": (([PICTURE] * 2, "is <image> large?"), {}, "More images or videos were given than the text has tags"),
    "a number as stop": ((PICTURE, QUESTION), {"stop": 3}, "stop must be a string or a list of strings, got 3"),
    "a tag without an image": ((None, "what is <image>?"), {}, "has a tag for an image or video, but none was given"),
    "more images than tags": (([PICTURE] * 3, "<image> or <image>?"), {}, "More images or videos were given than the text has tags"),
    "more tags than images": ((PICTURE, "<image> or <image>?"), {}, "The text has more tags"),
    "a box outside": ((PICTURE, QUESTION), {"regions": [(0, 0, 21, 5)]}, "does not lie in an image of 20 × 16 pixels"),
    "a box from right to left": ((PICTURE, QUESTION), {"regions": [(9, 0, 5, 5)]}, "does not lie in any image"),
    "a written box outside": ((PICTURE, "<|bbox0|>?"), {"regions": [(0, 0, 21, 5)]}, "does not lie in an image of 20 × 16"),
    "not a box": ((PICTURE, QUESTION), {"regions": [(0, 0, 5)]}, "is not four finite numbers"),
    "a region of a video": ((speaking.clip(0, 2), QUESTION), {"regions": [(0, 0, 5, 5)]}, "regions belong to one image"),
    "a region not named": ((PICTURE, "<|bbox1|>?"), {"regions": [(0, 0, 5, 5)]}, r"names the regions \[1\]; regions given: 1"),
    "a video without frames": ((VideoInput(source=[]), QUESTION), {}, "the video has no frames"),
    "a missing file": (("none.png", QUESTION), {}, "there is no file none.png"),
    "a long prompt": ((PICTURE, "why? " * 400), {}, "Shorten the text"),
    "too many tiles": ((speaking.picture(1, 500, 500), QUESTION), {"tiles": 200}, r"Use fewer images, tiles"),
    "a long answer": ((PICTURE, QUESTION), {"max_new_tokens": 500}, r"Use max_new_tokens=\d+ at most"),
    "streaming a list": ((PICTURE, [QUESTION]), {"stream": True}, "Stream the answer to one question at a time"),
    "streaming samples": ((PICTURE, QUESTION), {"stream": True, "samples": 2, "temperature": 1.0}, "Stream one answer at a time"),
    "an unknown option": ((PICTURE, QUESTION), {"max_tokens": 4}, "did you mean 'max_new_tokens'"),
    "no tokens": ((PICTURE, QUESTION), {"max_new_tokens": 0}, "max_new_tokens must be a positive integer, got 0"),
    "cold samples": ((PICTURE, QUESTION), {"samples": 2}, "no effect at temperature 0"),
    "a cold top_p": ((PICTURE, QUESTION), {"top_p": 0.5}, "no effect at temperature 0"),
    "negative heat": ((PICTURE, QUESTION), {"temperature": -1.0}, "temperature must be 0 or a positive number"),
    "a large top_p": ((PICTURE, QUESTION), {"top_p": 1.5, "temperature": 1.0}, "top_p must be above 0 and at most 1"),
    "an empty stop": ((PICTURE, QUESTION), {"stop": ["a", ""]}, "stop must hold non-empty strings"),
    "no choices": ((PICTURE, QUESTION), {"choices": []}, "choices is empty"),
    "one string": ((PICTURE, QUESTION), {"choices": "yes"}, "choices must be a list of strings"),
    "choices twice": ((PICTURE, QUESTION), {"choices": ["a", "b", "a"]}, "got more than once: a"),
    "choices and a pattern": ((PICTURE, QUESTION), {"choices": ["a"], "pattern": "a"}, "an answer follows one of them"),
    "a long choice": ((PICTURE, QUESTION), {"choices": ["yes", "xyz"], "max_new_tokens": 2}, "the choice 'xyz' has 3 tokens"),
    "no mode": ((PICTURE, QUESTION), {"mode": "aspekt"}, "did you mean 'aspect'"),
    "no frames": ((PICTURE, QUESTION), {"frames": 0}, "frames=0 is too small"),
    "a small budget": ((PICTURE, QUESTION), {"budget": 3}, "a budget of 3 tokens is too small"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    arguments, options, words = REFUSED[case]
    with pytest.raises(PerceptError, match=words):
        SPOKEN.ask(*arguments, **options)


def test_refused_roles_and_choices() -> None:
    with pytest.raises(PerceptError, match="unknown role 'human'"):
        converse([("human", "hi")])
    for choices, words in (([], "choices is empty"), (["a", "a"], "more than once"), (["a", ""], "non-empty strings")):
        with pytest.raises(PerceptError, match=words):
            SPOKEN.choose(PICTURE, QUESTION, choices)
    with pytest.raises(PerceptError, match="ends with an answer, so nothing is asked"):
        SPOKEN.reply(converse([("user", "hi"), ("assistant", "yes")]))


def test_a_conversation_refuses_an_empty_question() -> None:
    chat = SPOKEN.chat()
    with pytest.raises(PerceptError, match="a question must be a non-empty string, got ''"):
        chat.ask("")
    assert chat.conversation.turns == ()


WRONG_TYPES = {
    "spoken.ask(picture, None)": "a question must be a string or a list of strings, got NoneType",
    "spoken.ask(picture, ['a', 3])": "a question must be a non-empty string, got 3",
    "spoken.ask(picture, 'a', system=3)": "system must be a string, got 3",
    "spoken.ask(picture, 'a', regions=(1, 2, 9, 9))": "regions must be a list of boxes, got (1, 2, 9, 9)",
    "spoken.ask(picture, 'a', regions=None)": "regions must be a list of boxes, got None",
    "spoken.ask(picture, 'a', tiles='4')": "tiles must be an integer, got '4'",
    "spoken.ask(picture, 'a', frames=2.5)": "frames must be an integer, got 2.5",
    "spoken.ask(picture, 'a', temperature='1')": "temperature must be 0 or a positive number, got '1'",
    "spoken.ask(picture, 'a', temperature=1.0, top_p=None)": "top_p must be above 0 and at most 1, got None",
    "spoken.ask(picture, 'a', temperature=1.0, seed=1.5)": "seed must be an integer, got 1.5",
    "spoken.ask(picture, 'a', pattern=b'a')": "pattern must be a string, got b'a'",
    "spoken.chat().ask(None)": "a question must be a non-empty string, got None",
    "spoken.chat(system=3)": "system must be a string, got 3",
    "spoken.generate_ids([[1]])": "ids and tiles must be tensors, got list and NoneType",
    "Turn(role='user', parts=(2.5,))": "a part of a turn is 2.5",
}


def test_wrong_types_get_a_reason() -> None:
    """In a process of its own, where the annotations are not checked, as for a user."""
    code = "from percept.core.errors import PerceptError\nfrom percept.data.chat.conversation import Turn\nfrom tests.infer import speaking\n"
    code += "spoken, picture = speaking.assistant(), speaking.picture(0)\n"
    for call in WRONG_TYPES:
        code += f"try:\n    print({call})\nexcept PerceptError as error:\n    print(error)\n"
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root, timeout=120
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(WRONG_TYPES)
    for line, words in zip(lines, WRONG_TYPES.values(), strict=True):
        assert line.startswith(words)


def test_a_prompt_that_cannot_be_written_harms_no_other() -> None:
    first, second = SPOKEN.batch([asked(PICTURE, "a \ud83d"), asked(PICTURE, QUESTION)], **NEW)
    assert isinstance(first, BadPrompt)
    assert "surrogate" in first.reason
    assert second == SPOKEN.ask(PICTURE, QUESTION, **NEW)


def test_damaged_weights_are_reported() -> None:
    broken = speaking.assistant()
    with torch.no_grad():
        broken.model.decoder.norm.weight.fill_(float("nan"))
    with pytest.raises(PerceptError, match="NaN or infinite logits"):
        broken.ask(PICTURE, QUESTION)
