"""Seeds of a script, offset: another trial draws other numbers everywhere, the same one again."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import random
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from unvanish.fix import reseed


def draws() -> dict[str, float]:
    """Draw in each way in which a script may set a seed, or may not."""
    found = {}
    found["unseeded random"] = random.random()
    found["unseeded numpy"] = float(np.random.rand())
    found["unseeded torch"] = float(torch.rand(()))
    words: tuple[Any, ...] = (3, "a word", 0.5, b"bytes", None)
    for seed in words:
        random.seed(seed)
        found[f"random.seed({seed!r})"] = random.random()
        found[f"random.Random({seed!r})"] = random.Random(seed).random()
    numbers: tuple[Any, ...] = (3, np.int64(3), [1, 2], np.array([1, 2]), None)
    for seed in numbers:
        np.random.seed(seed)
        found[f"numpy.random.seed({seed!r})"] = float(np.random.rand())
        found[f"default_rng({seed!r})"] = float(np.random.default_rng(seed).random())
        found[f"RandomState({seed!r})"] = float(np.random.RandomState(seed).rand())
        bits = np.random.PCG64(seed)
        found[f"PCG64({seed!r})"] = float(np.random.Generator(bits).random())
    sequence = np.random.SeedSequence(entropy=3)
    found["SeedSequence"] = float(np.random.default_rng(sequence).random())
    torch.manual_seed(3)
    found["torch.manual_seed"] = float(torch.rand(()))
    torch.seed()
    found["torch.seed"] = float(torch.rand(()))
    own = torch.Generator()
    found["torch.Generator"] = float(torch.rand((), generator=own))
    found["Generator.manual_seed"] = float(torch.rand((), generator=own.manual_seed(3)))
    own.seed()
    found["Generator.seed"] = float(torch.rand((), generator=own))
    return found


def _trial(number: int | None) -> dict[str, float]:
    if number is not None:
        reseed.offset_python(number)
        reseed.offset_numpy(number)
        reseed.offset_torch(number)
        assert isinstance(np.random.mtrand._rand, np.random.RandomState)
        assert isinstance(torch.default_generator, torch.Generator)
        pickle.loads(pickle.dumps(copy.deepcopy(np.random.RandomState(1))))
    return draws()


def trial(number: int | None) -> dict[str, float]:
    """Draw in a process of its own: what is offset stays so."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(_trial, number).result()


@pytest.fixture(scope="module")
def first() -> dict[str, float]:
    return trial(1)


def test_another_trial_draws_other_numbers_in_every_way(first: dict[str, float]) -> None:
    other = trial(2)
    assert [name for name, value in first.items() if value == other[name]] == []


def test_one_trial_draws_the_same_numbers_again(first: dict[str, float]) -> None:
    assert trial(1) == first


def test_the_first_trial_has_the_seeds_that_the_script_sets() -> None:
    plain, own = trial(None), trial(0)
    unseeded = [name for name in plain if "None" in name or "unseeded" in name]
    unseeded += ["torch.seed", "Generator.seed"]
    assert [n for n in plain if n not in unseeded and plain[n] != own[n]] == []
    assert trial(0) == own  # those as well that are given no seed


def test_a_seed_for_an_accelerator_is_offset_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`set_seed` of trainers calls it behind torch.manual_seed, and would undo the offset."""
    told: list[int] = []
    for name in ("manual_seed", "seed"):
        monkeypatch.setattr(torch, name, getattr(torch, name))
        monkeypatch.setattr(torch.random, name, getattr(torch.random, name))
    monkeypatch.setattr(torch, "Generator", torch.Generator)
    for device in ("xpu", "mps", "cuda"):
        module = getattr(torch, device)
        for name in ("manual_seed", "manual_seed_all"):
            monkeypatch.setattr(module, name, told.append, raising=False)
    with torch.random.fork_rng():
        reseed.offset_torch(2)
        told.clear()
        torch.cuda.manual_seed_all(5)
    assert told == [5 + 2 * reseed.STRIDE]
