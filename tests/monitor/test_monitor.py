"""The monitor for long runs: what it reads, what it says, and that it changes nothing."""

from __future__ import annotations

import copy
import gc
import io
import logging
import math
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import loops
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

import unvanish
from unvanish import store
from unvanish.errors import UnvanishWarning, UsageError
from unvanish.monitor.handle import Monitor
from unvanish.records import Finding, Readings, Run, Trace

LEVELS = ["cheap", "standard", "full"]


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Whatever a test does, torch is as it was afterwards."""
    before = torch.autograd.backward
    yield
    assert torch.autograd.backward is before
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def setting(seed: int = 0) -> tuple[nn.Sequential, torch.optim.Optimizer]:
    torch.manual_seed(seed)
    model = loops.network()
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    loss_of: Callable[[int, Tensor], Tensor] = lambda _step, loss: loss,
) -> None:
    for step in range(steps):
        inputs, targets = loops.batch()
        optimizer.zero_grad()
        loss_of(step, functional.cross_entropy(model(inputs), targets)).backward()
        optimizer.step()


def readings(run: Run, directory: Path, quantity: str) -> dict[int, Readings]:
    where = store.Database(directory / ".unvanish")
    return {one.step: one for one in where.series(run.id, quantity)}


def weight_updates(trace: Trace) -> list[float | None]:
    signals = [signal for signal in trace.parameters if signal.name.endswith("weight")]
    assert len(signals) == 4
    return [signal.update_ratio_log10 for signal in signals]


# --- what is read --------------------------------------------------------------------------------


def test_levels_of_all_parameters_are_those_of_torch(directory: Path) -> None:
    model, optimizer = setting()
    truth: dict[int, dict[str, tuple[float, float, float]]] = {}
    with unvanish.monitor(model, optimizer, level="cheap", overhead=None, every=1) as watched:
        for step in range(4):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            before = {name: value.detach().double() for name, value in model.named_parameters()}
            gradients = {name: value.grad.double() for name, value in model.named_parameters()}
            optimizer.step()
            truth[step] = {
                name: (
                    float(gradients[name].norm().log10()),
                    float(before[name].norm().log10()),
                    float((value.detach() - before[name]).norm().div(before[name].norm()).log10()),
                )
                for name, value in model.named_parameters()
            }
    for place, quantity in enumerate(("gradient", "weight", "update")):
        found = readings(watched.run(), directory, quantity)
        assert sorted(found) == [0, 1, 2, 3]
        for step, one in found.items():
            assert set(one.names) == set(truth[step])
            for name, value in zip(one.names, one.values, strict=True):
                # Kept as float32 (1e-7 of a number below 8); the difference of two float32 weights
                # is rounded to 6e-8 of the weight, and is 1e-3 of it or more.
                expected = truth[step][name][place]
                assert value == pytest.approx(expected, abs=1e-4) or value == expected


def test_counts_of_zero_subnormal_and_nonfinite_entries(directory: Path) -> None:
    model = nn.Linear(4, 2, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with unvanish.monitor(model, optimizer, level="cheap", overhead=None) as watched:
        model(torch.ones(1, 4)).sum().backward()
        tiny, inf, nan = 1e-40, math.inf, math.nan
        model.weight.grad.copy_(torch.tensor([[0.0, 0.0, 0.0, tiny], [tiny, inf, nan, 1.0]]))
        optimizer.step()
    (trace,) = watched.run().models[0].traces
    (signal,) = trace.parameters
    assert (signal.zeros, signal.subnormals, signal.nonfinite) == (3, 2, 2)
    found = readings(watched.run(), directory, "zeros")[0]
    assert found.values[0] == pytest.approx(math.log10(3), abs=1e-6)


@pytest.mark.parametrize("size", [1e-23, 1e25])
def test_levels_keep_their_range(size: float) -> None:
    model = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 800, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with unvanish.monitor(model, optimizer, level="cheap", overhead=None) as watched:
        model(torch.ones(1, 8)).sum().backward()
        for parameter in model.parameters():
            parameter.grad.fill_(size)
        optimizer.step()
    small, large = watched.run().models[0].traces[0].parameters
    assert small.grad_log10 == pytest.approx(math.log10(size) + 0.5 * math.log10(64), abs=1e-5)
    assert large.grad_log10 == pytest.approx(math.log10(size) + 0.5 * math.log10(6400), abs=1e-5)


def test_sampled_steps_have_traces_of_their_level() -> None:
    for level in LEVELS:
        model, optimizer = setting()
        with unvanish.monitor(model, optimizer, level=level, overhead=None) as watched:
            train(model, optimizer, 5)
        traces = watched.run().models[0].traces
        assert [trace.step for trace in traces] == [0, 1, 2, 4]
        assert all(bool(trace.layers) == (level != "cheap") for trace in traces)
        assert all((trace.probe is not None) == (level == "full") for trace in traces)
        for trace in traces:
            assert all(ratio is not None and ratio > -6 for ratio in weight_updates(trace))


def test_a_record_says_phase_scale_clipping_rates_and_accumulation() -> None:
    model, optimizer = setting()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    norms = []
    with unvanish.monitor(model, optimizer, level="cheap", overhead=None) as watched:
        for step in range(4):
            for _ in range(2):
                inputs, targets = loops.batch()
                loss = functional.cross_entropy(model(inputs), targets) / 2
                scaler.scale(loss).backward()
            if step == 2:
                model[0].weight.grad.fill_(math.inf)
            if step != 3:
                scaler.unscale_(optimizer)
                norms.append(float(nn.utils.clip_grad_norm_(model.parameters(), 0.01)))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
    first, second, skipped, last = watched.run().models[0].steps
    assert (first.phase, first.loss_scale, first.backwards, first.lr) == (
        "clipped", 1024.0, 2, (0.1,),
    )  # fmt: skip
    assert first.clip_log10 == pytest.approx(math.log10(0.01 / norms[0]), abs=1e-4)
    assert first.gradient_log10 == pytest.approx(-2.0, abs=1e-3)
    assert (second.skipped, skipped.skipped, last.skipped) == (False, True, False)
    assert (last.phase, last.clip_log10, last.loss_scale) == ("unscaled", None, 512.0)
    assert watched.incidents == ()  # an overflow that the scaler skips is its work, no incident


def test_a_fused_optimiser_gets_scaled_gradients_and_the_record_unscales_them() -> None:
    results = []
    for fused in (False, True):
        torch.manual_seed(3)
        model = loops.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
        scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
        with unvanish.monitor(model, optimizer, level="cheap", overhead=None) as watched:
            for step in range(3):
                inputs, targets = loops.batch()
                optimizer.zero_grad()
                scaler.scale(functional.cross_entropy(model(inputs), targets)).backward()
                if step == 1:
                    model[0].weight.grad.fill_(math.inf)
                scaler.step(optimizer)
                scaler.update()
        results.append(watched.run().models[0].steps)
    plain, fused_steps = results
    assert [step.phase for step in fused_steps] == ["scaled"] * 3
    assert [step.skipped for step in fused_steps] == [False, True, False]
    assert fused_steps[0].gradient_log10 == pytest.approx(plain[0].gradient_log10, abs=1e-5)


def test_two_optimisers_of_one_model_make_one_step() -> None:
    torch.manual_seed(0)
    model = loops.network()
    front = torch.optim.SGD(model[:4].parameters(), lr=0.1)
    back = torch.optim.Adam(model[4:].parameters(), lr=1e-2)
    with unvanish.monitor(model, [front, back], overhead=None) as watched:
        for _ in range(5):
            inputs, targets = loops.batch()
            model.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            front.step()
            back.step()
    (run,) = watched.run().models
    assert [step.step for step in run.steps] == [0, 1, 2, 3, 4]
    assert run.steps[0].lr == (0.1, 0.01)
    assert all(ratio is not None and ratio > -6 for ratio in weight_updates(run.traces[0]))


def test_an_optimiser_that_steps_every_second_time() -> None:
    torch.manual_seed(0)
    model = loops.network()
    front = torch.optim.SGD(model[:4].parameters(), lr=0.1)
    back = torch.optim.Adam(model[4:].parameters(), lr=1e-2)
    with unvanish.monitor(model, [front, back], overhead=None) as watched:
        for step in range(4):
            inputs, targets = loops.batch()
            functional.cross_entropy(model(inputs), targets).backward()
            front.step()
            if step % 2:
                back.step()
    assert len(watched.run().models[0].steps) == 4


def test_only_the_watched_model_of_a_gan_is_counted() -> None:
    torch.manual_seed(0)
    generator, critic = loops.Generator(), loops.Discriminator()
    ours = torch.optim.Adam(generator.parameters(), lr=2e-3)
    other = torch.optim.Adam(critic.parameters(), lr=2e-3)
    expected = []
    with unvanish.monitor(generator, ours, overhead=None) as watched:
        for _ in range(4):
            real, _ = loops.batch()
            fake = generator(torch.randn(16, 6))
            other.zero_grad()
            (critic(real).mean() - critic(fake.detach()).mean() + 100).backward()
            other.step()
            ours.zero_grad()
            loss = critic(fake).mean()
            expected.append(float(loss))
            loss.backward()
            ours.step()
    (run,) = watched.run().models
    assert [step.loss for step in run.steps] == pytest.approx(expected)
    names = {signal.name for trace in run.traces for signal in trace.parameters}
    assert any("net.0.weight" in name for name in names)
    # What the critic's own optimiser trains is not missing from ours.
    assert "CG102" not in {finding.code for finding in watched.diagnosis().findings}


def test_gradients_by_torch_autograd_grad_are_seen() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        for _ in range(3):
            inputs, targets = loops.batch()
            loss = functional.cross_entropy(model(inputs), targets)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
    (run,) = watched.run().models
    assert all(math.isfinite(step.loss) for step in run.steps)
    assert len(run.traces) == 3


def test_a_closure_makes_one_step() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    inputs, targets = loops.batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        first = float(functional.cross_entropy(model(inputs), targets))
        for _ in range(3):
            optimizer.step(closure)
    steps = watched.run().models[0].steps
    assert [step.step for step in steps] == [0, 1, 2]
    assert steps[0].loss == pytest.approx(first)
    assert all(step.backwards > 1 for step in steps)


def test_a_loss_can_be_said() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        for step in range(3):
            inputs, targets = loops.batch()
            functional.cross_entropy(model(inputs), targets).backward()
            watched.log(torch.tensor(float(step)))
            optimizer.step()
    assert [step.loss for step in watched.run().models[0].steps] == [0.0, 1.0, 2.0]


# --- nothing is changed --------------------------------------------------------------------------


def test_hooks_on_modules_are_there_on_sampled_steps_only() -> None:
    model, optimizer = setting()
    seen: list[bool] = []
    model[1].register_forward_hook(
        lambda *_: seen.append(bool(nn.modules.module._global_forward_hooks))
    )
    with unvanish.monitor(model, optimizer, overhead=None):
        train(model, optimizer, 10)
    assert [step for step, there in enumerate(seen) if there] == [0, 1, 2, 4, 8]


class Reads(TorchDispatchMode):
    """Counts where a number is read from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_on_other_steps_only_the_loss_is_read() -> None:
    model, optimizer = setting()
    reads = []
    with unvanish.monitor(model, optimizer, overhead=None):
        for _ in range(12):
            with Reads() as mode:
                train(model, optimizer, 1)
            reads.append(mode.count)
    # On the CPU the loss is a number in memory; elsewhere it stays on its device.
    assert {reads[step] for step in (5, 6, 7, 9, 10, 11)} == {1}


