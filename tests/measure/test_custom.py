"""Hand-written backwards, tried out: which are right, wrong, or wrong on purpose."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import Function

from unvanish.measure.custom import FunctionLog, recording_functions, try_out


class Right(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0].exp()


class Drops(Right):
    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return ctx.saved_tensors[0].exp()


class Third(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 3 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Rectifier(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * (ctx.saved_tensors[0] > 0)


class Linear(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ x


class StraightThrough(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Spike(Function):
    """A step function in single precision, with a surrogate for its slope."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).float()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient / (1 + 2 * ctx.saved_tensors[0].abs()) ** 2


class Reversal(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Noise(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mask = (torch.rand_like(x) > 0.5).to(x.dtype)
        ctx.save_for_backward(mask)
        return x * mask

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * ctx.saved_tensors[0]


class Smuggled(Function):
    """An auxiliary loss that rides along: its gradient is 1 whatever comes in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, auxiliary: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, torch.ones(())


def trial(function: type[Function], *more: Tensor, samples: int = 16) -> Any:
    torch.manual_seed(0)
    log = FunctionLog()
    with recording_functions(log):
        function.apply(torch.randn(samples, 8, requires_grad=True), *more)
    (found,) = try_out(list(log.calls.values()))
    return found


@pytest.mark.parametrize("function", [Right, Rectifier])
def test_right_ones_agree_with_differences(function: type[Function]) -> None:
    # Central differences in double precision: error h^2 = 1e-12 times the third derivative.
    assert trial(function).error == pytest.approx(0.0, abs=1e-6)


def test_several_inputs() -> None:
    assert trial(Linear, torch.randn(4, 8, requires_grad=True)).error < 1e-6


def test_one_that_ignores_what_comes_in() -> None:
    assert trial(Drops).ignores_gradient
    assert not trial(Right).ignores_gradient


def test_one_that_is_a_third_is_two_thirds_off() -> None:
    assert trial(Third).error == pytest.approx(2 / 3, abs=1e-6)


@pytest.mark.parametrize("function", [StraightThrough, Spike, Reversal, Noise])
def test_wrong_on_purpose_is_not_compared(function: type[Function]) -> None:
    found = trial(function)
    assert found.error is None
    assert not found.ignores_gradient


def test_a_step_function_that_some_samples_cross_is_not_compared() -> None:
    assert trial(Spike, samples=4096).error is None


def test_a_wrong_slope_in_single_precision_is_found() -> None:
    class HalfInSingle(Third):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.float().tanh()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            return gradient * 3

    assert trial(HalfInSingle, samples=4096).error > 0.4


def test_a_loss_that_rides_along_is_no_fault() -> None:
    found = trial(Smuggled, torch.ones((), requires_grad=True))
    assert (found.ignores_gradient, found.error) == (False, None)


def test_apply_is_put_back() -> None:
    before = vars(Function)["apply"]
    with pytest.raises(RuntimeError, match="theirs"), recording_functions(FunctionLog()):
        raise RuntimeError("theirs")
    assert vars(Function)["apply"] is before
