"""Write docs/theory.md: `python docs/write_theory_page.py`.

Every number on the page is computed here, or read from a result file of a benchmark.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from unvanish.i18n import speaking
from unvanish.meanfield import layers, named
from unvanish.meanfield.batchnorm import batch_norm
from unvanish.meanfield.critical import criticality
from unvanish.meanfield.depth import propagate
from unvanish.meanfield.facade import gain
from unvanish.meanfield.maps import Layer, fixed_point
from unvanish.meanfield.recurrent import recurrent_step

HERE = Path(__file__).parent
PAGE = HERE / "theory.md"
RESULTS = HERE.parent / "benchmarks" / "results"
SHOWN = ("linear", "relu", "leaky_relu(0.2)", "tanh", "erf", "elu", "gelu", "silu", "mish")
SHOWN += ("sigmoid", "softplus")
KINDS = {
    "scale_invariant": "every length",
    "q_to_zero": "only q → 0 (degenerate)",
    "isolated": "one",
    "none": "none",
}

TEXT = """\
# What the theory predicts, and what it cannot

Mean-field theory says what a wide network does to its signal and its gradient before training,
from three things: the activation, the sizes of weights and biases, and the norms between them.
Unvanish uses it twice: `unvanish theory` (and `unvanish.gain`, `critical`, `theory` in Python)
answers for an activation; and every trace of a network carries a prediction beside each measured
gain. This page is written by `python docs/write_theory_page.py`: its numbers are computed there, or
come from the result files of `make bench-prediction`, `bench-boundary` and `bench-theory`.

## One layer

z' = W φ(z) + b, with W from N(0, σ_w²/fan_in) and b from N(0, σ_b²), all independent. For infinite
width z is Gaussian with variance q, and three maps say all (Poole et al. 2016; Schoenholz et al.
2017), E being over z from N(0, q):

| map | formula | what it says |
|---|---|---|
| length | q' = σ_w² E φ² + σ_b² | whether the signal keeps its size; χ∥ = dq'/dq |
| correlation | c' = (σ_w² E φ(z₁)φ(z₂) + σ_b²)/q' | whether two samples stay apart |
| gradient | χ₁ = σ_w² E φ'² | the factor of the gradient's squared norm, whatever the fan-out |

χ₁ < 1 is *ordered* (gradients vanish), χ₁ > 1 *chaotic* (they grow), χ₁ = 1 *critical*. Layers
settle at the fixed point q* of the length map; correlations come nearer to theirs by e in
ξ_c = −1/log(dc'/dc) layers, and networks are found to train to about 6 ξ_c.

Expectations are composite Gauss–Legendre sums, cut at the kinks of φ: to a relative 1e-12 for
√q from 1e-3 to 1e3. (Plain Gauss–Hermite is off by 5 % for a saturated tanh.)

### Activations

`unvanish theory gelu`. Forward gain: σ_w that keeps q = 1; backward gain: σ_w with χ₁ = 1 there.

{activations}

A critical point keeps lengths *and* gradients. For φ(0) = 0 there is one with a bias at every
length; without a bias only the ReLU family has one at finite length. An activation whose mean is
not 0 makes samples alike even at a critical point (the sigmoid trains badly at its own): a bias of
−E φ times the row sums of W makes it φ − E φ.

Names, torch functions and modules with their parameters, and any element-wise Python function of a
tensor will do: `unvanish theory torch.nn.Mish`, `unvanish theory mine.py:act`. Kinks are given
(`unvanish.theory(f, kinks=[0.0])`) or found by bisection within [−40, 40].

## Layers beyond the plain one

Factors of the *squared* norm of the gradient, from the layer's output to its input. Each comes from
a function that also states its assumptions (`Rate.assumptions`) and its source.

{rates}

Bias: adds σ_b² to the length, nothing to χ₁. Rectangular layers: in Frobenius norm nothing changes;
per element, the factor is multiplied by fan_out/fan_in. Deep kernel shaping and tailored
activations (`unvanish.meanfield.shaping`: Martens et al. 2021; Zhang, Botev & Martens 2022) choose
γ (φ(αx + β) + δ) such that these maps stay healthy over a given depth, and fold the four numbers
into weights and biases.

## From one layer to a network

`unvanish theory sigmoid --depth 20 --width 64` goes layer by layer: q by the length map from the
first pre-activations, log χ₁ added up. With PyTorch's default weights (σ_w² = 1/3) a sigmoid layer
multiplies the gradient by {sigmoid}.

At width n that is the median over random weights but for

- **spread**: ln ‖J‖² has variance Σ (3κ − 1)/n, κ = E φ'⁴/(E φ'²)²: 2/n a linear layer, 5/n a ReLU
  layer (Hanin & Nica 2020), and more where fluctuations of the length change later slopes (to first
  order, `depth.log_variances`);
