"""FS102: graph convolutions have made all nodes alike.

## What it finds

Layers that mix the samples (nodes) with fixed weights, such as the product with an adjacency matrix
or sums over neighbours, after which the nodes look more alike from layer to layer, until they
cannot be told apart (mean cosine near 1), while training does not work.

## Why it matters

Each averaging over neighbours takes away what is different about a node: after some layers only the
mean is left (for a connected graph the limit depends on the degrees alone). Nothing can be learnt
from nodes that are all the same, whatever the size of the gradient.

## Known problems

Node features that are all positive have a large cosine from the start: the rule asks for it to grow
over the layers by at least half of what was missing to 1. Only a training that does not work is
judged; a few graph layers smooth on purpose.

## Example

    for layer in layers:                        # 32 of them
        x = torch.relu(adjacency @ layer(x))    # normalised: rows sum to 1

## Cure

Fewer layers; skips from each layer (GCNII, jumping knowledge); PairNorm or a normalisation over the
nodes; dropping edges.

## References

- Li, Han, Wu 2018, Deeper insights into graph convolutional networks, arXiv 1801.07606.
- Oono, Suzuki 2020, Graph neural networks exponentially lose expressive power, arXiv 1905.10947.
"""

from __future__ import annotations

from collections.abc import Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.sickness import CODES
from unvanish.diagnose.view import TraceView, View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, LayerSignal, Where

_SUMS = ("IndexAdd", "ScatterAdd", "ScatterReduce", "SegmentReduce", "SparseAddmm", "SparseMm")
_PRODUCTS = ("Mm", "Bmm", "Addmm", "Mv", "Spmm")  # of data with a constant


def check(view: View) -> Sequence[Finding]:
    """Fire if layers that mix the nodes make them alike, and training does not work."""
    if not view.training.not_working:
        return []
    seen = [(trace, found) for trace in view.traces if (found := _smoothed(trace, view))]
    if not seen or len(seen) < min(2, len(view.traces)):
        return []
    trace, (first, row, mixings) = seen[0]
    before, after = first.sample_correlation or 0.0, row.sample_correlation or 0.0
    title = _(
        "{count} layers average over neighbours, and make all nodes alike: mean cosine"
        " {before:.3f} in {first}, {after:.4f} in {where} (over-smoothing)."
    )
    return [
        Finding(
            code="FS102",
            family="FS",
            verdict="forward-collapse",
            severity="error",
            title=title.format(
                count=mixings,
                before=before,
                first=place(first.module),
                after=after,
                where=place(row.module),
            ),
            where=Where(row.module, row.op, row.call, row.source),
            factor=None,
            evidence=(
                Evidence("sample_correlation", after, view.limit("collapsed-cosine")),
                Evidence("sample_correlation_first", before),
                Evidence("mixing_layers", float(mixings), view.limit("mixing-layers")),
                Evidence("training", view.training.state),
            ),
            remedy=_("Use fewer layers, skips from each of them, or PairNorm between them."),
            model=view.model.name,
            step=trace.step,
            # Fixed averages pass less and less back, too; the weights are not to blame for that.
            explains=("FS101", "FS104", "UR101", *dict.fromkeys(CODES["vanishing"].values())),
        )
    ]


def _smoothed(trace: TraceView, view: View) -> tuple[LayerSignal, LayerSignal, int] | None:
    """The first layer, the one that is alike, and how many ops mix samples; None if not so."""
    mixings = sum(_mixes(gain.op, gain.factor) for gain in trace.trace.ops)
    if mixings < view.limit("mixing-layers"):
        return None
    rows = [row for row in trace.trace.layers if row.sample_correlation is not None]
    if len(rows) < 2:
        return None
    first, missing = rows[0], 1 - (rows[0].sample_correlation or 0.0)
    for row in rows[1:]:
        cosine = row.sample_correlation or 0.0
        if cosine >= view.limit("collapsed-cosine") and 1 - cosine <= missing / 2:
            return first, row, mixings
    return None


def _mixes(op: str, factor: str) -> bool:
    name = op.partition("Backward")[0]
    return name in _SUMS or (name in _PRODUCTS and factor == "scale")


RULE = Rule(
    code="FS102",
    verdict="forward-collapse",
    title="graph convolutions have made all nodes alike",
    check=check,
    documentation=__doc__,
    thresholds=("collapsed-cosine", "mixing-layers"),
)
