"""Trainings of one shape as one ensemble: the same to rounding, or one by one, and said so."""

from __future__ import annotations

import gc
import itertools
import math
import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import unvanish
from tests.fix.fakes import FakeTrainer, candidate
from unvanish.fix.ensemble import Choice
from unvanish.fix.live import LiveTrainer
from unvanish.fix.search import Budget, Search
from unvanish.fix.stack import ELEMENTWISE, Stack, options
from unvanish.fix.training import Training
from unvanish.fix.trial import UNTREATED, Job, Outcome, Treatment
from unvanish.monitor.optimizers import existing_optimizers
from unvanish.records import Fix

WIDTH, STEPS = 6, 12
SGD = partial(torch.optim.SGD, lr=0.05)
ADAM = partial(torch.optim.Adam, lr=0.01)
THRICE, ENDLESS, WARM = (
    Treatment(lr_factor=3.0),
    Treatment(lr_factor=math.inf),
    Treatment(("warm-up",)),
)
Batch = tuple[Any, ...]


def network(*more: nn.Module) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh()]
        return nn.Sequential(*layers, *more, nn.Linear(WIDTH, 4)).double()


def batches(sizes: Sequence[int] = (8,) * 8) -> list[Batch]:
    draw = torch.Generator().manual_seed(0)
    return [
        (
            torch.randn(size, WIDTH, generator=draw, dtype=torch.float64),
            torch.randint(4, (size,), generator=draw),
        )
        for size in sizes
    ]


def loss_fn(model: nn.Module, batch: Batch) -> Tensor:
    return functional.cross_entropy(model(batch[0]), batch[1])


def jobs(steps: int = STEPS) -> list[Job]:
    return [Job(UNTREATED, 0, steps), Job(THRICE, 0, steps), Job(UNTREATED, 1, steps)]


def trainer(ensemble: Choice, **other: Any) -> LiveTrainer:
    given = {"model": network(), "batches": batches(), "loss_fn": loss_fn, "optimizer": SGD}
    return LiveTrainer(**(given | {"steps": STEPS} | other), ensemble=ensemble)


def outcomes(ensemble: Choice, wanted: Sequence[Job], **other: Any) -> tuple[list[Outcome], Any]:
    made = trainer(ensemble, **other)
    made.ahead(wanted, lambda count: None)
    told = list(made.ensembles)
    return [made.train(job.treatment, job.seed, job.steps) for job in wanted], told


def same(together: Sequence[Outcome], alone: Sequence[Outcome]) -> None:
    """The measurements are of the same steps and say the same; numbers agree to rounding.

    Sums are added up in another order: some units of 2e-16 a step, which a few dozen steps of a
    training that does not diverge do not make 1e-10. The yardstick is read in float32.
    """
    for one, other in zip(together, alone, strict=True):
        assert one.losses == pytest.approx(other.losses, rel=1e-10, nan_ok=True)
        assert one.score == pytest.approx(other.score, rel=1e-6)
        assert (one.error, one.refused, one.cost) == (other.error, other.refused, other.cost)
        assert one.diagnosis is not None
        assert other.diagnosis is not None
        assert one.diagnosis.verdict == other.diagnosis.verdict
        assert one.diagnosis.training == other.diagnosis.training
        (mine,), (theirs,) = one.diagnosis.run.models, other.diagnosis.run.models
        assert [trace.step for trace in mine.traces] == [trace.step for trace in theirs.traces]
        assert [(s.step, s.sampled) for s in mine.steps] == [
            (s.step, s.sampled) for s in theirs.steps
        ]
        assert mine.optimizer == theirs.optimizer
        for trace, like in zip(mine.traces, theirs.traces, strict=True):
            assert [layer.level_log10 for layer in trace.layers] == pytest.approx(
                [layer.level_log10 for layer in like.layers], abs=1e-6, nan_ok=True
            )


