"""What the zoo's labels and rates rest on, without its libraries."""

from __future__ import annotations

import math

import pytest
import torch
from benchmarks.zoo import faults, rates, report
from benchmarks.zoo.specimen import chance, float_tensors
from torch import nn


def test_faults_are_put_in_where_they_say() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.BatchNorm1d(4), shared, nn.Conv1d(1, 1, 1))
    weight, norm = shared.weight.detach().clone(), model[1].weight.detach().clone()
    faults.scaled(model, 0.5)
    assert torch.equal(shared.weight, 0.5 * weight), "a shared weight is scaled once"
    assert torch.equal(model[1].weight, norm)
    faults.drawn(model, 1e-3)
    assert 0 < shared.weight.abs().max() < 1e-2


def test_a_detach_cuts_off_what_lies_before_it() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    faults.detached(model)
    model(torch.randn(2, 4)).sum().backward()
    assert [layer.weight.grad is not None for layer in model] == [False] * 3 + [True] * 2


def test_chance_is_the_entropy_of_the_labels() -> None:
    assert chance(torch.arange(10)) == pytest.approx(math.log(10))
    assert chance(torch.tensor([1, 1, -100, 3, 3])) == pytest.approx(math.log(2))
    assert chance(torch.tensor([7, 7])) == 0


def test_a_label_is_what_training_did() -> None:
    labels = [faults.label(share) for share in (1.0, 0.5, 0.49, 0.25, 0.24, -math.inf)]
    assert labels == ["trains"] * 2 + ["neither"] * 2 + ["untrainable"] * 2
    assert faults.end([1.0, math.nan, math.nan, math.nan]) == math.inf


def test_halves_are_stable_and_of_like_size() -> None:
    names = [f"net{number}" for number in range(400)]
    judged = sum(rates.half(name) == "judged" for name in names)
    assert 150 < judged < 250  # 5 standard deviations
    assert rates.half("resnet18") == rates.half("resnet18")


def test_bounds_are_exact_at_the_ends() -> None:
    low, high = rates.interval(37, 37)
    assert high == 1.0
    assert low == pytest.approx(0.025 ** (1 / 37))
    assert rates.interval(0, 37) == (0.0, pytest.approx(1 - low))


def test_rates_count_alarms_on_what_trains_and_catches_of_what_does_not() -> None:
    def case(label: str, verdict: str, fault: str = "detach") -> dict:
        return {"library": "x", "name": "n", "half": "judged", "fault": fault, "label": label,
                "verdict": verdict}  # fmt: skip

    cases = [
        case("trains", "healthy", "clean"),
        case("trains", "exploding"),
        case("untrainable", "vanishing"),
        case("untrainable", "healthy"),
        case("cut", "cut-graph"),
        {**case("cut", "healthy"), "half": "frozen"},
    ]
    found = report.rates(cases, "judged")
    assert (found["clean"]["alarms"], found["clean"]["of"]) == (0, 1)
    assert (found["trains"]["alarms"], found["trains"]["of"]) == (1, 2)
    assert (found["untrainable"]["alarms"], found["untrainable"]["of"]) == (1, 2)
    assert (found["cut"]["alarms"], found["cut"]["of"]) == (1, 1)


def test_float_tensors_are_found_in_any_output() -> None:
    weight = torch.ones(2, requires_grad=True)
    output = {"ids": torch.arange(2), "logits": 2 * weight, "more": [3 * weight]}
    assert len(float_tensors(output)) == 1
    assert [float(each.sum()) for each in float_tensors(output, most=5)] == [4.0, 6.0]
