"""The rules on real networks, trained for some steps: verdict, leading factor, place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from tests.diagnose.builders import codes, evidence, finding
from tests.diagnose.real import Batch, Loss, watch
from unvanish.checking import check
from unvanish.diagnose import diagnose
from unvanish.records import Diagnosis

Init = Callable[[nn.Linear], object]


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = load_digits()
    pixels = torch.tensor(data.data, dtype=torch.float32) / 16
    return pixels, torch.tensor(data.target)


def batches(scale: float = 1.0, shift: float = 0.3, size: int = 64) -> Callable[[int], Batch]:
    draw = torch.Generator().manual_seed(0)

    def batch(step: int) -> Batch:
        pixels, labels = digits()
        chosen = torch.randint(0, len(pixels), (size,), generator=draw)
        return scale * (pixels[chosen] - shift) / 0.38, labels[chosen]

    return batch


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def mlp(
    widths: list[int], activation: Callable[[], nn.Module], init: Init | None = None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in itertools.pairwise(widths):
        layers += [nn.Linear(*size), activation()]
    layers.append(nn.Linear(widths[-1], 10))
    net = nn.Sequential(*layers)
    for layer in net:
        if init is not None and isinstance(layer, nn.Linear):
            init(layer)
            nn.init.zeros_(layer.bias)
    return net


def he(layer: nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight)


def glorot(layer: nn.Linear) -> None:
    nn.init.xavier_uniform_(layer.weight)


def unit_normal(layer: nn.Linear) -> None:
    nn.init.normal_(layer.weight)


def diagnosed(
    model: nn.Module,
    optimizer: str = "SGD",
    lr: float = 0.1,
    steps: int = 65,
    batch: Callable[[int], Batch] | None = None,
    loss: Loss = cross_entropy,
) -> Diagnosis:
    trained = [p for p in model.parameters() if p.requires_grad]
    made = getattr(torch.optim, optimizer)(trained, lr=lr)
    diagnosis = diagnose(watch(model, batch or batches(), loss, made, steps))
    assert not diagnosis.run.notes
    return diagnosis


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# --- vanishing -----------------------------------------------------------------------------------


def test_twenty_default_sigmoid_layers() -> None:
    found = diagnosed(mlp([64] + [100] * 20, nn.Sigmoid))
    assert (found.verdict, found.training, codes(found)) == (
        "vanishing",
        "stuck",
        ["VG101", "VG103"],
    )
    leader = finding(found, "VG101")
    assert (leader.severity, leader.factor, leader.step) == ("error", "slope", 0)
    # Predicted x0.1426 a layer (sigma_w 0.577, root mean square slope 0.247); width 100 and one
    # draw move it by a few per cent.
    assert evidence(leader, "gain_per_layer") == pytest.approx(0.1426, rel=0.05)
    assert evidence(leader, "share") == pytest.approx(0.72, abs=0.03)


def test_the_same_net_as_relu_with_he_weights_is_healthy() -> None:
    found = diagnosed(mlp([64] + [100] * 20, nn.ReLU, he), lr=0.02, steps=65)
    assert (found.verdict, found.training, codes(found)) == ("healthy", "falling", [])


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_thirty_default_relu_layers_are_to_blame_on_the_weights(optimizer: str) -> None:
    found = diagnosed(mlp([64] + [64] * 30, nn.ReLU), optimizer, lr=1e-3)
    assert (found.verdict, codes(found)[0]) == ("vanishing", "VG103")
    assert not {"VG101", "VG102"} & set(codes(found))
    # x0.41 a layer: 0.577 / sqrt(2)
    assert evidence(finding(found, "VG103"), "gain_per_layer") == pytest.approx(0.41, rel=0.06)


def test_thirty_four_glorot_relu_layers_are_to_blame_on_the_weights() -> None:
    found = diagnosed(mlp([64] + [128] * 34, nn.ReLU, glorot), "Adam", lr=1e-3, steps=40)
    assert (found.verdict, codes(found)[0]) == ("vanishing", "VG103")


def test_raw_pixels_saturate_the_first_layer() -> None:
    raw = batches(scale=0.38 * 256, shift=0.0)
    net = mlp([64, 32, 32], nn.Sigmoid, unit_normal)
    found = diagnosed(net, lr=1.0, batch=raw)
    assert (found.verdict, codes(found)[0]) == ("vanishing", "VG102")
    assert finding(found, "VG102").where.module == "1"
    assert float(evidence(finding(found, "VG102"), "input_rms")) > 50


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase], inputs: int, outputs: int) -> None:
        super().__init__()
        self.rnn = cell(inputs, 32, batch_first=True)
        self.head = nn.Linear(32, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x.unflatten(1, (-1, self.rnn.input_size)))[0][:, -1])


def first_sign(step: int) -> Batch:
    x = torch.randn(32, 60, generator=torch.Generator().manual_seed(step))
    return x, (x[:, 0] > 0).long()


def test_a_plain_rnn_forgets_its_first_input() -> None:
    found = diagnosed(Recurrent(nn.RNN, 1, 2), "Adam", lr=1e-3, batch=first_sign, steps=40)
    assert (found.verdict, codes(found)) == ("vanishing", ["VG104"])
    assert finding(found, "VG104").where.module == "rnn"


def test_an_lstm_over_eight_steps_is_healthy() -> None:
    found = diagnosed(Recurrent(nn.LSTM, 8, 10), "Adam", lr=1e-2, steps=65)
    assert (found.verdict, found.training) == ("healthy", "falling")


# --- exploding and not finite --------------------------------------------------------------------


def test_unit_normal_weights_explode_and_the_nan_hangs_under_it() -> None:
    found = diagnosed(mlp([64] + [64] * 20, nn.ReLU, unit_normal), steps=10)
    assert (found.verdict, found.training) == ("exploding", "diverging")
    assert finding(found, "EG101").explains[0] == "NF101"


def test_a_saturated_tanh_net_whose_gradients_grow_is_not_vanishing() -> None:
    found = diagnosed(mlp([64] + [64] * 10, nn.Tanh, unit_normal), lr=0.01)
    assert codes(found) == ["EG101"]
    assert found.verdict == "exploding"


def test_the_square_root_at_zero() -> None:
    body = mlp([64, 64], nn.ReLU, he)

    def distance(model: nn.Module, batch: Batch) -> Tensor:
        same = torch.cat([batch[0][:1], batch[0].roll(1, 0)[1:]])
        return ((model(batch[0]) - model(same)) ** 2).sum(1).sqrt().sub(1).square().mean()

    found = diagnosed(body, loss=distance, steps=5)
    assert (found.verdict, codes(found)) == ("non-finite", ["NF101"])
    assert finding(found, "NF101").where.op == "SqrtBackward0"
    assert finding(found, "NF101").step == 0


# --- dead units, cut graphs, heads ---------------------------------------------------------------


def test_a_dead_layer_and_not_its_victims() -> None:
    net = mlp([64] + [64] * 4, nn.ReLU, he)
    with torch.no_grad():
        net[4].bias.fill_(-100.0)
    found = diagnosed(net)
    assert (found.verdict, codes(found)[0]) == ("dead-units", "DU101")
    assert finding(found, "DU101").where.module == "5"
    assert all(code in finding(found, "DU101").explains for code in codes(found)[1:])


class Choice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 16))
        self.decoder = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(F.one_hot(self.encoder(x).argmax(1), 16).float())


def test_argmax_cuts_the_graph() -> None:
    found = diagnosed(Choice())
    assert (found.verdict, codes(found)) == ("cut-graph", ["CG101"])
    assert "between `encoder.2` and `decoder.0`" in found.findings[0].title


class Tied(nn.Module):
    """An embedding whose weight is the head's too, a stack, and perhaps a detach in its middle."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.cut = cut
        self.marker = nn.Parameter(torch.zeros(16))  # for inputs that are not in this batch
        self.embedding = nn.Embedding(20, 16)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(16, 16), nn.ReLU()) for _ in range(4))
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        signal = self.embedding(tokens)
        for number, block in enumerate(self.blocks):
            signal = signal + block(signal)
            if self.cut and number == 1:
                signal = signal.detach()
        return self.head(signal)


