"""What is recorded of a training loop: whose step, which loss, what moved, what was traced."""

from __future__ import annotations

import gc
import math
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import loops
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import unvanish.monitor
from conftest import watching
from unvanish.diagnose import diagnose
from unvanish.monitor import optimizers, watcher
from unvanish.monitor.program import StepsReached
from unvanish.records import ModelRun, Run

WatchLoop = Callable[..., Run]


def only(run: Run) -> ModelRun:
    (model,) = run.models
    return model


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, scale: float = 1.0
) -> list[float]:
    losses = []
    for _ in range(steps):
        inputs, targets = loops.batch()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets) * scale
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


# --- steps and losses ----------------------------------------------------------------------------


def test_every_loss_is_known_and_the_scheduled_steps_are_traced(watch_loop: WatchLoop) -> None:
    losses: list[float] = []

    def loop() -> None:
        model = loops.network()
        losses.extend(train(model, sgd(model), 20))

    model = only(watch_loop(loop, every=6))
    assert [step.loss for step in model.steps] == losses
    sampled = [0, 1, 2, 4, 6, 8, 12, 16, 18]
    assert [step.step for step in model.steps if step.sampled] == sampled
    assert [trace.step for trace in model.traces] == sampled
    assert [trace.loss for trace in model.traces] == [losses[step] for step in sampled]


def test_an_accumulated_step_has_the_sum_of_its_losses(watch_loop: WatchLoop) -> None:
    model = only(watch_loop(loops.accumulation))
    assert [step.backwards for step in model.steps] == [3] * loops.STEPS
    for step, trace in zip(model.steps, model.traces, strict=True):
        # Each micro-batch carries a third of the loss.
        assert step.loss == pytest.approx(3 * trace.loss, rel=0.2)


def test_a_closure_counts_with_its_first_loss(watch_loop: WatchLoop) -> None:
    model = only(watch_loop(loops.lbfgs))
    assert [step.loss for step in model.steps] == [trace.loss for trace in model.traces]
    assert all(step.backwards > 1 for step in model.steps)
    assert all(layer.update_ratio_log10 is not None for layer in model.traces[0].layers[:1])


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaled_loss_is_unscaled_and_a_skipped_step_known(
    fused: bool, watch_loop: WatchLoop
) -> None:
    """Fused optimisers step on overflow too; they leave the parameters as they are."""

    def loop() -> None:
        model = loops.network()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        for step in range(4):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(inputs), targets)
            scaler.scale(loss).backward()
            if step == 2:
                model[0].weight.grad.fill_(torch.inf)
            scaler.step(optimizer)
            scaler.update()

    model = only(watch_loop(loop))
    assert [step.skipped for step in model.steps] == [False, False, True, False]
    assert all(0.5 < step.loss < 3 for step in model.steps)
    assert [trace.loss_scale for trace in model.traces] == [256, 256, 256, 128]
    assert {trace.phase for trace in model.traces} == {"scaled"}


def test_the_true_update_is_measured(watch_loop: WatchLoop) -> None:
    expected: list[float] = []

    def loop() -> None:
        model = nn.Linear(12, 4)
        optimizer = torch.optim.SGD([{"params": [model.bias]}, {"params": [model.weight], "lr": 3}])
        before = model.weight.detach().clone()
        train(model, optimizer, 1)
        change = (model.weight.detach() - before).norm() / before.norm()
        expected.append(math.log10(change))

    model = only(watch_loop(loop))
    signals = {signal.name: signal for signal in model.traces[0].parameters}
    # Two float32 norms against one another.
    assert signals["weight"].update_ratio_log10 == pytest.approx(expected[0], abs=1e-6)
    assert model.optimizer is not None
    assert model.optimizer.lr == (1e-3, 3)


