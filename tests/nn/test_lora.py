import pytest
import torch
from torch import nn

from percept.core.errors import PerceptError
from percept.nn.lora import LoRALinear, add_lora, merge_lora


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Sequential(nn.Linear(8, 5, bias=False)))


def test_nothing_changes_before_training_and_merging_keeps_the_outputs() -> None:
    net, x = model(), torch.randn(3, 6)
    before = net(x)
    assert add_lora(net, ".*", rank=2, alpha=4) == ["0", "2.0"]
    assert torch.equal(net(x), before)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, LoRALinear):
                layer.up.normal_()
    adapted = net(x)
    assert (adapted - before).abs().max() > 0.1
    assert merge_lora(net) == 2
    assert torch.allclose(net(x), adapted, atol=1e-5)
    assert all(type(layer) is not LoRALinear for layer in net.modules())


def test_an_adapter_is_the_product_of_the_paper() -> None:
    layer = LoRALinear(nn.Linear(4, 3), rank=2, alpha=6)
    nn.init.normal_(layer.up)
    x = torch.randn(4)
    expected = layer.base.weight @ x + layer.base.bias + 6 / 2 * (layer.up @ (layer.down @ x))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_only_adapters_and_layers_outside_learn() -> None:
    net = model()
    add_lora(net, "^2", rank=1, alpha=1)
    net(torch.randn(2, 6)).sum().backward()
    learning = {name for name, parameter in net.named_parameters() if parameter.grad is not None}
    assert learning == {"0.weight", "0.bias", "2.0.down", "2.0.up"}


@pytest.mark.parametrize("change", [{"pattern": "attention"}, {"rank": 0}, {"alpha": 0.0}, {"alpha": float("inf")}])
def test_what_is_no_adapter_is_refused(change: dict) -> None:
    with pytest.raises(PerceptError):
        add_lora(model(), **{"pattern": ".*", "rank": 1, "alpha": 1.0, **change})