- **the median**: half that variance below the logarithm of the mean;
- **the batch**: the norm of a batch's gradient averages part of the spread away. Weights add
  2/n · Σ pᵢpⱼρᵢⱼ² over pairs of samples with gradients of correlation ρ, one over the participation
  ratio; slopes add less the less alike the samples are. The correlations at the network's output
  are measured; behind each layer they shrink by E φ'φ'(c)/E φ'², and stay at least 1/n.

The interval shown is ±1.645 of these standard deviations: nine of ten networks.

**∏ χ∥** (as `amplification_log10`, relative to the lengths) says how much a small error of the
first length has grown. Where it exceeds ten, or where lengths wander so far that first order is not
enough, the prediction is flagged.

## Predicted beside measured

`unvanish check FILE.py:make`, `unvanish run train.py`: the table has a column *theory*, a sentence
compares the whole, the page has a picture, and the JSON has `predictions` ([json.md](json.md)). The
structure is read off the autograd graph; weights are only read. Sizes of weights, biases and norms
and the length of the first pre-activations are measured; everything behind is predicted.

Known: linear layers, convolutions (with the share of taps that zero padding leaves), activations,
LayerNorm, RMSNorm, GroupNorm, BatchNorm by its batch, dropout, constants, pooling without overlap,
and sums of branches whose ends have weights of their own.

{measured}

### Where the flag is set

| because | instead |
|---|---|
| the weights were trained: theory is of random ones | measure: what is off, training did |
| weights with a mean, or with rows that look alike | draw them anew |
| attention, products of two signals (gates) | measure: they follow their input |
| the same weights again (recurrence) | the Lyapunov exponent, by QR (`meanfield.recurrent`) |
| an activation not known by name, or whose input is not Gaussian | `unvanish.theory` on it |
| max pooling behind an activation: it picks the greatest, where slopes are greatest | measure |
| BatchNorm before GELU, SiLU, softplus: samples' lengths part | measure |
| lengths run away (∏ χ∥) or wander at this width | a smaller σ_w, more width, a norm |

## How deep it trains

{boundary}

Depth 90 is not counted: depth over width is about 1 there, and no network trains within the budget,
not even at σ_w² = 1.75. 6 ξ_c infinite (a critical point) does not promise any depth: samples may
still become alike like 1/depth², and finite width adds its noise.

## What it cannot say

- Anything after training, and how fast training goes. It is about the start.
- Narrow networks: width 8 is not wide. The interval grows as it should, its shape is then not
  log-normal any more.
- Structure in the data beyond lengths and mean correlation: BatchNorm's first layers and images are
  not what theory idealises; there it is off by some percent a layer.
- Correlations between the forward and the backward signal, which are of the order 1/n.
- Attention, gates and recurrence beyond their start.

## Sources