@pytest.mark.parametrize(
    ("make", "rescales"),
    [
        (lambda parameters: torch.optim.SGD(parameters, lr=1e-2, momentum=0.9), False),
        (lambda parameters: torch.optim.AdamW(parameters), True),
        (lambda parameters: torch.optim.RMSprop(parameters), True),
        (lambda parameters: torch.optim.Adagrad(parameters), True),
    ],
)
def test_knows_whether_an_optimiser_rescales(
    make: Callable[..., torch.optim.Optimizer], rescales: bool, watch_loop: WatchLoop
) -> None:
    def loop() -> None:
        model = loops.network()
        train(model, make(model.parameters()), 1)

    facts = only(watch_loop(loop)).optimizer
    assert facts is not None
    assert facts.rescales is rescales


# --- whose step ----------------------------------------------------------------------------------


def test_a_gan_is_two_models(watch_loop: WatchLoop) -> None:
    discriminator, generator = watch_loop(loops.gan).models
    assert (discriminator.name, generator.name) == ("Discriminator", "Generator")
    assert [step.backwards for step in discriminator.steps] == [2] * loops.STEPS
    assert [step.backwards for step in generator.steps] == [1] * loops.STEPS
    # The discriminator's loss does not reach the generator; the generator's passes both.
    assert not any(row.module.startswith("Gen") for row in discriminator.traces[0].layers)
    rows = {row.module.partition(".")[0] for row in generator.traces[0].layers}
    assert rows == {"Generator", "Discriminator"}
    assert {facts.name.partition(".")[0] for facts in generator.parameters} == {"Generator"}
    assert all(facts.in_optimizer for facts in generator.parameters)


def test_a_critic_trained_five_times_as_often_is_not_traced_for_its_generator(
    watch_loop: WatchLoop,
) -> None:
    def loop() -> None:
        generator, critic = loops.Generator(), loops.Discriminator()
        generator_optimizer, critic_optimizer = sgd(generator, 1e-3), sgd(critic, 1e-3)
        for _ in range(10):
            for _ in range(5):
                critic_optimizer.zero_grad()
                critic(generator(torch.randn(16, 6)).detach()).mean().backward()
                critic_optimizer.step()
            generator_optimizer.zero_grad()
            (-critic(generator(torch.randn(16, 6))).mean()).backward()
            generator_optimizer.step()

    critic, generator = watch_loop(loop, every=0).models
    assert [trace.step for trace in critic.traces] == [0, 1, 2, 4, 8, 16, 32]
    assert [trace.step for trace in generator.traces] == [0, 1, 2, 4, 8]
    assert (len(critic.steps), len(generator.steps)) == (50, 10)


def test_two_optimisers_of_one_model_are_one_model(watch_loop: WatchLoop) -> None:
    model = only(watch_loop(loops.two_optimizers_one_model))
    assert len(model.steps) == loops.STEPS
    assert all(signal.update_ratio_log10 is not None for signal in model.traces[0].parameters)
    assert all(facts.in_optimizer for facts in model.parameters)


