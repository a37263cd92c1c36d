"""From a sick trunk to findings: what the rules of the families VG and EG say in common."""

from __future__ import annotations

import math

from unvanish.diagnose.dead import dead_layers
from unvanish.diagnose.phrases import linear, part_name, place
from unvanish.diagnose.sickness import CODES, Direction, Sickness, error_from, middling
from unvanish.diagnose.trunk import Part, TrunkEdge, flat_share, is_rectifier
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Factor, Finding, Verdict, Where
from unvanish.words import percent, times

_FACTORS: dict[Part, Factor] = {"saturation": "slope", "off": "slope"}  # others: the part itself
_ABOUT_ONE = 0.02  # decades: a reference this near to 1 needs no mention


def trunk_finding(
    view: View, direction: Direction, part: Part, remedy: str, *, verdict: Verdict | None = None
) -> list[Finding]:
    """Return the finding that `part` weakens or blows up the signal, if it has a share in that.

    The part with the greatest share carries the whole picture in its title, and claims the rules
    of the other parts; those say what they add.
    """
    sick = view.vanishing if direction == "vanishing" else view.exploding
    if sick is None or sick.share(part) < view.limit("contribution-share"):
        return []
    code = CODES[direction][part]
    leads = sick.leader == part
    worst = sick.worst(part)
    edge = worst.edge
    others = [each for each in CODES[direction].values() if each != code]
    others += later_nonfinite(view, direction, sick.first_step)
    opposite: Direction = "exploding" if direction == "vanishing" else "vanishing"
    after = view.exploding if direction == "vanishing" else view.vanishing
    if after is not None and after.first_step > sick.first_step:
        others += CODES[opposite].values()
    # Steps follow from the gradients, and weights change the signal in both directions.
    others += ["UR101", "UR106", "FS103", *(_consequences(view, sick) if leads else ())]
    if direction == "vanishing" and middling(view, sick) and _dead_end(view):
        others = [each for each in others if each != "DU101"]
    factor: Factor = _FACTORS.get(part, part)  # type: ignore[arg-type]  # "shown" has no rule
    return [
        Finding(
            code=code,
            family=code[:2],
            verdict=verdict or direction,
            severity=sick.severity,
            title=_headline(sick) if leads else _addition(sick, part),
            where=Where(edge.module, edge.op, edge.call, view.source(edge.module)),
            factor=factor,
            evidence=_evidence(view, sick, part, worst),
            remedy=remedy,
            model=view.model.name,
            step=sick.first_step,
            explains=tuple(dict.fromkeys(others)) if leads else (),
        )
    ]


def _consequences(view: View, sick: Sickness) -> list[str]:
    if sick.direction == "exploding":
        return ["EG106", *_wreckage(view, sick)]
    # Where weights are too small, samples collapse as well; of units off, what came first leads.
    return ["FS104"] if middling(view, sick) and sick.leader != "off" else ["FS104", "FS101"]


def _dead_end(view: View) -> bool:
    """Whether a layer on the trunk is dead from end to end, which stops training by itself."""
    return any(layer.share == 1 and layer.row.on_main_path for layer in dead_layers(view))


def _wreckage(view: View, sick: Sickness) -> list[str]:
    """Return the codes of what an explosion that was there from the start did to the network."""
    first = view.traces[0].step
    if view.training.state != "diverging" or sick.first_step > first:
        return []
    dead = dead_layers(view)
    return ["FS101", *(["DU101"] if dead and dead[0].first_step > first else [])]


def later_nonfinite(view: View, direction: Direction, step: int) -> list[str]:
    """Return the code of what comes of an explosion, if numbers went bad after `step`."""
    bad = view.nonfinite_step
    return ["NF101"] if direction == "exploding" and bad is not None and step < bad else []


def _activation(item: TrunkEdge) -> str | None:
    return item.layer.activation if item.layer else None


def _named(sick: Sickness, part: Part) -> str:
    if math.isinf(sick.parts[part]):
        return part_name(part, _activation(sick.worst(part)))
    return _("{name} {share} ({gain})").format(
        name=part_name(part, _activation(sick.worst(part))),
        share=percent(sick.share(part)),
        gain=_each(sick, part),
    )


def _each(sick: Sickness, part: Part) -> str:
    """The mean gain of a part's ops, beside what would keep the signal if that is not 1."""
    gain, needed = sick.gain_log10(part), sick.needed_log10(part)
    if abs(needed) < _ABOUT_ONE:
        return _("{gain} each").format(gain=times(gain))
    return _("{gain} each, {needed} keeps it").format(gain=times(gain), needed=times(needed))


def _headline(sick: Sickness) -> str:
    trunk = sick.trunk
    parts = list(sick.parts)[:3]
    split = _(", ").join(_named(sick, part) for part in parts if sick.share(part) >= 0.05)
    if math.isinf(sick.decades):
        text = _("The backward signal stops at {where}: {split}.")
        return text.format(where=place(sick.worst(sick.leader).edge.module), split=split)
    if sick.direction == "vanishing":
        text = _(
            "The backward signal shrinks {per_layer} a layer over {layers} layers ({ratio} in all,"
            " down to {where}): {split}."
        )
    else:
        text = _(
            "The backward signal grows {per_layer} a layer over {layers} layers ({ratio} in all,"
            " down to {where}): {split}."
        )
    return text.format(
        per_layer=times(trunk.per_layer_log10),
        layers=trunk.layers,
        ratio=times(trunk.ratio_in_space),
        where=place(trunk.path.source_module),
        split=split,
    )


def _addition(sick: Sickness, part: Part) -> str:
    text = _("Of this, {share} is due to the {name} ({gain}; most at {where}).")
    worst = sick.worst(part)
    return text.format(
        share=percent(sick.share(part)),
        name=part_name(part, _activation(worst)),
        gain=_each(sick, part),
        where=place(worst.edge.module),
    )


def _evidence(view: View, sick: Sickness, part: Part, worst: TrunkEdge) -> tuple[Evidence, ...]:
    sign = -1 if sick.direction == "vanishing" else 1
    trunk = sick.trunk
    judged = sick.severity == "error"
    limit = error_from(sick.direction, view) if judged else view.limit(f"{sick.direction}-clear")
    rows = [
        Evidence("trunk_ratio_log10", trunk.ratio, sign * limit),
        Evidence("gain_per_layer", linear(trunk.per_layer_log10)),
        Evidence("layers", float(trunk.layers)),
        Evidence("share", sick.share(part), view.limit("contribution-share")),
    ]
    rows += [
        Evidence(f"{name}_log10", sign * decades)
        for name, decades in sick.parts.items()
        if sick.share(name) >= 0.05
    ]
    layer = worst.layer
    if part == "saturation" and layer is not None:
        rows.append(Evidence("flat_share", flat_share(layer), view.limit("saturated-layer")))
    if part == "off" and layer is not None and is_rectifier(layer, None):
        rows.append(Evidence("off_share", layer.off_share or 0.0))
    rows.append(Evidence("training", view.training.state))
    return tuple(rows)
