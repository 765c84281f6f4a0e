"""The prompt family: counts of the papers on towers of their sizes, deep prompts against a plain loop, and the equations of each method."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import percept
from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation.contract import Adaptation, tiny_base
from percept.methods.adaptation.deep import DeepConfig, DeepPrompts, spread
from percept.methods.adaptation.kgcoop import KgCoOp
from percept.methods.adaptation.maple import MaPLe
from percept.methods.adaptation.prompts import PHRASE, PromptConfig
from percept.methods.adaptation.texts import Base, base_of
from percept.methods.adaptation.tip_adapter import TipAdapter
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig

NAMES = ("cat", "traffic light", "pair of scissors")


@pytest.fixture(scope="module")
def nano() -> Base:
    return base_of(percept.load("nano", device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def paper_base() -> Base:
    """Towers of the sizes of CLIP ViT-B/16, without values."""
    tokenizer = Tokenizer.train(["a photo of a cat."], vocab_size=300, context=77)
    vision = VisionConfig(image_size=224, patch_size=16, width=768, layers=12, heads=12, pool="class", output_dim=512)
    text = TextConfig(context=77, vocabulary=tokenizer.vocab_size, width=512, layers=12, heads=8, output_dim=512)
    with torch.device("meta"):
        clip = CLIP(ClipConfig(vision=vision, text=text))
    return Base(clip=clip, tokenizer=tokenizer)


def counted(method: Adaptation) -> int:
    method.check_trainable()
    return sum(method.trainable().values())


def test_maple_trains_as_many_values_as_published(paper_base: Base) -> None:
    assert counted(MaPLe(MaPLe.Config(), paper_base, NAMES)) == 3_555_072
    cross = MaPLe.Config(prompts=DeepConfig(depth=3))
    assert counted(MaPLe(cross, paper_base, NAMES)) == 3 * 2 * 512 + 3 * (512 * 768 + 768)


def test_kgcoop_and_tip_adapter_have_the_constants_of_their_code(paper_base: Base) -> None:
    assert counted(KgCoOp(KgCoOp.Config(), paper_base, NAMES)) == 2_048
    assert KgCoOp.Config().weight == 8.0
    assert (KgCoOp.recipe(16).epochs, KgCoOp.recipe(16).batch, KgCoOp.recipe(16).rate) == (100, 128, 0.002)
    config, training = TipAdapter.Config(), TipAdapter.recipe(16)
    assert (config.share, config.sharpness) == (1.0, 5.5)
    assert (training.epochs, training.batch, training.rate, training.optimiser) == (20, 256, 1e-3, "adamw")


def test_depths_are_scaled_to_the_tower() -> None:
    assert spread(1, 9, (12, 12)) == [tuple(range(9))] * 2
    assert spread(6, 12, (12, 12)) == [(5, 6, 7, 8, 9, 10, 11)] * 2
    assert spread(6, 12, (4, 6)) == [(2, 3), (2, 4)]
    assert spread(1, 9, (1, 24)) == [(0,), (0,)]
    with pytest.raises(PerceptError, match="depth must be from 1 to 12"):
        DeepConfig(depth=13)
    with pytest.raises(PerceptError, match="before the name"):
        DeepConfig(prompt=PromptConfig(context=2, position="front"))


def loop(blocks: nn.ModuleList, x: Tensor, tokens: dict[int, Tensor], causal: bool) -> Tensor:
    """Run blocks whose tokens 1 to m are replaced before some of them."""
    from percept.nn.context import Context

    for number, block in enumerate(blocks):
        if number in tokens:
            m = len(tokens[number])
            x = torch.cat([x[:, :1], tokens[number].expand(len(x), -1, -1), x[:, 1 + m :]], dim=1)
        x = block(x, Context(causal=causal))
    return x


@torch.no_grad()
def test_deep_prompts_of_the_text_replace_tokens_block_by_block(nano: Base) -> None:
    torch.manual_seed(0)
    prompts = DeepPrompts(DeepConfig(prompt=PromptConfig(context=3)), nano, NAMES)
    prompts.use(NAMES)
    text, tokens = nano.text, prompts.text_tokens()
    assert prompts.prompt is not None
    for each in tokens:
        each.normal_()
    full = prompts.prompt.embeddings(text)
    x = full + text.positions[: full.shape[1]]
    x = loop(text.blocks, x, dict(zip(prompts.text_blocks[1:], tokens[1:], strict=True)), causal=True)
    expected = text.norm(x)[torch.arange(len(NAMES)), prompts.prompt.ends] @ text.projection
    torch.testing.assert_close(prompts.run_text(text).pooled, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_deep_prompts_of_the_image_are_linear_functions_of_those_of_the_text() -> None:
    torch.manual_seed(0)
    base = tiny_base()
    vision: Any = base.clip.vision
    prompts = DeepPrompts(DeepConfig(), base, ("cup",))
    image = torch.randn(2, 3, 16, 16)
    tokens = [layer(each) for layer, each in zip(prompts.couple, prompts.text_tokens(), strict=True)]
    embedded, grid = vision.embed_patches(image)
    x = vision.norm_pre(vision.add_positions(embedded, grid))
    x = torch.cat([x[:, :1], tokens[0].expand(2, -1, -1), x[:, 1:]], dim=1)
    from percept.nn.context import Context

    for number, block in enumerate(vision.blocks):
        if number in prompts.image_blocks[1:]:
            replaced = tokens[prompts.image_blocks.index(number)].expand(2, -1, -1)
            x = torch.cat([x[:, :1], replaced, x[:, 3:]], dim=1)
        x = block(x, Context(rope=vision.rope(grid, 3, x.device)))
    expected = vision.pooled(vision.norm_post(torch.cat([x[:, :1], x[:, 3:]], dim=1)), 1)
    out = prompts.run_image(vision, image)
    torch.testing.assert_close(out.pooled, expected, atol=1e-5, rtol=1e-5)
    assert out.tokens.shape == (2, 5, 16)


@pytest.mark.parametrize("towers", ["coupled", "free", "text", "image"])
def test_each_tower_can_be_left_without_prompts(towers: Any) -> None:
    torch.manual_seed(0)
    base = tiny_base()
    method = MaPLe(MaPLe.Config(prompts=DeepConfig(towers=towers)), base, ("cup", "red cup"))
    method.check_trainable()
    image = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        for each in method.prompts.parameters():
            each.normal_()
        same_images = torch.allclose(method.image_features(image), base.clip.encode_image(image), atol=1e-5)
        same_texts = torch.allclose(method.class_vectors(), method.hand_vectors(), atol=1e-5)
    assert same_images == (towers == "text")
    assert same_texts == (towers == "image")


def test_a_shared_context_starts_from_the_words_of_the_template(nano: Base) -> None:
    words = nano.tokenizer.encode(PHRASE)[:2]
    start = MaPLe(MaPLe.Config(), nano, NAMES).prompts.text_tokens()[0]
    torch.testing.assert_close(start.detach(), nano.text.embedding.weight[torch.tensor(words)].detach())
