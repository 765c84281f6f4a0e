"""The recipes of perception language models: published settings, and runs on rows from a file, end to end."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import percept
from percept.core.errors import PerceptError
from percept.core.io import load_tensors
from percept.data.chat.rank_file import llama_specials
from percept.data.chat.vocabulary import LanguageTokenizer
from percept.methods.language.plm import PLM
from percept.models.lm import Decoder
from percept.recipes import plm, plm_nano
from percept.recipes.plm import PUBLISHED, Config, Lora, Stage1, Stage2, Stage3
from percept.train import fit
from percept.train.chain import fit_chain
from percept.train.experiment import Placement, Settings
from percept.weights.assistant_files import write_assistant

SETTINGS = Settings(steps=3, batch=2, learning_rate=1e-3, device="cpu", dtype="float32", warmup=0, log_every=1)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, trained for a moment by the recipe itself."""
    folder = tmp_path_factory.mktemp("nano") / "run"
    return fit_chain(plm_nano.recipe(plm_nano.tiny()), folder)[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rows")
    names = ("red", "green", "blue")
    for name in names:
        Image.new("RGB", (40, 30), name).save(folder / f"{name}.png")
    turns = [[{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": name}] for name in names]
    lines = [{"image": f"{name}.png", "conversations": each} for name, each in zip(names, turns, strict=True)]
    lines.append({"conversations": turns[0]})
    (folder / "own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "own.jsonl"


def test_the_published_settings() -> None:
    """Table of the three stages; arXiv:2504.13180 and its configurations."""
    table = {stage: (PUBLISHED[stage, "1B"], PUBLISHED[stage, "8B"]) for stage in (1, 2, 3)}
    assert [small.steps for small, _ in table.values()] == [8_000, 35_000, 21_000]
    assert [small.batch for small, _ in table.values()] == [512, 2_048, 1_024]
    assert [small.learning_rate for small, _ in table.values()] == [1e-4, 4e-5, 4e-5]
    assert [large.learning_rate for _, large in table.values()] == [1e-4, 4e-5, 1e-5]
    assert [large.weight_decay for _, large in table.values()] == [0.05] * 3
    assert {small.floor for small, _ in table.values()} == {0.01}
    limits = [(kind().tiles, kind().limit, kind().pooling, kind().train) for kind in (Stage1, Stage2, Stage3)]
    assert limits == [(0, 1_280, 1, "projector"), (16, 6_144, 2, "all"), (36, 11_520, 2, "all")]
    assert (Stage2().layer_scale, Stage2().drop_path, Stage2().frames, Stage3().frames) == (0.1, 0.1, 16, 32)


@pytest.mark.parametrize("train", ["all", "projector", "lora"])
def test_fine_tuning_on_own_rows_gives_a_model_that_opens(start: Path, rows: Path, tmp_path: Path, train: str) -> None:
    config = Config(
        init=str(start),
        data=(str(rows),),
        train=train,  # type: ignore[arg-type]
        settings=SETTINGS,
        limit=200,
        lora=Lora(rank=2, alpha=4.0),
    )
    fit(plm.finetune(config), tmp_path / "run")
    before, after = (load_tensors(folder / "model.safetensors") for folder in (start, tmp_path / "run"))
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert (
        changed == {"all": {"vision", "projector", "decoder"}, "projector": {"projector"}, "lora": {"decoder"}}[train]
    )
    assistant = percept.assistant(tmp_path / "run")
    ids = torch.tensor([[5, 6, 7]])
    assert assistant.logits(ids).shape[:2] == (1, 3)


def test_a_killed_and_resumed_run_is_the_uninterrupted_one(start: Path, rows: Path, tmp_path: Path) -> None:
    config = Config(init=str(start), data=(f"{rows}:2", str(rows)), settings=replace(SETTINGS, steps=6), limit=200)
    fit(plm.finetune(config), tmp_path / "whole")
    fit(plm.finetune(config), tmp_path / "parts", minutes=1e-9)
    fit(plm.finetune(config), tmp_path / "parts")
    whole, parts = (load_tensors(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_stage_1_joins_an_encoder_and_a_decoder(start: Path, rows: Path, tmp_path: Path) -> None:
    config = Stage1(encoder="nano", decoder=str(start), data=(str(rows),), settings=SETTINGS, limit=400)
    fit(plm.stage1(config), tmp_path / "one")
    settings = replace(SETTINGS, decay_all=True, floor=0.1)
    second = Stage2(init=str(tmp_path / "one"), data=(str(rows),), settings=settings, limit=400, tiles=1)
    fit(plm.stage2(second), tmp_path / "two")
    model = percept.assistant(tmp_path / "two").model
    assert model.config.pooling == 2
    assert model.config.vision.layer_scale == 0.1


def llama(folder: Path) -> Path:
    """A decoder in the layout of Llama 3 for transformers: no image token, and a system sentence in its template."""
    specials = [name.replace("<|image|>", "<|reserved_special_token_0|>") for name in llama_specials()]
    tokens = LanguageTokenizer.train(["red green blue"], vocab_size=520, specials=specials)
    config = replace(PLM.tiny()[0].vlm.config.decoder, vocabulary=tokens.vocab_size, context=256, tied=False)
    write_assistant(folder, Decoder(config).state_dict(), config, name="llama", layout="transformers")
    tokens.save(folder / "tokenizer.json")
    turn = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    template = turn.format("system", "Be kind.") + "{% for m in messages %}" + turn.format("user", "x") + "{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_stage_1_takes_a_llama_folder_as_it_is(rows: Path, tmp_path: Path) -> None:
    """Its first reserved token becomes the image token, and what the system says is not learned from in stage 1."""
    folder = llama(tmp_path / "llama")
    settings = replace(SETTINGS, steps=1)
    config = Stage1(encoder="nano", decoder=str(folder), data=(str(rows),), settings=settings, limit=400)
    run = plm.stage1(config)
    batch: Any = run.source(Placement(device=torch.device("cpu"))).batch(0)
    processor = plm.opened(config)[1]
    image = processor.tokenizer.special("<|image|>")
    texts = {
        processor.tokenizer.decode(ids[:length].tolist())
        for ids, length in zip(batch.ids, batch.lengths.tolist(), strict=True)
    }
    assert texts <= {"red\n", "green\n", "blue\n"}
    assert image == processor.tokenizer.special("<|begin_of_text|>") + 2
    fit(run, tmp_path / "one")
    second = Stage2(init=str(tmp_path / "one"), data=(str(rows),), settings=settings, tiles=1)
    assert plm.opened(second)[1].template.system == "Be kind."


def test_rows_beyond_the_context_of_the_model_are_left_out(start: Path, rows: Path, tmp_path: Path) -> None:
    context = percept.assistant(start).config.decoder.context
    long = [{"from": "human", "value": "Why? " * context}, {"from": "gpt", "value": "x"}]
    more = json.dumps({"conversations": long}) + "\n"
    data = rows.with_name("long.jsonl")
    data.write_text(rows.read_text() + more)
    config = Config(init=str(start), data=(str(data),), settings=SETTINGS, limit=100 * context, max_bad=0.9)
    source: Any = plm.finetune(config).source(Placement(device=torch.device("cpu")))
    assert max(int(source.batch(step).lengths.max()) for step in range(5)) <= context
    assert source.bad.counts == {"too long": 1}


def test_the_memory_is_that_of_one_process(start: Path, rows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(init=str(start), data=(str(rows),), settings=replace(SETTINGS, batch=8, shard=True), limit=200)
    shown = []
    for size in (1, 8):
        plm.finetune(config).task(Placement(device=torch.device("cpu"), world_size=size))
        shown.append(" ".join(capsys.readouterr().err.split()))
    alone, of_eight = ([float(number) for number in re.findall(r"\d+\.\d+", text)] for text in shown)
    assert of_eight == pytest.approx([number / 8 for number in alone], rel=0.15)
    assert shown[1].startswith("each process of plm/finetune needs about")
    assert shown[1].endswith("short rows take less")
    plm.finetune(config).task(Placement(device=torch.device("cpu"), rank=1, world_size=8))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": ()}, "no data"),
        ({"init": ""}, "no model to begin with"),
        ({"encoder": "nano", "decoder": "x"}, "one of the two"),
        ({"init": "", "encoder": "nano"}, "go together"),
        ({"data": ("rows.jsonl:0",)}, "positive number"),
        ({"frames": 0}, "frames=0 is too small"),
        ({"tiles": -1}, "tiles=-1 is too small"),
        ({"limit": 0}, "limit=0 is too small"),
    ],
)
def test_a_run_that_cannot_begin_says_why(change: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        plm.finetune(Config(**{"init": "somewhere", "data": ("rows.jsonl",), **change}))
