"""With a batch, gains are 1: measured here with the tool's own tracer, not with the corrector."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import unvanish
from tests.initialisation.nets import Gated, Reader, ResNet, UNet
from unvanish.testing.data import digits
from unvanish.testing.nets import TokenEncoder, mlp

TOLERANCE = 0.05


def started(model: nn.Module, batch: object, scheme: str = "auto") -> unvanish.InitPlan:
    return unvanish.init_(model, batch, scheme=scheme, generator=torch.Generator().manual_seed(0))


def levels(model: nn.Module, batch: Tensor, classes: int = 10) -> dict[str, float]:
    """Level of the gradient by module, under a random cotangent at the output."""
    torch.manual_seed(1)
    cotangent = torch.randn(model(batch).shape)
    diagnosis = unvanish.check(model, batch, lambda m, x: (m(x) * cotangent).sum(), probes=0)
    trace = diagnosis.run.models[0].traces[0]
    return {row.module: row.level_log10 for row in trace.layers if row.level_log10 is not None}


def chain(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return mlp([64] * 21 + [10], make)


@pytest.mark.parametrize(
    "make", [nn.Sigmoid, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU, nn.Mish]
)
def test_every_layer_of_a_deep_mlp_has_gain_one_in_both_directions(
    make: type[nn.Module],
) -> None:
    inputs = digits()[0][:256]
    model = chain(make)
    plan = started(model, inputs)
    inner = [row for row in plan.rows if row.parameter.startswith("linear") and row.backward_gain]
    assert len(inner) == 19
    assert all(abs(row.backward_gain - 1) <= TOLERANCE for row in inner)
    assert all(abs(row.forward_gain - 1) <= TOLERANCE for row in inner)
    # and measured anew: 19 layers together, under another cotangent
    found = levels(model, inputs)
    assert abs(found["linear0"] - found["linear19"]) < math.log10(1.7)
    sizes = []
    for layer in list(model)[:-1]:
        inputs = layer(inputs)
        if isinstance(layer, nn.Linear):
            sizes.append(float((inputs - layer.bias).detach().square().mean().sqrt()))
    if make not in (nn.Tanh,):  # whose biases remove means: what is kept lies around them
        assert max(sizes) < 1.1 * min(sizes)


def test_pytorchs_own_start_is_nowhere_near(recwarn: pytest.WarningsRecorder) -> None:
    found = levels(chain(nn.Sigmoid), digits()[0][:64])
    assert found["linear0"] < found["linear19"] - 10


def test_a_scheme_whose_scale_is_all_there_is_shares_the_miss() -> None:
    torch.manual_seed(0)
    model = mlp([64] * 6 + [10], nn.ReLU)
    plan = started(model, digits()[0][:256], "orthogonal")
    inner = [row for row in plan.rows if row.backward_gain and row.parameter != "head.weight"]
    for row in inner:
        assert row.forward_gain * row.backward_gain == pytest.approx(1.0, abs=0.05)


def test_convolutions() -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()]
    for _ in range(9):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 64, 10))
    inputs = digits()[0][:64].reshape(-1, 1, 8, 8)
    plan = started(model, inputs)
    inner = [row for row in plan.rows if row.backward_gain and row.parameter != "21.weight"]
    assert len(inner) == 9
    assert all(abs(row.backward_gain - 1) <= TOLERANCE for row in inner)
    assert all(abs(row.forward_gain - 1) <= TOLERANCE for row in inner)


def test_a_residual_network_keeps_its_gradient_over_many_blocks() -> None:
    torch.manual_seed(0)
    model = ResNet(12)
    inputs = digits()[0][:32].reshape(-1, 1, 8, 8)
    started(model, inputs)
    found = levels(model, inputs)
    # 12 branches of variance 1/12 each: at most a factor e in the square, and the relus behind
    # the sums, each of which loses the negative part of a small addition only
    assert abs(found["stem"] - found["blocks.11.norm2"] - math.log10(12**0.5)) < math.log10(2.5)


@pytest.mark.parametrize("make", [nn.ReLU, nn.GELU])
def test_the_correction_keeps_the_scale_of_residual_branches(make: type[nn.Module]) -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(64)
            self.up, self.act, self.down = nn.Linear(64, 128), make(), nn.Linear(128, 64)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.down(self.act(self.up(self.norm(x))))

    torch.manual_seed(0)
    model = nn.Sequential(*(Branch() for _ in range(9)))
    plan = started(model, digits()[0][:256])
    for block in range(9):
        row = plan[f"{block}.down.weight"]
        assert row.forward_gain == pytest.approx(1 / 3, rel=0.1)
        assert row.backward_gain == pytest.approx(1 / 3, rel=0.1)
        # and the layer in front, planned at 1/8, is not made to vanish for it
        assert plan[f"{block}.up.weight"].after > 0.3 / 8


def test_transformers() -> None:
    inputs = digits()[0][:32]
    for norm_first in (True, False):
        torch.manual_seed(0)
        model = TokenEncoder(6, norm_first=norm_first)
        started(model, inputs)
        found = levels(model, inputs)
        first, last = found["embed"], found["encoder.layers.5.linear2"]
        assert abs(first - last) < math.log10(8.0), norm_first


def test_gated_blocks() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Gated() for _ in range(8)))
    inputs = torch.randn(64, 32, requires_grad=True)
    started(model, inputs.detach())
    out = model(inputs)
    torch.manual_seed(1)
    cotangent = torch.randn(out.shape)
    gradient = torch.autograd.grad(out, inputs, cotangent)[0]
    # a product hands its gradient to both factors: of branches of variance 1/8, (1 + 2/8)^8 = 6
    assert 0.7 < float(gradient.norm() / cotangent.norm()) < 6.0**0.5
    assert 0.9 < float(out.detach().square().mean().sqrt()) < 2.0


def test_lstm_keeps_its_gradient_over_time() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, 20, (16, 40))
    shares = []
    for ours in (False, True):
        model = Reader()
        if ours:
            started(model, tokens)
        embedded = model.embed(tokens).detach().requires_grad_()
        last = model.cell(embedded)[0][:, -1]
        norms = torch.autograd.grad(last.sum(), embedded)[0].norm(dim=(0, 2))
        shares.append(float(norms[-20] / norms[-1]))
    assert shares[1] > 20 * shares[0]  # σ(1)^20 = 2e-3 against σ(0)^20 = 1e-6


def test_u_net() -> None:
    torch.manual_seed(0)
    model = UNet()
    inputs = torch.randn(8, 1, 16, 16)
    plan = started(model, inputs)
    found = levels(model, inputs)
    assert max(found.values()) - min(found.values()) < math.log10(4.0)
    assert abs(plan["down2.weight"].forward_gain or 1.0) < 1.2


class Deep(nn.Module):
    """Twenty sigmoid layers, the activation a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(20))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.sigmoid(layer(x))
        return self.head(x)