def _tensor_bytes() -> int:
    """Bytes of all tensors that Python can see, each storage once."""
    gc.collect()
    storages = {}
    for item in gc.get_objects():
        if type(item) in (torch.Tensor, nn.Parameter) and item.layout == torch.strided:
            storage = item.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.parametrize("level", ["cheap", "standard", "full"])
def test_nothing_of_the_size_of_the_model_is_held_on_other_steps(level: str) -> None:
    model = nn.Sequential(*[layer for _ in range(6) for layer in (nn.Linear(512, 512), nn.Tanh())])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(8, 512)

    def step() -> None:
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()

    step()
    before = _tensor_bytes()
    with unvanish.monitor(model, optimizer, level=level, overhead=None, save=False):
        for _ in range(40):  # steps 33 to 39 are not sampled
            step()
        held = _tensor_bytes() - before
    # The model and its gradients are 12.6 MB. What may stay are masks of units that were on.
    assert held < 200_000


def test_the_model_can_be_saved_copied_and_pickled_while_it_is_watched() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer) as watched:
        train(model, optimizer, 3)
        torch.save(model, io.BytesIO())
        copied = copy.deepcopy(model)
        loaded = pickle.loads(pickle.dumps(model))
        pickle.dumps(optimizer)
        train(model, optimizer, 1)
    assert watched.notes == ()
    for other in (copied, loaded):
        assert other.state_dict().keys() == model.state_dict().keys()


