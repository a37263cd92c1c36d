"""What the plan says, by architecture: read off the trace, not off the order of modules."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unvanish
from tests.initialisation.nets import Gated, Reader, ResNet, Tied, UNet
from unvanish.testing.nets import TokenEncoder, mlp


def planned(model: nn.Module, batch: object, scheme: str = "auto") -> unvanish.InitPlan:
    return unvanish.init_(model, batch, scheme=scheme, generator=torch.Generator().manual_seed(0))


def test_an_activation_written_as_a_function_is_seen() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(32, 4)  # registered first, used last
            self.first = nn.Linear(8, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(F.leaky_relu(self.first(x), 0.2))

    plan = planned(Net(), torch.randn(64, 8))
    assert plan.structure == "batch"
    assert (plan["first.weight"].follows, plan["first.weight"].feeds) == (
        "input",
        "leaky_relu(0.2)",
    )
    assert plan["last.weight"].follows == "leaky_relu(0.2)"
    # He et al.: sqrt(2 / (1 + a^2)); the output layer is not corrected, so the value is exact
    expected = math.sqrt(2 / 1.04)
    assert plan["last.weight"].what == f"orthogonal × {expected:.4g}"


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.ELU])
def test_deep_chains_begin_as_mirrored_pairs(activation: type[nn.Module]) -> None:
    model = mlp([16] * 9 + [4], activation)
    planned(model, torch.randn(64, 16))
    for layer in list(model)[2:-1:2]:
        weight = layer.weight
        half = len(weight) // 2
        torch.testing.assert_close(weight[:half], -weight[half:])
        torch.testing.assert_close(weight[:, :half], -weight[:, half:])


def test_mirrored_pairs_make_a_deep_relu_network_linear() -> None:
    model = mlp([16] * 9 + [4], nn.ReLU).double()
    planned(model, torch.randn(64, 16).double())
    x, y = torch.randn(2, 5, 16, dtype=torch.float64)
    torch.testing.assert_close(model(x + 2 * y), model(x) + 2 * model(y))


def test_an_odd_activation_is_not_mirrored() -> None:
    model = mlp([16] * 9 + [4], nn.Tanh)
    plan = planned(model, torch.randn(64, 16))
    assert plan["linear3.weight"].what.startswith("orthogonal")
    w = model.linear3.weight.double()
    gram = w @ w.T
    torch.testing.assert_close(gram, torch.eye(16).double() * gram[0, 0], rtol=1e-5, atol=1e-6)


def test_the_centring_bias_of_the_sigmoid() -> None:
    model = mlp([16, 32, 32, 4], nn.Sigmoid)
    planned(model, torch.randn(512, 16), "orthogonal")
    # b = -1/2 W 1, and W near 4 x orthogonal; with a batch the mean is measured, without it is 1/2
    head = model.head
    torch.testing.assert_close(head.bias, -0.5 * head.weight.sum(1), rtol=0, atol=0.02)
    unvanish.init_(model, scheme="orthogonal")
    torch.testing.assert_close(head.bias, -0.5 * head.weight.sum(1), rtol=1e-4, atol=1e-5)
    rows = head.weight.norm(dim=1)
    assert torch.all((rows > 4.0) & (rows < 5.0))


def test_residual_branches_are_scaled_by_their_number() -> None:
    plan = planned(ResNet(4), torch.randn(16, 1, 8, 8))
    for block in range(4):
        assert plan[f"blocks.{block}.norm2.weight"].after == pytest.approx(0.5)
        assert plan[f"blocks.{block}.norm1.weight"].after == pytest.approx(1.0)
    plan = planned(nn.Sequential(*(Gated() for _ in range(4))), torch.randn(64, 32))
    assert all("4 residual branches" in plan[f"{i}.out.weight"].why for i in range(4))


def test_zero_branches() -> None:
    model = nn.Sequential(*(Gated() for _ in range(3)))
    planned(model, torch.randn(64, 32), "zero_branches")
    assert all(not block.out.weight.any() for block in model)
    x = torch.randn(4, 32)
    assert torch.equal(model(x), x)


def test_pre_norm_and_post_norm_are_told_apart() -> None:
    pre = planned(TokenEncoder(2, norm_first=True), torch.randn(16, 64))
    post = planned(TokenEncoder(2, norm_first=False), torch.randn(16, 64))
    names = [
        f"encoder.layers.{i}.{part}" for i in (0, 1) for part in ("self_attn.out_proj", "linear2")
    ]
    assert all("1/√4" in pre[f"{name}.weight"].why for name in names)
    for number, name in enumerate(names, 1):
        assert f"1/√{number}" in post[f"{name}.weight"].why
    assert "queries, keys and values" in pre["encoder.layers.0.self_attn.in_proj_weight"].what


def test_packed_projections_are_orthogonal_each_by_itself() -> None:
    model = TokenEncoder(1, norm_first=True)
    planned(model, torch.randn(16, 64))
    for block in model.encoder.layers[0].self_attn.in_proj_weight.double().chunk(3):
        torch.testing.assert_close(block @ block.T, torch.eye(32).double(), rtol=0, atol=1e-6)


def test_lstm() -> None:
    model = Reader()
    plan = planned(model, torch.randint(1, 20, (8, 12)))
    assert torch.equal(model.cell.bias_ih_l0[32:64], torch.ones(32))
    assert not model.cell.bias_ih_l0[:32].any()
    assert not model.cell.bias_hh_l0.any()
    for gate in model.cell.weight_hh_l0.double().chunk(4):
        torch.testing.assert_close(gate @ gate.T, torch.eye(32).double(), rtol=0, atol=1e-6)
    assert not model.embed.weight[0].any()
    assert "forget gate" in plan["cell.bias_ih_l0"].what


def test_gru_and_relu_cells() -> None:
    model = Reader(nn.GRU)
    planned(model, torch.randint(1, 20, (8, 12)))
    assert torch.equal(model.cell.bias_ih_l0, torch.tensor([0.0] * 32 + [1.0] * 32 + [0.0] * 32))
    cell = nn.RNN(8, 16, nonlinearity="relu")
    planned(cell, torch.randn(5, 4, 8))
    assert torch.equal(cell.weight_hh_l0, torch.eye(16))


def test_a_tied_head_gives_scores_of_mean_square_one() -> None:
    plan = planned(Tied(), torch.randint(0, 20, (8, 12)))
    assert plan["embed.weight"].after == pytest.approx(1 / 4, rel=0.2)  # 320 draws: sd 4 %
    assert "head.weight" in plan["embed.weight"].why


def test_delta_orthogonal_kernels_in_a_deep_convolutional_chain() -> None:
    layers: list[nn.Module] = []
    for i in range(14):
        layers += [nn.Conv2d(16 if i else 3, 16, 3, padding=1), nn.Tanh()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 16, 4))
    plan = planned(model, torch.randn(16, 3, 4, 4))
    kernel = model[2].weight.clone()
    kernel[:, :, 1, 1] = 0.0
    assert not kernel.any()
    assert plan["2.weight"].what.startswith("delta-orthogonal")
    assert plan["0.weight"].what.startswith("orthogonal")  # the first looks at its neighbours


def test_mirrored_convolutions_before_a_dense_layer() -> None:
    layers: list[nn.Module] = [nn.Conv2d(1, 16, 3, padding=1), nn.GELU()]
    for _ in range(4):
        layers += [nn.Conv2d(16, 16, 3, padding=1), nn.GELU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 16, 4)).double()
    planned(model, torch.randn(16, 1, 4, 4).double())
    x, y = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(model(x + y), model(x) + model(y))


@pytest.mark.parametrize("scheme", ["dks", pytest.param("tat", marks=pytest.mark.slow)])
def test_a_shaped_activation_is_folded_into_weights_and_biases(scheme: str) -> None:
    from unvanish.meanfield import named, shaping

    model = mlp([16] * 6 + [4], nn.Tanh).double()
    x = torch.randn(512, 16).double()
    x = x / x.square().mean().sqrt()
    planned(model, x, scheme)
    made = getattr(shaping, scheme)(named("tanh"), 5)
    # layer 2's pre-activations are those of the shaped net: α times a signal of mean square 1, + β
    z = model[:5](x)
    assert float(((z.detach() - made.beta) / made.alpha).square().mean()) == pytest.approx(
        1.0, rel=1e-6
    )
    w = model.linear2.weight
    gram = w @ w.T
    torch.testing.assert_close(gram, torch.eye(16).double() * gram[0, 0], rtol=1e-6, atol=1e-9)


def test_gaussian_scheme() -> None:
    torch.manual_seed(0)
    model = mlp([64, 64, 64, 4], nn.ReLU)
    planned(model, torch.randn(256, 64), "gaussian")
    w = model.linear1.weight.detach().double()
    # an orthogonal matrix has equal singular values; a Gaussian one of this size has not
    singular = torch.linalg.svdvals(w)
    assert float(singular[0] / singular[-1]) > 5.0
    assert float(w.square().mean().sqrt()) * 8 == pytest.approx(math.sqrt(2), rel=0.1)


def test_the_u_net_is_read_through_its_concatenation() -> None:
    plan = planned(UNet(), torch.randn(4, 1, 16, 16))
    assert plan["join.weight"].follows == "relu"
    assert "16 inputs" not in plan["up.weight"].why  # 32 channels, one tap each
    assert "32 inputs" in plan["up.weight"].why


def test_the_table_shows_every_row_and_the_reasons() -> None:
    plan = planned(mlp([8, 16, 4], nn.Sigmoid), torch.randn(32, 8))
    text = str(plan)
    for row in plan.rows:
        assert row.parameter in text
    assert "removes the mean of sigmoid" in text


def test_a_recurrent_cell_written_by_hand_is_known_as_one() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inp, self.state, self.out = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.zeros(len(x), 32)
            for t in range(x.shape[1]):
                h = torch.tanh(self.inp(x[:, t]) + self.state(h))
            return self.out(h)

    model = Loop()
    plan = planned(model, torch.randn(8, 6, 8))
    weight = model.state.weight.double()
    torch.testing.assert_close(weight @ weight.T, torch.eye(32).double(), rtol=0, atol=1e-6)
    assert "over time" in plan["state.weight"].why
    assert plan["out.weight"].follows == "tanh"


def test_a_compiled_model_is_read_under_its_own_names() -> None:
    model = mlp([8, 16, 4], nn.Sigmoid)
    plan = planned(torch.compile(model, backend="eager"), torch.randn(32, 8))
    assert plan["head.weight"].follows == "sigmoid"


def test_packed_queries_of_a_plain_linear_layer() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(16, 48, bias=False), nn.Linear(16, 16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            q, k, v = self.qkv(x).chunk(3, -1)
            return x + self.out(F.scaled_dot_product_attention(q, k, v))

    model = Attention()
    plan = planned(model, torch.randn(4, 6, 16))
    for block in model.qkv.weight.detach().double().chunk(3):
        gram = block @ block.T
        torch.testing.assert_close(gram, torch.eye(16).double() * gram[0, 0], rtol=1e-5, atol=1e-6)
    assert plan["out.weight"].follows == "attention"
    assert "residual" in plan["out.weight"].why