# --- a row is a training -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD,
        partial(torch.optim.SGD, lr=0.05, momentum=0.9),
        partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
        ADAM,
        partial(torch.optim.Adam, lr=0.01, amsgrad=True, maximize=False, weight_decay=0.1),
        partial(torch.optim.AdamW, lr=0.01),
        partial(torch.optim.RMSprop, lr=0.001),
        partial(torch.optim.RMSprop, lr=0.001, momentum=0.5, centered=True),
        torch.optim.NAdam,
        torch.optim.RAdam,
        torch.optim.Adamax,
        torch.optim.Adagrad,
        torch.optim.Adadelta,
    ],
    ids=lambda optimizer: str(optimizer).partition("<class ")[2][:48],
)
def test_a_row_trains_as_it_would_alone(optimizer: Any) -> None:
    """48 steps at several rates and from several seeds, written back and stacked again between."""
    made = trainer("never", optimizer=optimizer, steps=48)
    wanted = [Job(one, seed, 48) for one in (UNTREATED, THRICE, WARM) for seed in (0, 1)]
    alone, rows = (sorted(map(made._training, wanted), key=options) for _ in range(2))
    data = batches()
    for training in alone:
        for index in training.order:
            training.step(data[index])
    losses = trained_together(rows, data, (0, 1, 20, 48))
    for row, training in enumerate(alone):
        # see `same`; parameters are of order 1, and some begin at 0
        assert [loss[row] for loss in losses] == pytest.approx(training.losses, rel=1e-10)
        for mine, theirs in zip(
            rows[row].live.model.parameters(), training.live.model.parameters(), strict=True
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


def trained_together(
    rows: Sequence[Training], data: Sequence[Batch], ends: Sequence[int]
) -> list[list[float]]:
    losses = []
    for start, end in itertools.pairwise(ends):
        stack = Stack(rows)
        for step in range(start, end):
            losses.append(stack.backward([data[one.order[step]] for one in rows]))
            stack.step()
        stack.write_back()
    return losses


def test_all_optimisers_that_are_stacked_are_tested() -> None:
    (mark,) = test_a_row_trains_as_it_would_alone.pytestmark
    assert {getattr(one, "func", one) for one in mark.args[1]} == set(ELEMENTWISE)


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_a_row_that_is_not_finite_touches_no_other(optimizer: Any) -> None:
    """Bit by bit: the others' numbers are those beside a row that behaves."""
    data, found = batches(), []
    for last in (THRICE, ENDLESS):
        made = trainer("never", optimizer=optimizer)
        wanted = [*(Job(UNTREATED, seed, STEPS) for seed in (0, 1)), Job(last, 2, STEPS)]
        rows = sorted(map(made._training, wanted), key=lambda one: one.job.seed)
        losses = trained_together(rows, data, (0, 5, STEPS))
        assert math.isfinite(losses[-1][2]) == (last is THRICE)
        found.append((losses, [list(one.live.model.parameters()) for one in rows[:2]]))
    (fine, weights), (broken, others) = found
    assert [row[:2] for row in fine] == [row[:2] for row in broken]
    for mine, theirs in zip(weights, others, strict=True):
        assert all(map(torch.equal, mine, theirs))


# --- a whole trial -------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_a_trial_is_the_same_both_ways(optimizer: Any) -> None:
    """Also for a training that diverges, whose first bad loss is traced at a step that is not."""
    far = Job(Treatment(lr_factor=1e100), 0, STEPS)
    wanted = [*jobs(), Job(WARM, 1, STEPS), Job(Treatment(("measured-init",)), 0, STEPS), far]
    together, told = outcomes("always", wanted, optimizer=optimizer)
    alone, nothing = outcomes("never", wanted, optimizer=optimizer)
    (ensemble,) = told
    assert ensemble.together
    assert len(ensemble.cures) == len(wanted)
    assert ensemble.seconds_together is not None
    assert nothing == []
    same(together, alone)


def test_the_first_bad_loss_is_looked_at_where_no_step_is_due() -> None:
    """Step 6 is no step of the schedule; its batch makes one training overflow, not the others."""
    data = batches()
    data[int(torch.randperm(8, generator=torch.Generator().manual_seed(1))[6])][0].mul_(1e308)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return model(batch[0]).square().mean()

    wanted = jobs()
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)).double()
    together, told = outcomes(
        "always", wanted, batches=[*data, *batches()[:2]], loss_fn=loss, model=model
    )
    alone, _none = outcomes(
        "never", wanted, batches=[*data, *batches()[:2]], loss_fn=loss, model=model
    )
    assert told[0].together
    assert any(not all(map(math.isfinite, one.losses)) for one in alone)
    same(together, alone)


def test_batches_of_other_shapes_are_trained_on_one_by_one() -> None:
    """The last batch of a loader is smaller: not all rows have it at the same step."""
    sizes = (8, 8, 8, 8, 8, 3, 8)
    together, told = outcomes("always", jobs(), batches=batches(sizes))
    alone, _none = outcomes("never", jobs(), batches=batches(sizes))
    assert told[0].together
    same(together, alone)


def test_what_is_the_users_stays() -> None:
    model, backward = network(), torch.autograd.backward
    before = [parameter.clone() for parameter in model.parameters()]
    states = torch.get_rng_state(), random.getstate()
    made = trainer("always", model=model)
    made.ahead(jobs(), lambda count: None)
    assert made.ensembles[0].together
    assert all(map(torch.equal, before, model.parameters()))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert torch.autograd.backward is backward