def test_attaching_twice_is_one_attachment() -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer) as first:
        second = unvanish.monitor(model, optimizer)
        wrapped = unvanish.monitor(nn.DataParallel(model), torch.optim.SGD(model.parameters()))
        assert first is second is wrapped
        train(model, optimizer, 3)
    assert len(first.run().models[0].steps) == 3
    assert len(store.runs(Path(".unvanish"))) == 1
    assert unvanish.monitor(model, optimizer) is not first
    unvanish.monitor(model, optimizer).close()


def test_a_model_that_is_gone_is_no_longer_watched(directory: Path) -> None:
    model, optimizer = setting()
    watched = unvanish.monitor(model, optimizer)
    train(model, optimizer, 2)
    del model, optimizer
    import gc

    gc.collect()
    assert watched.closed
    assert len(store.load("last", directory / ".unvanish").models[0].steps) == 2


def test_what_cannot_be_is_said() -> None:
    model, optimizer = setting()
    with pytest.raises(UsageError, match="not a module"):
        unvanish.monitor([model], optimizer)
    with pytest.raises(UsageError, match="not an optimiser"):
        unvanish.monitor(model, [])
    with pytest.raises(UsageError, match="cheap, standard, full"):
        unvanish.monitor(model, optimizer, level="deep")
    with pytest.raises(UsageError, match="every must be at least 1"):
        unvanish.monitor(model, optimizer, every=0)
    with pytest.raises(UsageError, match="timeout must be above 0"):
        unvanish.monitor(model, optimizer, timeout=0)
    with pytest.raises(UsageError, match="no sink"):
        unvanish.monitor(model, optimizer, sinks=[object()])


