"""What the zoo's labels and rates rest on, without its libraries."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from benchmarks.zoo import faults, kept, rates, report, surgery, vision
from benchmarks.zoo.specimen import Specimen, UnbuildableError, chance, float_tensors
from torch import Tensor, nn

from unvanish.diagnose import diagnose


def test_faults_are_put_in_where_they_say() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.BatchNorm1d(4), shared, nn.Conv1d(1, 1, 1))
    weight, norm = shared.weight.detach().clone(), model[1].weight.detach().clone()
    surgery.scaled(model, 0.5)
    assert torch.equal(shared.weight, 0.5 * weight), "a shared weight is scaled once"
    assert torch.equal(model[1].weight, norm)
    surgery.drawn(model, 1e-3)
    assert 0 < shared.weight.abs().max() < 1e-2


def test_norms_and_activations_are_replaced_at_every_depth() -> None:
    class ActNorm(nn.BatchNorm1d):
        def __init__(self) -> None:
            super().__init__(4)
            self.act = nn.ReLU()

    inner = nn.Sequential(ActNorm(), nn.GELU(), nn.Sigmoid())
    model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), inner)
    surgery.without_norms(model)
    assert [type(each).__name__ for each in (model[1], *inner)] == [
        "Through", "ReLU", "GELU", "Sigmoid",
    ]  # fmt: skip
    surgery.with_sigmoid(model)
    assert all(isinstance(each, nn.Sigmoid) for each in inner)
    with pytest.raises(UnbuildableError):
        surgery.without_norms(model)


def test_raw_inputs_are_scaled_and_labels_are_not() -> None:
    labels = torch.arange(3)
    pixels, same = surgery.raw((torch.tensor([-1.0, 0.0, 1.0]), labels))
    assert pixels.tolist() == [0.0, 127.5, 255.0]
    assert same is labels
    with pytest.raises(UnbuildableError):
        surgery.raw(({"input_ids": labels}, labels))


def test_a_detach_cuts_off_what_lies_before_it() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    inputs = torch.randn(2, 4)
    surgery.detached(model, lambda: model(inputs).sum())
    model(inputs).sum().backward()
    reached = [layer.weight.grad is not None for layer in model]
    assert reached == sorted(reached), "from one layer on"
    assert 1 <= reached.count(False) <= 3


def test_a_cut_shortcut_is_no_detach() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.shortcut = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.branch(x) + self.shortcut(x)

    model = nn.Sequential(Block(), nn.Linear(4, 4))
    inputs = torch.randn(2, 4)
    surgery.detached(model, lambda: model(inputs).sum())
    assert "forward" in vars(model[0])


def test_every_architecture_gets_the_faults_of_the_issue_and_some_drawn_by_its_name() -> None:
    drawn = {name: list(faults.chosen(name)) for name in ("a", "b")}
    assert drawn["a"] == list(faults.chosen("a"))
    assert drawn["a"] != drawn["b"]
    for names in drawn.values():
        assert names[: len(faults.ALWAYS)] == list(faults.ALWAYS)
        assert len(set(names)) == len(faults.ALWAYS) + faults.DRAWN


def test_a_study_labels_by_training_and_keeps_records_to_judge_again(tmp_path: Path) -> None:
    labels = torch.arange(8)

    def build() -> Specimen:
        layers = [layer for _ in range(3) for layer in (nn.Linear(16, 16), nn.ReLU())]
        model = nn.Sequential(*layers, nn.Linear(16, 8))
        batch = (torch.randn(8, 16, generator=torch.Generator().manual_seed(3)), labels)
        return Specimen("plain", "plain", model, batch, vision.classify, labels)

    study = faults.studied(build, "Adam", tmp_path, slowest=10.0)
    cases = {case["fault"]: case for case in study["cases"]}
    assert study["status"] == "studied"
    assert cases["clean"]["label"] == "trains"
    assert cases["detach"]["label"] == "cut"
    runs = {case["run"] for case in study["cases"]}
    assert len(runs) == len(cases), "a record of its own for each"
    verdicts = {
        fault: diagnose(kept.read(case["run"], tmp_path)).verdict for fault, case in cases.items()
    }
    assert (verdicts["clean"], verdicts["detach"]) == ("healthy", "cut-graph")
    assert report.front_is_cut(kept.read(cases["detach"]["run"], tmp_path))
    assert not report.front_is_cut(kept.read(cases["clean"]["run"], tmp_path))


def test_the_smallest_of_every_family_comes_first() -> None:
    members = [("a", 9, "a9"), ("b", 7, "b7"), ("a", 1, "a1"), ("b", 8, "b8"), ("a", 5, "a5")]
    assert [name for _rank, _size, name in vision.ranked(members)] == ["a1", "b7", "a5", "b8", "a9"]


def test_chance_is_the_entropy_of_the_labels() -> None:
    assert chance(torch.arange(10)) == pytest.approx(math.log(10))
    assert chance(torch.tensor([1, 1, -100, 3, 3])) == pytest.approx(math.log(2))
    assert chance(torch.tensor([7, 7])) == 0


def test_a_label_is_what_training_did() -> None:
    labels = [faults.label(share) for share in (1.0, 0.5, 0.49, 0.1, 0.09, -math.inf)]
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
                "verdict": verdict, "progress": 1.0}  # fmt: skip

    cases = [
        case("trains", "healthy", "clean"),
        {**case("trains", "exploding"), "progress": 0.6},  # trains, but not as the clean one
        case("untrainable", "vanishing"),
        case("untrainable", "healthy"),
        case("cut", "cut-graph"),
        {**case("cut", "healthy"), "half": "frozen"},
    ]
    found = report.rates(cases, "judged")
    assert (found["clean"]["alarms"], found["clean"]["of"]) == (0, 1)
    assert (found["as clean"]["alarms"], found["as clean"]["of"]) == (0, 1)
    assert (found["trains"]["alarms"], found["trains"]["of"]) == (1, 2)
    assert (found["untrainable"]["alarms"], found["untrainable"]["of"]) == (1, 2)
    assert (found["cut"]["alarms"], found["cut"]["of"]) == (1, 1)


def test_float_tensors_are_found_in_any_output() -> None:
    weight = torch.ones(2, requires_grad=True)
    output = {"ids": torch.arange(2), "logits": 2 * weight, "more": [3 * weight]}
    assert len(float_tensors(output)) == 1
    assert [float(each.sum()) for each in float_tensors(output, most=5)] == [4.0, 6.0]