@pytest.mark.parametrize(("cut", "verdict"), [(True, "cut-graph"), (False, "healthy")])
def test_a_cut_behind_an_embedding_that_is_tied_to_the_head(cut: bool, verdict: str) -> None:
    """The tied weight gets its gradient at the head; an unused marker beside it is no cut."""
    torch.manual_seed(0)
    tokens = torch.randint(0, 20, (8, 5))
    whole = nn.Sequential(Tied(cut))

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        return F.cross_entropy(model(batch).flatten(0, 1), batch.flatten())

    assert check(whole, tokens, loss, probes=0).verdict == verdict


def test_softmax_before_cross_entropy() -> None:
    found = diagnosed(nn.Sequential(mlp([64, 64], nn.ReLU, he), nn.Softmax(1)))
    assert (found.verdict, codes(found)) == ("loss-head", ["LH101"])


def test_a_learning_rate_that_kills() -> None:
    found = diagnosed(mlp([64, 128, 64], nn.ReLU), "Adam", lr=0.3, steps=130)
    assert (found.verdict, codes(found)[0]) == ("dead-units", "DU101")
    assert "UR101" in finding(found, "DU101").explains


# --- what is healthy -----------------------------------------------------------------------------


def test_a_converged_network_with_tiny_gradients() -> None:
    net = mlp([64, 64], nn.ReLU, he)
    pixels, labels = digits()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(net((pixels - 0.3) / 0.38), labels).backward()
        optimizer.step()
    found = diagnosed(net, lr=0.01)
    assert (found.verdict, codes(found)) == ("healthy", [])
    gradient = [row.grad_log10 for row in found.run.models[0].traces[0].layers]
    assert all(level is None or level < -1.8 for level in gradient)


