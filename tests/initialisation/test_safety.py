"""What is not touched, what is left alone and why, and what is refused with a remedy."""

import copy
from typing import Any

import numpy
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, weight_norm

import unvanish
from tests.initialisation.nets import Adapted, Own, ResNet
from unvanish.errors import UnknownNameError, UsageError, UserCodeError
from unvanish.testing.nets import mlp


def state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def changed(model: nn.Module, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, old in before.items() if not torch.equal(model.state_dict()[name], old)}


def generators() -> tuple[bytes, Any, bytes]:
    import random

    python = random.getstate()
    return (
        torch.get_rng_state().numpy().tobytes(),
        python,
        numpy.random.get_state()[1].tobytes(),  # type: ignore[union-attr]
    )


@pytest.fixture
def images() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(16, 1, 8, 8)


def test_buffers_modes_gradients_hooks_and_random_states_stay(images: torch.Tensor) -> None:
    model = ResNet(2)
    model(images)  # statistics that are no longer those of a fresh module
    model.blocks[0].eval()
    model.head.weight.grad = torch.ones_like(model.head.weight)
    handle = model.stem.register_forward_hook(lambda *_: None)
    before, modes = state(model), [module.training for module in model.modules()]
    buffers = {name for name, _buffer in model.named_buffers()}
    random, identities = generators(), [id(p) for p in model.parameters()]
    pointers = [p.data_ptr() for p in model.parameters()]

    unvanish.init_(model, images)

    assert not changed(model, before) & buffers
    assert changed(model, before)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.head.weight.grad, torch.ones_like(model.head.weight))
    assert model.stem.weight.grad is None
    assert list(model.stem._forward_hooks) == [handle.id]
    assert all(not m._forward_hooks for m in model.modules() if m is not model.stem)
    assert generators()[0] == random[0]
    assert generators()[1:] == random[1:]
    assert [id(p) for p in model.parameters()] == identities
    assert [p.data_ptr() for p in model.parameters()] == pointers
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("batch", [True, False])
def test_a_dry_run_plans_the_same_and_changes_nothing(batch: bool, images: torch.Tensor) -> None:
    model = ResNet(2)
    before = state(model)
    versions = [p._version for p in model.parameters()]
    given = images if batch else None
    dry = unvanish.init_(model, given, dry_run=True, generator=torch.Generator().manual_seed(1))
    assert not changed(model, before)
    assert [p._version for p in model.parameters()] == versions
    assert not dry.applied
    wet = unvanish.init_(model, given, generator=torch.Generator().manual_seed(1))
    assert wet.applied
    assert wet.rows == dry.rows
    after = {row.parameter: row.after for row in dry.changed}
    for name, parameter in model.named_parameters():
        if name in after:
            size = float(parameter.detach().double().square().mean().sqrt())
            assert size == pytest.approx(after[name], rel=1e-6)


def test_draws_follow_from_the_global_state_which_is_not_moved() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        model = mlp([8, 8, 4], nn.ReLU)
        torch.manual_seed(seed)
        unvanish.init_(model, torch.ones(4, 8))
        return model.linear0.weight

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    torch.manual_seed(3)
    one, two = mlp([8, 8, 4], nn.ReLU), mlp([8, 8, 4], nn.ReLU)
    unvanish.init_(one)
    torch.randn(1)
    unvanish.init_(two)
    assert not torch.equal(one.linear0.weight, two.linear0.weight)


def test_frozen_parts_are_left_alone(images: torch.Tensor) -> None:
    model = ResNet(2)
    model.stem.requires_grad_(False)
    model.blocks[0].requires_grad_(False)
    before = state(model)
    plan = unvanish.init_(model, images)
    assert not {n for n in changed(model, before) if n.startswith(("stem", "blocks.0"))}
    assert plan["stem.weight"].why == "frozen"
    assert plan["head.weight"].action == "set"
    assert "blocks.1.conv1.weight" in changed(model, before)


