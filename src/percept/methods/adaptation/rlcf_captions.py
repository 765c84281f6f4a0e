"""The captioning pipeline of RLCF: a language model samples captions of one image, and a reward model says which suit it.

Zhao et al. 2024 (see `percept.methods.adaptation.rlcf`), section 3.5; reference: mzhaoshuai/RLCF, caption/. Differs from it: the policy is a
perception language model whose projector is trained, where the paper tunes the projector in front of CapDec or ClipCap; captions are
sampled, where the paper takes the candidates of a beam search, so that the answers are different from each other.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from percept.core.seed import derive
from percept.data.images import ImageSource
from percept.infer.asking import asked
from percept.infer.assistant import Assistant
from percept.infer.choices import spelled
from percept.methods.adaptation.rlcf import RLCF, reinforced, resetting

Reward = Callable[[Sequence[str]], Float[Tensor, " k"]]
"""Returns the cosine of each caption and the image by the reward model."""


def captioned(
    assistant: Assistant,
    image: ImageSource,
    reward: Reward,
    *,
    config: RLCF.Config | None = None,
    question: str = "Describe the image.",
    parts: Sequence[str] = ("projector",),
    temperature: float = 1.0,
    max_new_tokens: int = 48,
    seed: int = 0,
) -> str:
    """Adapt a language model to one image with a few steps, and return its caption; the model is the same as before afterwards.

    Args:
        assistant: the policy, best in float32: steps of 5e-6 are lost in bfloat16.
        reward: judges captions.
        config: number of captions per step, steps and rate; those of the paper if None.
        question: that asks for a caption.
        parts: names of the parts of the model that are trained.
        temperature: of the samples.
        max_new_tokens: most tokens of a caption.
        seed: of the samples.
    """
    config = config or RLCF.Config.captions()
    prompt = asked(image, question)
    trained = [assistant.model.get_submodule(name) for name in parts]
    try:
        for part in trained:
            part.requires_grad_(True)
        with resetting(assistant.model, config) as optimiser:
            for step in range(config.steps):
                captions = assistant.reply(
                    prompt, samples=config.answers, temperature=temperature, max_new_tokens=max_new_tokens,
                    seed=derive(seed, "captions", step) % 2**31,
                )  # fmt: skip
                judged = (config.factor * reward(captions)).clamp(min=0)
                surprise = surprises(assistant, image, question, captions)
                loss = reinforced(surprise[None], judged.to(surprise)[None])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                assistant.forget()
            return assistant.reply(prompt, max_new_tokens=max_new_tokens)
    finally:
        for part in trained:
            part.requires_grad_(False)
        assistant.forget()


def surprises(assistant: Assistant, image: ImageSource, question: str, captions: Sequence[str]) -> Float[Tensor, " k"]:
    """Return the mean negative log-likelihood per token of each caption as the answer to a question, its end included, with gradients."""
    model, processor, setting = assistant.model, assistant.processor, assistant.setting
    prompt = processor(asked(image, question), ask=True)
    end = processor.template.stops(processor.tokenizer)[:1]
    answers = [torch.tensor([*spelled(text, processor.tokenizer), *end], device=setting.device) for text in captions]
    tiles = assistant.preprocess.normalise(prompt.stacked).to(setting.device, setting.dtype)
    visual = model.encode(tiles).repeat(len(captions), 1, 1)
    start = torch.tensor(prompt.rendered.ids, device=setting.device).expand(len(captions), -1)
    filled = pad_sequence(answers, batch_first=True, padding_value=end[0])
    logits = model(torch.cat([start, filled], dim=1), visual=visual)[:, start.shape[1] - 1 : -1].float()
    losses = F.cross_entropy(logits.flatten(0, 1), filled.flatten(), reduction="none").view(filled.shape)
    lengths = torch.tensor([len(answer) for answer in answers], device=setting.device)
    real = torch.arange(filled.shape[1], device=setting.device) < lengths[:, None]
    return (losses * real).sum(dim=1) / lengths
