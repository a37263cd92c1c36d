"""Every number that a verdict depends on: one table, each with its reason, each configurable.

Change one in pyproject.toml:

    [tool.unvanish.thresholds]
    vanishing-clear = 3.0

Decades are factors of ten: a signal that has lost 2.7 decades stands at 10^-2.7, or 0.2 %.
"Measured" figures come from 68 small re-creations of public cases of sick and healthy training and
from 80 image models at initialisation (median over seeds, CPU, float32).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from unvanish.i18n import translate_text


@dataclass(frozen=True, slots=True)
class Threshold:
    """A named number, what it means, and why it has this value."""

    name: str
    value: float
    unit: str
    meaning: str
    why: str


TEXTS = ("unit", "meaning", "why")  # the fields that are words

_TABLE = (
    Threshold(
        "vanishing-mild",
        1.4,
        "decades",
        "Loss over the trunk above which a training that is stuck is put down to vanishing.",
        "Healthy nets keep 0.08 or more from the last to the first weight op at the start"
        " (1.1 decades lost); this is a factor of two beyond, just below the 1.5 decades of five"
        " ReLU layers with half of He's weights.",
    ),
    Threshold(
        "vanishing-clear",
        2.7,
        "decades",
        "Loss over the trunk that counts as vanishing whatever training does.",
        "Every vanishing net measured stood at 2e-3 or below. It is also where default nets stop"
        " training under SGD with momentum: sigmoid at depth 3 (2.5 decades), tanh at 10 (2.5),"
        " ReLU at 5 (1.9), GELU at 5 (2.7).",
    ),
    Threshold(
        "vanishing-hopeless",
        5.4,
        "decades",
        "Loss over the trunk that is an error even while the loss is falling.",
        "Twice the clear loss: the layers in front get so little that only those behind learn.",
    ),
    Threshold(
        "exploding-mild",
        1.3,
        "decades",
        "Growth over the trunk above which a training that is stuck is put down to exploding.",
        "Healthy nets measured at most 5 (0.7 decades) at the start; this is a factor four beyond.",
    ),
    Threshold(
        "exploding-clear",
        2.3,
        "decades",
        "Growth over the trunk that counts as exploding whatever training does.",
        "Every exploding net measured stood at 200 or above.",
    ),
    Threshold(
        "exploding-hopeless",
        4.6,
        "decades",
        "Growth over the trunk that is an error even while the loss is falling.",
        "Twice the clear growth.",
    ),
    Threshold(
        "exploding-norm-allowance",
        0.13,
        "decades a normalisation",
        "Growth by normalisation that is by design, and is not counted as exploding.",
        "BatchNorm before ReLU multiplies the norm by 1.21 a layer for large batches (theory and"
        " measurement agree within 1 %) and by 1.34 at batch size 8, which is this number. Image"
        " models without skips stand at 200 to 800 at the start and train.",
    ),
    Threshold(
        "norm-growth-limit",
        6.0,
        "decades",
        "Growth over the trunk beyond which growth by normalisation is no longer excused.",
        "By the theory (x1.21 a layer) 72 layers of BatchNorm without skips; plain BatchNorm nets"
        " of more than about 50 layers no longer train (Yang et al. 2019).",
    ),
    Threshold(
        "norm-growth-limit-stuck",
        3.0,
        "decades",
        "The same where training does not work, or the loss has not come down to half.",
        "Image models without skips reach 2.9 and train. Plain BatchNorm nets, measured at batches"
        " of 16 and 64: 2.6 (30 layers) still learn, 3.5 (40 layers) and more stay near chance.",
    ),
    Threshold(
        "adaptive-factor",
        2.0,
        "",
        "How many times more decades an optimiser that rescales (Adam, RMSprop) copes with.",
        "Measured on default nets of five activations: Adam hides one doubling of depth"
        " (trains at 10 layers where SGD does at 5), and no more.",
    ),
    Threshold(
        "contribution-share",
        0.2,
        "",
        "Share of the whole loss or growth from which a factor is named.",
        "Smaller shares are within what the draw of the weights moves at width 64 and depth 10.",
    ),
    Threshold(
        "saturated-layer",
        0.5,
        "",
        "Share of saturated unit-sample pairs from which a layer's slope is put down to"
        " saturation, not to the activation's nature.",
        "A sigmoid at the usual scale has under 1 percent of its pairs at |z| > 4; half of them"
        " there means that most of the layer answers to nothing.",
    ),
    Threshold(
        "saturated-throughout",
        0.9,
        "",
        "Share of flat unit-sample pairs of the first activation, at every traced step, from which"
        " inputs that are not scaled are a fault whatever the signal's size.",
        "Inputs of thousands measure 0.98 to 1. A physics-informed net with steep first weights on"
        " inputs of order 1 measures 0.82, and solves its equation.",
    ),
    Threshold(
        "raw-input-rms",
        10.0,
        "",
        "Root mean square of the network's input from which it is named as the cause of"
        " saturation.",
        "Standardised inputs have 1; pixels of 0 to 255 have about 130.",
    ),
    Threshold(
        "dead-chance",
        1e-3,
        "probability",
        "How unlikely a layer's share of dead units must be, if each unit were off for all samples"
        " with probability one half, before it is called a fault.",
        "Deep in a healthy He-initialised ReLU net all samples look alike, and half of the units"
        " are off for all of them: 11 to 45 percent dead units are measured in nets that train, or"
        " whose fault lies elsewhere.",
    ),
    Threshold(
        "dead-mostly",
        0.9,
        "",
        "Share of dead units from which a layer counts as dead although a few units live.",
        "Layers killed by a learning rate measured 0.98 to 1; sick nets of another kind up to 0.5.",
    ),
    Threshold(
        "dead-min-samples",
        8.0,
        "samples",
        "How many samples must have been seen before partly dead layers are judged.",
        "A healthy unit that is off for half of its inputs is off for eight in a row once in 256.",
    ),
    Threshold(
        "dead-few-alive",
        2.0,
        "units",
        "Units left alive, in a layer at least half dead, that are too few when training is stuck.",
        "The smallest net of the kind, XOR with two hidden ReLUs, cannot be solved with one.",
    ),
    Threshold(
        "training-min-steps",
        10.0,
        "steps",
        "Fewer losses than this say nothing about training.",
        "Medians of three losses at either end need this many to be apart from each other.",
    ),
    Threshold(
        "training-stuck-steps",
        30.0,
        "steps",
        "Steps before training may be called stuck.",
        "A warm-up or a small learning rate needs some; healthy small nets measured had fallen by"
        " then.",
    ),
    Threshold(
        "training-material-fall",
        0.25,
        "share of the starting loss",
        "Fall of the loss that counts as training working.",
        "While only the output bias learns, classifiers measured lost 1 to 17 percent and stopped;"
        " those that learn lost 27 percent and more.",
    ),
    Threshold(
        "training-arrived",
        0.1,
        "share of the starting loss",
        "What may be left of the loss for training to count as having arrived: what the trunk loses"
        " or gains short of the hopeless is then a remark. Squared where it gains.",
        "Nets whose front learns nothing rest higher: the best measured, a random front under a"
        " trained head, kept 0.2 and more of their start.",
    ),
    Threshold(
        "training-late-fall",
        0.02,
        "share of the starting loss",
        "Fall within the later part of the run that counts as still falling.",
        "Nets at chance moved by at most 0.5 percent there.",
    ),
    Threshold(
        "training-material-rise",
        0.5,
        "share of the starting loss",
        "Rise of the loss above its best that counts as diverging.",
        "Losses that lie on their floor, or at chance, moved by less than 10 %.",
    ),
    Threshold(
        "collapsed-cosine",
        0.99,
        "",
        "Mean cosine between samples from which a layer's samples look alike.",
        "100 He-initialised ReLU layers reach 0.9998 and do not train; 30 stay at 0.98 and do.",
    ),
    Threshold(
        "blown-start",
        2.0,
        "times the loss of a guess",
        "How far above a guess a cross-entropy must start for its output to count as blown up.",
        "Healthy classifiers start within a tenth of it; those with every parameter ten times too"
        " large measured 6 to 26 times.",
    ),
    Threshold(
        "faded-rms",
        0.01,
        "root mean square",
        "What a layer of the trunk puts out at most, for the forward signal to count as faded.",
        "Trunks of healthy nets whose loss rests where it started measured 0.08 and more, also with"
        " labels that cannot be learnt; faded ones 0.004 and less.",
    ),
    Threshold(
        "faded-spread",
        0.003,
        "root mean square",
        "How much the network's output differs between samples at most, for it to count as faded.",
        "Logits that differ by so little move no cross-entropy; networks that train from a small"
        " start are past it within the first looks. Faded ones measured 0.0007 and less.",
    ),
    Threshold(
        "collapsed-participation",
        0.3,
        "share of that at the output",
        "Effective number of samples in a layer's gradient, against that at the output, below"
        " which few samples speak for all.",
        "The same 100 layers stand at 0.14, the 30 at 0.54, orthogonal tanh nets at 1.0.",
    ),
    Threshold(
        "forward-small",
        -4.0,
        "log10 of a root mean square",
        "Activations at the start, in a hidden layer, that are too small to learn from.",
        "Healthy nets measured at least 4e-4; twelve ReLU layers of half He's weights, which Adam"
        " still trains, 3e-4.",
    ),
    Threshold(
        "forward-large",
        3.0,
        "log10 of a root mean square",
        "Activations at the start, in a hidden layer, that are too large.",
        "Healthy nets measured at most 200. Inputs of 10,000 diverge under SGD at 1e-4.",
    ),
    Threshold(
        "update-large",
        0.0,
        "log10",
        "Size of a step against the weights, median over layers, that is too large.",
        "A step as large as the weights replaces them. Adam at 0.3 measures 4, at 1e-2 0.1 to 0.5.",
    ),
    Threshold(
        "update-small",
        -6.0,
        "log10",
        "Size of a step against the weights, largest over layers, that is too small.",
        "float32 resolves 6e-8; fine-tuning moves by 1e-4, and trains.",
    ),
    Threshold(
        "lr-small",
        1e-5,
        "learning rate",
        "Learning rate up to which steps that are too small are put down to it.",
        "Small steps under a usual rate come from small gradients: a net that has converged.",
    ),
    Threshold(
        "wrong-side-loss",
        0.05,
        "loss",
        "Loss from which a saturated output in front of a squared error is on the wrong side.",
        "An output within 7 percent of the right end has a squared error below 0.005; one in twenty"
        " on the wrong side makes this.",
    ),
    Threshold(
        "sum-excess",
        1.0,
        "decades",
        "Numbers that a loss sums over, times the constants in front of it, from which it counts.",
        "Below ten the learning rate's own choice matters more.",
    ),
    Threshold(
        "sum-step",
        -1.0,
        "log10",
        "Size of the first step against the weights, median over layers, that a sum is blamed for.",
        "Around a thousandth is usual; a tenth is a hundred times more.",
    ),
    Threshold(
        "adversary-slope",
        -2.0,
        "log10",
        "Slope of the loss a sample, at a judging network's output, up to which it is sure.",
        "At a discriminator's guess (1/2) it is 0.5; a hundredth is where it gives 99 to 1.",
    ),
    Threshold(
        "backward-error",
        0.4,
        "",
        "Relative difference between a hand-written backward and finite differences that is wrong.",
        "Half or twice the slope differ by 0.5 and 1. Right ones agree to 1e-9 in double precision,"
        " and to a few per cent in float32 across the kinks of a rectifier.",
    ),
    Threshold(
        "mixing-layers",
        3.0,
        "layers",
        "Layers that average over neighbours from which over-smoothing is looked for.",
        "Two graph convolutions are the usual and train; accuracy falls from some five on.",
    ),
    Threshold(
        "overshoot-errors",
        3.0,
        "standard errors",
        "How far beyond the noise of the losses predicted and real change must be.",
        "Three standard errors are passed by chance once in a thousand.",
    ),
    Threshold(
        "attention-sure",
        0.05,
        "share of the greatest entropy",
        "Entropy of an attention head up to which it is saturated.",
        "0.05 of the entropy over 64 keys is one key with 96 percent of the weight.",
    ),
    Threshold(
        "attention-even",
        0.9999,
        "share of the greatest entropy",
        "Entropy of an attention head from which it spreads evenly.",
        "Scores that differ by 0.1 (standard deviation) give 0.999 over 64 keys.",
    ),
    Threshold(
        "leftover-least",
        -2.0,
        "decades",
        "Gradient left over from earlier steps, against the fresh one, from which it counts.",
        "zero_grad() leaves exactly nothing; without it the rest is as large as the fresh gradient"
        " after one step, and larger later.",
    ),
    Threshold(
        "step-share-least",
        -3.0,
        "decades",
        "Share of the gradient that the optimiser takes, up to which the rest was taken away.",
        "Clipping on purpose takes a factor of ten or a hundred; clipping gradients that carry a"
        " loss scale takes 65536.",
    ),
    Threshold(
        "scaled-share-least",
        -1.0,
        "decades",
        "The same where a gradient scaler is at work, and next to nothing is left.",
        "Clipping before unscaling leaves the bound over the loss scale; that of gradients which"
        " reach the bound 10,000 times over still lacks a factor of ten.",
    ),
    Threshold(
        "clipping-bound-least",
        -3.0,
        "log10 of a norm",
        "Norm of the gradient that the optimiser takes, up to which it was clipped before"
        " unscaling.",
        "Bounds on purpose are 0.01 to 10; divided by a loss scale of 65536 they are 1.5e-7 to"
        " 1.5e-4.",
    ),
    Threshold(
        "overflow-skips",
        0.5,
        "share of the steps",
        "Share of steps skipped by a gradient scaler beyond which it does not find its scale.",
        "A scaler starts at 65536 and halves at each overflow: some ten skips at the start are"
        " normal, and one in 2,000 later.",
    ),
)

THRESHOLDS: dict[str, Threshold] = {each.name: each for each in _TABLE}


def threshold(name: str) -> Threshold:
    """Return the threshold `name` with its texts in the language in use."""
    found = THRESHOLDS[name]
    unit, meaning, why = (translate_text(getattr(found, field), "rules") for field in TEXTS)
    return replace(found, unit=unit, meaning=meaning, why=why)
