"""`percept.assistant`: logits and greedy ids, number types, and what is refused."""

from pathlib import Path

import pytest
import torch

import percept
from percept.core.errors import PerceptError
from percept.infer.assistant import Assistant, check_inputs
from percept.infer.setting import Setting
from percept.weights.assistant_files import write_assistant
from tests.models import small, talking


def made(dtype: torch.dtype = torch.float32) -> Assistant:
    return Assistant(talking.vlm(), name="toy", setting=Setting(device=torch.device("cpu"), dtype=dtype))


@torch.no_grad()
def test_greedy_ids_are_those_of_the_brute_force() -> None:
    """Every token from the logits of the whole sequence so far, without a cache."""
    model, assistant = talking.vlm(), made()
    ids, tiles = talking.prompt(2), small.images(2)
    embeddings, expected = model.embed(ids, model.encode(tiles)), []
    for _ in range(10):
        token = model(embeddings=embeddings)[:, -1].argmax(dim=-1, keepdim=True)
        embeddings = torch.cat([embeddings, model.decoder.embedding(token)], dim=1)
        expected.append(int(token))
    found = assistant.generate_ids(ids, tiles, max_new_tokens=10, stop_ids=())
    assert found.tolist() == [expected]
    stop = int(found[0, 4])
    first = found[0].tolist().index(stop)
    cut = assistant.generate_ids(ids, tiles, max_new_tokens=10, stop_ids=(stop,))
    assert torch.equal(cut, found[:, : first + 1])
    assert torch.equal(assistant.generate_ids(ids, tiles, max_new_tokens=3, stop_ids=()), found[:, :3])


def test_the_stop_ids_of_the_model_are_the_default() -> None:
    assistant = made()
    with torch.no_grad():
        assistant.model.decoder.embedding.weight[talking.STOP] *= 1e3
    ids = torch.cat([talking.ids(1) for _ in range(5)], dim=1)
    found = assistant.generate_ids(ids, max_new_tokens=9)
    assert int((found == talking.STOP).sum()) <= 1
    assert found.shape[1] == 9 or int(found[0, -1]) == talking.STOP


def test_text_alone() -> None:
    assistant, ids = made(), talking.ids(6)
    assert assistant.logits(ids).shape == (1, 6, talking.DECODER.vocabulary)
    torch.testing.assert_close(assistant.logits(ids, small.images(1)[:0]), assistant.logits(ids))


def test_the_result_is_float32_on_the_cpu_and_nothing_is_trainable() -> None:
    assistant = made(torch.bfloat16)
    logits = assistant.logits(talking.prompt(1), small.images(1))
    assert (logits.dtype, logits.device.type, logits.requires_grad) == (torch.float32, "cpu", False)
    assert not any(parameter.requires_grad for parameter in assistant.model.parameters())
    torch.testing.assert_close(logits.mean(), made().logits(talking.prompt(1), small.images(1)).mean(), atol=1, rtol=1)
    assert repr(assistant) == "Assistant('toy', cpu, bfloat16)"


@pytest.mark.parametrize(("given", "expected"), [(None, torch.bfloat16), ("float32", torch.float32)])
def test_number_types(tmp_path: Path, given: str | None, expected: torch.dtype) -> None:
    model = talking.vlm()
    folder = write_assistant(tmp_path, model.state_dict(), model.config, name="toy", dtype=torch.bfloat16)
    assert percept.assistant(folder, device="cpu", dtype=given).model.decoder.embedding.weight.dtype == expected
    assert percept.assistant(f"{folder}@float16", device="cpu").setting.dtype == torch.float16
    with pytest.raises(PerceptError, match="asks for @float16, but dtype='float32' was given"):
        percept.assistant(f"{folder}@float16", dtype="float32")


def test_refusals() -> None:
    assistant, tiles = made(), small.images(1)
    for call, words in (
        (lambda: check_inputs(torch.zeros(1, 3), None), r"ids must be integers \[1, n\].*, got torch.float32 \[1, 3\]"),
        (lambda: check_inputs(talking.ids(3, batch=2), None), r"got torch.int64 \[2, 3\]"),
        (lambda: assistant.logits(talking.ids(0)), "ids must be integers"),
        (lambda: check_inputs(talking.prompt(1), tiles[0]), r"tiles must be floats \[k, 3, y, x\]"),
        (lambda: check_inputs(talking.prompt(1), tiles.byte()), "got torch.uint8"),
        (lambda: assistant.logits(talking.prompt(2), tiles), "fewer images than placeholders"),
        (lambda: assistant.generate_ids(talking.ids(3), max_new_tokens=0), "max_new_tokens=0 asks for nothing"),
        (lambda: assistant.generate_ids(talking.ids(60), max_new_tokens=9), "69 tokens, images and answer included"),
        (lambda: assistant.logits(talking.ids(65)), "do not fit the context of 64"),
        (lambda: assistant.logits(torch.tensor([[99]])), "token ids must be 0 to 49"),
    ):
        with pytest.raises(PerceptError, match=words):
            call()


@torch.no_grad()
def test_a_generated_placeholder_is_a_token_like_any_other() -> None:
    assistant = made()
    assistant.model.decoder.embedding.weight[talking.IMAGE] *= 1e3
    ids = talking.ids(5)
    found = assistant.generate_ids(ids, max_new_tokens=6, stop_ids=())
    with torch.no_grad():
        assistant.model.decoder.embedding.weight[talking.IMAGE] *= -1
    flipped = assistant.generate_ids(ids, max_new_tokens=6, stop_ids=())
    assert talking.IMAGE in (*found[0].tolist(), *flipped[0].tolist())
