"""The wrappers: put in place and taken back, and silent where they must be."""

from __future__ import annotations

import copy
import os
import pickle
import tempfile
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import loops
import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.optim import optimizer as optimizers

from conftest import watching
from unvanish.records import Run


def places() -> list[Any]:
    """Return everything of torch's that watching may touch."""
    return [
        torch.autograd.backward,
        torch.autograd.grad,
        torch.amp.GradScaler.scale,
        torch.amp.GradScaler.step,
        modules._has_any_global_hook,
        dict(modules._global_forward_hooks),
        dict(modules._global_forward_pre_hooks),
        dict(modules._global_forward_hooks_always_called),
        dict(modules._global_forward_hooks_with_kwargs),
        dict(optimizers._global_optimizer_pre_hooks),
        dict(optimizers._global_optimizer_post_hooks),
    ]


def test_everything_is_put_back() -> None:
    before = places()
    with watching():
        during = places()
    assert all(one != other for one, other in zip(before, during, strict=True))
    assert places() == before


def test_everything_is_put_back_after_an_exception() -> None:
    before = places()
    with pytest.raises(KeyError), watching():
        raise KeyError
    assert places() == before


def test_two_watches_one_inside_the_other_both_see_the_training() -> None:
    before = places()
    with watching() as outer, watching() as inner:
        loops.plain()
    assert places() == before
    for watched in (outer, inner):
        assert watched.lines == []
        assert [trace.step for trace in watched.run.models[0].traces] == list(range(loops.STEPS))


def test_who_wraps_in_the_meantime_keeps_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.autograd, "backward", torch.autograd.backward)
    calls: list[str] = []
    with watching() as watched:
        ours = torch.autograd.backward

        def theirs(*args: Any, **kwargs: Any) -> None:
            calls.append("theirs")
            ours(*args, **kwargs)

        torch.autograd.backward = theirs
        loops.plain()
    assert torch.autograd.backward is theirs
    seen = len(watched.run.models[0].steps)
    loops.plain()
    assert len(calls) == 2 * loops.STEPS
    assert seen == len(watched.session.run_models()[0].steps) == loops.STEPS


@pytest.fixture
def script_model() -> nn.Module:
    return loops.network()


def test_a_model_can_be_saved_copied_and_pickled_while_watched(script_model: nn.Module) -> None:
    with watching():
        loss = script_model(torch.randn(4, 12)).sum()
        loss.backward()
        copy.deepcopy(script_model)
        pickle.loads(pickle.dumps(script_model))
        with tempfile.TemporaryFile() as file:
            torch.save(script_model, file)


def test_transforms_pass_through(watch_loop: Callable[..., Run]) -> None:
    model = nn.Linear(3, 1)
    inputs = torch.randn(5, 3)

    def loop() -> None:
        def loss(row: Tensor) -> Tensor:
            return model(row).sum()

        per_row = torch.func.vmap(torch.func.grad(loss))(inputs)
        assert torch.equal(per_row, model.weight.detach().expand(5, 3))
        loops.plain()

    assert len(watch_loop(loop).models) == 1


def test_a_recorded_module_is_recorded_without_us(script_model: nn.Module) -> None:
    """torch.jit.trace (and TensorBoard's add_graph) records every op that runs, also a hook's."""
    inputs = torch.randn(4, 12)
    bare = torch.jit.trace(script_model.eval(), inputs).inlined_graph
    with watching(), warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        watched = torch.jit.trace(script_model, inputs).inlined_graph
    kinds = [[node.kind() for node in graph.nodes()] for graph in (bare, watched)]
    assert kinds[0] == kinds[1]
    assert "aten::linear" in kinds[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_silent() -> None:
    with watching() as watched:
        child = os.fork()
        if child == 0:
            # The parent's threads are not here: nothing but plain Python and one small graph.
            loss = (torch.ones(3, requires_grad=True) * 2).sum()
            loss.backward()
            quiet = (
                watched.session.watcher.ledger.passes == 0
                and not watched.session.watcher.log.active
            )
            os._exit(0 if quiet else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        loops.plain()
    assert len(watched.run.models[0].steps) == loops.STEPS


def test_iterators_of_parameters_reach_grad_whole() -> None:
    model = loops.network()

    def parameters() -> Iterator[Tensor]:
        yield from model.parameters()

    with watching():
        gradients = torch.autograd.grad(model(torch.randn(4, 12)).sum(), parameters())
    assert len(gradients) == len(list(model.parameters()))