def test_a_pair_is_not_mirrored_into_a_frozen_layer() -> None:
    torch.manual_seed(0)
    model = mlp([16] * 9 + [4], nn.ReLU)
    model.linear4.requires_grad_(False)
    unvanish.init_(model, torch.randn(64, 16))
    weight = model.linear3.weight  # feeds the frozen one
    assert not torch.allclose(weight[:8], -weight[8:])


def test_an_entirely_frozen_model_gets_a_plan_of_reasons() -> None:
    model = mlp([8, 8, 4], nn.ReLU).requires_grad_(False)
    plan = unvanish.init_(model, torch.randn(4, 8))
    assert not plan.changed
    assert {row.why for row in plan.left_alone} == {"frozen"}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [parametrizations.weight_norm, weight_norm])
def test_weight_norm(wrap: Any) -> None:
    model = nn.Sequential(wrap(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 4))
    before = state(model)
    plan = unvanish.init_(model, torch.randn(16, 8))
    alone = [row for row in plan.left_alone if "weight is computed from it" in row.why]
    assert len(alone) == 2
    assert not {row.parameter for row in alone} & changed(model, before)
    assert plan["2.weight"].action == "set"


def test_adapters() -> None:
    model = Adapted()
    before = state(model)
    plan = unvanish.init_(model, torch.randn(16, 16))
    assert not changed(model, before)
    assert "adapter" in plan["lora_A.weight"].why
    assert plan["base.weight"].why == "frozen"


def test_weights_that_no_layer_holds() -> None:
    plan = unvanish.init_(Own(), torch.randn(16, 16))
    assert plan["mixing"].action == "kept"
    assert "Own" in plan["mixing"].why
    assert plan["head.weight"].action == "set"
    assert plan["head.weight"].follows == "tanh"


def test_biases_stay_with_weights_that_are_left_alone() -> None:
    model = mlp([8, 8, 4], nn.ReLU)
    for layer in (model.linear0, model.head):
        layer.weight.requires_grad_(False)
    before = state(model)
    plan = unvanish.init_(model, torch.randn(16, 8))
    assert not changed(model, before)
    assert plan["head.bias"].why == "left alone as its weight is"


def test_a_frozen_bias_beside_a_weight_that_is_set() -> None:
    model = mlp([16] * 7 + [4], nn.Sigmoid)
    model.linear2.bias.requires_grad_(False)
    before = state(model)
    plan = unvanish.init_(model, torch.randn(64, 16))
    assert "linear2.bias" not in changed(model, before)
    assert plan["linear2.weight"].action == "set"
    assert plan["linear2.weight"].corrected is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_inside_no_grad_and_inference_mode(mode: Any) -> None:
    model = mlp([8, 16, 4], nn.Sigmoid)
    with mode():
        plan = unvanish.init_(model, torch.randn(32, 8))
    assert plan["head.weight"].backward_gain == pytest.approx(1.0, abs=0.3)
    model(torch.randn(4, 8)).sum().backward()


def test_a_closed_head_stays_closed() -> None:
    model = mlp([8, 8, 4], nn.ReLU)
    nn.init.zeros_(model.head.weight)
    plan = unvanish.init_(model, torch.randn(16, 8))
    assert not model.head.weight.any()
    assert "all zeros" in plan["head.weight"].why


