import copy
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from percept import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.fast.linear import Linear
from percept.infer import setting as setting_module
from tests.infer import tiny


def pixels(seed: int, height: int = 30, width: int = 40) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def encoder():
    return tiny.encoder()


def test_kinds_of_pictures_agree(encoder, tmp_path):
    array = pixels(0)
    Image.fromarray(array).save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    ready = encoder.preprocess.normalise(encoder.preprocess(Image.fromarray(array)))
    kinds = [tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), Image.fromarray(array)]
    vectors = encoder.image([*kinds, array, tensor, ready])
    torch.testing.assert_close(vectors, vectors[:1].expand_as(vectors), atol=1e-6, rtol=0)
    for one in (tensor, ready, array):
        torch.testing.assert_close(encoder.image(one), vectors[:1], atol=1e-6, rtol=0)


def test_vectors_are_unit_float32_on_the_cpu_in_any_computing_type():
    images = torch.rand(3, 3, tiny.SIZE, tiny.SIZE)
    exact, rough = tiny.encoder().image(images), tiny.encoder(dtype=torch.bfloat16).image(images)
    for vectors in (exact, rough):
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    cosines = (exact * rough).sum(dim=1)
    assert cosines.min() > 0.98
    assert not torch.equal(exact, rough)


@pytest.mark.parametrize("outside", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("own", [torch.float32, torch.bfloat16])
def test_an_encoder_computes_in_its_own_type_under_autocast(own, outside):
    images, ids = torch.rand(2, 3, tiny.SIZE, tiny.SIZE), tiny.tokenizer()(["a dog", "a red cup"])
    expected, one = tiny.encoder(dtype=own), tiny.encoder(dtype=own)
    with torch.autocast("cpu", outside):
        image, text, tokens = one.image(images), one.text(ids), one.tokens(images)
    assert torch.equal(image, expected.image(images))
    assert torch.equal(text, expected.text(ids))
    assert torch.equal(tokens, expected.tokens(images))


def test_a_float_tensor_is_taken_as_it_is(encoder):
    images = torch.randn(2, 3, 32, 16)  # another size than the model's, and values no picture has
    with torch.no_grad():
        expected = encoder.model.embed_image(images)
    torch.testing.assert_close(encoder.image(images), expected)


def test_order_is_kept_and_batches_do_not_matter():
    mixed = [torch.randn(3, *(((24, 24), (32, 16), (16, 40))[i % 3])) for i in range(11)]
    together = tiny.encoder(batch=3).image(mixed)
    alone = torch.cat([tiny.encoder(batch=1).image(one) for one in mixed])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)


def test_results_can_be_trained_on(encoder):
    probe = torch.nn.Linear(tiny.DIM, 2)
    probe(encoder.image(torch.randn(2, 3, 24, 24))).sum().backward()
    assert probe.weight.grad is not None


def test_equal_texts_have_equal_vectors(encoder):
    texts = ["a red cup", "a dog", "a red cup"]
    vectors = encoder.text(texts)
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    with torch.no_grad():
        torch.testing.assert_close(vectors, encoder.model.embed_text(encoder.tokenizer(texts)))
    torch.testing.assert_close(encoder.text(encoder.tokenizer(texts)), vectors)


def test_video_is_the_mean_of_unit_frames(encoder):
    frames = torch.randn(5, 3, 24, 24)
    clip = encoder.video(frames)
    torch.testing.assert_close(clip, encoder.image(frames).mean(dim=0))
    assert clip.norm() < 1
    torch.testing.assert_close(encoder.video(list(frames), normalize=True), clip / clip.norm())


@pytest.mark.parametrize("clip", [Image.new("RGB", (8, 8)), []])
def test_video_wants_frames(encoder, clip):
    with pytest.raises(PerceptError, match="frame"):
        encoder.video(clip)


