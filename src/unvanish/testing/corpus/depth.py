"""Deep plain and convolutional nets, graphs, tied weights, recurrent cells."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import torch
from torch import Tensor, nn

from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.corpus.attention import language_model
from unvanish.testing.corpus.classify import adam, classifier, cross_entropy, sgd
from unvanish.testing.corpus.healthy import Rows
from unvanish.testing.corpus.vanishing import LastState
from unvanish.testing.data import accuracy, always, digits, pixels, standard, tumours
from unvanish.testing.experiment import Experiment
from unvanish.testing.nets import Residual, he, init, lecun, mlp, unit_normal


def dead_second_layer(cured: bool) -> Experiment:
    """A bias of -20 switches the second of four ReLU layers off; cured: a bias of 0."""
    model = mlp([64] * 5 + [10], nn.ReLU)
    init(model, he)
    if not cured:
        nn.init.constant_(model.get_parameter("linear1.bias"), -20.0)
    return classifier(model, sgd(0.05, 0.9), steps=120)


def relu6_on_raw_columns(cured: bool) -> Experiment:
    """Columns of up to 4254 into ReLU6: each unit is at 0 or at 6; cured: standard columns."""
    inputs, labels = tumours()
    model = mlp([30, 32, 32, 2], nn.ReLU6)
    init(model, he)
    data = (standard(inputs) if cured else inputs, labels.long())
    return classifier(model, sgd(0.05, 0.9), steps=120, data=data)


def tanh_unit_normal(cured: bool) -> Experiment:
    """Ten tanh layers, N(0, 1) weights: saturated, yet the gradient grows; cured: 1 / fan-in."""
    model = mlp([64] * 11 + [10], nn.Tanh)
    init(model, lecun if cured else unit_normal)
    return classifier(model, sgd(0.02, 0.9), steps=200)


def relu_he_100_layers(cured: bool) -> Experiment:
    """100 ReLU layers, He: the level holds, but all samples become one; cured: skips."""
    if not cured:
        model: nn.Module = mlp([64] * 101 + [10], nn.ReLU)
        init(model, he)
    else:
        blocks = [Residual(nn.Sequential(nn.ReLU(), nn.Linear(64, 64)), 0.1) for _ in range(100)]
        model = nn.Sequential(*blocks, nn.Linear(64, 10))
        init(model, he)
    return classifier(model, sgd(0.01, 0.9), steps=100)


def batch_norm_without_skips(cured: bool) -> Experiment:
    """60 ReLU layers behind batch norms, batches of 16: times 1.26 a layer; cured: skips."""
    if cured:
        blocks = [
            Residual(nn.Sequential(nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64)), 0.2)
            for _ in range(60)
        ]
        model: nn.Module = nn.Sequential(nn.Linear(64, 64), *blocks, nn.Linear(64, 10))
    else:
        model = mlp([64] * 61 + [10], nn.ReLU, norm=nn.BatchNorm1d)
    init(model, he)
    return classifier(model, sgd(0.01, 0.9), steps=100, size=16)


def ok_tanh_orthogonal_30(cured: bool) -> Experiment:
    """30 tanh layers with orthogonal weights."""
    model = mlp([64] * 31 + [10], nn.Tanh)
    init(model, nn.init.orthogonal_)
    return classifier(model, sgd(0.01, 0.9), steps=200)


def ok_selu_8(cured: bool) -> Experiment:
    """Eight SELU layers with alpha dropout on a table."""
    inputs, labels = tumours()
    layers = itertools.chain.from_iterable(
        (nn.Linear(30 if i == 0 else 48, 48), nn.SELU(), nn.AlphaDropout(0.05)) for i in range(8)
    )
    model = nn.Sequential(*layers, nn.Linear(48, 2))
    init(model, lecun)
    return classifier(model, adam(1e-3), steps=150, data=(standard(inputs), labels.long()))


def ok_many_units_off(cured: bool) -> Experiment:
    """Biases of -1 in a wide first layer: a part of its units is off for every sample."""
    model = mlp([64, 256, 64, 10], nn.ReLU)
    init(model, he)
    nn.init.constant_(model.get_parameter("linear0.bias"), -1.0)
    nn.init.constant_(model.get_parameter("linear0.bias")[:32], -20.0)
    return classifier(model, adam(2e-3), steps=150)


def ok_two_sigmoid_layers(cured: bool) -> Experiment:
    """Two sigmoid layers under Adam: slopes of 1/4 at most, and it learns."""
    return classifier(mlp([64, 64, 64, 10], nn.Sigmoid), adam(1e-2), steps=200)


def ok_cnn(cured: bool) -> Experiment:
    """Convolutions, max pooling, dropout."""
    model = nn.Sequential(
        OrderedDict(
            conv0=nn.Conv2d(1, 16, 3, padding=1),
            act0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(2),
            conv1=nn.Conv2d(16, 32, 3, padding=1),
            act1=nn.ReLU(inplace=True),
            pool1=nn.MaxPool2d(2),
            flat=nn.Flatten(),
            drop=nn.Dropout(0.5),
            head=nn.Linear(128, 10),
        )
    )
    inputs, labels = pixels()
    data = (inputs.view(-1, 1, 8, 8) / 255, labels)
    return classifier(model, sgd(0.1, 0.9), steps=200, size=32, data=data)


class Gated(nn.Module):
    """x + a branch times a scalar that starts at 0 (SkipInit)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gain * self.conv2(torch.relu(self.conv1(torch.relu(x))))


