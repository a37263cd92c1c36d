"""`unvanish.fix` on a small network that vanishes: on copies, paired, replayable, honest."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import unvanish
from unvanish.errors import UsageError, UserCodeError
from unvanish.fix import seeds
from unvanish.fix.fixing import FixResult
from unvanish.fix.given import given, like
from unvanish.fix.live import LiveTrainer
from unvanish.fix.trial import UNTREATED, Treatment

WIDTH, DEPTH, STEPS = 16, 10, 40
SGD = partial(torch.optim.SGD, lr=0.05, momentum=0.9)


def network(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """PyTorch's default weights have 0.41 of what each ReLU needs: ×1e-4 over ten layers."""
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        layers += [nn.Linear(WIDTH, WIDTH), activation()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 4))


def loss_fn(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def data() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(640) % 4
    centres = 2 * torch.randn(4, WIDTH, generator=draw)
    return centres[labels] + torch.randn(640, WIDTH, generator=draw), labels


@pytest.fixture(scope="module")
def batches() -> list[tuple[Tensor, Tensor]]:
    inputs, labels = data()
    return list(zip(inputs.split(64), labels.split(64), strict=True))


@pytest.fixture(scope="module")
def model() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network()


@dataclass(frozen=True)
class Fixed:
    """A whole call, and what it left behind."""

    result: FixResult
    told: list[tuple[str, float]]
    same_random: bool
    same_state: bool
    untouched: bool


@pytest.fixture(scope="module")
def fixed(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> Fixed:
    told: list[tuple[str, float]] = []
    state = copy.deepcopy(model.state_dict())
    random = torch.get_rng_state()
    result = unvanish.fix(
        model, batches, loss_fn, SGD, steps=STEPS, progress=lambda w, s: told.append((w, s))
    )
    return Fixed(
        result,
        told,
        torch.equal(torch.get_rng_state(), random),
        all(torch.equal(state[name], value) for name, value in model.state_dict().items()),
        all(parameter.grad is None for parameter in model.parameters())
        and not any(module._forward_hooks for module in model.modules()),
    )


@pytest.fixture(scope="module")
def result(fixed: Fixed) -> FixResult:
    return fixed.result


def trainer(
    model: nn.Module, batches: object, loss: object = loss_fn, steps: int = 10, **more: object
) -> LiveTrainer:
    return LiveTrainer(model, batches, loss, SGD, steps=steps, **more)  # type: ignore[arg-type]


# --- the whole ----------------------------------------------------------------------------------


def test_a_cure_is_proven_for_a_vanishing_network(result: FixResult) -> None:
    assert result.record.verdict_before == "vanishing"
    assert result.proven
    assert result.best is not None
    assert result.proof is not None
    assert result.proof.seeds == (1, 2, 3)
    assert max(result.proof.scores) < min(result.proof.baseline_scores)
    assert result.cures[0] is result.best
    assert 0 < result.trainings_spent <= 15


def test_the_code_does_what_the_cure_does(result: FixResult, model: nn.Sequential) -> None:
    """The lines run as they stand; afterwards the signal reaches the first layer."""
    mine = copy.deepcopy(model)
    optimizer = SGD(mine.parameters())
    exec(result.code, {"model": mine, "optimizer": optimizer, "batch": data(), "loss_fn": loss_fn})
    assert unvanish.check(mine, data(), loss_fn, optimizer).verdict == "healthy"


def test_the_result_shows_itself(result: FixResult) -> None:
    assert "Proven cure" in str(result)
    assert "<pre" in result._repr_html_()
    assert result.document()["best"] == result.record.best
    assert result.page().startswith("<!DOCTYPE html>")


def test_the_model_of_the_result_is_a_cured_copy(result: FixResult, model: nn.Sequential) -> None:
    before = copy.deepcopy(model.state_dict())
    cured = result.model
    assert cured is not model
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert unvanish.check(cured, data(), loss_fn).verdict == "healthy"
    assert unvanish.check(result.model_with(None), data(), loss_fn).verdict == "vanishing"


def test_apply_treats_the_given_model_in_place(result: FixResult, model: nn.Sequential) -> None:
    mine = copy.deepcopy(model)
    applied = FixResult(result.record, trainer(mine, [data()]))
    applied.apply()
    assert unvanish.check(mine, data(), loss_fn).verdict == "healthy"


def test_nothing_of_the_users_is_changed(fixed: Fixed) -> None:
    assert fixed.same_random
    assert fixed.same_state
    assert fixed.untouched


def test_progress_is_told(fixed: Fixed) -> None:
    shares = [share for _what, share in fixed.told]
    assert shares == sorted(shares)
    assert fixed.told[0][0] == "the untreated network"
    assert "proof, seed 3: untreated" in [what for what, _share in fixed.told]


def test_a_healthy_network_is_left_alone(batches: list[tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 4))
    found = unvanish.fix(model, batches, loss_fn, SGD, steps=60)
    assert found.record.verdict_before == "healthy"
    assert found.cures == ()
    assert found.code == ""
    assert "nothing was changed" in str(found)
    found.apply()  # there is nothing to apply
    assert all(
        torch.equal(one, other)
        for one, other in zip(model.parameters(), found.model.parameters(), strict=True)
    )


# --- one trial -----------------------------------------------------------------------------------


def test_a_seed_is_a_pair(model: nn.Sequential, batches: list[tuple[Tensor, Tensor]]) -> None:
    """The same seed gives the same losses again; another seed, others."""
    made = trainer(model, batches)
    first, again = (made.train(UNTREATED, 1, 10) for _ in range(2))
    assert first.losses == again.losses
    assert first.losses != made.train(UNTREATED, 2, 10).losses
    assert len(first.losses) == 10


def test_data_come_in_the_same_order_for_untreated_and_cured(
    batches: list[tuple[Tensor, Tensor]],
) -> None:
    seen: list[int] = []

    def watching(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(int(batch[0].sum() * 1000))
        return loss_fn(model, batch)

    made = trainer(network(), batches, watching)
    made.train(UNTREATED, 3, 10)
    untreated, seen[:] = seen[:10], []
    made.train(Treatment(lr_factor=3.0), 3, 10)
    assert seen[:10] == untreated


def test_a_training_that_diverges_scores_infinity(batches: list[tuple[Tensor, Tensor]]) -> None:
    def diverging(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return loss_fn(model, batch) * math.inf

    assert trainer(network(), batches, diverging).train(UNTREATED, 0, 5).score == math.inf


def test_a_loss_that_takes_derivatives_can_be_scored() -> None:
    """As in a physics-informed network: the yardstick needs gradients too."""

    def residual(model: nn.Module, batch: Tensor) -> Tensor:
        point = batch.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model(point).sum(), point, create_graph=True)
        return (slope - 1).square().mean()

    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    found = trainer(net, [torch.rand(16, 1) for _ in range(6)], residual).train(UNTREATED, 0, 5)
    assert math.isfinite(found.score)


def test_a_metric_is_the_yardstick(batches: list[tuple[Tensor, Tensor]]) -> None:
    made = trainer(network(), batches, metric=lambda model, batch: 0.25)
    assert made.train(UNTREATED, 0, 2).score == 0.25
    assert "your metric" in made.yardstick


def test_the_yardstick_stands_on_batches_that_are_not_trained_on() -> None:
    numbered = [torch.full((2, WIDTH), float(i)) for i in range(10)]
    trained: list[float] = []

    def loss(model: nn.Module, batch: Tensor) -> Tensor:
        trained.append(float(batch[0, 0]))
        return model(batch).square().mean()

    made = trainer(network(), numbered, loss, steps=16)
    made.train(UNTREATED, 0, 16)
    # the last calls are the yardstick's; before them, only the others were seen
    assert trained[-2:] == [8.0, 9.0]
    assert set(trained[:16]) == set(map(float, range(8)))


# --- bad input -----------------------------------------------------------------------------------


def test_a_generator_is_kept_as_far_as_needed_and_said_so() -> None:
    def endless() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield data()

    made = trainer(network(), endless(), steps=7)
    assert len(made.notes) == 1
    assert "the first 7 were kept" in made.notes[0]


def test_batches_beyond_those_needed_are_named_and_a_list_has_no_limit() -> None:
    many = [data()] * 600
    made = trainer(network(), many, steps=7)
    assert made.notes == ["only the first 7 batches are used"]
    assert trainer(network(), many, steps=600).notes == []
    loader = DataLoader(TensorDataset(torch.zeros(600, 1)), batch_size=1)
    assert trainer(network(), loader, steps=600).notes == ["only the first 512 batches are used"]


def test_a_loader_is_read_without_touching_its_generator() -> None:
    draw = torch.Generator().manual_seed(1)
    state = draw.get_state()
    loader = DataLoader(TensorDataset(*data()), batch_size=64, shuffle=True, generator=draw)
    trainer(network(), loader)
    assert torch.equal(draw.get_state(), state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batches": []}, "there is no batch"),
        ({"steps": 0}, "steps is 0"),
        ({"optimizer": SGD([torch.zeros(1)])}, "cannot be called"),
    ],
)
def test_wrong_arguments_are_told(change: dict[str, object], message: str) -> None:
    arguments = {"model": network(), "batches": [data()], "loss_fn": loss_fn, "optimizer": SGD}
    with pytest.raises(UsageError, match=message):
        unvanish.fix(**(arguments | change))


def test_a_loss_that_fails_is_the_users(batches: list[tuple[Tensor, Tensor]]) -> None:
    def failing(model: nn.Module, batch: object) -> Tensor:
        raise RuntimeError("theirs")

    with pytest.raises(UserCodeError, match="theirs"):
        unvanish.fix(network(), batches, failing, SGD)


def test_a_cure_that_fails_is_a_failed_trial(
    batches: list[tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(live: object, treatment: Treatment) -> None:
        raise IndexError("a network that it does not understand")

    monkeypatch.setattr("unvanish.fix.live.treat", failing)
    outcome = trainer(network(), batches).train(Treatment(("critical-init",)), 0, 5)
    assert outcome.error == "IndexError: a network that it does not understand"


# --- seeds ---------------------------------------------------------------------------------------


def test_a_seed_draws_weights_of_the_same_law() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64, bias=False))
    nn.init.normal_(model[1].weight, std=3.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    assert seeds.redraw(model, 5) == 3
    for old, new in zip(before, model.parameters(), strict=True):
        assert not torch.equal(old, new)
        # 64 entries and more of one law: their spreads agree within 6 standard errors
        assert float(new.detach().std() / old.std()) == pytest.approx(
            1.0, abs=6 / (2 * old.numel()) ** 0.5
        )


def test_a_seed_keeps_orthogonal_weights_orthogonal() -> None:
    model = nn.Linear(32, 32, bias=False)
    nn.init.orthogonal_(model.weight, gain=2.0)
    seeds.redraw(model, 1)
    # rounding of 32 products of numbers of order 1 in float32
    assert torch.allclose(model.weight @ model.weight.T, 4 * torch.eye(32), atol=1e-5)


def test_a_seed_leaves_frozen_weights() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    before = model[0].weight.clone()
    seeds.redraw(model, 1)
    assert torch.equal(model[0].weight, before)


# --- FILE.py:FUNCTION ----------------------------------------------------------------------------


def test_a_function_that_draws_its_model_is_what_a_seed_changes() -> None:
    def make() -> tuple[object, ...]:
        model = network()
        return model, [data()], loss_fn, SGD(model.parameters())

    made = given(make, "make")
    assert made.model_fn is not None
    assert isinstance(made.optimizer(made.model.parameters()), torch.optim.SGD)


def test_a_function_that_seeds_itself_is_not() -> None:
    def make() -> tuple[object, ...]:
        torch.manual_seed(0)
        return network(), data(), loss_fn, SGD

    made = given(make, "make")
    assert made.model_fn is None
    (only,) = made.batches  # a tuple is one batch
    assert isinstance(only, tuple)


def test_a_function_that_returns_something_else_is_told() -> None:
    with pytest.raises(UsageError, match="returned 3 values, not"):
        given(lambda: (1, 2, 3), "net.py:make")


def test_an_optimiser_like_another_has_its_groups_and_options() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    optimizer = torch.optim.AdamW(
        [
            {"params": model[1].parameters(), "lr": 1e-4},
            {"params": model[0].parameters(), "weight_decay": 0.5},
        ],
        lr=1e-2,
        betas=(0.8, 0.9),
    )
    twin = copy.deepcopy(model)
    made = like(optimizer, model)(twin.parameters())
    assert isinstance(made, torch.optim.AdamW)
    assert [group["lr"] for group in made.param_groups] == [1e-4, 1e-2]
    assert [group["weight_decay"] for group in made.param_groups] == [1e-2, 0.5]
    assert made.param_groups[0]["betas"] == (0.8, 0.9)
    assert made.param_groups[0]["params"][0] is twin[1].weight