def test_a_second_phase_is_a_second_model(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        first, second = loops.network(), loops.Discriminator()
        train(first, sgd(first), 64)  # its next step would be sampled, and never comes
        optimizer = sgd(second)
        for _ in range(70):
            optimizer.zero_grad()
            second(torch.randn(8, 12)).square().mean().backward()
            optimizer.step()

    first, second = watch_loop(loop, every=0).models
    assert first.traces[-1].step == 32
    assert (second.type, len(second.steps)) == ("Discriminator", 70)
    assert {2, 4, 8, 16, 32, 64} <= {trace.step for trace in second.traces}


def test_without_an_optimiser_a_backward_is_a_step(
    watch_loop: WatchLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Optimisers of other tests may still be alive in this process, and would be found.
    monkeypatch.setattr(optimizers, "existing_optimizers", list)
    model = only(watch_loop(loops.no_optimizer))
    assert model.optimizer is None
    assert [step.backwards for step in model.steps] == [1] * loops.STEPS
    assert all(facts.in_optimizer is None for facts in model.parameters)


@pytest.mark.parametrize("loop", [loops.plain, loops.no_optimizer, loops.accumulation, loops.gan])
def test_steps_end_the_loop(loop: Callable[[], object]) -> None:
    with watching(steps=3) as watched, pytest.raises(StepsReached):
        loop()
    assert max(len(model.steps) for model in watched.run.models) == 3


def test_steps_that_cannot_be_seen_are_noticed_by_their_effect(watch_loop: WatchLoop) -> None:
    """As with a compiled optimiser: it exists, it moves the parameters, no hook fires."""

    def loop() -> None:
        model = loops.network()
        optimizer = sgd(model)
        for _ in range(5):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter -= 0.1 * parameter.grad

    model = only(watch_loop(loop))
    assert len(model.steps) == len(model.traces) == 5


def test_a_backward_that_no_step_follows_is_still_a_trace(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = loops.network()
        optimizer = sgd(model)
        inputs, targets = loops.batch()
        functional.cross_entropy(model(inputs), targets).backward()
        del optimizer

    assert len(only(watch_loop(loop)).traces) == 1


def test_models_are_named_as_the_script_names_them(
    watch_loop: WatchLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = [nn.Linear(12, 4), nn.Linear(12, 4), nn.Linear(12, 4)]
    monkeypatch.setattr(sys.modules["__main__"], "_hidden", nets[0], raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "student", nets[0], raising=False)

    def loop() -> None:
        for net in nets:
            train(net, sgd(net), 2)

    assert [model.name for model in watch_loop(loop).models] == ["student", "Linear", "Linear 2"]


def test_what_is_called_but_detached_gets_no_gradient(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        encoder, head = nn.Linear(12, 8), nn.Linear(8, 4)
        optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
        inputs, targets = loops.batch()
        functional.cross_entropy(head(encoder(inputs).detach()), targets).backward()
        optimizer.step()

    facts = {one.numel: one for one in only(watch_loop(loop)).parameters}
    assert (facts[96].gradient, facts[96].called, facts[96].in_optimizer) == ("none", True, True)
    assert facts[32].gradient == "some"


def test_a_parameter_that_is_in_no_optimiser_is_known(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = loops.network()
        train(model, sgd(model[4:]), 2)

    facts = {one.name: one.in_optimizer for one in only(watch_loop(loop)).parameters}
    assert facts["0.weight"] is False
    assert facts["6.weight"] is True


def test_an_optimiser_of_copies_steps_the_model_all_the_same(watch_loop: WatchLoop) -> None:
    """Shards and float32 master weights are not the tensors that backward reaches."""

    def loop() -> None:
        model = nn.Linear(12, 4)
        masters = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer = torch.optim.SGD(masters, lr=0.1)
        for _ in range(3):
            inputs, targets = loops.batch()
            model.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            for master, parameter in zip(masters, model.parameters(), strict=True):
                master.grad = parameter.grad
            optimizer.step()
            with torch.no_grad():
                for master, parameter in zip(masters, model.parameters(), strict=True):
                    parameter.copy_(master)

    model = only(watch_loop(loop))
    assert len(model.steps) == len(model.traces) == 3
    assert model.optimizer is not None
    assert all(facts.in_optimizer is None for facts in model.parameters)


def test_an_optimiser_of_another_model_is_noticed(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model, other = nn.Linear(12, 4), nn.Linear(12, 4)
        train(model, sgd(other), 3)

    model = only(watch_loop(loop))
    assert all(facts.in_optimizer is False for facts in model.parameters)


def test_units_that_were_off_in_every_traced_batch(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))
        with torch.no_grad():
            model[0].weight[:2] = 0
            model[0].bias[:2] = -1
        train(model, sgd(model), 3)

    assert only(watch_loop(loop)).always_dead["1#0"] == pytest.approx(0.25)


def test_a_model_that_the_script_drops_is_freed_while_we_watch() -> None:
    with watching() as watched:
        model = loops.network()
        train(model, sgd(model), 3)
        gone = weakref.ref(model[0])
        del model
        gc.collect()
        assert gone() is None
    assert len(watched.run.models[0].traces) == 3


def test_models_trained_one_after_the_other_by_one_function(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each stops where its next step would be sampled; that must not make the others' dear."""
    traced: list[object] = []
    tracer = watcher.BackwardTracer

    def counting(*arguments: Any) -> Any:
        traced.append(arguments)
        return tracer(*arguments)

    monkeypatch.setattr(watcher, "BackwardTracer", counting)
    kept = []
    with watching(every=0) as watched:
        for _ in range(3):
            model = nn.Linear(12, 4)
            optimizer = sgd(model)
            kept.append(optimizer)
            train(model, optimizer, 128)
    expected = [0, 1, 2, 4, 8, 16, 32, 64]
    for model_run in watched.run.models:
        assert set(expected) <= {trace.step for trace in model_run.traces}
    assert len(traced) <= 3 * len(expected) + 2 * 16


# --- what goes wrong -----------------------------------------------------------------------------


def test_the_first_loss_that_is_not_finite_is_traced_at_once(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = loops.network()
        optimizer = sgd(model)
        train(model, optimizer, 5)
        train(model, optimizer, 2, scale=math.inf)

    model = only(watch_loop(loop, every=0))
    assert [trace.step for trace in model.traces] == [0, 1, 2, 4, 5]
    assert model.traces[-1].nonfinite is not None
    assert [math.isfinite(step.loss) for step in model.steps] == [True] * 5 + [False] * 2


def test_nan_in_the_data_is_the_verdict(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = loops.network()
        optimizer = sgd(model)
        inputs, targets = loops.batch()
        inputs[3, 5] = math.nan
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    diagnosis = diagnose(watch_loop(loop))
    assert diagnosis.verdict == "non-finite"
    assert diagnosis.findings[0].remedy


def test_a_step_that_breaks_the_parameters_is_named(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = nn.Linear(12, 4)
        train(model, sgd(model, lr=math.inf), 1)

    fault = only(watch_loop(loop)).traces[0].nonfinite
    assert fault is not None
    assert (fault.direction, fault.op) == ("parameters", "SGD")


@pytest.mark.parametrize(
    "place",
    [
        "watcher.read_loss",
        "watcher.BackwardTracer",
        "optimizers.Snapshot",
        "ledger.Closing",
    ],
)
@pytest.mark.parametrize("error", [MemoryError("no memory"), RuntimeError("bug")])
def test_a_failure_of_ours_is_said_once_and_changes_nothing(
    place: str, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(f"unvanish.monitor.{place}", fail)
    torch.manual_seed(1)
    bare = loops.plain()[0].state_dict()
    torch.manual_seed(1)
    with watching() as watched:
        model = loops.plain()[0]
    for name, value in model.state_dict().items():
        assert torch.equal(value, bare[name])
    (line,) = watched.lines
    assert str(error) in line
    assert "the script goes on" in line
    assert watched.run.notes[0] in line


def test_an_error_in_the_script_passes_with_one_frame_of_ours(watch_loop: WatchLoop) -> None:
    def fail(_gradient: Tensor) -> None:
        raise KeyError("mine")

    def loop() -> None:
        model = loops.network()
        inputs, targets = loops.batch()
        output = model(inputs)
        output.register_hook(fail)
        with pytest.raises(KeyError, match="mine") as caught:
            functional.cross_entropy(output, targets).backward()
        ours = [
            frame
            for frame in traceback.extract_tb(caught.value.__traceback__)
            if "unvanish/monitor" in frame.filename
        ]
        assert len(ours) == 1
        train(model, sgd(model), 2)

    assert len(only(watch_loop(loop)).steps) == 2


def test_wrong_calls_fail_as_without_us_and_watching_goes_on(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        model = loops.network()
        with pytest.raises(TypeError):
            torch.autograd.backward()
        with pytest.raises(TypeError):
            torch.autograd.grad(torch.ones(1), nosuch=1)
        with pytest.raises(RuntimeError, match="scalar"):
            model(loops.batch()[0]).backward()
        with pytest.raises(RuntimeError, match="does not require grad"):
            torch.ones(()).backward()
        train(model, sgd(model), 1)

    assert len(only(watch_loop(loop)).steps) == 1


def test_what_modules_print_on_the_replay_is_not_the_scripts_output(
    watch_loop: WatchLoop, capsys: pytest.CaptureFixture[str]
) -> None:
    class Loud(nn.Linear):
        def forward(self, inputs: Tensor) -> Tensor:
            print("forward")
            return super().forward(inputs)

    def loop() -> None:
        model = Loud(12, 4)
        train(model, sgd(model), 2)

    assert only(watch_loop(loop)).traces[0].probe is not None
    assert capsys.readouterr().out == "forward\n" * 2


def test_training_in_a_thread(watch_loop: WatchLoop) -> None:
    def loop() -> None:
        thread = threading.Thread(target=loops.plain)
        thread.start()
        thread.join()

    assert len(only(watch_loop(loop)).traces) == loops.STEPS


# --- nothing seen --------------------------------------------------------------------------------


def forward_only() -> None:
    with torch.no_grad():
        loops.network()(torch.randn(4, 12))


def backward_without_graph() -> None:
    with torch.no_grad():
        loss = loops.network()(torch.randn(4, 12)).mean()
    with pytest.raises(RuntimeError):
        loss.backward()


def loss_not_scalar() -> None:
    with pytest.raises(RuntimeError):
        loops.network()(torch.randn(4, 12)).backward()


def functional_gradients() -> None:
    model = nn.Linear(12, 4)
    optimizer = sgd(model)
    weights = dict(model.named_parameters())
    inputs, targets = loops.batch()

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        output = torch.func.functional_call(model, parameters, (inputs,))
        return functional.cross_entropy(output, targets)

    for name, gradient in torch.func.grad(loss)(weights).items():
        weights[name].grad = gradient
    optimizer.step()


@pytest.mark.parametrize(
    ("loop", "problem"),
    [
        (forward_only, "never called backward"),
        (backward_without_graph, "depends on nothing that needs a gradient"),
        (loss_not_scalar, r"shape \(4, 4\)"),
        (functional_gradients, "stepped, but backward was never called"),
    ],
)
def test_says_why_nothing_was_measured(loop: Callable[[], None], problem: str) -> None:
    with watching() as watched:
        loop()
    assert watched.run.models == ()
    error = watched.session.nothing_seen().error()
    with pytest.raises(unvanish.UnvanishError, match=problem):
        raise error
    assert error.remedy


def test_a_model_without_parameters_is_named() -> None:
    with watching() as watched, pytest.raises(ValueError, match="empty") as caught:
        torch.optim.SGD(nn.ReLU().parameters(), lr=0.1)
    error = watched.session.nothing_seen().error(str(caught.value))
    assert "no parameters" in error.problem


# --- the singular spectrum -----------------------------------------------------------------------


@pytest.mark.parametrize(("at", "expected"), [(frozenset({3, 5}), [3, 5]), (frozenset(), [0])])
def test_the_spectrum_is_measured_at_the_steps_asked_for(
    at: frozenset[int], expected: list[int]
) -> None:
    losses, runs = [], []
    for spectrum in (True, False):
        with watching(every=1, at=at, spectrum=spectrum) as watched:
            torch.manual_seed(0)
            model = loops.network()
            losses.append(train(model, sgd(model), 7))
        assert watched.lines == []
        runs.append(only(watched.run))
    measured, plain = runs
    assert [trace.step for trace in measured.traces if trace.spectrum] == expected
    assert all(trace.spectrum is None for trace in plain.traces)
    assert losses[0] == losses[1]
