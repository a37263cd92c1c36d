"""What each picture shows and how to read it, in words."""

from __future__ import annotations

from dataclasses import dataclass

from unvanish.i18n import _


@dataclass(frozen=True, slots=True)
class Explanation:
    """The title of a picture, what it shows in a line, and how to read it in paragraphs."""

    title: str
    caption: str
    help: tuple[str, ...]


def explanation(picture: str) -> Explanation:
    """Return the explanation of the picture of that name."""
    return {
        "waterfall": _waterfall,
        "levels": _levels,
        "heatmap": _heatmap,
        "network": _network,
        "slopes": _slopes,
        "activations": _activations,
        "spectrum": _spectrum,
        "loss": _loss,
        "recurrence": _recurrence,
        "forward": _forward,
        "parameters": _parameters,
        "prediction": _prediction,
    }[picture]()


def _waterfall() -> Explanation:
    return Explanation(
        _("From the loss to the input, factor by factor"),
        _("Each bar multiplies the backward signal. Where the stairs fall, it vanishes."),
        (
            _(
                "The backward signal is the gradient of the loss with respect to the output of"
                " each op. It starts at the loss, on the left, and travels back to the input, on"
                " the right. Every op multiplies its size by a gain. The scale counts powers of"
                " ten, so the gains add up: a bar that goes down by 0.6 is a gain of ×0.25."
            ),
            _(
                "Colours tell the factor of the chain rule: the slope of an activation, the"
                " weights of a linear map, a normalisation, a merge where branches meet again."
                " Grey factors (the loss, pooling) are shown and never blamed; constants only"
                " where the weights do not make up for them."
            ),
            _(
                "Healthy: the stairs go up and down and end within a few powers of ten of where"
                " they began. Vanishing: they fall all the way. Exploding: they climb. The bars"
                " add up exactly to the ratio of the gradients at both ends."
            ),
        ),
    )


def _levels() -> Explanation:
    return Explanation(
        _("Level against depth"),
        _("The size of the gradient at the output of every layer, for the sampled steps."),
        (
            _(
                "Each line is one step of training, from the input on the left to the output on"
                " the right. The thick line is the step that the verdict rests on; among the"
                " others, the darker the later."
            ),
            _(
                "Flat is healthy. A line that falls toward the left vanishes on its way back to"
                " the input, one that rises toward the left explodes. A whole line that moves up"
                " or down only follows the loss. Triangles are gradients that are exactly zero,"
                " crosses those that are not finite."
            ),
        ),
    )


def _heatmap() -> Explanation:
    return Explanation(
        _("Level by layer and step"),
        _("The size of the gradient at the output of every layer, as training goes on."),
        (
            _(
                "Across: the layers, from the input on the left to the output on the right. Up:"
                " the sampled steps, the first at the bottom. The colour is the level, the power"
                " of ten of the gradient's size: the brighter, the larger."
            ),
            _(
                "One colour along a row is healthy. A row that darkens toward the left vanishes"
                " on its way back to the input, one that brightens explodes. A change from row to"
                " row shows when it began; a whole row that changes only follows the loss."
            ),
        ),
    )


def _network() -> Explanation:
    return Explanation(
        _("The network, coloured by level"),
        _("What feeds what, from the input to the loss, and where the gradient is lost."),
        (
            _(
                "A square is a module, or an op outside of any; a line leads from it to what takes"
                " its output. The menu opens the modules within modules, down to every op. Where"
                " there are very many, neighbours share a square. In a recurrent network all time"
                " steps of a module do, and the line back is its next step."
            ),
            _(
                "The colour is the level of the gradient at the output: white as at the network's"
                " output, blue where less is left, red where it has grown; a full colour is a"
                " thousand times or more. The thicker a line, the more of the gradient of what it"
                " starts from comes back along it. The main path, which the other pictures follow,"
                " runs along the middle."
            ),
            _(
                "Healthy: pale all the way. Blue toward the left vanishes, red explodes. One blue"
                " branch beside a pale one is a branch that hardly counts, as in a residual"
                " network whose blocks are scaled down."
            ),
        ),
    )


def _slopes() -> Explanation:
    return Explanation(
        _("Slope and saturation of the activations"),
        _("How much each activation lets through, and how many of its units are stuck."),
        (
            _(
                "Above: the derivative of the activation, as root mean square over units and"
                " samples. The dash is its reference: 1, or 0.71 for a ReLU, which is off for"
                " half of its inputs. The sigmoid never reaches more than 0.25."
            ),
            _(
                "Below: a unit is saturated for a sample when its slope is below 0.07 of the"
                " greatest slope (for the sigmoid: |z| > 4), off when its slope is exactly 0, and"
                " dead when it is off for every sample of the batch. A ReLU that is off for half"
                " of its inputs is healthy; dead units learn nothing."
            ),
        ),
    )


