"""The adapter for lmms-eval, with a stand-in for the parts of lmms-eval that it uses; benchmarks/lmms runs the real one."""

import subprocess
import sys
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from percept.core.errors import PerceptError
from percept.data.chat.conversation import ImageInput, VideoInput
from percept.eval.vlm import lmms
from tests.eval.vlm.fakes import Scripted

PICTURE = Image.new("RGB", (4, 4))


class Base:
    """`lmms_eval.api.model.lmms`."""

    is_simple = True

    def __init__(self) -> None:
        self.task_dict: dict[str, Any] = {}
        self.rank = 0


@dataclass
class Manifest:
    model_id: str
    simple_class_path: str | None = None
    chat_class_path: str | None = None


@dataclass
class Wrapped:
    text: Any


class Bar:
    """`tqdm.tqdm`."""

    def __init__(self, **options: Any) -> None:
        self.done = 0

    def __enter__(self) -> "Bar":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def update(self, count: int) -> None:
        self.done += count


@pytest.fixture(autouse=True)
def framework(monkeypatch):
    """Put modules with these names in place of lmms-eval."""
    contents = {
        "lmms_eval": {}, "lmms_eval.api": {}, "lmms_eval.api.model": {"lmms": Base},
        "lmms_eval.api.instance": {"GenerationResult": Wrapped}, "lmms_eval.models": {},
        "lmms_eval.models.registry_v2": {"ModelManifest": Manifest},
    }  # fmt: skip
    contents["tqdm"] = {"tqdm": Bar}
    for name, values in contents.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)

    for made in (lmms._base, lmms._chat, lmms._simple):
        made.cache_clear()


def request(*arguments: Any) -> SimpleNamespace:
    return SimpleNamespace(args=arguments)


def chat(doc: dict[str, Any]) -> list[dict[str, Any]]:
    content = [{"type": "image", "url": PICTURE} for _ in range(doc["images"])]
    return [{"role": "user", "content": [*content, {"type": "text", "text": doc["text"]}]}]


def adapter(name: str, model: Scripted, docs: list[dict[str, Any]]) -> Any:
    made = getattr(lmms, name)(model=model)
    made.task_dict = {"task": {"test": docs}}
    return made


def test_the_module_imports_without_lmms_eval():
    code = "import percept.eval.vlm.lmms, sys; print('lmms_eval' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
    with pytest.raises(AttributeError):
        lmms.nothing  # noqa: B018


def test_the_manifest_names_both_adapters():
    manifest = lmms.manifest
    assert manifest.model_id == "percept"
    for path, simple in ((manifest.chat_class_path, False), (manifest.simple_class_path, True)):
        module, name = path.rsplit(".", 1)
        assert module == lmms.__name__
        made = getattr(lmms, name)
        assert made.is_simple is simple
        assert issubclass(made, Base)


def test_messages_become_conversations_with_media_in_their_places():
    parts = [
        {"type": "text", "text": "first"}, {"type": "image", "url": PICTURE}, {"type": "text", "text": "then"},
        SimpleNamespace(type="video", url="a.mp4", start_time=1.0, end_time=None),
    ]  # fmt: skip
    prompt = lmms.prompt_of(
        [{"role": "system", "content": [{"type": "text", "text": "be brief"}]}, {"role": "user", "content": parts}]
    )
    assert [turn.role for turn in prompt.turns] == ["system", "user"]
    assert prompt.turns[1].parts == ("first", 0, "then", 1)
    image, video = prompt.media
    assert isinstance(image, ImageInput)
    assert isinstance(video, VideoInput)
    assert (video.source, video.start, video.end) == ("a.mp4", 1.0, None)
    with pytest.raises(PerceptError, match="type 'audio'"):
        lmms.prompt_of([{"role": "user", "content": [{"type": "audio", "url": "a.wav"}]}])


def test_chat_requests_are_answered_in_batches_of_equal_options():
    docs = [{"images": number % 3, "text": f"question {number}"} for number in range(7)]
    model = Scripted(lambda text: f" {text}. ")
    limits = [{"max_new_tokens": 8 if number % 2 else 4, "until": ["\n"]} for number in range(7)]
    requests = [request("", chat, limits[number], number, "task", "test") for number in range(7)]
    assert adapter("Percept", model, docs).generate_until(requests) == [f"question {number}" for number in range(7)]
    assert [len(batch) for batch in model.batches] == [4, 3]
    assert model.most == {4, 8}
    assert [len(prompt.media) for prompt in model.batches[0]] == [0, 2, 1, 0]


def test_simple_requests_keep_all_images_of_a_document():
    docs = [{"text": "a"}, {"text": "b"}]
    visuals = {"a": [PICTURE, PICTURE], "b": ["clip.mp4"]}
    model = Scripted(lambda text: text)
    requests = [
        request(doc["text"], {}, lambda doc: visuals[doc["text"]], number, "task", "test")
        for number, doc in enumerate(docs)
    ]
    assert adapter("PerceptSimple", model, docs).generate_until(requests) == ["a", "b"]
    media = [prompt.media for prompt in model.batches[0]]
    assert [len(each) for each in media] == [2, 1]
    assert isinstance(media[1][0], VideoInput)
    assert isinstance(lmms.medium_of([PICTURE, PICTURE]), VideoInput)


def test_options_are_ranked_by_likelihood():
    docs = [{"text": "red"}, {"text": "blue"}]
    requests = [
        request(doc["text"], f" {choice}", lambda doc: [PICTURE], number, "task", "test")
        for number, doc in enumerate(docs)
        for choice in ("red", "blue")
    ]
    results = adapter("PerceptSimple", Scripted(str), docs).loglikelihood(requests)
    assert [result.text for result in results] == [(1.0, True), (3.0, False), (2.0, False), (1.0, True)]
    with pytest.raises(PerceptError, match="option force_simple"):
        adapter("Percept", Scripted(str), docs).loglikelihood(requests)


def test_rounds_follow_from_the_answers():
    def to_messages(
        doc: dict[str, Any],
        *,
        round_idx: int | None = None,
        previous_output: Any = None,
        previous_round_info: Any = None,
    ):
        if round_idx is None:
            return chat(doc)
        said = " ".join(previous_output)
        return chat({**doc, "text": f"after {said}"}), round_idx == 3, previous_output, round_idx

    docs = [{"images": 1, "text": "first"}]
    asked = request("", to_messages, {}, 0, "task", "test")
    answers = adapter("Percept", Scripted(lambda text: text.split()[-1]), docs).generate_until_multi_round([asked])
    assert answers == [["first", "first", "first"]]
    with pytest.raises(PerceptError, match="several rounds"):
        adapter("PerceptSimple", Scripted(str), docs).generate_until_multi_round([asked])


def test_sampled_answers_are_refused():
    with pytest.raises(PerceptError, match="give temperature 0"):
        lmms.most_of({"do_sample": True, "temperature": 0.7})
    assert lmms.most_of({"do_sample": False, "temperature": 0.7, "until": "x"}) == (lmms.MOST_TOKENS, ("x",))
