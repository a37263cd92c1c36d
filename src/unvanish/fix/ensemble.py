"""Networks of one shape train as one batched ensemble, where that is faster.

Trainings that will be asked for together (the untreated network at other rates, cures that only
draw weights anew, several seeds) are stacked where they are alike. Whether that is faster is
measured on copies, whose gradients both ways must also agree; whether it can be done at all is read
off the network and its optimiser, and off what batching it raises. Where it is slower or cannot be
done, they train one by one as if nothing had been tried.

At the steps that a trial traces every training steps by itself, on its own module and optimiser:
what is measured, and what follows from it, does not know of ensembles.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from unvanish.fix.cure import TrainingSettings
from unvanish.fix.replace import HOOKS
from unvanish.fix.stack import ELEMENTWISE, Stack, Unfit, options, signature
from unvanish.fix.training import SCHEDULE, Training
from unvanish.i18n import _
from unvanish.measure.preserve import RandomStates
from unvanish.records import Ensemble

Choice = Literal["measured", "always", "never"]

MOST = 2**26  # entries of all parameters together: larger networks are busy, not waiting
_REPEATS = 3  # steps that are timed each way; the least counts, as others only slow it down
_BUSY = 0.25  # seconds of a backward that is long for what it computes, not for its many calls
_GAIN = 0.9  # an ensemble must take no more than this part of the time

_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
_OWN = frozenset(vars(nn.Module()))  # of every module: children, parameters, hooks
_PLAIN = (bool, int, float, str, type(None), torch.dtype, torch.device)


class Ensembles:
    """Decides which trainings run together, runs them, and remembers what came of it."""

    def __init__(self, batches: Sequence[Any], choice: Choice) -> None:
        """`batches` is what an order of a training counts."""
        self.records: list[Ensemble] = []
        self._batches = batches
        self._signatures = [signature(batch) for batch in batches]
        self._choice = choice
        self._known: dict[tuple[Any, ...], tuple[float, float] | str] = {}

    def wanted(self, entries: int) -> bool:
        """Whether to think of an ensemble with so many entries of parameters in all."""
        return self._choice != "never" and entries <= MOST

    def chosen(self, group: Sequence[Training]) -> bool:
        """Whether `group`, which is alike, is to run together; what speaks for it is kept."""
        seconds: tuple[float, float] | None = None
        why = against(group[0])
        if not why:
            try:
                seconds = self._timed(group)
            except Unfit as reason:
                why = str(reason)
        if seconds is not None and self._choice != "always" and seconds[1] > _GAIN * seconds[0]:
            why = _no_faster()
        self._keep(group, seconds, why)
        return not why

    def train(self, group: Sequence[Training]) -> bool:
        """Train `group` to its end; False where it had to break off, and cannot go on."""
        try:
            self._train(sorted(group, key=options))
            return True
        except Exception as error:
            self.records[-1] = replace(self.records[-1], together=False, why=_reason(error))
            return False

    def _keep(
        self, group: Sequence[Training], seconds: tuple[float, float] | None, why: str
    ) -> None:
        alone, together = seconds or (None, None)
        self.records.append(
            Ensemble(
                cures=tuple(training.job.treatment.label for training in group),
                seeds=tuple(training.job.seed for training in group),
                steps=len(group[0].order),
                together=not why,
                seconds_alone=alone,
                seconds_together=together,
                why=why,
            )
        )

    # --- is it faster? -------------------------------------------------------------------------

    def _timed(self, group: Sequence[Training]) -> tuple[float, float]:
        """Return the seconds of a step of `group`, one by one and together.

        Raises Unfit where both ways do not give the same gradients, or leave other traces.
        """
        fitting = [step for step in range(len(group[0].order)) if self._stackable(group, step)]
        if 2 * len(fitting) < len(group[0].order):
            raise Unfit(_("batches are of different shapes"))
        same = len({training.order for training in group}) == 1
        key = (shape(group[0]), len(group), len({options(one) for one in group}), same)
        if key not in self._known:
            try:
                with _no_random_numbers():
                    self._known[key] = self._tried(sorted(group, key=options), fitting[:_REPEATS])
            except Exception as error:
                self._known[key] = _reason(error)
        known = self._known[key]
        if isinstance(known, str):
            raise Unfit(known)
        return known

    def _tried(self, group: Sequence[Training], steps: Sequence[int]) -> tuple[float, float]:
        """Make these steps both ways on copies: check the first, time all."""
        alone = [training.twin() for training in group]
        batches = [self._batches[training.order[steps[0]]] for training in group]
        started = _now(group)
        for twin, batch in zip(alone, batches, strict=True):
            _backward_changes_nothing(twin, batch)
        if self._choice != "always" and _now(group) - started > _BUSY * len(group):
            raise Unfit(_no_faster())
        stack = Stack([training.twin() for training in group])
        _check_gradients(alone, stack.backward(batches), stack)
        alone_took, together_took = [], []
        for step in steps:
            batches = [self._batches[training.order[step]] for training in group]
            started = _now(group)
            for twin, batch in zip(alone, batches, strict=True):
                twin.step(batch)
            between = _now(group)
            stack.backward(batches)
            stack.step()
            alone_took.append(between - started)
            together_took.append(_now(group) - between)
        return min(alone_took), min(together_took)

    # --- the training --------------------------------------------------------------------------

    def _train(self, group: Sequence[Training]) -> None:
        steps = len(group[0].order)
        try:
            for training in group:
                training.begin()
                training.pause()
            step, look = 0, False
            while step < steps:
                if look or SCHEDULE.samples(step) or not self._stackable(group, step):
                    for training in group:
                        self._alone(training, step)
                    step, look = step + 1, False
                else:
                    step, look = self._stretch(group, step)
        finally:
            for training in group:
                with training.random():
                    training.end()

    def _alone(self, training: Training, step: int) -> None:
        """Make one step of one training by itself, watched."""
        with training.random():
            training.resume()
            try:
                training.step(self._batches[training.order[step]])
            finally:
                training.pause()
        training.optimizer.zero_grad()  # what is left over in others is looked at, too
        if not training.followed:
            raise Unfit(_("its steps cannot be told apart"))

    def _stretch(self, group: Sequence[Training], step: int) -> tuple[int, bool]:
        """Make steps together until one is to be looked at; return which, and whether it must be.

        That is at the first loss of a training that is not finite, too.
        """
        stack, bad = Stack(group), False
        with _no_random_numbers():
            while step < len(group[0].order):
                if SCHEDULE.samples(step) or not self._stackable(group, step):
                    break
                losses = stack.backward([self._batches[one.order[step]] for one in group])
                bad = any(
                    not math.isfinite(loss) and all(map(math.isfinite, training.losses))
                    for training, loss in zip(group, losses, strict=True)
                )
                if bad:
                    break
                stack.step()
                for training, loss in zip(group, losses, strict=True):
                    training.told(loss)
                step += 1
        stack.write_back()
        return step, bad

    def _stackable(self, group: Sequence[Training], step: int) -> bool:
        first, *others = (training.order[step] for training in group)
        return all(
            other == first or self._signatures[other] == self._signatures[first] for other in others
        )


# --- what is alike, and what fits ----------------------------------------------------------------


def shape(training: Training) -> tuple[Any, ...]:
    """Return what trainings must share to be stacked; those that fit in no stack share it, too."""
    model = training.live.model
    if why := against(training):
        return (why, len(training.order))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return (
        type(training.optimizer),
        tuple(
            (name, type(module), module.training, _settings(module))
            for name, module in model.named_modules()
        ),
        tuple(
            (name, tensor.shape, tensor.dtype, tensor.device, tensor.requires_grad)
            for name, tensor in _tensors(model).items()
        ),
        tuple(
            tuple(names[id(parameter)] for parameter in group["params"])
            for group in training.optimizer.param_groups
        ),
        len(training.order),
    )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers of `model` by name, shared ones as often as they stand."""
    return {
        **dict(model.named_parameters(remove_duplicate=False)),
        **dict(model.named_buffers(remove_duplicate=False)),
    }