def accuracy_after_training(model: nn.Module) -> float:
    inputs, labels = digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    torch.manual_seed(2)
    for _epoch in range(10):
        for batch in torch.randperm(1280).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    with torch.no_grad():
        return float((model(inputs[1297:]).argmax(-1) == labels[1297:]).float().mean())


def test_twenty_sigmoid_layers_train() -> None:
    torch.manual_seed(0)
    assert accuracy_after_training(Deep()) < 0.2  # PyTorch's default stays at chance
    model = Deep()
    started(model, digits()[0][:256])
    assert accuracy_after_training(model) > 0.9


@pytest.mark.parametrize("make", [nn.ReLU, nn.GELU])
def test_mirrored_pairs_stop_the_growth_of_batch_norm_without_skips(
    make: type[nn.Module],
) -> None:
    inputs = digits()[0][:128]
    growth = {}
    for scheme in ("orthogonal", "auto"):
        torch.manual_seed(0)
        model = mlp([64] * 31 + [10], make, norm=nn.BatchNorm1d)
        started(model, inputs, scheme)
        found = levels(model, inputs)
        growth[scheme] = (found["linear0"] - found["linear29"]) / 29
    # theory for BatchNorm and ReLU: half of log10 pi/(pi - 1) = 0.083 decades a layer
    assert growth["orthogonal"] > 0.06
    assert abs(growth["auto"]) < 0.02