class Quantised(nn.Module):
    """Weights as bytes, like the linear layers of quantisation libraries."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(
            torch.randint(0, 255, (8, 8), dtype=torch.uint8), requires_grad=False
        )
        self.scale = nn.Parameter(torch.tensor(0.01))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ (self.weight.float() - 127.0).T * self.scale


def test_quantised_layers() -> None:
    model = nn.Sequential(Quantised(), nn.ReLU(), nn.Linear(8, 4))
    before = state(model)
    plan = unvanish.init_(model, torch.randn(16, 8))
    assert changed(model, before) == {"2.weight", "2.bias"}
    assert {row.parameter for row in plan.left_alone} == {"0.weight", "0.scale"}


def test_a_model_without_parameters() -> None:
    plan = unvanish.init_(nn.Sequential(nn.Flatten(), nn.ReLU()), torch.randn(4, 2, 2))
    assert plan.rows == ()
    assert "no parameters" in plan.notes[0]


def test_a_layer_that_the_forward_does_not_use() -> None:
    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Linear(8, 4), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.used(x)

    model = Unused()
    before = state(model)
    plan = unvanish.init_(model, torch.randn(4, 8))
    assert "no linear map" in plan["unused.weight"].why
    assert changed(model, before) == {"used.weight", "used.bias"}


def test_without_a_batch_the_first_layer_says_what_fits() -> None:
    plan = unvanish.init_(ResNet(1))
    assert plan.structure == "guessed input"
    assert not plan.measured
    assert plan["blocks.0.norm2.weight"].action == "set"
    assert "Give a batch" in plan.notes[0]


def test_without_any_input_the_order_of_modules_is_taken_and_said() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 16), nn.Sigmoid(), nn.Linear(16, 4))

        def forward(self, **given: torch.Tensor) -> torch.Tensor:
            return self.net(given["x"])

    plan = unvanish.init_(Odd())
    assert plan.structure == "module order"
    assert "order of its modules" in " ".join(plan.notes)
    assert plan["net.2.weight"].follows == "sigmoid"
    assert "removes the mean of sigmoid" in plan["net.2.bias"].why


def test_half_precision_and_double_keep_their_types() -> None:
    for dtype in (torch.bfloat16, torch.float64):
        model = mlp([8, 8, 4], nn.GELU).to(dtype)
        unvanish.init_(model, torch.randn(16, 8, dtype=dtype))
        assert all(p.dtype == dtype for p in model.parameters())
        assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_copy_of_the_model_shares_nothing() -> None:
    model = mlp([8, 8, 4], nn.ReLU)
    other = copy.deepcopy(model)
    before = state(other)
    unvanish.init_(model, torch.randn(16, 8))
    assert not changed(other, before)


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such luck")


def test_errors_have_remedies_and_change_nothing() -> None:
    model = mlp([8, 8, 4], nn.ReLU)
    before = state(model)
    with pytest.raises(UnknownNameError, match="auto, orthogonal") as unknown:
        unvanish.init_(model, scheme="magic")
    assert unknown.value.remedy
    with pytest.raises(UsageError, match="NaN"):
        unvanish.init_(model, torch.full((4, 8), torch.nan))
    with pytest.raises(UsageError, match=r"not a torch\.nn\.Module"):
        unvanish.init_(lambda x: x)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="cannot be called"):
        unvanish.init_(model, torch.randn(4, 8), loss_fn=3)  # type: ignore[arg-type]
    with pytest.raises(UserCodeError, match="shapes") as failed:
        unvanish.init_(model, torch.randn(4, 9))
    assert failed.value.__cause__ is not None
    assert not changed(model, before)
    with pytest.raises(UserCodeError, match="no such luck"):
        unvanish.init_(Fails(), torch.randn(4, 4))
    with pytest.raises(UsageError, match="no values yet"):
        unvanish.init_(nn.Sequential(nn.LazyLinear(4)))


def test_the_ways_to_give_a_batch() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
            return self.layer(x) * scale

    x, y = torch.randn(16, 8), torch.randint(0, 4, (16,))
    results = []
    for batch, loss_fn in (
        (x, None),
        ((x, y), None),
        ({"x": x}, None),
        ((x, y), lambda model, pair: nn.functional.cross_entropy(model(pair[0]), pair[1])),
    ):
        model = Two()
        unvanish.init_(model, batch, loss_fn=loss_fn, generator=torch.Generator().manual_seed(0))
        results.append(model.layer.weight)
    assert all(torch.equal(results[0], other) for other in results)
