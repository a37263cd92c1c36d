"""The graph of the network: what is in a box, where it stands, what it says. Data, not pixels."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.measure.tracing import trace
from tests.report import builders
from unvanish import figures
from unvanish.figures.boxes import Boxes, collapse, joint
from unvanish.figures.placing import MOST, READABLE, curve, places, views
from unvanish.records import OpGraph, Trace


def conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = conv(1, width), conv(width, width), conv(width, width)
        self.up2, self.up1 = conv(2 * width, width), conv(2 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        y = functional.interpolate(self.middle(functional.max_pool2d(b, 2)), scale_factor=2)
        y = functional.interpolate(self.up2(torch.cat([y, b], 1)), scale_factor=2)
        return self.out(self.up1(torch.cat([y, a], 1)))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.tanh(self.linear(self.norm(x)))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.again, self.out = nn.Linear(3, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.shape[0], 8)
        for step in range(x.shape[1]):
            h = torch.tanh(self.into(x[:, step]) + self.again(h))
        return self.out(h)


def classes(model: nn.Module, *shape: int) -> Trace:
    batch = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    target = torch.arange(shape[0]) % 5
    return trace(model, batch, lambda m, b: functional.cross_entropy(m(b), target))


def residual(blocks: int) -> Trace:
    return classes(nn.Sequential(*[Residual(6) for _ in range(blocks)], nn.Linear(6, 5)), 8, 6)


def plain(layers: int) -> Trace:
    body = [part for _ in range(layers) for part in (nn.Linear(6, 6), nn.ReLU())]
    return classes(nn.Sequential(*body, nn.Linear(6, 5)), 8, 6)


def unet() -> Trace:
    return trace(UNet(), torch.randn(2, 1, 16, 16), lambda m, b: m(b).square().mean())


def transformer() -> Trace:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 3), nn.Flatten(), nn.Linear(40, 5))
    return classes(model, 6, 5, 8)


NETS: dict[str, Callable[[], Trace]] = {
    "5 layers": lambda: plain(5),
    "500 layers": lambda: plain(250),
    "residual": lambda: residual(4),
    "deep residual": lambda: residual(60),
    "u-net": unet,
    "transformer": transformer,
    "recurrent": lambda: classes(Recurrent(), 8, 12, 3),
}


@pytest.fixture(scope="module", params=NETS)
def traced(request: pytest.FixtureRequest) -> Trace:
    torch.manual_seed(0)
    return NETS[request.param]()


def graph_of(one: Trace) -> OpGraph:
    assert one.graph is not None
    return one.graph


def shown(one: Trace) -> list[Boxes]:
    return views(graph_of(one), recurrent=bool(one.recurrences))[0]


def test_every_op_is_in_one_box_of_every_view(traced: Trace) -> None:
    for view in shown(traced):
        nodes = sorted(node for box in view.boxes for node in box.nodes)
        assert nodes == list(range(len(graph_of(traced).ops)))


def test_what_is_shown_first_is_readable_and_deeper_views_follow(traced: Trace) -> None:
    found, first = views(graph_of(traced), recurrent=bool(traced.recurrences))
    assert 3 <= len(found[first].boxes) <= READABLE
    assert all(len(view.boxes) <= MOST for view in found)
    counts = [len(view.boxes) for view in found if not view.folded]
    assert counts == sorted(counts)


def test_only_recurrence_leads_back(traced: Trace) -> None:
    for view in shown(traced):
        back = [link for link in view.links if link.back]
        assert bool(back) == (bool(traced.recurrences) and view.depth > 0)


def test_no_two_boxes_stand_in_one_place_and_links_go_right(traced: Trace) -> None:
    for view in shown(traced):
        at = places(view)
        assert len(set(at)) == len(at)
        for link in view.links:
            assert link.back or at[link.tail].x < at[link.head].x


def test_shares_of_a_box_add_up(traced: Trace) -> None:
    for view in shown(traced):
        total: dict[int, float] = {}
        for link in view.links:
            total[link.tail] = total.get(link.tail, 0.0) + link.share
        for tail, whole in total.items():
            # float32 shares; what comes back to a merged time step also comes from itself
            if not math.isnan(whole) and not traced.recurrences:
                assert whole == pytest.approx(1.0, abs=1e-4), view.boxes[tail].first


def test_the_level_of_a_box_is_that_of_what_it_hands_on(traced: Trace) -> None:
    graph = graph_of(traced)
    levels = {(layer.module, layer.call): layer.level_log10 for layer in traced.layers
              if layer.op is None}  # fmt: skip
    compared = 0
    for view in shown(traced):
        for box in view.boxes:
            key = (box.first.name, box.first.call)
            if box.things == box.calls == 1 and not box.first.op and key in levels:
                assert box.level_log10 == pytest.approx(levels[key], abs=1e-6)
                compared += 1
            if len(box.nodes) == 1:
                assert box.level_log10 == graph.levels_log10[box.nodes[0]]
    assert compared


def test_gains_of_boxes_and_merges_between_them_add_up() -> None:
    """In a chain nothing merges, so the gains alone do, at every depth and folded too."""
    graph = graph_of(plain(25))  # 250 layers of default weights end in exact zeros
    for view in (collapse(graph, 1, 12), collapse(graph, 1, 600), collapse(graph, 0, 7)):
        total = sum(box.gain_log10 or 0.0 for box in view.boxes)
        source, loss = graph.levels_log10[0], graph.levels_log10[-1]
        assert source is not None
        assert loss is not None
        assert total == pytest.approx(source - loss, abs=1e-4)


def test_a_deep_chain_is_folded_into_groups_of_even_size() -> None:
    view = collapse(graph_of(plain(250)), 1, READABLE)
    assert view.folded
    assert view.things == 502
    assert len(view.boxes) == READABLE
    assert {box.things for box in view.boxes} <= {10, 11}


def test_folding_splits_a_residual_network_between_blocks() -> None:
    view = collapse(graph_of(residual(60)), 2, 30)
    assert view.folded
    crossing = [sum(link.tail < cut <= link.head for link in view.links) for cut in range(1, 30)]
    assert crossing == [1] * 29


def test_the_main_path_runs_along_the_middle(traced: Trace) -> None:
    for view in shown(traced):
        at = places(view)
        lanes = [p.y for box, p in zip(view.boxes, at, strict=True) if box.on_main_path]
        assert lanes
        if not traced.recurrences:
            assert set(lanes) == {0}


def test_lines_pass_no_box(traced: Trace) -> None:
    for view in shown(traced):
        if len(view.boxes) > 100:
            continue
        at = places(view)
        taken: list[list[int]] = [[] for _ in range(1 + max(p.x for p in at))]
        for place in at:
            taken[place.x].append(place.y)
        for link in view.links:
            if link.back:
                continue
            points = curve(at[link.tail], at[link.head], taken)
            for x, y in points[1:-1]:
                near = [abs(y - lane) for lane in taken[round(x)] if abs(x - round(x)) < 0.2]
                inside = at[link.tail].x < round(x) < at[link.head].x
                assert not inside or not near or min(near) > 0.2


def test_a_recurrent_network_shows_each_module_once() -> None:
    torch.manual_seed(0)
    view = shown(NETS["recurrent"]())[0]
    calls = {box.first.name: box.calls for box in view.boxes if not box.first.op}
    assert calls == {"into": 12, "again": 12, "out": 1}


def test_hovering_tells_level_gain_and_factor() -> None:
    figure = figures.network(builders.vanishing().run.models[0].traces[0])
    assert figure is not None
    text = next(text for one in figure.data if one.visible and one.hovertext
                for text in one.hovertext if text.startswith("<b>net.1<"))  # fmt: skip
    assert (
        re.sub(r"<[^>]+>", "|", text)
        == "|net.1||Sigmoid|level −17.4|gain ×0.25 (−0.61)|slope −0.61"
    )


def test_the_menu_shows_one_view_at_a_time() -> None:
    torch.manual_seed(0)
    figure = figures.network(transformer())
    assert figure is not None
    (menu,) = figure.layout.updatemenus
    assert len(menu.buttons) >= 3
    shown_by = [button.args[0]["visible"] for button in menu.buttons]
    assert [sum(flags) for flags in zip(*shown_by, strict=True)] == [1] * len(figure.data)
    assert [one.visible for one in figure.data] == list(shown_by[menu.active])
    axes: Any = menu.buttons[menu.active].args[1]
    assert list(axes["xaxis.ticktext"]) == list(figure.layout.xaxis.ticktext)


def test_what_has_no_level_is_marked_and_the_figure_is_json() -> None:
    whole = builders.vanishing().run.models[0].traces[0]
    graph = graph_of(whole)
    levels = (None, -math.inf, math.nan, *graph.levels_log10[3:])
    figure = figures.network(replace(whole, graph=replace(graph, levels_log10=levels)))
    assert figure is not None
    names = {one.name for one in figure.data if one.visible}
    assert {"exactly zero", "not finite", "no signal came back"} <= names
    json.dumps(figure.to_plotly_json(), allow_nan=False)


def test_without_a_graph_there_is_no_picture() -> None:
    whole = builders.vanishing().run.models[0].traces[0]
    assert figures.network(replace(whole, graph=None)) is None


def test_joint_levels() -> None:
    assert joint([0.0, 0.0]) == pytest.approx(0.5 * math.log10(2))
    assert joint([-400.0, -math.inf, None]) == -400.0
    assert joint([None]) is None
    assert math.isnan(joint([1.0, math.nan]) or 0.0)
