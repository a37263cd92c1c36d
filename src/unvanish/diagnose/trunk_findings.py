"""From a sick trunk to findings: what the rules of the families VG and EG say in common."""

from __future__ import annotations

import math

from unvanish.diagnose.sickness import CODES, Direction, Sickness
from unvanish.diagnose.trunk import Part, TrunkEdge, flat_share, is_rectifier
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Factor, Finding, Verdict, Where

_FACTORS: dict[Part, Factor] = {"saturation": "slope", "off": "slope"}  # others: the part itself
_ABOUT_ONE = 0.05  # a reference this near to 1 needs no mention


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
    # Steps follow from the gradients; and where weights are too small, samples collapse as well.
    others += ["UR101", "FS101"] if direction == "vanishing" else ["UR101"]
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


def later_nonfinite(view: View, direction: Direction, step: int) -> list[str]:
    """Return the code of what comes of an explosion, if numbers went bad after `step`."""
    bad = view.nonfinite_step
    return ["NF101"] if direction == "exploding" and bad is not None and step < bad else []


def times(factor: float) -> str:
    """Write a factor with two digits: ×0.14, ×3.2, ×2.5e+06."""
    return f"×{factor:.2g}"


def power(decades: float) -> str:
    """Write decades as a power of ten that a reader can place: 10^-16.9, or 0."""
    return "0" if decades == -math.inf else f"10^{decades:.1f}"


def place(module: str | None) -> str:
    """Name a module in a sentence."""
    if module is None:
        return _("a part without a module")
    return f"`{module}`" if module else _("the model itself")


def part_name(part: Part, layer_activation: str | None = None) -> str:
    """Name a part in a sentence; the activation's name where one is known."""
    names = {
        "slope": _("slope of the activation"),
        "saturation": _("saturated units"),
        "off": _("units that are off"),
        "weight": _("weights"),
        "norm": _("normalisation"),
        "attention": _("attention"),
        "gate": _("gates"),
        "merge": _("sums of branches"),
        "opaque": _("fused ops"),
    }
    if part == "slope" and layer_activation:
        return _("slope of the {activation}").format(activation=layer_activation)
    return names.get(part, part)


def _activation(item: TrunkEdge) -> str | None:
    return item.layer.activation if item.layer else None


def _named(sick: Sickness, part: Part) -> str:
    if math.isinf(sick.parts[part]):
        return part_name(part, _activation(sick.worst(part)))
    return _("{name} {share:.0%} ({gain})").format(
        name=part_name(part, _activation(sick.worst(part))),
        share=sick.share(part),
        gain=_each(sick, part),
    )


def _each(sick: Sickness, part: Part) -> str:
    """The mean gain of a part's ops, beside what would keep the signal if that is not 1."""
    gain, needed = sick.gain(part), sick.needed(part)
    if abs(needed - 1) < _ABOUT_ONE:
        return _("{gain} each").format(gain=times(gain))
    return _("{gain} each, {needed} keeps it").format(gain=times(gain), needed=times(needed))


def _headline(sick: Sickness) -> str:
    trunk = sick.trunk
    parts = list(sick.parts)[:3]
    split = ", ".join(_named(sick, part) for part in parts if sick.share(part) >= 0.05)
    if math.isinf(sick.decades):
        text = _("The backward signal stops at {where}: {split}.")
        return text.format(where=place(sick.worst(sick.leader).edge.module), split=split)
    if sick.direction == "vanishing":
        text = _(
            "The backward signal shrinks {per_layer} a layer over {layers} layers, to {ratio} at"
            " {where}: {split}."
        )
    else:
        text = _(
            "The backward signal grows {per_layer} a layer over {layers} layers, to {ratio} at"
            " {where}: {split}."
        )
    return text.format(
        per_layer=times(trunk.per_layer),
        layers=trunk.layers,
        ratio=power(trunk.ratio_in_space),
        where=place(trunk.path.source_module),
        split=split,
    )


def _addition(sick: Sickness, part: Part) -> str:
    text = _("Of this, {share:.0%} is due to the {name} ({gain}; most at {where}).")
    worst = sick.worst(part)
    return text.format(
        share=sick.share(part),
        name=part_name(part, _activation(worst)),
        gain=_each(sick, part),
        where=place(worst.edge.module),
    )


def _evidence(view: View, sick: Sickness, part: Part, worst: TrunkEdge) -> tuple[Evidence, ...]:
    sign = -1 if sick.direction == "vanishing" else 1
    trunk = sick.trunk
    limit = sign * view.limit(f"{sick.direction}-clear")
    rows = [
        Evidence("trunk_ratio_log10", trunk.ratio, limit),
        Evidence("gain_per_layer", trunk.per_layer),
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