def test_a_frozen_backbone() -> None:
    net = mlp([64, 64, 64], nn.ReLU, he)
    net[:4].requires_grad_(False)
    found = diagnosed(net, steps=130)
    assert (found.verdict, found.training, codes(found, "info")) == (
        "healthy",
        "falling",
        ["OK001"],
    )


class Adapted(nn.Module):
    def __init__(self, base: nn.Linear, both_zero: bool) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        start = torch.zeros if both_zero else torch.randn
        self.a = nn.Parameter(0.1 * start(4, base.in_features))
        self.b = nn.Parameter(torch.zeros(base.out_features, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.a.T @ self.b.T


@pytest.mark.parametrize(("both_zero", "verdict"), [(False, "healthy"), (True, "cut-graph")])
def test_lora(both_zero: bool, verdict: str) -> None:
    net = mlp([64, 64], nn.ReLU, he)
    adapted = [Adapted(each, both_zero) if isinstance(each, nn.Linear) else each for each in net]
    found = diagnosed(nn.Sequential(*adapted), "Adam", lr=1e-2)
    assert found.verdict == verdict


class Residual(nn.Module):
    def __init__(self, zero: bool) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.norm1 = nn.BatchNorm1d(64)
        self.outer = nn.Linear(64, 64)
        self.norm2 = nn.BatchNorm1d(64)
        if zero:
            nn.init.zeros_(self.norm2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm2(self.outer(F.relu(self.norm1(self.inner(x))))))


@pytest.mark.parametrize("zero", [False, True])
def test_residual_blocks_with_batch_norm(zero: bool) -> None:
    net = nn.Sequential(*(Residual(zero) for _ in range(6)), nn.Linear(64, 10))
    found = diagnosed(net)
    assert (found.verdict, codes(found)) == ("healthy", [])


def test_shuffled_labels_are_healthy_and_it_is_said_what_training_does() -> None:
    plain = batches()
    draw = torch.Generator().manual_seed(1)

    def shuffled(step: int) -> Batch:
        pixels, labels = plain(step)
        return pixels, labels[torch.randperm(len(labels), generator=draw)]

    found = diagnosed(mlp([64, 64], nn.ReLU, he), batch=shuffled)
    assert (found.verdict, found.training) == ("healthy", "stuck")
    assert "the loss does not fall" in found.findings[0].title


def test_a_tiny_loss_scale_changes_nothing() -> None:
    def small(model: nn.Module, batch: Batch) -> Tensor:
        return 1e-4 * cross_entropy(model, batch)

    for net in (mlp([64] + [64] * 3, nn.ReLU, he), mlp([64] + [64] * 20, nn.Sigmoid)):
        state = {key: value.clone() for key, value in net.state_dict().items()}
        plain = diagnosed(net, "Adam", lr=1e-3, steps=5)
        net.load_state_dict(state)
        scaled = diagnosed(net, "Adam", lr=1e-3, steps=5, loss=small)
        assert codes(plain) == codes(scaled)
        assert plain.verdict == scaled.verdict
        ratios = [
            trace.main_path.source_level_log10 - (trace.output_level_log10 or 0.0)
            for found in (plain, scaled)
            for trace in found.run.models[0].traces[:1]
            if trace.main_path is not None
        ]
        assert math.isclose(*ratios, abs_tol=1e-5)  # float32: a product more or less rounded
