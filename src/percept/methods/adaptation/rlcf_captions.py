"""The captioning pipeline of RLCF: a language model samples captions of one image, and a reward model says which suit it.

Zhao et al. 2024 (see `percept.methods.adaptation.rlcf`), section 3.5; reference: mzhaoshuai/RLCF, caption/. Differs from it: the policy is a
perception language model whose projector is trained, where the paper tunes the projector in front of CapDec or ClipCap; captions are
sampled, where the paper takes the candidates of a beam search, so that the answers are different from each other.

TPT is not defined for captions. The objective `entropy` comes closest to it: the mean entropy of the next token over all tokens of the
sampled captions. It uses no augmented views. `random` is RLCF with random rewards. `distil` is not defined, because a reward model has no distribution over captions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from percept.core.errors import PerceptError
from percept.core.seed import derive
from percept.data.images import ImageSource
from percept.infer.asking import asked
from percept.infer.assistant import Assistant
from percept.infer.choices import spelled
from percept.methods.adaptation.rlcf import RLCF, entropy, reinforced, resetting

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
        config: objective, number of captions per step, steps and rate; those of the paper if None.
        question: that asks for a caption.
        parts: names of the parts of the model that are trained.
        temperature: of the samples.
        max_new_tokens: most tokens of a caption.
        seed: of the samples, and of random rewards.

    Raises:
        PerceptError: the objective is `distil`, or the image cannot be read.
    """
    config = config or RLCF.Config.captions()
    if config.objective == "distil":
        raise PerceptError("objective 'distil' is not defined for captions. Use reward, entropy or random.")
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
                loss = _loss(
                    config, said(assistant, image, question, captions), reward, captions, derive(seed, "reward", step)
                )
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                assistant.forget()
            return assistant.reply(prompt, max_new_tokens=max_new_tokens)
    finally:
        for part in trained:
            part.requires_grad_(False)
        assistant.forget()


@dataclass(frozen=True, kw_only=True, eq=False)
class Said:
    """Captions as answers of a language model, token by token, their ends included."""

    logits: Float[Tensor, "k n v"]
    """Of each token, given those before it; with gradients."""
    token: Int[Tensor, "k n"]
    real: Bool[Tensor, "k n"]
    """False after the end of a caption."""

    def per_token(self, values: Float[Tensor, "k n"]) -> Float[Tensor, " k"]:
        """Return the mean over the tokens of each caption."""
        return torch.where(self.real, values, 0.0).sum(dim=1) / self.real.sum(dim=1)

    def surprises(self) -> Float[Tensor, " k"]:
        """Return the mean negative log-likelihood per token of each caption."""
        losses = F.cross_entropy(self.logits.flatten(0, 1), self.token.flatten(), reduction="none")
        return self.per_token(losses.view(self.token.shape))

    def entropies(self) -> Float[Tensor, " k"]:
        """Return the mean entropy of the next token, in nats, over the tokens of each caption."""
        return self.per_token(entropy(self.logits.softmax(dim=-1)))


def _loss(config: RLCF.Config, captions: Said, reward: Reward, texts: Sequence[str], seed: int) -> Float[Tensor, ""]:
    """Return what a step minimises."""
    if config.objective == "entropy":
        return captions.entropies().mean()
    surprise = captions.surprises()
    if config.objective == "random":
        judged = torch.rand(len(texts), generator=torch.Generator().manual_seed(seed))
    else:
        judged = (config.factor * reward(texts)).clamp(min=0)
    return reinforced(surprise[None], judged.to(surprise)[None])


def said(assistant: Assistant, image: ImageSource, question: str, captions: Sequence[str]) -> Said:
    """Return captions as answers to a question about an image."""
    model, processor, setting = assistant.model, assistant.processor, assistant.setting
    prompt = processor(asked(image, question), ask=True)
    end = processor.template.stops(processor.tokenizer)[:1]
    answers = [torch.tensor([*spelled(text, processor.tokenizer), *end], device=setting.device) for text in captions]
    tiles = assistant.preprocess.normalise(prompt.stacked).to(setting.device, setting.dtype)
    visual = model.numbered(model.encode(tiles), [len(tiles)]).repeat(len(captions), 1, 1)
    start = torch.tensor(prompt.rendered.ids, device=setting.device).expand(len(captions), -1)
    token = pad_sequence(answers, batch_first=True, padding_value=end[0])
    logits = model(torch.cat([start, token], dim=1), visual=visual)[:, start.shape[1] - 1 : -1].float()
    lengths = torch.tensor([len(answer) for answer in answers], device=setting.device)
    real = torch.arange(token.shape[1], device=setting.device) < lengths[:, None]
    return Said(logits=logits, token=token, real=real)