def test_classify_ranks_by_softmax_of_scaled_cosines(encoder):
    labels, pictures = ["cat", "orange dog", "cup"], [pixels(1), pixels(2)]
    both = encoder.classify(pictures, labels, "a picture of a {}")
    texts = encoder.text(["a picture of a cat", "a picture of an orange dog", "a picture of a cup"])
    expected = (encoder.scale * encoder.image(pictures) @ texts.T).softmax(dim=1)
    for guesses, row in zip(both, expected, strict=True):
        found = {guess.label: guess.probability for guess in guesses}
        assert found == pytest.approx(dict(zip(labels, row.tolist(), strict=True)), abs=1e-4)
        assert guesses == sorted(guesses, key=lambda guess: -guess.probability)
    alone = encoder.classify(pictures[0], labels, "a picture of a {}")
    assert [guess.label for guess in alone] == [guess.label for guess in both[0]]


def test_templates_are_averaged_as_unit_vectors(encoder):
    forms = ("a {}", "a dog to the left of a {}")
    mean = encoder.text(["a cup", "a dog to the left of a cup"]).mean(dim=0)
    score = encoder.classify(pixels(3), ["cup"], forms)[0].score
    assert score == pytest.approx(float(encoder.image(pixels(3))[0] @ (mean / mean.norm())), abs=1e-5)


def test_features_are_the_residual_stream_as_maps(encoder):
    picture = torch.randn(2, 3, 24, 32)
    with torch.no_grad():
        hidden = encoder.model.vision(picture, layers=(0, -1)).hidden
    maps = encoder.features(picture, layers=(0, -1))
    assert {layer: map_.shape for layer, map_ in maps.items()} == {0: (2, 3, 4, 16), -1: (2, 3, 4, 16)}
    for layer in (0, -1):
        torch.testing.assert_close(encoder.tokens(picture, layer=layer), hidden[layer])
        torch.testing.assert_close(maps[layer].flatten(1, 2), hidden[layer][:, 1:])  # the class token is first
        torch.testing.assert_close(encoder.features(picture[0], layers=(layer,))[layer], maps[layer][0])


def test_files_lists_the_bad_ones_and_keeps_the_others_in_order(encoder, tmp_path):
    paths = []
    for number in range(6):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(pixels(number)).save(paths[-1])
    paths[1].write_bytes(b"")
    paths[4].write_bytes(paths[5].read_bytes()[:200])
    found = encoder.files([*paths, tmp_path / "none.png"])
    assert found.paths == [paths[0], paths[2], paths[3], paths[5]]
    assert [one.path for one in found.bad] == [paths[1], paths[4], tmp_path / "none.png"]
    assert all(one.reason for one in found.bad)
    torch.testing.assert_close(found.vectors, encoder.image(found.paths))


def test_nothing_in_nothing_out(encoder):
    assert encoder.image([]).shape == encoder.text([]).shape == (0, tiny.DIM)
    assert encoder.classify([], ["cat"]) == []


def test_a_model_of_tokens_says_so():
    dense = tiny.encoder(text=False)
    assert dense.features(pixels(0))[-1].shape == (3, 3, 16)
    with pytest.raises(PerceptError, match="PE-Core"):
        dense.text("a cat")
    with pytest.raises(PerceptError, match="tokens"):
        dense.image(pixels(0))


