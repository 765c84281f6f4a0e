"""A compiled encoder computes what the plain one does, compiles one block for all, and leaves the names of weights alone.

`test_compile.py` runs these in a process of their own: the compiler cannot trace functions whose shapes are checked.
"""

import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode

import percept
from percept.core import machine
from percept.fast import adopt, attention, compiled_call, linear
from percept.infer.encoder import Encoder
from percept.models.vision import VisionTower
from percept.nn.stack import call_block
from tests.conformance.wrapping import replaceable, wrap
from tests.infer import tiny

CPU = torch.device("cpu")
pytestmark = [  # of the compiler itself
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]
needs_compiler = pytest.mark.skipif(machine.compiler(CPU) is None, reason="there is no C++ compiler")


def counting(encoder: Encoder, dynamo: str = "eager") -> Encoder:
    """Trace as for compiling but run the traced graph as it is: compilations are counted, and take no time."""
    for tower in (encoder.model.vision, encoder.model.text):
        assert tower is not None
        tower.compile(backend=dynamo)
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
    assert compiled.model.vision.cut(1).call is compiled.model.vision.call
    copied = copy.deepcopy(compiled.model)
    with torch.no_grad():
        torch.testing.assert_close(copied.embed_image(images), compiled.image(images))


def test_training_compiles_too() -> None:
    images, gradients = torch.randn(2, 3, 24, 24), []
    for call in (call_block, compiled_call(backend="aot_eager")):
        for checkpointing in (False, True):
            model = tiny.model().train()
            tower = model.vision
            assert isinstance(tower, VisionTower)
            tower.call, tower.checkpointing = call, checkpointing
            model.embed_image(images).square().mean(dim=0).sum().backward()
            gradients.append(tower.patch.weight.grad)
    for other in gradients[1:]:
        torch.testing.assert_close(other, gradients[0])


def test_layers_inserted_tokens_and_hooks_are_as_before() -> None:
    model, images, seen = tiny.model().eval(), torch.randn(2, 3, 24, 24), []
    extra = {1: torch.randn(2, model.config.vision.width), 2: torch.randn(1, model.config.vision.width)}
    with torch.no_grad():
        expected = [model.vision(images, layers=(0, -1), extra=one) for one in ({}, extra)]
        model.vision.compile(backend="eager")
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
        monkeypatch.setattr(module, "inference_on_gpu", lambda x: True)
    monkeypatch.setattr(attention, "prefers_cudnn", lambda device: True)
    monkeypatch.setattr(attention, "LEAST_QUERIES", 2)
    model = tiny.model().eval().to("meta", torch.bfloat16)
    adopt(model, pack=False)
    images = torch.empty(2, 3, 24, 24, device="meta", dtype=torch.bfloat16)
    counters.clear()
    with torch.no_grad():
        with Listening():
            eager = model.encode_image(images).shape
        model.vision.compile(backend=traced)
        assert model.encode_image(images).shape == eager == (2, model.config.vision.output_dim)
    blocks = len(model.vision.blocks)
    assert called.count(cudnn) == blocks
    assert called.count(gelu) == blocks + 1  # attention pooling has an MLP too
    assert [(graph.count(cudnn), graph.count(gelu)) for graph in graphs] == [(1, 1)]  # of all blocks
    assert not counters["graph_break"]


def towers() -> list[tuple[torch.nn.Module, torch.Tensor]]:
    model = tiny.model()
    ids = tiny.tokenizer()(["a cup", "a dog"])
    return [(model.get_submodule("vision"), torch.randn(2, 3, 24, 24)), (model.get_submodule("text"), ids)]


@pytest.mark.parametrize("which", [0, 1], ids=["vision", "text"])
@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_tower_is_one_graph(which: int, adopted: bool, training: bool) -> None:
    tower, given = towers()[which]
    if adopted:
        adopt(tower, pack=False)
    whole = torch.compile(tower, fullgraph=True, backend="eager")
    with torch.set_grad_enabled(training):
        expected = tower(given, layers=(0,))
        found = whole(given, layers=(0,))
    torch.testing.assert_close(found.pooled, expected.pooled)
    torch.testing.assert_close(found.hidden[0], expected.hidden[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wrapped_layers_of_a_compiled_tower_act_and_learn(dtype: torch.dtype) -> None:
    model = tiny.model().to(dtype)
    image = torch.randn(2, 3, 24, 24, dtype=dtype)
    for name in replaceable(model.get_submodule("vision")):
        tower = tiny.model().to(dtype).get_submodule("vision")
        before = tower(image).pooled.detach()
        wrapper = wrap(tower, name)
        tower.compile(backend="eager")
        out = tower(image).pooled
        out.float().square().sum().backward()
        assert wrapper.acted(), name
        assert not torch.equal(out, before), name
