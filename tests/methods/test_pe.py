"""The methods of the Perception Encoder's stages, each against a loop by hand."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from percept.core.errors import PerceptError
from percept.data.batch import ImageText
from percept.data.sources.batches import VideoText, ViewsText
from percept.losses.contrastive import info_nce
from percept.methods.pretraining import distill, pe, pe_finetune, pe_video
from percept.models.clip import CLIP, MAX_LOG_SCALE, unit
from percept.train.doctor import Doctor
from tests.models.small import clip, images, texts
from tests.ports import free_port


def gradients(task: nn.Module) -> dict[str, Tensor]:
    """Return the gradients by name, and clear them."""
    grads = {name: torch.zeros_like(each) if each.grad is None else each.grad for name, each in task.named_parameters()}
    task.zero_grad()
    return grads


def hidden_by_hand(task: pe.Pretraining, image: Tensor, hidden: Tensor, target: Tensor) -> Tensor:
    """Align the tokens of hidden patches one by one; `target` is constant."""
    assert task.mask_token is not None
    total, count = torch.zeros(()), 0
    for row in range(len(image)):
        embeddings, grid = task.clip.vision.embed_patches(image[row : row + 1])
        patches: list[Tensor] = [
            task.mask_token if hidden[row, place] else embeddings[0, place] for place in range(hidden.shape[1])
        ]
        tokens = task.clip.vision(embeddings=torch.stack(patches)[None], grid=grid, pool=False).tokens[0, 1:]
        for place in range(hidden.shape[1]):
            if hidden[row, place]:
                one, other = tokens[place], target[row, place]
                total = total - one @ other / (one.norm() * other.norm())
                count += 1
    return total / count


def pretraining(**changes: object) -> tuple[pe.Pretraining, ViewsText]:
    config = replace(pe.Config(mask_share=0.5, mask_weight=2.0), **changes)  # type: ignore[arg-type]
    task = pe.Pretraining(config, clip())
    image = images(4)
    return task, ViewsText(image=image, tokens=texts(4), hidden=task._drawn(image))


@pytest.mark.parametrize("micro_tokens", [None, 16])
def test_mask_regularisation_and_its_gradients_are_those_of_a_loop(micro_tokens: int | None) -> None:
    task, batch = pretraining(micro_tokens=micro_tokens)
    assert batch.hidden is not None
    values = task(batch)
    values["loss"].backward()
    together = gradients(task)

    image, text = task.clip.embed_image(batch.image), task.clip.embed_text(batch.tokens)
    contrast = info_nce(image, text, task.clip.scale())
    contrast.backward()
    alone = gradients(task)
    target = task.clip.vision(batch.image[:2]).tokens[:, 1:].detach()
    mask = hidden_by_hand(task, batch.image[:2], batch.hidden[:2], target)
    mask.backward()
    masked = gradients(task)

    torch.testing.assert_close(values["loss"], contrast + 2.0 * mask)
    torch.testing.assert_close(values["mask"], mask.detach())
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name] + 2.0 * masked[name], atol=1e-5, rtol=1e-4)
    assert not any(gradient.any() for name, gradient in masked.items() if name.startswith(("clip.text", "clip.log")))
    assert not alone["mask_token"].any()
    assert masked["mask_token"].any()


@pytest.mark.parametrize("form", ["dense", "tiled"])
def test_parts_that_are_computed_again_have_the_gradients_of_the_whole(form: str) -> None:
    task, batch = pretraining()
    task(batch)["loss"].backward()
    expected = gradients(task)
    task.config = replace(task.config, micro_tokens=4, recompute=True, form=form)
    task(batch)["loss"].backward()
    for name, gradient in gradients(task).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", [pe_finetune.Finetuning, pe_video.VideoContrast, distill.Distillation])
def test_later_stages_can_compute_parts_again_too(method: type) -> None:
    task, batch = method.tiny()
    sizes, found = [], []

    def keep(tensor: Tensor) -> Tensor:
        sizes[-1] += tensor.numel()
        return tensor

    for config in (task.config, replace(task.config, micro_tokens=4, recompute=True)):
        task.config = config
        sizes.append(0)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = task(batch)["loss"]
        loss.backward()
        found.append(gradients(task))
    assert sizes[1] < sizes[0] / 2
    expected, parts = found
    for name, gradient in parts.items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-3)


def test_hidden_patches_do_not_change_the_contrastive_loss() -> None:
    task, batch = pretraining(mask_weight=0.0)
    plain = pe.Pretraining(pe.Config(mask_share=0.0), task.clip)
    torch.testing.assert_close(task(batch)["loss"], plain(batch)["loss"])
    assert plain.mask_token is None
    assert "mask" not in plain(batch)


def test_patches_are_drawn_from_the_random_numbers_of_the_step() -> None:
    task, batch = pretraining(mask_ratio=0.25, mask_block=2)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(task._drawn(batch.image))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].sum(dim=1).tolist() == [4] * 4
    blocks = drawn[0].view(4, 2, 2, 2, 2).transpose(2, 3).flatten(3)
    assert torch.equal(blocks.all(-1), blocks.any(-1))
    plain = ImageText(image=batch.image, tokens=batch.tokens)
    assert task(plain)["mask"].isfinite()


@pytest.mark.parametrize(
    ("change", "words"),
    [({"mask_share": 2.0}, "mask_share"), ({"mask_weight": -1.0}, "mask_weight"), ({"mask_ratio": 0.0}, "ratio")],
)
def test_impossible_masks_are_refused(change: dict, words: str) -> None:
    with pytest.raises(PerceptError, match=words):
        pe.Config(**change)


@pytest.mark.parametrize("normalize", [False, True])
def test_a_clip_is_the_mean_of_its_frames(normalize: bool) -> None:
    task = pe_video.VideoContrast(pe_video.Config(normalize_frames=normalize), clip()).requires_grad_(False)
    batch = VideoText(frames=torch.randn(3, 2, 3, 16, 16), tokens=texts(3))
    rows = []
    for frames in batch.frames:
        vectors = [task.clip.encode_image(frame[None])[0] for frame in frames]
        rows.append(sum(unit(each) if normalize else each for each in vectors) / 2)
    expected = info_nce(unit(torch.stack(rows)), task.clip.embed_text(batch.tokens), task.clip.scale())
    torch.testing.assert_close(task(batch)["loss"], expected)


def test_texts_of_one_class_are_right_answers_for_each_other() -> None:
    task = pe_finetune.Finetuning(pe_finetune.Config(), clip()).requires_grad_(False)
    label = torch.tensor([3, 1, 3, 0, 3])
    batch = pe_finetune.LabelledText(image=images(5), tokens=texts(5), label=label)
    image, text = task.clip.embed_image(batch.image), task.clip.embed_text(batch.tokens)
    scale, total = float(task.clip.scale()), 0.0
    for ours, others in ((image, text), (text, image)):
        for row in range(5):
            logits = [scale * float(ours[row] @ other) for other in others]
            normal = math.log(sum(math.exp(logit) for logit in logits))
            right = [logit - normal for logit, other in zip(logits, label, strict=True) if other == label[row]]
            total -= sum(right) / len(right) / 10
    assert float(task(batch)["loss"]) == pytest.approx(total, rel=1e-5)
    apart = replace(batch, label=torch.arange(5))
    torch.testing.assert_close(task(apart)["loss"], info_nce(image, text, task.clip.scale()))


def test_collapsed_vectors_and_the_bound_are_seen_in_fine_tuning_and_equal_texts_of_a_class_are_not_duplicates() -> (
    None
):
    task = pe_finetune.Finetuning(pe_finetune.Config(), clip()).requires_grad_(False)
    batch = pe_finetune.LabelledText(image=images(4), tokens=texts(1).expand(4, -1), label=torch.tensor([0, 0, 0, 1]))
    doctor = Doctor()
    assert doctor.batch(batch, {key: float(value) for key, value in task(batch).items()}) == []
    same = replace(batch, image=images(1).expand(4, -1, -1, -1))
    assert task.clip.log_scale is not None
    task.clip.log_scale.fill_(MAX_LOG_SCALE)
    found = {
        remark.kind
        for _ in range(5)
        for remark in doctor.step({"gradient_norm": 1.0, **{key: float(value) for key, value in task(same).items()}})
    }
    assert found == {"collapsed embeddings", "logit scale"}


def divergence(teacher: Tensor, student: Tensor) -> float:
    """Return the mean over rows of KL(teacher || student) of logits, by hand."""
    total = 0.0
    for p, q in zip(teacher.softmax(1).tolist(), student.softmax(1).tolist(), strict=True):
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    return total / len(teacher)


def test_the_student_learns_both_directions_of_a_teacher_with_its_own_words_and_size() -> None:
    task, batch = distill.Distillation.tiny()
    ours = task.clip.embed_image(distill.at_size(batch.image, 16)), task.clip.embed_text(batch.tokens)
    theirs = task.teacher.embed_image(batch.image), task.teacher.embed_text(batch.teacher_tokens)
    s, t = float(task.clip.scale().detach()), 2 * float(task.teacher.scale())
    student, teacher = s * (ours[0] @ ours[1].T).detach(), t * theirs[0] @ theirs[1].T
    expected = (divergence(teacher, student) + divergence(teacher.T, student.T)) / 2
    values = task(batch)
    assert float(values["loss"].detach()) == pytest.approx(expected, rel=1e-4)
    assert float(values["agreement"]) == float((student.argmax(1) == teacher.argmax(1)).float().mean())
    values["loss"].backward()
    assert all(each.grad is None for each in task.teacher.parameters())


def test_a_student_that_is_its_teacher_has_no_loss() -> None:
    model = clip()
    twin = CLIP(model.config).eval()
    twin.load_state_dict(model.state_dict())
    task = distill.Distillation(distill.Config(sharpness=1.0), model, twin)
    ids = texts(4)
    values = task(distill.TaughtText(image=images(4), tokens=ids, teacher_tokens=ids))
    assert float(values["loss"].detach()) == pytest.approx(0, abs=1e-6)
    assert float(values["agreement"]) == 1
    with pytest.raises(PerceptError, match="sharpness"):
        distill.Config(sharpness=0.0)


@pytest.mark.slow
def test_two_processes_have_the_loss_and_gradients_of_one() -> None:
    shared = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": "2",
    }
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.methods.pe_workers"], cwd=Path(__file__).parents[2], stderr=subprocess.PIPE,
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    outputs = [process.communicate(timeout=200)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], "\n".join(outputs)