BAD_CALLS = {
    "a number": (lambda one: one.image(3), "int is not an image"),
    "a float array": (lambda one: one.image(np.zeros((4, 4, 3))), "uint8"),
    "an integer tensor": (lambda one: one.image(torch.zeros(3, 8, 8, dtype=torch.int64)), "uint8"),
    "a grey tensor": (lambda one: one.image(torch.zeros(1, 8, 8)), "shape"),
    "no pixels": (lambda one: one.image(torch.zeros(3, 0, 0, dtype=torch.uint8)), r"\[3, 0, 0\] has no pixels"),
    "no height": (lambda one: one.image(torch.zeros(1, 3, 0, 5, dtype=torch.uint8)), "has no pixels"),
    "a url": (lambda one: one.image("https://example.org/cat.jpg"), "url"),
    "a missing file": (lambda one: one.image("nowhere.png"), "nowhere.png"),
    "a missing layer": (lambda one: one.tokens(torch.zeros(1, 3, 24, 24), layer=3), "0 to 2"),
    "a number as text": (lambda one: one.text([3]), "str"),
    "float ids": (lambda one: one.text(torch.zeros(1, 16)), "integers"),
    "an id too large": (lambda one: one.text(torch.full((1, 4), 10**6)), "token ids"),
    "no labels": (lambda one: one.classify(pixels(0), []), "no labels"),
    "labels as one text": (lambda one: one.classify(pixels(0), "cat"), "list"),
    "a label twice": (lambda one: one.classify(pixels(0), ["cat", "cat "]), "more than once"),
    "an empty label": (lambda one: one.classify(pixels(0), ["cat", " "]), "must be a non-empty string"),
    "a template without place": (lambda one: one.classify(pixels(0), ["cat"], "a picture"), "{}"),
    "too small a picture": (lambda one: one.image(torch.zeros(1, 3, 4, 24)), "patch"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_mistakes_are_explained(encoder, case):
    call, words = BAD_CALLS[case]
    with pytest.raises(PerceptError, match=words):
        call(encoder)


def test_strings_need_a_tokenizer():
    one = tiny.encoder()
    one.tokenizer = None
    with pytest.raises(PerceptError, match=r"tokenizer\.json"):
        one.text("a cat")
    assert one.text(tiny.tokenizer()("a cat")).shape == (1, tiny.DIM)


def test_vectors_that_are_no_numbers_are_refused():
    broken = tiny.encoder()
    with torch.no_grad():
        next(broken.model.vision.parameters()).fill_(float("nan"))
        next(broken.model.text.parameters()).fill_(float("inf"))  # type: ignore[union-attr]
    with pytest.raises(PerceptError, match="NaN or infinite"):
        broken.image(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(PerceptError, match="NaN or infinite"):
        broken.text("a red cup")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda one: one.text(None), "NoneType is none of them"),
        (lambda one: one.text(3), "int is none of them"),
        (lambda one: one.text(torch.zeros(1, 0, dtype=torch.long)), r"got torch.int64 \[1, 0\]"),
        (lambda one: one.classify(torch.randn(3, 24, 24), None), "no labels were given"),
        (lambda one: tiny.encoder(batch=0), "batch must be at least 1, got 0"),
    ],
)
def test_arguments_of_a_wrong_kind_are_explained(call, words):
    with pytest.raises(PerceptError, match=words):
        call(tiny.encoder())


def test_one_layer_may_be_a_number():
    image = torch.randn(3, 24, 24)
    one = tiny.encoder()
    assert torch.equal(one.features(image, layers=-1)[-1], one.features(image, layers=[-1])[-1])


def test_vectors_follow_weights_that_change():
    one, image = tiny.encoder(), torch.rand(2, 3, tiny.SIZE, tiny.SIZE)
    before, words = one.image(image), one.text("a red cup")
    with torch.no_grad():
        for parameter in one.model.parameters():
            parameter.mul_(torch.rand_like(parameter) + 0.5)
    fresh = tiny.encoder()
    fresh.model.load_state_dict(one.model.state_dict())
    torch.testing.assert_close(one.image(image), fresh.image(image))
    torch.testing.assert_close(one.text("a red cup"), fresh.text("a red cup"))
    assert not torch.allclose(one.image(image), before, atol=1e-3)
    assert not torch.allclose(one.text("a red cup"), words, atol=1e-3)


