"""What holds of every cure: its lines do what it does, its randomness is its own, it can refuse."""

from __future__ import annotations

import contextlib
import copy

import pytest
import torch
from torch import Tensor, nn

from tests.fix.cures.lives import LIVES, SEED, build, classes, labelled, live
from unvanish.fix.catalogue import cure, cures
from unvanish.fix.cure import Applicability, Live, NotApplicable, TrainingSettings
from unvanish.measure.preserve import RandomStates

NAMES = [each.name for each in cures()]
# Its lines say where they go in a loop: they are an edit even where the cure is no source edit.
IN_THE_LOOP = {"loss-scaling"}
STRUCTURAL = [
    each.name
    for each in cures()
    if each.applicability is not Applicability.DISPLAY_ONLY and each.name not in IN_THE_LOOP
]
FITLESS = [
    name
    for name in NAMES
    if name
    in {
        "adam-eps",
        "bce-head",
        "float32",
        "keep-gradient",
        "leaky-relu-swap",
        "linear-output",
        "live-biases",
        "logits-head",
        "loss-scaling",
        "more-units",
        "non-saturating-loss",
        "nonzero-direction",
        "orthogonal-recurrence",
        "pre-norm",
        "relu-swap",
        "residual",
        "scaled-branches",
        "straight-through",
        "visible-key",
        "zero-branches",
    }
]


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def loss_of(one: Live) -> Tensor:
    """The loss as training sees it; NaN made comparable."""
    with contextlib.ExitStack() as stack, torch.no_grad():
        for context in one.settings.contexts:
            stack.enter_context(context())
        return one.loss_fn(one.model, one.batch).nan_to_num()


def test_each_cure_has_a_training_here() -> None:
    assert set(LIVES) == set(NAMES)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_its_lines_do_what_it_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    applied, pasted = build(name), build(name)
    change = cure(name).apply(applied)
    scope = {"model": pasted.model, "optimizer": pasted.optimizer, "batch": pasted.batch}
    scope["loss_fn"] = pasted.loss_fn
    # `unvanish.init_` takes its draws from what torch's generator is at, and does not move it
    monkeypatch.setattr(
        "unvanish.initialisation.initialise._from_global_state",
        lambda: torch.Generator().manual_seed(SEED),
    )
    torch.manual_seed(SEED)  # the lines draw from torch's generator, the cure from its own
    exec(cure(name).code(applied, change), scope)
    ours = [p.detach() for p in applied.model.parameters()]
    theirs = [p.detach() for p in pasted.model.parameters()]
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(loss_of(applied), loss_of(pasted))


@pytest.mark.parametrize("name", NAMES)
def test_its_random_numbers_come_from_its_own_generator(name: str) -> None:
    one = build(name)
    before = RandomStates.capture()
    cure(name).apply(one)
    after = RandomStates.capture()
    assert torch.equal(before.cpu, after.cpu)
    assert before.python == after.python


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_something_and_says_what(name: str) -> None:
    one = build(name)
    before, rate = state(one.model), copy.deepcopy(one.optimizer.state_dict())  # type: ignore[union-attr]
    change = cure(name).apply(one)
    assert change.edits
    now, untouched = state(one.model), build(name)
    same = before.keys() == now.keys() and all(torch.equal(before[key], now[key]) for key in before)
    assert (
        not same
        or one.settings != TrainingSettings()
        or rate != one.optimizer.state_dict()  # type: ignore[union-attr]
        or not torch.equal(loss_of(one), loss_of(untouched))
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_cured_model_still_copies_and_every_trainable_parameter_is_optimised(name: str) -> None:
    one = build(name)
    optimizer = one.optimizer
    cure(name).apply(one)
    assert one.optimizer is optimizer
    copy.deepcopy(one.model)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}  # type: ignore[union-attr]
    assert all(id(p) in held for p in one.model.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", FITLESS)
def test_it_refuses_a_linear_model_and_leaves_it_alone(name: str) -> None:
    model = nn.Linear(8, 4)
    one = live(model, labelled(16, 8), classes)
    before = state(model)
    with pytest.raises(NotApplicable, match=r"."):
        cure(name).apply(one)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert one.settings == TrainingSettings()
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


@pytest.mark.parametrize("name", NAMES)
def test_its_lines_are_python(name: str) -> None:
    one = build(name)
    change = cure(name).apply(one)
    compile(cure(name).code(one, change), name, "exec")


def test_the_lines_that_clip_do_so_at_every_step() -> None:
    one = build("gradient-clipping")
    change = cure("gradient-clipping").apply(one)
    exec(cure("gradient-clipping").code(one, change), {"model": one.model, **vars(one)})
    (1000 * one.loss_fn(one.model, one.batch)).backward()
    one.optimizer.step()  # type: ignore[union-attr]
    norms = torch.stack([p.grad.norm() for p in one.model.parameters()])  # type: ignore[union-attr]
    assert norms.norm() == pytest.approx(one.settings.clip_norm, rel=1e-4)  # + 1e-6 in torch's


def test_a_batch_norm_behind_a_convolution_over_time_can_be_pasted() -> None:
    layers = (nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 4))
    one = live(nn.Sequential(*layers), labelled(16, 2, 8), classes)
    pasted = copy.deepcopy(one.model)
    change = cure("batch-norm").apply(one)
    exec(cure("batch-norm").code(one, change), {"model": pasted})
    torch.testing.assert_close(pasted(one.batch[0]), one.model(one.batch[0]))


@pytest.mark.parametrize("dim", [0, 1, None])
def test_only_zero_vectors_of_a_weight_norm_get_a_direction(dim: int | None) -> None:
    head = nn.Linear(8, 4)
    with torch.no_grad():
        head.weight[:] = head.weight * 0 if dim is None else head.weight
        head.weight.select(dim or 0, 2).zero_()
    nn.utils.parametrizations.weight_norm(head, dim=dim)
    v = head.parametrizations.weight.original1  # type: ignore[union-attr, index]
    before = v.detach().clone()
    one = live(head, labelled(16, 8), classes)
    assert head.weight.isnan().any()
    change = cure("nonzero-direction").apply(one)
    weight = head.weight.detach()
    assert weight.isfinite().all()
    lost = (before == 0).all() if dim is None else (before == 0).all(1 - dim, keepdim=True)
    assert (weight[lost.expand_as(weight)] == 0).all()
    kept = ~lost.expand_as(weight)
    torch.testing.assert_close(weight[kept], before[kept])
    assert change.edits
