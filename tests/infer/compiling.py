"""A compiled encoder gives what the plain one gives, compiles a block once for all, and leaves the weights' names alone.

`test_compile.py` runs these in another process: the compiler cannot see through functions whose shapes are checked.
"""

import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

import percept
from percept.core import machine
from percept.infer.encoder import Encoder
from percept.nn import attention, linear
from percept.nn.stack import call_block, compiled_step
from tests.infer import tiny

CPU = torch.device("cpu")
pytestmark = [  # of the compiler itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
needs_compiler = pytest.mark.skipif(machine.compiler(CPU) is None, reason="there is no C++ compiler")


def counting(encoder: Encoder, dynamo: str = "eager") -> Encoder:
    """Trace as when compiling, but run what was traced as it is: what is compiled anew shows, and takes no time."""
    for tower in (encoder.model.vision, encoder.model.text):
        assert tower is not None
        tower.step = compiled_step(backend=dynamo)
    counters.clear()
    return encoder


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_compiled_and_plain_agree(tmp_path, dtype) -> None:
    folder = tiny.folder(tmp_path / "model")
    plain, compiled = (percept.load(folder, device="cpu", dtype=dtype, compile=one) for one in (False, True))
    exact = {"float32": 1e-5, "bfloat16": 0.05}[dtype]
    for batch in (4, 3, 1):
        images = torch.randn(batch, 3, 24, 24)
        torch.testing.assert_close(compiled.image(images), plain.image(images), atol=exact, rtol=exact)
    texts = ["a red cup", "a dog to the left of a cat"]
    torch.testing.assert_close(compiled.text(texts), plain.text(texts), atol=exact, rtol=exact)
    assert "compiled" in str(compiled)
    assert compiled.identity == plain.identity


def test_blocks_share_what_is_compiled_and_sizes_end_being_new() -> None:
    plain, compiled = tiny.encoder(), counting(tiny.encoder())
    for side in (24, 32, 40, 48):
        for batch in (4, 3, 1, 2):
            images = torch.randn(batch, 3, side, 24)
            torch.testing.assert_close(compiled.image(images), plain.image(images))
    assert counters["stats"]["unique_graphs"] <= 5  # of 3 blocks at 16 shapes
    for text in ("a cup", "a red cup", "a dog to the left of a cat", "a cat"):
        torch.testing.assert_close(compiled.text([text, "a"]), plain.text([text, "a"]))
        torch.testing.assert_close(compiled.text(text), plain.text(text))
    assert counters["stats"]["unique_graphs"] <= 9
    assert not counters["graph_break"]


def test_bfloat16_compiles_whole() -> None:
    compiled = counting(tiny.encoder(dtype=torch.bfloat16))
    compiled.image(torch.randn(2, 3, 24, 24))
    compiled.text(["a cup", "a dog"])
    assert counters["stats"]["unique_graphs"] == 2
    assert not counters["graph_break"]


def test_packed_rows_are_not_compiled() -> None:
    compiled = counting(tiny.encoder())
    shapes = [torch.randint(0, 255, (3, 24, side), dtype=torch.uint8) for side in (24, 32, 40, 48)]
    found = compiled.resizing("keep").hidden(shapes)
    assert len({one.grid for one in found}) > 1
    assert not counters["stats"]["unique_graphs"]


def test_names_of_weights_and_copies_stay() -> None:
    compiled = counting(tiny.encoder())
    assert compiled.model.state_dict().keys() == tiny.encoder().model.state_dict().keys()
    images = torch.randn(2, 3, 24, 24)
    compiled.image(images)
    assert compiled.model.vision.cut(1).step is compiled.model.vision.step
    copied = copy.deepcopy(compiled.model)
    with torch.no_grad():
        torch.testing.assert_close(copied.embed_image(images), compiled.image(images))


def test_training_compiles_too() -> None:
    images, gradients = torch.randn(2, 3, 24, 24), []
    for step in (call_block, compiled_step(backend="aot_eager")):
        for checkpointing in (False, True):
            model = tiny.model().train()
            model.vision.step, model.vision.checkpointing = step, checkpointing
            model.embed_image(images).square().mean(dim=0).sum().backward()
            gradients.append(model.vision.patch.weight.grad)
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])


def test_layers_inserted_tokens_and_hooks_are_as_before() -> None:
    model, images, seen = tiny.model().eval(), torch.randn(2, 3, 24, 24), []
    extra = {1: torch.randn(2, model.config.vision.width), 2: torch.randn(1, model.config.vision.width)}
    with torch.no_grad():
        expected = [model.vision(images, layers=(0, -1), extra=one) for one in ({}, extra)]
        model.vision.step = compiled_step(backend="eager")
        model.vision.blocks[0].register_forward_hook(lambda block, given, out: seen.append(out))
        found = [model.vision(images, layers=(0, -1), extra=one) for one in ({}, extra)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close((one.tokens, one.hidden, one.pooled), (other.tokens, other.hidden, other.pooled))
    torch.testing.assert_close(seen, [one.hidden[0] for one in expected])


def test_what_a_hopper_gpu_would_be_given(monkeypatch) -> None:
    """Shapes only: its operators do not run here."""
    cudnn, gelu = torch.ops.aten._scaled_dot_product_cudnn_attention, torch.ops.aten._addmm_activation
    called, graphs = [], []

    class Listening(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(func.overloadpacket)
            return func(*args, **(kwargs or {}))

    def traced(graph, inputs):
        graphs.append([node.target for node in graph.graph.nodes])
        return graph

    for module in (attention, linear):
        monkeypatch.setattr(module, "only_inferring_on_gpu", lambda x: True)
    monkeypatch.setattr(attention, "_is_hopper", torch.compiler.assume_constant_result(lambda index: True))
    monkeypatch.setattr(attention, "LEAST_QUERIES", 2)
    model = tiny.model().eval().to("meta", torch.bfloat16)
    images = torch.empty(2, 3, 24, 24, device="meta", dtype=torch.bfloat16)
    counters.clear()
    with torch.no_grad():
        with Listening():
            eager = model.vision(images).pooled.shape
        model.vision.step = compiled_step(backend=traced)
        assert model.vision(images).pooled.shape == eager == (2, model.config.vision.output_dim)
    blocks = len(model.vision.blocks)
    assert called.count(cudnn) == blocks
    assert called.count(gelu) == blocks + 1  # attention pooling has an MLP too
    assert [(graph.count(cudnn), graph.count(gelu)) for graph in graphs] == [(1, 1)]  # of all blocks
    assert not counters["graph_break"]