# --- alarms and incidents ------------------------------------------------------------------------


def deep_sigmoid() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layers = [layer for _ in range(12) for layer in (nn.Linear(12, 12), nn.Sigmoid())]
    model = nn.Sequential(*layers, nn.Linear(12, 4))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_an_alarm_is_raised_once_for_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    model, optimizer = deep_sigmoid()
    heard: list[Finding] = []
    with (
        caplog.at_level(logging.WARNING, "unvanish"),
        pytest.warns(UnvanishWarning, match="VG101") as caught,
        unvanish.monitor(model, optimizer, on_alarm=heard.append) as watched,
    ):
        train(model, optimizer, 60)
    assert [finding.verdict for finding in heard] == ["vanishing"]
    assert tuple(heard) == watched.alarms
    assert watched.run().alarms == watched.alarms
    assert len([item for item in caught if issubclass(item.category, UnvanishWarning)]) == 1
    assert len(caplog.records) == 1


def test_warnings_made_errors_do_not_stop_the_training() -> None:
    model, optimizer = deep_sigmoid()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnvanishWarning)
        with unvanish.monitor(model, optimizer) as watched:
            train(model, optimizer, 10)
    assert watched.step == 10
    assert watched.alarms
    assert watched.notes == ()


def test_the_run_is_stopped_by_an_alarm_that_says_so() -> None:
    model, optimizer = deep_sigmoid()

    def stop(finding: Finding) -> None:
        raise SystemExit(finding.code)

    with (
        pytest.warns(UnvanishWarning),
        pytest.raises(SystemExit, match="VG101"),
        unvanish.monitor(model, optimizer, on_alarm=stop) as watched,
    ):
        train(model, optimizer, 60)
    assert watched.step < 60
    assert store.load("last", Path(".unvanish")).ending == "exited"


def poisoned(step: int, loss: Tensor) -> Tensor:
    return loss * (torch.log(torch.tensor(-1.0)) if step >= 37 else 1.0)