def _activations() -> Explanation:
    return Explanation(
        _("Where the inputs of the activations fall"),
        _("The slope of each activation, and under it how its input z is spread."),
        (
            _(
                "Above: the slope φ'(z), which the chain rule multiplies by: from the formula of"
                " the activation as a line, and as circles what the backward pass gave. In the"
                " shaded range a unit is saturated: its slope is below 0.07 of the steepest. The"
                " sigmoid's is |z| > 4."
            ),
            _(
                "Below: for every layer, how many of its inputs z fall where, over units and"
                " samples. Of more than four layers each is a row, the first at the bottom, and the"
                " darker, the more. The outermost bins also hold all that lies beyond. Some"
                " thousand inputs of a layer are looked at, evenly spaced."
            ),
            _(
                "Healthy: most inputs fall where the slope is steep. A layer whose inputs lie in"
                " the shaded range passes nearly nothing back. Inputs that are all alike and near"
                " 0 use the activation as a straight line only."
            ),
        ),
    )


def _spectrum() -> Explanation:
    return Explanation(
        _("Singular values from input to output"),
        _("By how much the network stretches or shrinks each direction of its input."),
        (
            _(
                "A small change of the input, in each of some directions, changes the output by"
                " the singular values of the network's derivative (its Jacobian). The gradient is"
                " multiplied by the same numbers on its way back. They are sorted, the greatest"
                " first; the scale counts powers of ten, and the dashed line is 1."
            ),
            _(
                "Healthy: a flat line near 1, so that no direction is lost and none takes over"
                " (dynamical isometry). A line far below vanishes, one far above explodes. A steep"
                " line is the third case: its mean may be 1, which is all that a gradient's size"
                " tells, and yet most directions are lost."
            ),
            _(
                "Where there are few they are computed one by one, for each sample, and the band"
                " shows how samples differ. Where there are many, products with random vectors give"
                " their distribution: the ends are the least certain. Tokens have no derivative:"
                " there the input is their embedding."
            ),
        ),
    )


def _loss() -> Explanation:
    return Explanation(
        _("The loss, and the sampled steps"),
        _("What training does, and at which steps the backward signal was measured."),
        (
            _(
                "The line is the loss of every step, the dots are the steps whose backward pass"
                " was measured. Diamonds are steps that a gradient scaler skipped; crosses are"
                " losses that are not finite. Stars are incidents (a spike, the first value that"
                " was not finite), triangles the alarms that were raised while it ran."
            ),
            _(
                "A loss that does not fall though the signal is healthy has another cause: the"
                " data, the labels, the learning rate."
            ),
        ),
    )


def _recurrence() -> Explanation:
    return Explanation(
        _("The recurrent signal against time"),
        _("The size of the gradient at every time step of the recurrent layers."),
        (
            _(
                "A recurrent layer uses the same weights at every time step, so its factor is"
                " multiplied as often as the sequence is long. The last time step, on the right,"
                " is nearest to the loss."
            ),
            _(
                "A line that falls toward the left forgets: what happened early in the sequence"
                " cannot be learnt. One that rises toward the left explodes."
            ),
        ),
    )


def _forward() -> Explanation:
    return Explanation(
        _("The forward signal"),
        _("The size of what each layer puts out, and whether its samples still differ."),
        (
            _(
                "Above: the root mean square of the outputs, in powers of ten. It should neither"
                " die out nor blow up with depth."
            ),
            _(
                "Below: the mean cosine between the outputs of two samples. Where it reaches 1,"
                " all inputs look the same to the layers after it, and nothing can be learnt,"
                " whatever the gradient's size. The share of samples that take part in the"
                " backward signal is shown where it was measured."
            ),
        ),
    )


def _parameters() -> Explanation:
    return Explanation(
        _("The parameters and their gradients"),
        _("The gradient that reaches each layer's weights, and what the optimiser makes of it."),
        (
            _(
                "Above: the norms of the weights and of their gradients, in powers of ten. A"
                " cross marks weights that no gradient reached at all."
            ),
            _(
                "Below: the size of the optimiser's step against the size of the weights. Around"
                " −3 (a thousandth) is usual; a layer far below the others hardly moves, one at"
                " −1 or above is thrown about. Adam rescales small gradients, SGD does not."
            ),
        ),
    )


def _prediction() -> Explanation:
    return Explanation(
        _("Predicted against measured"),
        _("What theory expects of random weights of this size, beside what was measured."),
        (
            _(
                "The lines show how much of the gradient at the network's output is left at each"
                " layer's input: as measured, and as mean-field theory predicts it from the sizes"
                " of weights and biases, the activations and the norms. The scale counts powers of"
                " ten."
            ),
            _(
                "The band holds nine of ten networks whose weights are drawn at random with these"
                " sizes. It widens toward the input, as every layer adds its own chance."
            ),
            _(
                "A network inside the band does what its initialisation makes it do: to change the"
                " gradient, change the sizes of the weights, the activation or the norms. One"
                " outside has something that chance does not explain: trained weights, wrong"
                " shapes, dead or saturated units. Crosses mark layers that theory says nothing"
                " of, or that it is not to be trusted with."
            ),
        ),
    )