def test_another_tokenizer_of_a_copy_is_its_own(encoder):
    first = encoder.text("a cat")
    copy = encoder.resizing("crop")
    assert torch.equal(copy.text("a cat"), first)
    copy.tokenizer = Tokenizer.train(["the cat of another text"], vocab_size=290, context=tiny.CONTEXT)
    assert not torch.equal(copy.text("a cat"), first)
    assert copy.identity.text != encoder.identity.text
    assert torch.equal(encoder.text("a cat"), first)


def test_weights_are_frozen_and_packed_if_memory_permits(monkeypatch):
    monkeypatch.setattr("percept.fast.linear.direct", lambda dtype: True)
    for memory, packed in ((0, 0), (1 << 40, 3 * 4 + 4)):  # four layers of each block, and of the pooling head
        monkeypatch.setattr(setting_module, "total_memory", lambda memory=memory: memory)
        model = tiny.encoder().model
        assert not any(parameter.requires_grad for parameter in model.parameters())
        layers = [part for part in model.modules() if isinstance(part, Linear)]
        assert len(layers) == 3 * 4 + 4 + 2 * 4
        assert len([layer for layer in layers if layer.packed is not None]) == packed


def test_text_follows_switches_of_the_modules_in_its_tower():
    """Adapters are switched by an attribute, which nothing could notice."""
    encoder = tiny.encoder()

    class Switched(torch.nn.Module):
        on = True

        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) + float(self.on)

    before = encoder.text("a cat")
    mlp = encoder.model.get_submodule("text.blocks.0.mlp")
    mlp.up = Switched(mlp.up)
    assert not torch.allclose(encoder.text("a cat"), before, atol=1e-3)
    Switched.on = False
    assert torch.equal(encoder.text("a cat"), before)


def test_hidden_holds_a_few_images_of_a_long_stream():
    """Only a batch and the images that threads read ahead are taken before results come."""
    encoder, taken = tiny.encoder(batch=4), 0

    def source():
        nonlocal taken
        for _ in range(400):
            taken += 1
            yield torch.zeros(3, tiny.SIZE, tiny.SIZE)

    ahead = [taken - number for number, _ in enumerate(encoder.hidden(source(), layers=-1))]
    assert taken == len(ahead) == 400
    assert max(ahead) <= 4 + 2 * min(16, os.cpu_count() or 1)


class Adapter(torch.nn.Module):
    """A layer with an addition that a flag switches, as those of peft."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.base, self.on = base, False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) * (2 if self.on else 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapter_that_is_switched_acts_at_once_on_images_and_texts(dtype):
    own = tiny.encoder(dtype=dtype)
    image, text = pixels(3), ["a red cup"]
    plain = own.image(image), own.text(text)
    adapters = []
    for tower in ("vision", "text"):
        block = own.model.get_submodule(f"{tower}.blocks.0.mlp")
        adapters.append(Adapter(block.get_submodule("up")))
        block.add_module("up", adapters[-1])
    for on in (True, False, True, False):
        for adapter in adapters:
            adapter.on = on
        for vectors, before in zip((own.image(image), own.text(text)), plain, strict=True):
            apart = float((vectors - before).abs().max())
            assert (apart > 1e-3) if on else (apart < (1e-5 if dtype is torch.float32 else 2e-2))


def test_identity_follows_weights_that_change_after_loading():
    encoder, other = tiny.encoder(), tiny.encoder()
    first = encoder.identity
    assert first == other.identity == copy.deepcopy(encoder).identity
    with torch.no_grad():
        encoder.model.get_parameter("vision.blocks.0.mlp.up.weight").mul_(2)
    changed = encoder.identity
    assert changed.image != first.image
    assert changed.text == first.text
    assert pickle.loads(pickle.dumps(encoder)).identity == changed
    block = other.model.get_submodule("vision.blocks.0.mlp")
    block.add_module("up", torch.nn.Sequential(block.get_submodule("up"), torch.nn.Identity()))
    assert other.identity.image != first.image
    assert encoder.resizing("crop").identity.image not in (first.image, changed.image)
