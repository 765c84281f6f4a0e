"""When a twin may leave the plain form: nobody traces, counts or hooks what it computes, or differentiates it other than backward."""

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

KNOWING = "knows_twins"
"""Attribute of a counter that knows the cost of what the twins call on CPUs."""


def inference_on_cpu(x: Tensor) -> bool:
    """Return True if only the values of what is computed from `x` matter, on a CPU.

    False with gradients enabled, under torch.compile, torch.export, tracing, vmap, forward differentiation and dispatch modes (such as
    operation counters, except those of `percept.fast.counting`), and for subclasses of Tensor (such as FakeTensor): these take the plain form.
    """
    return not torch.is_grad_enabled() and _on_cpu(x)


def training_on_cpu(x: Tensor) -> bool:
    """Return True if values and backward gradients of what is computed from `x` matter, on a CPU; as `inference_on_cpu`, and without autocast."""
    return torch.is_grad_enabled() and _on_cpu(x) and not torch.is_autocast_enabled("cpu")


def _on_cpu(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)
        and x.device.type == "cpu"
        and torch._C._get_tracing_state() is None
        and not _is_intercepted(KNOWING)
        and torch.autograd.forward_ad._current_level < 0
    )


def inference_on_gpu(x: Tensor) -> bool:
    """Return True if only the values matter, on a CUDA device; torch.compile can trace the operators used there."""
    compiling = torch.compiler.is_compiling()
    return x.device.type == "cuda" and not torch.is_grad_enabled() and (compiling or not _is_intercepted())


def _is_intercepted(allowed: str = "") -> bool:
    """Return True under a functorch transform or a dispatch mode, except that of a counter with the attribute `allowed`."""
    if torch._C._functorch.peek_interpreter_stack() is not None:  # pyright: ignore[reportAttributeAccessIssue]
        return True
    if not torch._C._len_torch_dispatch_stack():
        return False
    return not all(hasattr(getattr(mode, "counter", None), allowed) for mode in _get_current_dispatch_mode_stack())


def weights_state(module: nn.Module) -> tuple[tuple[str, int, int], ...]:
    """Return what changes when a parameter or buffer is replaced or written to: names, objects, and version counters."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return tuple((name, id(tensor), 0 if tensor.is_inference() else tensor._version) for name, tensor in tensors)


def has_hooks(module: nn.Module) -> bool:
    """Return True if calling the module does more than running the `forward` of its class."""
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(map(len, hooks)) or "forward" in module.__dict__ or bool(torch.nn.modules.module._has_any_global_hook())