def test_no_optimiser_of_an_ensemble_is_left() -> None:
    """The next training would take it for one that is about to step."""
    gc.collect()
    gc.disable()
    try:
        before = len(existing_optimizers())
        made = trainer("always")
        made.ahead(jobs(), lambda count: None)
        assert made.ensembles[0].together
        assert len(existing_optimizers()) == before
    finally:
        gc.enable()


def test_ctrl_c_leaves_nothing_in_torch() -> None:
    backward, calls = torch.autograd.backward, []

    def interrupted(model: nn.Module, batch: Batch) -> Tensor:
        calls.append(batch)
        if len(calls) > 40:
            raise KeyboardInterrupt
        return loss_fn(model, batch)

    with pytest.raises(KeyboardInterrupt):
        outcomes("always", jobs(60), loss_fn=interrupted, steps=60)
    assert torch.autograd.backward is backward
    assert not nn.modules.module._global_forward_hooks


# --- one by one ----------------------------------------------------------------------------------


class Own(torch.optim.SGD):
    """Derived from one that steps entry by entry, which says nothing."""


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH, bias=False).double()
        self.second = nn.Linear(WIDTH, WIDTH, bias=False).double()
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x))
        return out


class Remembering(nn.Module):
    """Hands something on from step to step."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean()
        out = x if self.last is None else x - self.last
        self.last = mean.detach()
        return out


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def hooked() -> nn.Module:
    model = network()
    model[0].register_forward_hook(lambda module, args, output: output)
    return model


def scheduled(parameters: Any) -> torch.optim.Optimizer:
    optimizer = SGD(parameters)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    return optimizer


def reading(model: nn.Module, batch: Batch) -> Tensor:
    loss = loss_fn(model, batch)
    return loss * (1.0 if loss.item() > 0 else 0.0)


def drawing(model: nn.Module, batch: Batch) -> Tensor:
    return loss_fn(model, batch) * random.uniform(0.9, 1.1)


def writing(model: nn.Module, batch: Batch) -> Tensor:
    batch[0].mul_(1.0)
    return loss_fn(model, batch)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"optimizer": partial(Own, lr=0.05)}, "Own is not known to step entry by entry"),
        ({"optimizer": scheduled}, "something else happens at the optimiser's steps"),
        ({"optimizer": partial(torch.optim.SGD, lr=torch.tensor(0.05))}, "is a tensor"),
        ({"model": network(nn.BatchNorm1d(WIDTH))}, "the forward changes buffers"),
        ({"model": network(Remembering())}, "keeps something in the network"),
        ({"model": network(nn.Dropout(0.5))}, "draws random numbers"),
        ({"model": network(Branching())}, "cannot be batched: RuntimeError"),
        ({"model": network(Shared())}, "parameters are shared"),
        ({"model": hooked()}, "hooks run in the network"),
        ({"loss_fn": reading}, "cannot be batched: RuntimeError"),
        ({"loss_fn": drawing}, "the training draws random numbers"),
        ({"loss_fn": writing}, "writes to its batch"),
        ({"batches": batches((2, 3, 4, 5))}, "batches are of different shapes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_trains_one_by_one(change: dict[str, Any], why: str) -> None:
    wanted = [Job(UNTREATED, seed, 2) for seed in (0, 1)]
    together, (ensemble,) = outcomes("always", wanted, steps=2, **change)
    alone, _none = outcomes("never", wanted, steps=2, **change)
    assert not ensemble.together
    assert why in ensemble.why
    assert [one.losses for one in together] == [one.losses for one in alone]  # bit by bit


def test_a_generator_of_the_users_own_is_seen() -> None:
    draw = torch.Generator().manual_seed(0)

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        return loss_fn(model, batch) * torch.rand((), generator=draw)

    _found, (ensemble,) = outcomes("always", [*jobs(2)[:2]], loss_fn=loss, steps=2)
    assert not ensemble.together
    assert "random" in ensemble.why


def test_other_structures_and_loops_are_no_part_of_it() -> None:
    """A swapped activation is another network; a clipped gradient couples its parameters."""
    others = [Job(Treatment((name,)), 0, STEPS) for name in ("relu-swap", "gradient-clipping")]
    _found, told = outcomes("always", [*jobs(), *others])
    (ensemble,) = told
    assert ensemble.cures == ("", "learning-rate x3", "")
    assert ensemble.seeds == (0, 0, 1)


def test_random_numbers_that_are_drawn_later_break_it_off() -> None:
    """They would be one for all rows: every training goes back to its start, with its own."""
    marked = [(*batch, number == 5) for number, batch in enumerate(batches((8,) * 10))]

    def loss(model: nn.Module, batch: Batch) -> Tensor:
        value = loss_fn(model, batch)
        return value * random.uniform(0.9, 1.1) if batch[2] else value

    wanted = [Job(one, 0, 30) for one in (UNTREATED, THRICE)]
    together, (ensemble,) = outcomes("always", wanted, batches=marked, loss_fn=loss, steps=30)
    alone, _none = outcomes("never", wanted, batches=marked, loss_fn=loss, steps=30)
    assert not ensemble.together
    assert "draws random numbers" in ensemble.why
    assert [one.losses for one in together] == [one.losses for one in alone]


def test_the_faster_way_is_taken() -> None:
    """Whatever the clock says here, the choice follows from it."""
    _found, (ensemble,) = outcomes("measured", jobs())
    assert ensemble.seconds_alone is not None
    assert ensemble.seconds_together is not None
    assert ensemble.together == (ensemble.seconds_together <= 0.9 * ensemble.seconds_alone)
    assert ensemble.together != ("no faster" in ensemble.why)


def test_large_networks_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies of them would need memory, and gain nothing: their steps are not overhead."""
    entries = sum(parameter.numel() for parameter in network().parameters())
    monkeypatch.setattr("unvanish.fix.ensemble.MOST", 3 * entries - 1)
    made = trainer("always")
    made.ahead(jobs(), lambda count: None)
    assert made.ensembles == []


