"""DU101: dead units.

## What it finds

A layer of rectifiers (ReLU and its kin) all or nearly all of whose units are off for every sample
seen, or more of whose units than chance explains. Named is the culprit: the first dead layer in
forward order, not the layers in front of it that starve, nor those behind it that idle. Also a
vanishing signal a large share of which is lost because more than half of a layer is off.

## Why it matters

A unit that is off for every sample passes no gradient, so nothing moves its weights: it stays off.
A whole layer of them cuts the network in two.

## Known problems

A ReLU that is off for half of its inputs is healthy, and so are some dead units in a wide layer:
deep in a network whose samples look alike, half of the units are off for all samples. Only a share
that this cannot explain counts, and in a training that works only whole layers do. Few samples say
little.

## Example

    optimizer = torch.optim.Adam(net.parameters(), lr=0.3)   # one step drives all units negative

## Cure

A smaller learning rate, or warm-up, if they died during training. Leaky ReLU, ELU or GELU, which
have a slope on both sides. He weights with zero or slightly positive biases; inputs that are not
all zero; more units, where a layer is narrow.

## References

- Maas, Hannun, Ng 2013, Rectifier nonlinearities improve neural network acoustic models.
- Lu et al. 2019, Dying ReLU and initialization, arXiv 1903.06733.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.dead import DeadLayer, dead_layers
from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.trunk_findings import trunk_finding
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, Severity, Where

_EXPLAINS = (
    *("VG101", "VG102", "VG103", "VG104", "VG105", "VG106"),
    *("FS101", "FS104", "UR101", "CG103"),
)


def check(view: View) -> Sequence[Finding]:
    """Fire for the culprit among the dead layers, or where units that are off lose the signal."""
    dead = dead_layers(view)
    if dead:
        culprit = dead[0]
        alike = [layer for layer in dead if layer.whole] if culprit.whole else dead
        severity = _severity(view, culprit)
        if severity != "info":
            return [_finding(view, culprit, severity, len(alike))]
    remedy = _remedy(since_start=True)
    return trunk_finding(view, "vanishing", "off", remedy, verdict="dead-units")


def _severity(view: View, layer: DeadLayer) -> Severity:
    if view.training.not_working or (layer.share == 1 and layer.row.on_main_path):
        return "error"  # nothing in front of a wholly dead layer learns, even if the loss falls
    return "info" if view.training.works and not view.training.rests_high else "warning"


def _finding(view: View, layer: DeadLayer, severity: Severity, count: int) -> Finding:
    row = layer.row
    if layer.units is None:
        title = _("All units of {where} are off for every sample{since}{others}.")
    elif layer.alive == 0:
        title = _("All {units} units of {where} are off for every sample{since}{others}.")
    else:
        title = _("{dead} of {units} units of {where} are off for every sample{since}{others}.")
    since = "" if layer.since_start else _(" from step {step} on").format(step=layer.first_step)
    others = _(" ({count} dead layers in all)").format(count=count)
    return Finding(
        code="DU101",
        family="DU",
        verdict="dead-units",
        severity=severity,
        title=title.format(
            dead=(layer.units or 0) - layer.alive,
            units=layer.units,
            where=place(row.module),
            since=since,
            others=others if count > 1 else "",
        ),
        where=Where(row.module, row.op, row.call, row.source),
        factor="slope",
        evidence=(
            Evidence("dead_share", layer.share, view.limit("dead-mostly")),
            Evidence("units_alive", float(layer.alive), view.limit("dead-few-alive")),
            Evidence("dead_layers", float(count)),
            Evidence("training", view.training.state),
        ),
        remedy=_remedy(since_start=layer.since_start),
        model=view.model.name,
        step=layer.first_step,
        explains=_EXPLAINS,
    )


def _remedy(*, since_start: bool) -> str:
    if since_start:
        return _(
            "Use He weights with biases at or above 0 and inputs that are not all zero; or an"
            " activation with a slope on both sides (leaky ReLU, GELU); or more units."
        )
    return _(
        "Training drove them there: lower the learning rate or warm it up; or use an activation"
        " with a slope on both sides (leaky ReLU, GELU)."
    )


RULE = Rule(
    code="DU101",
    verdict="dead-units",
    title="dead units",
    check=check,
    documentation=__doc__,
    thresholds=(
        "dead-mostly",
        "dead-chance",
        "dead-min-samples",
        "dead-few-alive",
        "contribution-share",
    ),
)
