"""What single cures promise beyond what holds of all."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.fix.cures.lives import Detached, build, classes, labelled, live, squares
from unvanish.fix.catalogue import cure
from unvanish.fix.cure import Live, NotApplicable
from unvanish.testing.nets import mlp


def treated(one: Live, name: str) -> Live:
    cure(name).apply(one)
    return one


def backward(one: Live) -> Tensor:
    with contextlib.ExitStack() as stack:
        for context in one.settings.contexts:
            stack.enter_context(context())
        loss = one.loss_fn(one.model, one.batch)
    loss.backward()
    return loss.detach()


def gradients(model: nn.Module) -> list[Tensor]:
    return [p.grad for p in model.parameters() if p.grad is not None]


def test_a_changed_loss_head_keeps_the_loss_and_takes_the_cross_entropys_gradient() -> None:
    before, after = build("bce-head"), treated(build("bce-head"), "bce-head")
    assert torch.equal(backward(after), backward(before))
    assert isinstance(after.model, nn.Sequential)
    logits = after.model[:-1](after.batch[0])
    own = functional.binary_cross_entropy_with_logits(logits, after.batch[1])
    wanted = torch.autograd.grad(own, list(after.model.parameters()))
    for one, other in zip(gradients(after.model), wanted, strict=True):
        torch.testing.assert_close(one, other)


class _Gated(nn.Module):
    """Two softmaxes of two dimensions; only the second is the head's."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(self.head(x * torch.softmax(self.gate(x), -1)), -1)


def test_only_the_softmax_at_the_end_is_taken_away() -> None:
    model = _Gated()
    one = treated(live(model, labelled(16, 8), classes), "logits-head")
    x = one.batch[0]
    wanted = model.head(x * torch.softmax(model.gate(x), -1))
    for _again in range(2):  # it counts anew in each forward
        torch.testing.assert_close(model(x), wanted)


def test_warm_up_gives_each_step_its_rate_and_the_scheduler_its_own() -> None:
    one = build("warm-up")
    change = cure("warm-up").apply(one)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    seen: list[float] = []
    exec(cure("warm-up").code(one, change), {"model": one.model, "optimizer": optimizer})
    optimizer.register_step_pre_hook(lambda *_: seen.append(optimizer.param_groups[0]["lr"]))
    for _step in range(52):
        optimizer.step()
        assert optimizer.param_groups[0]["lr"] == 0.5
    assert seen[:2] == pytest.approx([0.01, 0.02])
    assert seen[49:] == pytest.approx([0.5, 0.5, 0.5])


def test_more_units_keep_those_that_were_there() -> None:
    one = build("more-units")
    before = {name: value.clone() for name, value in one.model.state_dict().items()}
    cure("more-units").apply(one)
    for name, old in before.items():
        new = one.model.state_dict()[name]
        corner = tuple(slice(size) for size in old.shape)
        assert torch.equal(new[corner], old)
    assert before["linear0.weight"].shape == (4, 8)
    assert one.model.get_parameter("linear0.weight").shape == (16, 8)
    backward(one)
    one.optimizer.step()  # type: ignore[union-attr]


def test_a_wide_layer_gets_no_more_units() -> None:
    one = live(mlp([8, 64, 64, 4], nn.ReLU), labelled(16, 8), classes)
    with pytest.raises(NotApplicable, match="at most 32"):
        cure("more-units").apply(one)


def test_live_biases_let_every_unit_learn() -> None:
    one = build("live-biases")
    backward(one)
    assert all(bool((g == 0).all()) for g in gradients(one.model))
    cure("live-biases").apply(one)
    hidden = one.batch[0]
    for name in ("linear0", "linear1", "head"):
        raw = one.model.get_submodule(name)(hidden)
        assert bool((raw > 0).any(0).all())
        hidden = raw.relu()


class _Sampled(Detached):
    def forward(self, x: Tensor) -> Tensor:
        drawn: Tensor = self.back(torch.distributions.Normal(self.front(x), 1.0).sample())
        return drawn


class _Ungraded(Detached):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.front(x)
            hidden = torch.tanh(hidden)
        answer: Tensor = self.back(hidden)
        return answer


@pytest.mark.parametrize("kind", [Detached, _Sampled, _Ungraded])
def test_the_gradient_passes_where_it_was_cut(kind: type[Detached]) -> None:
    model = kind()
    one = live(model, labelled(16, 8), classes)
    backward(one)
    assert model.front.weight.grad is None
    change = cure("keep-gradient").apply(one)
    backward(one)
    assert model.front.weight.grad is not None
    assert float(model.front.weight.grad.abs().sum()) > 0
    assert "line" in cure("keep-gradient").code(one, change)
    assert torch.distributions.Normal.sample.__qualname__ == "Normal.sample"  # put back


def _division(x: Tensor) -> Tensor:
    return (1 / (x - x) + x / (x - x)).clamp(-1, 1)


def _masked(x: Tensor) -> Tensor:
    return torch.softmax(torch.full_like(x, -torch.inf) + 0 * x, -1)


def _untaken(x: Tensor) -> Tensor:
    return torch.where(x > 9, torch.sqrt(x - x), x)


@pytest.mark.parametrize("function", [_division, _masked, _untaken])
def test_safe_forms_are_finite_forward_and_backward(function: object) -> None:
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return function(model(batch[0])).sum()  # type: ignore[operator,no-any-return]

    one = live(nn.Linear(8, 4), labelled(16, 8), loss)
    assert not all(g.isfinite().all() for g in (backward(one), *gradients(one.model)))
    one.optimizer.zero_grad()  # type: ignore[union-attr]
    cure("safe-functions").apply(one)
    assert all(g.isfinite().all() for g in (backward(one), *gradients(one.model)))


def test_scaled_gradients_are_clipped_where_the_unscaled_ones_would_be() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    one = live(nn.Linear(4, 1), (torch.randn(8, 4), torch.randn(8, 1)), squares)
    scaler.scale(torch.zeros(1))  # the scale is made at the first use
    original = torch.nn.utils.clip_grad_norm_
    cure("unscale-first").apply(one)
    (context,) = one.settings.contexts
    parameter = torch.nn.Parameter(torch.zeros(2))
    with context():
        parameter.grad = torch.tensor([3.0, 4.0]) * 1024
        torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    assert torch.nn.utils.clip_grad_norm_ is original
    # 1e-6 in torch's divisor, and float32's rounding
    torch.testing.assert_close(parameter.grad, torch.tensor([0.6, 0.8]) * 1024, rtol=1e-5, atol=0)