def _settings(module: nn.Module) -> tuple[tuple[str, str], ...]:
    """Return a module's attributes that can be compared. Others show in the gradients."""
    found = []
    for name, value in vars(module).items():
        if name.startswith("_") and name in _OWN:
            continue
        items = value if isinstance(value, tuple | list) else (value,)
        plain = all(isinstance(item, _PLAIN) for item in items)
        found.append((name, repr(value) if plain else type(value).__qualname__))
    return tuple(sorted(found))


def against(training: Training) -> str:
    """Return why a training does not fit in a stack, read off it; "" where nothing speaks so."""
    model, optimizer, settings = training.live.model, training.optimizer, training.live.settings
    named = _tensors(model)
    own = {id(parameter) for parameter in model.parameters()}
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if type(optimizer) not in ELEMENTWISE:
        return _("{optimizer} is not known to step entry by entry").format(
            optimizer=type(optimizer).__name__
        )
    if "step" in vars(optimizer) or any(getattr(optimizer, name) for name in _STEP_HOOKS):
        return _("something else happens at the optimiser's steps")
    if any(isinstance(v, Tensor) for group in optimizer.param_groups for v in group.values()):
        return _("an option of the optimiser is a tensor")
    if replace(settings, lr_factor=1.0, warmup_steps=0) != TrainingSettings():
        return _("a cure changes the loop")
    if any(id(parameter) not in own for parameter in held):
        return _("the optimiser holds more than the network")
    if any(map(is_lazy, named.values())):
        return _("parameters have no shape yet")
    if len({id(tensor) for tensor in named.values()}) < len(named):
        return _("parameters are shared")
    if _hooked(model):
        return _("hooks run in the network")
    return ""