# --- the search ----------------------------------------------------------------------------------


def faked(heard: Callable[[Sequence[Job]], None]) -> FakeTrainer:
    def score(treatment: Treatment, seed: int, steps: int) -> float:
        return (0.5 if "good" in treatment.cures else 2.0) + 0.01 * seed

    made = FakeTrainer(score, [candidate(name) for name in ("good", "a", "b", "c")])
    made.ahead = lambda jobs, begins: heard(jobs)  # type: ignore[method-assign]
    return made


def test_what_is_announced_is_asked_for() -> None:
    announced: list[Job] = []
    made = faked(announced.extend)
    assert Search(made, Budget()).run().best == "good"
    trained = [Job(*each) for each in made.trained]
    assert set(announced) <= set(trained)
    assert len(set(announced)) == len(announced)
    # all but the first training, and the cures that come after three
    assert len(trained) - len(announced) <= 3


def test_a_cure_that_loses_its_first_pair_has_no_others() -> None:
    announced: list[Job] = []
    made = faked(announced.extend)
    made.score = lambda treatment, seed, steps: float(seed > 0 and "good" in treatment.cures)
    Search(made, Budget()).run()
    assert not any(job.seed > 1 for job in announced)


def test_what_was_trained_in_vain_is_counted() -> None:
    made = faked(lambda jobs: None)
    spent = Search(made, Budget()).run().trainings_spent
    again = faked(lambda jobs: None)
    again.unasked = 1.5
    assert Search(again, Budget()).run().trainings_spent == pytest.approx(spent + 1.5)


def test_ctrl_c_in_an_ensemble_keeps_what_is_known() -> None:
    def heard(jobs: Sequence[Job]) -> None:
        if any(job.seed == 2 for job in jobs):
            raise KeyboardInterrupt

    fix = Search(faked(heard), Budget()).run()
    assert fix.interrupted
    proof = next(one.proof for one in fix.cures if one.name == "good")
    assert proof is not None
    assert proof.seeds == (1,)


def fixed(ensemble: Choice) -> Fix:
    model = network()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(0.01)
    return unvanish.fix(
        model, batches(), loss_fn, SGD, steps=STEPS, seeds=3, ensemble=ensemble
    ).record


def test_a_whole_call_says_the_same_both_ways() -> None:
    together, alone = fixed("always"), fixed("never")
    assert any(one.together for one in together.ensembles)
    assert alone.ensembles == ()
    assert together.verdict_before == alone.verdict_before == "vanishing"
    assert together.trainings_spent == alone.trainings_spent
    assert [(one.name, one.status) for one in together.cures] == [
        (one.name, one.status) for one in alone.cures
    ]
    for mine, theirs in zip(together.cures, alone.cures, strict=True):
        assert (mine.proof is None) == (theirs.proof is None)
        if mine.proof is not None and theirs.proof is not None:
            assert mine.proof.scores == pytest.approx(theirs.proof.scores, rel=1e-6)
    assert any("batched ensembles" in note for note in together.notes)
