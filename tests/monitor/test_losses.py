from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor

from unvanish.monitor.listener import BackwardCall, ScaledLoss
from unvanish.monitor.losses import StepHistory, StepNote, arrive, read_loss


def call(
    *roots: Tensor, cotangents: tuple[Tensor | None, ...] = (), scaled: ScaledLoss | None = None
) -> BackwardCall:
    return BackwardCall(
        roots=roots,
        cotangents=cotangents or (None,) * len(roots),
        inputs=(),
        create_graph=False,
        site=0,
        scaled=scaled,
    )


def test_a_loss_on_the_cpu_is_a_number_at_once() -> None:
    assert read_loss(call(torch.tensor(2.5))) == 2.5
    assert read_loss(call(torch.tensor([2.5], dtype=torch.bfloat16))) == 2.5
    assert math.isnan(float(read_loss(call(torch.tensor(math.nan)))))


def test_several_roots_add_up_and_a_cotangent_gives_the_inner_product() -> None:
    """The gradient that such a backward computes is that of this scalar."""
    roots = (torch.tensor(1.0), torch.tensor([1.0, 2.0]))
    assert read_loss(call(*roots, cotangents=(None, torch.tensor([3.0, 4.0])))) == 12.0


def test_a_scaled_loss_is_read_before_scaling() -> None:
    """Also where the scaled one overflows."""
    scaled = torch.tensor(math.inf)
    scaler = torch.amp.GradScaler("cpu")
    known = ScaledLoss(torch.tensor(7.0), weakref.ref(scaled), scaler)
    assert read_loss(call(scaled, scaled=known)) == 7.0


def note(step: int, *losses: float | Tensor, skipped: bool | Tensor = False) -> StepNote:
    return StepNote(step, list(losses), sampled=False, backwards=len(losses), skipped=skipped)


def test_numbers_on_a_device_wait_and_keep_their_order() -> None:
    """A scalar tensor stands for one on an accelerator: it is brought over when asked for."""
    history = StepHistory()
    history.add(note(0, 1.0))
    history.add(note(1, torch.tensor(2.0), 3.0))
    history.add(note(2, 4.0, skipped=torch.tensor(1.0)))
    assert [record.step for record in history.records] == [0]
    history.arrive()
    assert [(record.step, record.loss) for record in history.records] == [(0, 1), (1, 5), (2, 4)]
    assert [record.skipped for record in history.records] == [False, False, True]


def test_arriving_keeps_float64() -> None:
    value = 1 + 2**-50
    assert arrive([torch.tensor(value, dtype=torch.float64), 2.0]) == [value, 2.0]


@pytest.mark.parametrize("bad", [math.inf, -math.inf])
def test_infinities_stay(bad: float) -> None:
    assert arrive([torch.tensor(bad)]) == [bad]
