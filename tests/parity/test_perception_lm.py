"""Outputs of transformers' PerceptionLM: logits, greedy tokens and visual tokens, from every layout."""

from pathlib import Path

import pytest
import torch

import percept
from percept.infer.assistant import Assistant
from percept.weights.assistant_files import write_assistant
from tests.golden import speaking
from tests.golden.filling import image

LAYOUTS = ["transformers as it is", "percept", "transformers", "transformers in parts"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The toy model in every layout that can hold it: the positions of its tower are stretched, which the original lacks."""
    root = tmp_path_factory.mktemp("plm")
    made = {LAYOUTS[0]: speaking.folder(root / "0")}
    model = percept.assistant(made[LAYOUTS[0]], device="cpu").model
    for name in LAYOUTS[1:]:
        size = 100_000 if "parts" in name else 10**9
        made[name] = write_assistant(
            root / name, model.state_dict(), model.config, name="toy", layout=name.split()[0], shard_bytes=size
        )
    assert len(list(made[LAYOUTS[3]].glob("model-*-of-*.safetensors"))) > 2
    return made


@pytest.fixture(params=LAYOUTS)
def toy(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Assistant:
    return percept.assistant(folders[request.param], device="cpu")


@pytest.mark.parametrize("case", speaking.TILES)
def test_logits_and_greedy_tokens(toy: Assistant, case: str) -> None:
    ids, tiles = speaking.reference(f"{case}/ids"), speaking.tiles(case)
    found, expected = toy.logits(ids, tiles), speaking.reference(f"{case}/logits")
    assert float((found - expected).abs().max()) <= 1e-4
    assert float((found - expected).mean().abs()) <= 1e-6
    answer = toy.generate_ids(ids, tiles, max_new_tokens=12, stop_ids=(speaking.EOS,))
    assert torch.equal(answer, speaking.reference(f"{case}/greedy"))


def test_visual_tokens(toy: Assistant) -> None:
    with torch.no_grad():
        found = toy.model.encode(image(44, 2, 3, speaking.PIXELS, speaking.PIXELS))
    assert float((found - speaking.reference("vision/projected")).abs().max()) <= 1e-4


def test_a_tied_file_without_the_copy_is_the_same_model(tmp_path: Path) -> None:
    toy = percept.assistant(speaking.folder(tmp_path, head=False), device="cpu")
    ids = speaking.reference("one/ids")
    expected = speaking.reference("one/logits")
    assert float((toy.logits(ids, speaking.tiles("one")) - expected).abs().max()) <= 1e-4
