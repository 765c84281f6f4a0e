"""The prompt family: counts of the papers on towers of their sizes, deep prompts against a plain loop, and the equations of each method."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import percept
from percept.core.errors import PerceptError
from percept.data.tokenizers import Tokenizer
from percept.methods.adaptation import prompts
from percept.methods.adaptation.contract import Adaptation, tiny_base
from percept.methods.adaptation.deep import DeepConfig, DeepPrompts, spread, words_only
from percept.methods.adaptation.dpl_like import DecoupledAttention, DPLLike, flows
from percept.methods.adaptation.kgcoop import KgCoOp
from percept.methods.adaptation.maple import MaPLe
from percept.methods.adaptation.mmrl import MMRL
from percept.methods.adaptation.pre import PRE
from percept.methods.adaptation.prompts import PHRASE, PromptConfig, SoftPrompt
from percept.methods.adaptation.restore import RESTORE
from percept.methods.adaptation.shift import embedding_shift, gram
from percept.methods.adaptation.texts import Base, base_of
from percept.methods.adaptation.tip_adapter import TipAdapter
from percept.methods.saved import save_method
from percept.models.clip import CLIP
from percept.models.config import ClipConfig, TextConfig, VisionConfig
from percept.nn.context import Context

NAMES = ("cat", "traffic light", "pair of scissors")


@pytest.fixture(scope="module")
def nano() -> Base:
    return base_of(percept.load("nano", device="cpu", dtype="float32"))


@pytest.fixture(scope="module")
def paper_base() -> Base:
    """Towers of the sizes of CLIP ViT-B/16, whose values are not set."""
    tokenizer = Tokenizer.train(["a photo of a cat."], vocab_size=300, context=77)
    vision = VisionConfig(image_size=224, patch_size=16, width=768, layers=12, heads=12, pool="class", output_dim=512)
    text = TextConfig(context=77, vocabulary=tokenizer.vocab_size, width=512, layers=12, heads=8, output_dim=512)
    with torch.device("meta"):
        clip = CLIP(ClipConfig(vision=vision, text=text))
    return Base(clip=clip.to_empty(device="cpu"), tokenizer=tokenizer)


def counted(method: Adaptation) -> int:
    method.check_trainable()
    return sum(method.trainable().values())


def test_maple_trains_as_many_values_as_published(paper_base: Base) -> None:
    assert counted(MaPLe(MaPLe.Config(), paper_base, NAMES)) == 3_555_072
    cross = MaPLe.Config(prompts=DeepConfig(depth=3))
    assert counted(MaPLe(cross, paper_base, NAMES)) == 3 * 2 * 512 + 3 * (512 * 768 + 768)


@pytest.mark.parametrize("kind", [MaPLe, MMRL, RESTORE, DPLLike])
def test_towers_with_prompts_are_trained_in_the_fast_number_type_and_used_in_float32(
    kind: type[Adaptation], fast: list[torch.dtype]
) -> None:
    method, batch = kind.tiny()
    exact, trained = method.eval().logits(batch), method.train().logits(batch)
    fast.append(torch.bfloat16)
    assert torch.equal(method.eval().logits(batch), exact)
    rounded = method.train().logits(batch)
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - trained).detach().abs().max() < 0.05 * trained.detach().abs().max()
    method(batch)["loss"].backward()
    gradients = [each.grad for each in method.parameters() if each.grad is not None]
    assert gradients
    assert {each.dtype for each in gradients} == {torch.float32}


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
    x = vision.add_positions(embedded, grid)
    x = vision.norm_pre(torch.cat([x[:, :1], tokens[0].expand(2, -1, -1), x[:, 1:]], dim=1))
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


def test_the_others_train_as_many_values_as_published(paper_base: Base) -> None:
    pre = PRE(PRE.Config(), paper_base, NAMES)
    assert counted(pre) == 1_579_008
    assert sum(each.numel() for each in pre.encoder.parameters()) == 1_576_960  # type: ignore[union-attr]
    perceptron = PRE(PRE.Config(encoder="mlp"), paper_base, NAMES)
    assert counted(perceptron) - 2_048 == 67_136
    assert counted(RESTORE(RESTORE.Config(), paper_base, NAMES)) == 7_756_544
    assert counted(RESTORE(RESTORE.Config(surgery=False), paper_base, NAMES)) == 3_555_072
    assert counted(MMRL(MMRL.Config(), paper_base, NAMES)) == 4_992_256
    plain: dict[str, Any] = {"instance_to_prompt": 1.0, "prompt_to_instance": 1.0}
    free = 9 * 2 * (512 + 768)
    assert counted(DPLLike(DPLLike.Config(condition="none", **plain), paper_base, NAMES)) == free
    assert counted(DPLLike(DPLLike.Config(**plain), paper_base, NAMES)) == free + 512 * 512


@pytest.mark.parametrize("encoder", ["lstm", "lstm2", "mlp", "mlp2"])
def test_a_folded_context_needs_no_encoder(encoder: Any, nano: Base, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = PRE(PRE.Config(encoder=encoder), nano, NAMES).eval()
    with torch.no_grad():
        before = method.class_vectors()
        assert float((before - method.hand_vectors()).abs().max()) > 1e-3
        method.fold()
        torch.testing.assert_close(method.class_vectors(), before, atol=1e-6, rtol=0)
    method.check_trainable()
    save_method(tmp_path / "saved", method, base="nano")
    opened: Any = percept.load(tmp_path / "saved", device="cpu", dtype="float32")
    torch.testing.assert_close(opened.method.class_vectors(), before, atol=1e-5, rtol=0)


def test_without_a_skip_connection_the_context_is_the_output_of_the_encoder(nano: Base) -> None:
    torch.manual_seed(0)
    method = PRE(PRE.Config(skip=False), nano, NAMES)
    assert method.encoder is not None
    torch.testing.assert_close(method.context(), method.encoder(method.prompt.context))


def test_the_gram_norm_is_that_of_the_large_matrix() -> None:
    tokens = [torch.randn(2, 5), torch.randn(2, 5)]
    expected = torch.stack([torch.linalg.norm(each.T @ each) for each in tokens])
    torch.testing.assert_close(gram(tokens), expected)


def test_restore_adds_the_squared_differences_of_deep_shifts() -> None:
    torch.manual_seed(0)
    method, batch = RESTORE.tiny()
    assert batch.image is not None
    text = method.prompts.text_tokens()
    with torch.no_grad():
        torch.testing.assert_close(method.shifts(batch.image).text, torch.ones(2))
        for each in text:
            each.mul_(2.0)
        image = method.prompts.image_tokens()
        expected = 0.0
        for i in range(1, len(text)):
            of_text = float(torch.linalg.norm(text[i] @ text[i].T) / method.first_text[i])
            of_image = float(torch.linalg.norm(image[i] @ image[i].T) / method.first_image[i])
            expected += (of_text - of_image) ** 2
    assert float(method.losses(batch)["consistency"].detach()) == pytest.approx(expected, rel=1e-4)


def test_the_shares_of_surgery_rise_once_after_a_third_of_the_epochs() -> None:
    torch.manual_seed(0)
    method, _ = RESTORE.tiny()
    method.epochs = 10
    rises = [
        float(gram(side)[1:].mean().detach()) for side in (method.prompts.image_tokens(), method.prompts.text_tokens())
    ]
    seen = []
    for epoch in range(10):
        method.on_epoch(epoch)
        seen.append(method.shares.tolist())
    assert seen[3] == pytest.approx([0.05, 0.05])
    assert seen[4] == pytest.approx([0.05 + 0.005 * rises[0], 0.05 + 0.02 * rises[1]])
    assert seen[9] == seen[4]


def test_the_embedding_shift_of_an_unchanged_tower_is_zero() -> None:
    torch.manual_seed(0)
    image, base = torch.randn(2, 3, 16, 16), tiny_base()
    text_only = MaPLe(MaPLe.Config(prompts=DeepConfig(towers="text")), base, NAMES)
    found = embedding_shift(text_only, image)
    assert found.image.abs().max() == 0
    assert found.text[-1] > 0  # deep tokens of the text are random
    words = MaPLe(MaPLe.Config(prompts=words_only()), base, NAMES)
    torch.testing.assert_close(embedding_shift(words, image).text, torch.zeros(1), atol=1e-5, rtol=0)
    image_only = MaPLe(MaPLe.Config(prompts=DeepConfig(towers="image")), base, NAMES)
    found = embedding_shift(image_only, image)
    assert found.text.abs().max() == 0
    assert found.image.min() > 0


@torch.no_grad()
def test_the_embedding_shift_is_the_mean_change_of_tokens_up_to_the_end() -> None:
    torch.manual_seed(0)
    base = tiny_base()
    method = MaPLe(MaPLe.Config(prompts=DeepConfig(towers="text")), base, ("cup", "old book"))
    prompt = method.prompts.prompt
    assert prompt is not None
    last = method.prompts.text_blocks[-1]
    after = method.prompts.run_text(base.text, layers=[last]).hidden[last]
    before = method.prompts.run_text(base.text, [method.prompts.start], layers=[last]).hidden[last]
    change, length = [], []
    for row, end in enumerate(prompt.ends.tolist()):
        for place in range(end + 1):
            if place not in (1, 2):  # the learned tokens
                change.append(float((after[row, place] - before[row, place]).norm()))
                length.append(float(before[row, place].norm()))
    expected = (sum(change) / len(change)) / (sum(length) / len(length))
    image = torch.randn(1, 3, 16, 16)
    assert float(embedding_shift(method, image).text[-1]) == pytest.approx(expected, rel=1e-4)


def test_mmrl_fuses_the_logits_of_known_classes_only() -> None:
    torch.manual_seed(0)
    method, batch = MMRL.tiny()
    method.eval()
    assert batch.image is not None
    with torch.no_grad():
        vector, own = method.both_vectors(batch.image)
        scale, classes = method.clip.scale(), method.class_vectors()
        fused = scale * (0.7 * vector @ classes.T + 0.3 * own @ classes.T)
        torch.testing.assert_close(method.logits(batch), fused, atol=1e-5, rtol=1e-5)
        method.use(("cup", "photo"))
        assert not method.fused
        torch.testing.assert_close(method.logits(batch), scale * vector @ method.class_vectors().T)
        always = replace(method.config, decoupled=False)
        method.config = always
        assert method.fused


@torch.no_grad()
def test_mmrl_loss_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    method, batch = MMRL.tiny()
    assert batch.image is not None
    losses = method.losses(batch)
    vector, own = method.both_vectors(batch.image)
    scale, classes = method.clip.scale(), method.class_vectors()
    frozen = method.clip.embed_image(batch.image)
    sums = {"class": 0.0, "representation": 0.0, "image": 0.0, "text": 0.0}
    for row, label in enumerate(batch.label.tolist()):
        for name, share, each in (("class", 0.7, vector), ("representation", 0.3, own)):
            sums[name] -= share * float((scale * each[row] @ classes.T).log_softmax(0)[label]) / len(batch)
        sums["image"] += 4.0 * (1 - float(vector[row] @ frozen[row])) / len(batch)
    for c in range(3):
        sums["text"] += 4.0 * (1 - float(classes[c] @ method.hand_vectors()[c])) / 3
    assert {name: float(value.detach()) for name, value in losses.items()} == pytest.approx(sums, rel=1e-4, abs=1e-5)


@torch.no_grad()
def test_mmrl_inserts_tokens_from_its_first_layer_on() -> None:
    torch.manual_seed(0)
    base = tiny_base()
    method = MMRL(MMRL.Config(tokens=2, width=8), base, ("cup", "old book"))
    ids, text = method.ids, base.text
    x = text.embedding(ids) + text.positions[: ids.shape[1]]
    for number, block in enumerate(text.blocks):
        if number in method.text_blocks:
            pair = method.text_blocks.index(number)
            tokens = method.to_text[pair](method.space[0]).expand(2, -1, -1)
            x = torch.cat([x[:, :1], tokens, x[:, 1 if pair == 0 else 3 :]], dim=1)
        x = block(x, Context(causal=True))
    ends = ids.argmax(dim=1) + 2
    pooled = text.norm(x)[torch.arange(2), ends] @ text.projection
    torch.testing.assert_close(method.class_vectors(), nn.functional.normalize(pooled, dim=1), atol=1e-5, rtol=1e-5)
    assert method.text_blocks == (1, 2)


@pytest.mark.parametrize("causal", [False, True])
def test_the_four_flows_are_the_attention(causal: bool) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 9, 4, dtype=torch.float64) * 3 for _ in range(3))
    found = flows(q, k, v, slice(1, 4), causal=causal)
    expected = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    assert float((found.mixed() - expected).abs().max()) < 1e-12
    share = torch.sigmoid(found.odds)
    weights = (
        (q @ k.transpose(-1, -2) / 2)
        .masked_fill(
            torch.ones(9, 9, dtype=torch.bool).triu(1) if causal else torch.zeros(9, 9, dtype=torch.bool), -torch.inf
        )
        .softmax(-1)
    )
    torch.testing.assert_close(1 - share[..., 0], weights[..., 1:4].sum(-1))


@torch.no_grad()
def test_weight_one_is_plain_attention_in_every_layer_of_both_towers(nano: Base) -> None:
    torch.manual_seed(0)
    vision: Any = nano.clip.vision
    rope = vision.rope((12, 12), 3, torch.device("cpu"))
    for blocks, context, length in (
        (nano.text.blocks, Context(causal=True), 12),
        (vision.blocks, Context(rope=rope), 147),
    ):
        block: Any
        for block in blocks:
            x = torch.randn(2, length, block.attention.qkv.in_features)
            own = DecoupledAttention(block.attention, slice(1, 3), instance_to_prompt=1.0, prompt_to_instance=1.0)
            torch.testing.assert_close(own(x, context), block.attention(x, context), atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("causal", [False, True])
def test_weights_of_flows_change_what_queries_take(causal: bool) -> None:
    torch.manual_seed(0)
    block: Any = tiny_base().text.blocks[0]
    inner = block.attention
    x, context, prompts = torch.randn(1, 7, 16), Context(causal=causal), slice(1, 3)
    q, k, v = inner.project(x, context)
    logits = (q @ k.transpose(-1, -2)) * q.shape[-1] ** -0.5
    if causal:
        logits = logits.masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -torch.inf)
    weights = logits.exp()
    weights[:, :, [0, 3, 4, 5, 6], 1:3] *= 0.25
    weights[:, :, 1:3, [0]] *= 0.0
    weights[:, :, 1:3, 3:] *= 0.0
    mixed = (weights / weights.sum(-1, keepdim=True)) @ v
    layer = DecoupledAttention(inner, prompts, instance_to_prompt=0.25, prompt_to_instance=0.0)
    expected = inner.out(mixed.transpose(1, 2).flatten(-2))
    torch.testing.assert_close(layer(x, context), expected, atol=1e-5, rtol=1e-5)
    found = flows(q, k, v, prompts, causal=causal)
    fixed = DecoupledAttention(inner, prompts, instance_to_prompt=1.0, prompt_to_instance=1.0, share=0.9)._mixed(found)
    by_hand = 0.9 * found.from_instances + 0.1 * found.from_prompts
    torch.testing.assert_close(fixed[:, :, 3:], by_hand[:, :, 3:])
    torch.testing.assert_close(fixed[:, :, 1:3], found.mixed()[:, :, 1:3])
    if causal:
        torch.testing.assert_close(fixed[:, :, 0], v[:, :, 0])  # the start token sees no prompts


def test_a_condition_gives_every_class_a_context_of_its_own(nano: Base) -> None:
    torch.manual_seed(0)
    method = DPLLike(DPLLike.Config(), nano, NAMES)
    assert method.condition is not None
    with torch.no_grad():
        before = method.class_vectors()
        nn.init.normal_(method.condition.weight, std=0.1)
        after = method.class_vectors()
        assert float((after - before).abs().amax(dim=1).min()) > 1e-4
        alone = method.use(NAMES[1:]).class_vectors()
    torch.testing.assert_close(alone, after[1:], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RESTORE.Config(prompts=DeepConfig(towers="text")), "learned tokens in both towers"),
        (lambda: MMRL.Config(layers=(9, 3)), "two numbers from 1 to 12"),
        (lambda: DPLLike.Config(instance_to_prompt=0.0), "no effect"),
        (lambda: DPLLike.Config(share=1.0), "between 0 and 1"),
    ],
)
def test_configurations_that_cannot_work_are_refused(make: Any, message: str) -> None:
    with pytest.raises(PerceptError, match=message):
        make()


def test_restore_keeps_its_buffers_when_it_is_saved(nano: Base, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = RESTORE(RESTORE.Config(hidden=8), nano, NAMES).eval()
    method.epochs = 3
    with torch.no_grad():
        for each in method.prompts.text_tokens():
            each.normal_()
        method.on_epoch(2)
    save_method(tmp_path / "saved", method, base="nano")
    opened: Any = percept.load(tmp_path / "saved", device="cpu", dtype="float32")
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        torch.testing.assert_close(opened.class_logits(image), method.class_logits(image), atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(opened.method.shifts(image).text, method.shifts(image).text)
    assert torch.equal(opened.method.shares, method.shares)


@pytest.mark.parametrize("kind", [MaPLe, MMRL, DPLLike])
def test_a_saved_method_classifies_as_before(kind: Any, nano: Base, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = kind(kind.Config(), nano, NAMES, "a picture of a {}.").eval()
    if kind is MMRL:
        method.config = replace(method.config, trained=NAMES)
    image = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        for each in method.parameters():
            if each.requires_grad:
                each.add_(0.02 * torch.randn_like(each))
        save_method(tmp_path / "saved", method, base="nano")
        opened: Any = percept.load(tmp_path / "saved", device="cpu", dtype="float32")
        torch.testing.assert_close(opened.class_logits(image), method.class_logits(image), atol=1e-3, rtol=1e-3)
    assert opened.method.config == method.config
    assert (tmp_path / "saved" / "method.safetensors").stat().st_size < 8e6


NAMED = ("red cup", "cup", "old book", "a red book of an old cup", "book", "old cup")


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("per_class", [False, True])
def test_equal_beginnings_of_prompts_may_be_computed_once(
    position: Any, per_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, found = tiny_base(), []
    prompt = SoftPrompt(PromptConfig(context=6, position=position, per_class=per_class), base, NAMED)
    prompt.use(NAMED)
    assert prompt.shared == {"end": 1 if per_class else 7, "middle": 1 if per_class else 4, "front": 1}[position]
    several = torch.randn(3, 6, 16, requires_grad=True)
    for few in (2**30, 1):
        monkeypatch.setattr(prompts, "FEW_SHARED", few)
        vectors = [prompt.vectors(base.text)] + (
            [] if per_class else [prompt.vectors(base.text, several).flatten(0, 1)]
        )
        weights = torch.linspace(-1, 1, 12)
        found.append(
            (torch.cat(vectors), *torch.autograd.grad((torch.cat(vectors) * weights).sum(), [prompt.context] + [several] * (not per_class)))
        )  # fmt: skip
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(other.detach().abs().max()))


def test_the_end_of_a_prompt_is_never_shared() -> None:
    prompt = SoftPrompt(PromptConfig(context=2), tiny_base(), ["cup"])
    prompt.use(["cup"])
    assert prompt.shared == int(prompt.ends)