Poole et al. 2016 (arXiv 1606.05340); Schoenholz et al. 2017 (1611.01232); Hayou et al. 2019
(1902.06853) and 2021 (2010.12859); Xiao et al. 2018 (1806.05393); Yang & Schoenholz 2017
(1712.08969); Yang et al. 2019 (1902.08129); Hanin & Nica 2020 (1812.05994); Chen, Pennington &
Schoenholz 2018 (1806.05394); Engelken, Wolf & Abbott 2023 (2006.02427); Noci et al. 2022
(2206.03126); Martens et al. 2021 (2110.01765); Zhang, Botev & Martens 2022 (2203.08120); Cho & Saul
2009; Williams 1997.
"""


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table."""
    lines = [list(heads), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def activations() -> str:
    """Return gains and critical points of the best-known activations."""
    rows = []
    for name in SHOWN:
        found = criticality(named(name))
        sigma_w = "–" if found.sigma_w is None else f"{found.sigma_w:.6g}"
        rows.append(
            [
                f"`{name}`",
                f"{gain(name):.6g}",
                f"{gain(name, 'backward'):.6g}",
                KINDS[found.kind],
                sigma_w,
                f"{fixed_point(Layer(named(name), 3.0**-0.5)).chi_1 ** 0.5:.3g}",
            ]
        )
    heads = ["activation", "forward gain", "backward gain", "critical points without bias", "σ_w"]
    return table([*heads, "PyTorch's default, a layer"], rows)


def rates() -> str:
    """Return the rates of the layers, with where each comes from."""
    tanh, relu = named("tanh"), named("relu")
    dense = layers.dense(Layer(tanh, 1.0, 0.2), 1.0)
    found = [
        ("σ_w² E φ'²", dense),
        ("1/keep", layers.dropout(0.9)),
        ("skip² + scale² · branch", layers.residual(dense, branch_scale=0.5)),
        ("E φ'²/E φ² at q = 1", layers.norm_before(tanh)),
        ("q E φ'²/E φ²", layers.norm_after(tanh, centred=False)),
        ("q E φ'²/Var φ", layers.norm_after(relu, centred=True)),
        ("E φ'²/Var φ, many samples", batch_norm(relu)),
        ("by batch size", batch_norm(relu, 16)),
        ("1/window", layers.average_pool(4)),
        ("1", layers.max_pool(4)),
        ("σ_w² · share of taps inside", layers.convolution(1.0, (3, 3), (8, 8))),
        ("value path", layers.attention(128, gradient_correlation=0.3)),
        ("a time step", recurrent_step(tanh, 1.0, 0.2)),
    ]
    rows = [
        [rate.name, formula, f"{rate.backward or math.nan:.4g}", rate.assumptions, rate.source]
        for formula, rate in found
    ]
    return table(["layer", "factor", "here", "assumes", "source"], rows)


def result(name: str) -> dict[str, Any]:
    """Return a benchmark's result file."""
    loaded: dict[str, Any] = json.loads((RESULTS / name).read_text("utf-8"))
    return loaded


def measured() -> str:
    """Return how predictions compare with measured networks."""
    found, theory = result("prediction.json"), result("theory.json")
    nets, cost = found["plain_networks"], found["cost_of_200_layers"]
    rows = [
        [
            name,
            f"×{row['measured']:.4g}",
            f"×{row['theory']:.4g}",
            f"{row['ratio']:.3f}",
            "measure, do not predict" if row["flagged"] else "",
        ]
        for name, row in found["rates_at_width_512"].items()
    ]
    return "\n".join(
        [
            f"`make bench-prediction`: of {nets['networks']} plain networks (nine activations, five"
            f" initialisations, four depths, four widths, digits) theory flags {nets['flagged']};",
            f"{100 * nets['inside_the_interval']:.1f} % of the others lie in their 90 % interval"
            f" ({100 * nets['inside_with_flagged']:.1f} % with the flagged ones). The median error"
            " of the",
            f"log-gain is {nets['median_error_decades_a_layer']:.4f} decades a layer. Predicting a"
            f" trace of 200 layers takes {cost['first_ms']:.0f} ms the first time, then"
            f" {cost['later_ms']:.0f} ms.",
            f"The whole theory of any one activation takes at most {theory['greatest_ms']:.0f} ms"
            " (`make bench-theory`).",
            "",
            "Gain of the norm a layer at width 512, as slopes of straight lines over the depth:",
            "",
            table(["network", "measured", "theory", "ratio", ""], rows),
        ]
    )


def boundary() -> str:
    """Return the tanh boundary of the result file."""
    found = result("boundary.json")
    heads = ["σ_w²", *found["boundary"]]
    rows = [["6 ξ_c", *(f"{depth:g}" for depth in found["boundary"].values())]]
    for depth, row in found["accuracy"].items():
        cells = [f"{100 * accuracy:.0f} %" for accuracy in row.values()]
        marked = [
            f"**{cell}**" if int(depth) <= limit else cell
            for cell, limit in zip(cells, found["boundary"].values(), strict=True)
        ]
        rows.append([f"depth {depth}", *marked])
    return "\n".join(
        [
            f"`make bench-boundary`: {found['setting']}, {found['steps']} steps, the best of"
            f" {len(found['learning_rates'])} learning rates; held-out",
            "accuracy, bold where depth ≤ 6 ξ_c. The criterion calls"
            f" {found['right']} of {found['cells']} cells right (trained: at least"
            f" {100 * found['trains_from_accuracy']:.0f} %).",
            "",
            table(heads, rows),
        ]
    )


def page() -> str:
    """Return the page's text, in English."""
    sigmoid = propagate(Layer(named("sigmoid"), 3.0**-0.5), 6).gains_log10[-1]
    with speaking("en"):
        return TEXT.format(
            activations=activations(),
            rates=rates(),
            sigmoid=f"×{10.0**sigmoid:.3f}",
            measured=measured(),
            boundary=boundary(),
        )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
