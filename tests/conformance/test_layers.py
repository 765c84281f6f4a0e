"""Replaceable means replaceable: a wrapper in the place of any layer is called, changes the output and gets a gradient."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from percept.fast import adopt
from percept.models.clip import CLIP
from percept.models.config import ClipConfig
from percept.models.text import TextTower
from percept.models.vision import VisionTower
from percept.nn.attention import Attention
from percept.nn.block import Block
from percept.nn.context import Context
from percept.nn.mlp import MLP
from percept.nn.pool import AttentionPool
from percept.nn.rope import rope_2d
from tests.conformance.wrapping import replaceable, wrap
from tests.models.small import TEXT, VISION, images, texts

TYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
ADOPTED = pytest.mark.parametrize("adopted", [None, False, True], ids=["plain", "adopted", "adopted and packed"])


def model(dtype: torch.dtype, adopted: bool | None) -> CLIP:
    torch.manual_seed(0)
    clip = CLIP(ClipConfig(vision=VISION, text=TEXT)).eval().requires_grad_(False).to(dtype)
    if adopted is not None:
        adopt(clip, pack=adopted)
    return clip


def vectors(clip: CLIP, way: str, dtype: torch.dtype) -> Tensor:
    """The vectors of images, of a packed row of images, or of texts."""
    torch.manual_seed(1)
    if way == "text":
        return clip.encode_text(texts())
    given = [images(2).to(dtype), images(1, 8, 24).to(dtype)]
    return clip.encode_image(given[0]) if way == "image" else clip.encode_packed(given)


NAMES = [
    *(("image", name) for name in replaceable(VisionTower(VISION))),
    *(("packed", name) for name in replaceable(VisionTower(VISION))),
    *(("text", name) for name in replaceable(TextTower(TEXT))),
]


def test_all_layers_are_there() -> None:
    """Four layers of each block; the patch embedding and four layers of the pooling head."""
    assert len(NAMES) == 2 * (1 + 3 * 4 + 4) + 2 * 4
    assert {"patch", "pool.qkv", "pool.out", "pool.mlp.up", "pool.mlp.down"} < {name for _, name in NAMES}


@TYPES
@ADOPTED
@pytest.mark.parametrize(("way", "name"), NAMES)
def test_a_wrapped_layer_is_called_acts_and_learns(
    way: str, name: str, adopted: bool | None, dtype: torch.dtype
) -> None:
    clip = model(dtype, adopted)
    with torch.no_grad():
        before = vectors(clip, way, dtype)
    wrapper = wrap(clip.get_submodule("text" if way == "text" else "vision"), name)
    if adopted is not None:
        adopt(clip, pack=adopted)
    with torch.no_grad():
        inferred = vectors(clip, way, dtype)
    once_for_each_size = way == "packed" and not name.startswith("blocks")
    assert wrapper.calls == (2 if once_for_each_size else 1)
    trained = vectors(clip, way, dtype)
    trained.float().square().sum().backward()
    assert wrapper.acted()
    for after in (inferred, trained):
        assert not torch.allclose(after.float(), before.float(), atol=1e-3)
    exact = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(inferred, trained.detach(), atol=exact, rtol=exact)


@TYPES
@ADOPTED
def test_hooks_of_every_layer_run_and_can_change_its_output(adopted: bool | None, dtype: torch.dtype) -> None:
    for way in ("image", "packed", "text"):
        clip, calls = model(dtype, adopted), set[str]()
        before = vectors(clip, way, dtype)
        tower = clip.get_submodule("text" if way == "text" else "vision")
        for name, part in tower.named_modules():
            part.register_forward_hook(lambda *_, name=name, calls=calls: calls.add(name))
        torch.testing.assert_close(vectors(clip, way, dtype), before, atol=0.03, rtol=0.03)
        assert set(replaceable(tower)) <= calls
        for name in replaceable(tower):
            hook = tower.get_submodule(name).register_forward_hook(lambda *call: call[-1] * 0.5)
            assert not torch.allclose(vectors(clip, way, dtype), before, atol=1e-3), name
            hook.remove()


@pytest.mark.parametrize("adopted", [False, True])
def test_gradcheck_of_a_block(adopted: bool) -> None:
    block = Block(8, attention=Attention(8, 2), mlp=MLP(8, 12), layer_scale=0.5).double()
    if adopted:
        adopt(block, pack=True)
    table = rope_2d((2, 2), 4, prefix=1, first=1)
    bias = torch.randn(5, 5, dtype=torch.float64)
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    for context in (Context(rope=table), Context(bias=bias), Context(rope=table, causal=True)):
        assert torch.autograd.gradcheck(lambda x, *_: block(x, context), (x, *block.parameters()))  # noqa: B023


def test_gradcheck_of_the_pooling_head() -> None:
    pool = AttentionPool(8, 2).double()
    nn.init.normal_(pool.probe)
    x = torch.randn(2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: pool(x), (x, *pool.parameters()))


def test_gradcheck_of_a_tower() -> None:
    config = replace(VISION, width=8, layers=2, image_size=8, output_dim=4)
    tower = VisionTower(config).double()
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda image, *_: tower(image).pooled, (image, *tower.parameters()), fast_mode=True)


@pytest.mark.slow
@pytest.mark.parametrize("adopted", [False, True])
def test_peft_works_as_it_is(adopted: bool) -> None:
    peft = pytest.importorskip("peft")
    clip = model(torch.float32, None)
    if adopted:
        adopt(clip, pack=True)
    with torch.no_grad():
        before = [vectors(clip, way, torch.float32) for way in ("image", "packed", "text")]
    targets = ["qkv", "out", "up", "down", "patch"]
    lora = peft.get_peft_model(
        clip, peft.LoraConfig(r=2, lora_alpha=4, target_modules=targets, init_lora_weights=False)
    )
    wrapped = [name for name, part in clip.named_modules() if isinstance(part, peft.tuners.lora.LoraLayer)]
    assert len(wrapped) == 1 + 3 * 4 + 4 + 2 * 4
    total = sum((vectors(clip, way, torch.float32).square().sum() for way in ("packed", "text")), torch.zeros(()))
    total.backward()
    lacking = [
        name
        for name, part in lora.named_parameters()
        if part.requires_grad and (part.grad is None or not part.grad.any())
    ]
    assert lacking == []
    with torch.no_grad():
        for way, plain in zip(("image", "packed", "text"), before, strict=True):
            acted = vectors(clip, way, torch.float32)
            assert not torch.allclose(acted, plain, atol=1e-2)
            with lora.disable_adapter():
                torch.testing.assert_close(vectors(clip, way, torch.float32), plain, atol=1e-5, rtol=1e-5)
        acted = [vectors(clip, way, torch.float32) for way in ("image", "packed", "text")]
        merged = lora.merge_and_unload()
        adopt(merged, pack=adopted)
        for way, expected in zip(("image", "packed", "text"), acted, strict=True):
            torch.testing.assert_close(vectors(merged, way, torch.float32), expected, atol=1e-4, rtol=1e-4)