def _hooked(model: nn.Module) -> bool:
    return any(getattr(module, name) for module in model.modules() for name in HOOKS) or any(
        getattr(parameter, name) for parameter in model.parameters() for name in _TENSOR_HOOKS
    )


def _backward_changes_nothing(training: Training, batch: Any) -> None:
    """Compute the gradients of a step. Raises Unfit if it leaves anything else behind.

    Running statistics and a state that is handed on from step to step would be one for all rows.
    """
    model = training.live.model
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    data = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    attributes, versions = _attributes(model), [leaf._version for leaf in data]
    with _no_random_numbers():
        training.backward(batch)
    if any(not torch.equal(buffer, before) for buffer, before in buffers):
        raise Unfit(_("the forward changes buffers, such as running statistics"))
    after = _attributes(model)
    if len(after) != len(attributes) or any(
        one is not other or size != now
        for (one, size), (other, now) in zip(attributes, after, strict=True)
    ):
        raise Unfit(_("the forward keeps something in the network"))
    if versions != [leaf._version for leaf in data]:
        raise Unfit(_("the training writes to its batch"))


def _attributes(model: nn.Module) -> list[tuple[Any, int]]:
    """Return what the modules hold, and how much is in containers."""
    return [
        (value, len(value) if isinstance(value, list | dict | set) else 0)
        for module in model.modules()
        for value in list(vars(module).values())
    ]


def _check_gradients(alone: Sequence[Training], losses: Sequence[float], stack: Stack) -> None:
    """Raise Unfit unless both ways gave the same losses and gradients, to rounding.

    Rounding of sums in another order is some units of the type's last place (eps), and another
    function differs in the first digits: √eps lies between. What is only rounding itself (the bias
    of keys in attention has no gradient) is measured by the largest gradient instead.
    """
    for row, (twin, loss) in enumerate(zip(alone, losses, strict=True)):
        own = {name: p.grad for name, p in twin.live.model.named_parameters()}
        sizes = [_norm(one) for one in own.values() if one is not None]
        largest = max((size for size in sizes if math.isfinite(size)), default=0.0)
        same = _close(torch.tensor(twin.losses[0]), torch.tensor(loss), 0.0)
        for name, gradient in own.items():
            stacked = stack.parameters[name].grad
            if gradient is None or stacked is None:
                same = same and gradient is stacked
            else:
                same = same and _close(gradient, stacked[row], largest)
        if not same:
            raise Unfit(_("together they give other gradients"))


def _close(one: Tensor, other: Tensor, largest: float) -> bool:
    finite = torch.isfinite(one)
    if not torch.equal(finite, torch.isfinite(other)):
        return False
    one, other = one[finite], other[finite]
    eps = torch.finfo(one.dtype).eps if one.is_floating_point() else 0.0
    return _norm(one - other) <= math.sqrt(eps) * _norm(one) + 100 * eps * largest


def _norm(tensor: Tensor) -> float:
    """Return the norm; a gradient that vanishes or explodes has none in its own type."""
    return float(tensor.detach().abs().cpu().double().norm())


def _now(group: Sequence[Training]) -> float:
    """Return the time, once the device has done what it was given."""
    if any(p.device.type != "cpu" for p in group[0].live.model.parameters()):
        torch.accelerator.synchronize()
    return time.perf_counter()


def _no_faster() -> str:
    return _("an ensemble of them is no faster")


@contextmanager
def _no_random_numbers() -> Iterator[None]:
    """Raise Unfit if the block draws from a global generator; it is as it was, in any case.

    Rows would share what each training draws for itself. Draws under vmap raise by themselves.
    """
    states = RandomStates.capture()
    try:
        yield
        if not states.same_as(RandomStates.capture()):
            raise Unfit(_("the training draws random numbers"))
    finally:
        states.restore()


def _reason(error: Exception) -> str:
    if isinstance(error, Unfit):
        return str(error)
    text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    return _("it cannot be batched: {error}").format(error=text)