@pytest.mark.parametrize("level", LEVELS)
def test_nan_from_step_37_on(level: str, directory: Path) -> None:
    model, optimizer = setting()
    watched = unvanish.monitor(model, optimizer, level=level, every=1)
    with pytest.warns(UnvanishWarning, match="step 37"):
        train(model, optimizer, 45, poisoned)
    watched.close()
    assert watched.notes == ()
    assert watched.step == 45  # it has not switched itself off at the first weights that are NaN
    (incident,) = watched.incidents
    assert (incident.step, incident.kind, incident.quantity) == (37, "nonfinite", "loss")
    assert [step.step for step in incident.steps] == list(range(38))
    assert incident.guilty is not None
    assert incident.guilty.direction == "forward"
    assert incident.parameter == "0.weight"
    assert incident.readings
    alarms = [finding.code for finding in watched.alarms]
    assert alarms.count("NF101") == 1
    assert store.load("last", directory / ".unvanish").incidents[0].step == 37


def test_a_gradient_that_breaks_names_its_parameter() -> None:
    model, optimizer = setting()

    def steps() -> None:
        for step in range(30):
            inputs, targets = loops.batch()
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), targets).backward()
            if step == 21:
                model[4].weight.grad[0, 0] = math.nan
            optimizer.step()

    watched = unvanish.monitor(model, optimizer, level="cheap", every=1)
    with pytest.warns(UnvanishWarning):
        steps()
    watched.close()
    (incident,) = watched.incidents
    assert (incident.step, incident.quantity, incident.parameter) == (21, "gradient", "4.weight")


def test_a_spike_is_an_incident_and_what_is_usual_is_not() -> None:
    model, optimizer = setting()
    told: list[int] = []
    with (
        pytest.warns(UnvanishWarning, match="spike of the loss"),
        unvanish.monitor(
            model, optimizer, on_incident=lambda incident: told.append(incident.step)
        ) as watched,
    ):
        train(model, optimizer, 80, lambda step, loss: loss * (30.0 if step in (50, 51) else 1.0))
    assert [incident.step for incident in watched.incidents] == told == [50]
    (incident,) = watched.incidents
    assert len(incident.steps) == 51
    assert incident.usual is not None
    assert incident.value > 2 * incident.usual


def test_an_incident_gives_the_command_that_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from unvanish.monitor.recent import command_for

    monkeypatch.setattr(sys, "argv", ["train.py", "--lr", "0.1"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    assert command_for(37) == "unvanish run --at 37 --steps 38 train.py --lr 0.1"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert command_for(37) == (
        "torchrun --nproc-per-node=4 -m unvanish run --at 37 --steps 38 train.py --lr 0.1"
    )


# --- the record ----------------------------------------------------------------------------------


def test_the_run_is_saved_and_diagnosed_as_any_other(directory: Path) -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, overhead=None) as watched:
        train(model, optimizer, 20)
        half = store.load("last", directory / ".unvanish")
        assert half.ending == "running"
        assert half.models[0].steps
    run = store.load("last", directory / ".unvanish")
    assert (run.id, run.kind, run.ending) == (watched.id, "monitor", "finished")
    assert [step.step for step in run.models[0].steps] == list(range(20))
    assert watched.diagnosis().verdict == "healthy"


def raising(step: int, loss: Tensor) -> Tensor:
    if step == 2:
        raise RuntimeError("theirs")
    return loss


def test_an_exception_in_the_block_is_the_ending(directory: Path) -> None:
    model, optimizer = setting()
    with pytest.raises(RuntimeError, match="theirs"), unvanish.monitor(model, optimizer):
        train(model, optimizer, 3, raising)
    run = store.load("last", directory / ".unvanish")
    assert (run.ending, run.error) == ("crashed", "RuntimeError: theirs")


def test_nothing_is_saved_where_it_is_not_wanted(directory: Path) -> None:
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer, save=False) as watched:
        train(model, optimizer, 3)
    assert not (directory / ".unvanish").exists()
    assert len(watched.run().models[0].steps) == 3


def test_it_is_a_function_and_a_package() -> None:
    import unvanish.monitor.schedule

    assert callable(unvanish.monitor)
    assert unvanish.monitor.schedule.DEFAULT_EVERY
    assert isinstance(unvanish.monitor, type(unvanish.monitor))
    model, optimizer = setting()
    with unvanish.monitor(model, optimizer) as watched:
        assert isinstance(watched, Monitor)