def ok_skip_init(cured: bool) -> Experiment:
    """Eight residual blocks without a norm, whose gains start at 0."""
    blocks = [Gated(12) for _ in range(8)]
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), *blocks, nn.Flatten(), nn.Linear(12 * 64, 10)
    )
    init(model, he)
    inputs, labels = digits()
    data = (inputs.view(-1, 1, 8, 8), labels)
    return classifier(model, adam(2e-3), steps=80, size=32, data=data)


class StochasticDepth(nn.Module):
    """A residual block that a training step passes by now and then."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        if self.training and bool(torch.rand(()) < 0.4):
            return x
        return x + 0.5 * self.branch(x)


def ok_stochastic_depth(cured: bool) -> Experiment:
    """Blocks that many a step passes by: no gradient in them then."""
    model = nn.Sequential(*(StochasticDepth(64) for _ in range(10)), nn.Linear(64, 10))
    return classifier(model, adam(2e-3), steps=150)


def neighbours() -> Tensor:
    """400 digits as a graph: each and its 6 nearest, normalised as for a GCN. Shape (400, 400)."""
    near = torch.cdist(digits()[0][:400], digits()[0][:400]).topk(7, largest=False).indices
    links = torch.zeros(400, 400).scatter_(1, near, 1.0)
    links = ((links + links.T) > 0).float()
    degree = links.sum(1)
    return links / (degree[:, None] * degree).sqrt()


class GCN(nn.Module):
    """Graph convolutions (Kipf, Welling 2017); `keep` of the first state comes back in each."""

    def __init__(self, layers: int, keep: float = 0.0, width: int = 32) -> None:
        super().__init__()
        self.graph = nn.Buffer(neighbours())
        self.embed = nn.Linear(64, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.head = nn.Linear(width, 10)
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        first = hidden = torch.relu(self.embed(x))
        for layer in self.layers:
            mixed = (1 - self.keep) * (self.graph @ hidden) + self.keep * first
            hidden = torch.relu(mixed + layer(mixed) if self.keep else layer(mixed))
        return self.head(hidden)


def _nodes(model: nn.Module, lr: float = 3e-3, steps: int = 120) -> Experiment:
    inputs, labels = (part[:400] for part in digits())
    return Experiment(
        model,
        adam(lr)(model.parameters()),
        always(inputs, labels),
        cross_entropy,
        steps,
        accuracy(model, inputs, labels),
    )


def gcn_32_layers(cured: bool) -> Experiment:
    """32 graph convolutions smooth all nodes into one; cured: two."""
    return _nodes(GCN(2 if cured else 32))


def ok_gcn_2_layers(cured: bool) -> Experiment:
    """Two graph convolutions."""
    return _nodes(GCN(2))


def ok_gcn_first_state_kept(cured: bool) -> Experiment:
    """Eight graph convolutions, each with a part of the first state (GCNII)."""
    model = GCN(8, keep=0.5)
    init(model, lambda weight: nn.init.normal_(weight, std=0.02))
    init(model.embed, he)
    init(model.head, lecun)
    return _nodes(model)


class Tied(nn.Module):
    """One layer, used again and again, with the input given again each time or only once."""

    def __init__(self, times: int, *, again: bool) -> None:
        super().__init__()
        self.embed = nn.Linear(64, 64)
        self.cell = nn.Linear(64, 64)
        self.head = nn.Linear(64, 10)
        self.times, self.again = times, again

    def forward(self, x: Tensor) -> Tensor:
        given = self.embed(x)
        state = torch.tanh(given)
        for _ in range(self.times):
            state = torch.tanh(self.cell(state) + given if self.again else self.cell(state))
        return self.head(state)


def tied_50_times(cured: bool) -> Experiment:
    """One tanh layer 50 times with default weights; cured: orthogonal weights, 10 times."""
    model = Tied(10 if cured else 50, again=False)
    if cured:
        init(model, nn.init.orthogonal_)
    return classifier(model, sgd(0.02, 0.9), steps=150)


def ok_equilibrium(cured: bool) -> Experiment:
    """A contraction to its fixed point: by design nothing comes back through 30 steps."""
    model = Tied(30, again=True)
    init(model, lecun)
    with torch.no_grad():
        nn.init.orthogonal_(model.cell.weight).mul_(0.5)
    return classifier(model, adam(2e-3), steps=150)


def _first_of(length: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(1024, length, 1)
    return inputs, (inputs[:, 0, 0] > 0).long()


def _remembers(rnn: nn.RNNBase, length: int, lr: float, steps: int) -> Experiment:
    inputs, labels = _first_of(length)
    return classifier(LastState(rnn, 2), adam(lr), steps=steps, data=(inputs, labels))


def lstm_forgets(cured: bool) -> Experiment:
    """An LSTM with forget biases of -4, asked for the first of 40 inputs; cured: +4."""
    rnn = nn.LSTM(1, 24, batch_first=True)
    for name in ("bias_ih_l0", "bias_hh_l0"):
        nn.init.constant_(rnn.get_parameter(name)[24:48], 2.0 if cured else -2.0)
    return _remembers(rnn, 40, 1e-2, 150)


def rnn_relu_explodes(cured: bool) -> Experiment:
    """A ReLU cell with 1.6 times the identity over 60 steps; cured: 1 times."""
    rnn = nn.RNN(8, 32, nonlinearity="relu", batch_first=True)
    with torch.no_grad():
        nn.init.eye_(rnn.get_parameter("weight_hh_l0")).mul_(1.0 if cured else 1.6)
    inputs, labels = digits()
    data = (inputs.view(-1, 8, 8).repeat(1, 8, 1), labels)
    model = LastState(rnn, 10)
    experiment = classifier(model, adam(1e-3), steps=120, data=data)
    experiment.score = None  # the first state's echo may tell the digit all the same
    return experiment


def ok_rnn_orthogonal(cured: bool) -> Experiment:
    """A tanh cell with orthogonal weights over 40 steps."""
    rnn = nn.RNN(1, 32, batch_first=True)
    nn.init.orthogonal_(rnn.get_parameter("weight_hh_l0"))
    return _remembers(rnn, 40, 2e-3, 150)


def ok_gru_rows(cured: bool) -> Experiment:
    """Two GRUs, one upon the other, over the rows of a digit."""
    rnn = nn.GRU(8, 32, num_layers=2, batch_first=True)
    return classifier(Rows(LastState(rnn, 10)), adam(5e-3), steps=150)


class CharacterLSTM(nn.Module):
    """An LSTM that reads text."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(96, 24)
        self.rnn = nn.LSTM(24, 48, batch_first=True)
        self.head = nn.Linear(48, 96)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(tokens))[0])


def ok_lstm_language_model(cured: bool) -> Experiment:
    """The next character of prose, by an LSTM: the loss is spread over all steps."""
    return language_model(CharacterLSTM(), lr=1e-2)


CASES = (
    own(
        "dead_second_layer",
        "dead relu",
        "a bias of -20 switches a whole layer off",
        dead_second_layer,
        ("dead-units",),
        cure="a bias of 0",
        layers=("act1", "linear1"),
        bad=0.3,
        good=0.9,
    ),
    own(
        "relu6_on_raw_columns",
        "saturation",
        "unscaled columns put each ReLU6 at one of its ends, where its slope is 0",
        relu6_on_raw_columns,
        ("dead-units", "vanishing"),
        cure="scale the columns",
        layers=("act*", "linear*"),
        bad=0.75,
        good=0.93,
    ),
    own(
        "tanh_unit_normal",
        "exploding",
        "N(0, 1) weights: tanh saturates, and the gradient grows toward the front all the same",
        tanh_unit_normal,
        ("exploding",),
        cure="weights of variance 1 / fan-in",
        factors=("weight",),
        bad=0.7,
        good=0.9,
    ),
    own(
        "relu_he_100_layers",
        "small weights or slopes",
        "the level holds over 100 layers, but every sample looks the same",
        relu_he_100_layers,
        ("forward-collapse",),
        cure="skips",
        bad=0.3,
        good=0.85,
    ),
    own(
        "batch_norm_without_skips",
        "exploding",
        "batch norm before ReLU: times 1.26 a layer at batches of 16, 60 times",
        batch_norm_without_skips,
        ("exploding",),
        cure="skips",
        factors=("norm",),
        bad=0.4,
        good=0.85,
    ),
    own(
        "gcn_32_layers",
        "small weights or slopes",
        "32 graph convolutions smooth all nodes into one",
        gcn_32_layers,
        ("vanishing", "forward-collapse"),
        cure="two of them, or a part of the first state in each",
        bad=0.3,
        good=0.85,
    ),
    own(
        "tied_50_times",
        "small weights or slopes",
        "one layer, 50 times, at default weights",
        tied_50_times,
        ("vanishing",),
        cure="orthogonal weights",
        factors=("recurrence", "weight"),
        layers=("cell",),
        bad=0.3,
        good=0.85,
    ),
    own(
        "lstm_forgets",
        "small weights or slopes",
        "forget gates that are closed, over 40 steps",
        lstm_forgets,
        ("vanishing",),
        cure="a forget bias of 4",
        factors=("recurrence",),
        layers=("rnn",),
        bad=0.65,
        good=0.9,
    ),
    own(
        "rnn_relu_explodes",
        "exploding",
        "1.6 times the identity, over 64 steps",
        rnn_relu_explodes,
        ("exploding",),
        cure="the identity",
        factors=("recurrence",),
        layers=("rnn",),
        bad=-10.0,
        good=-1.5,
    ),
    own_healthy("ok_tanh_orthogonal_30", "30 tanh layers", 0.9, ok_tanh_orthogonal_30),
    own_healthy("ok_selu_8", "eight SELU layers with alpha dropout", 0.93, ok_selu_8),
    own_healthy("ok_many_units_off", "an eighth of a layer is dead", 0.93, ok_many_units_off),
    own_healthy("ok_two_sigmoid_layers", "two sigmoid layers", 0.9, ok_two_sigmoid_layers),
    own_healthy("ok_cnn", "max pooling, dropout, ReLU in place", 0.93, ok_cnn),
    own_healthy("ok_skip_init", "branches whose gain starts at 0", 0.9, ok_skip_init),
    own_healthy("ok_stochastic_depth", "blocks passed by", 0.93, ok_stochastic_depth),
    own_healthy("ok_gcn_2_layers", "two graph convolutions", 0.85, ok_gcn_2_layers),
    own_healthy("ok_gcn_first_state_kept", "eight of them", 0.85, ok_gcn_first_state_kept),
    own_healthy("ok_equilibrium", "forgets its early steps by design", 0.9, ok_equilibrium),
    own_healthy("ok_rnn_orthogonal", "a tanh cell over 40 steps", 0.8, ok_rnn_orthogonal),
    own_healthy("ok_gru_rows", "two GRUs", 0.9, ok_gru_rows),
    own_healthy("ok_lstm_language_model", "an LSTM on prose", -2.7, ok_lstm_language_model),
)
