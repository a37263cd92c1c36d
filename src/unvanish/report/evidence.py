"""Evidence in words: the rules name numbers for programs, readers get a phrase."""

from __future__ import annotations

from typing import get_args

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Evidence, Training


def label(name: str) -> str:
    """Return a phrase for the name of a piece of evidence; unknown names lose their underscores."""
    known = {
        "attention_entropy": _("entropy of the attention"),
        "attention_layers": _("layers of attention like it"),
        "broadcast_shape": _("shape it is broadcast to"),
        "backward_passes": _("backward passes seen"),
        "cockpit_alpha": _("Cockpit's alpha"),
        "dead_layers": _("layers with dead units"),
        "dead_share": _("units that are dead"),
        "dead_share_highest": _("units that are dead, at most"),
        "derivative_order": _("order of the derivative"),
        "direction": _("pass"),
        "first": _("the first of them"),
        "first_derivative_log10": _("first derivative (log₁₀)"),
        "first_output_rms": _("size of the first layer's output (rms)"),
        "flat_share": _("units on a flat end of the activation"),
        "forward_rms_log10": _("size of the activations (log₁₀)"),
        "gain_log10": _("gain (log₁₀)"),
        "gain_per_layer": _("gain a layer"),
        "gain_per_time_step": _("gain a time step"),
        "gradient_without_input": _("gradient where none comes in"),
        "guessing_loss": _("loss of guessing evenly among the classes"),
        "head": _("ops at the output"),
        "higher_derivative": _("its size"),
        "input_rms": _("size of the input (rms)"),
        "kind": _("what it made"),
        "last": _("the last of them"),
        "layers": _("layers"),
        "leftover_over_fresh_log10": _("leftover over fresh gradient (log₁₀)"),
        "loss_end": _("loss at the end"),
        "loss_start": _("loss at the start"),
        "forward_rms": _("root mean square of what it puts out"),
        "lr": _("learning rate"),
        "output_spread": _("difference of the output between samples"),
        "mixing_layers": _("layers that average over neighbours"),
        "modules": _("modules"),
        "numbers_summed": _("numbers that the loss adds up"),
        "off_share": _("units that are off"),
        "output_level_log10": _("gradient at the output (log₁₀)"),
        "output_shape": _("shape of the output"),
        "parameters_not_updated": _("parameters that nobody updates"),
        "parameters_of_no_model": _("parameters of the optimiser that no model has"),
        "parameters_with_zero_gradient": _("parameters with a gradient of zero"),
        "parameters_without_gradient": _("parameters without a gradient"),
        "participation_share": _("samples that take part in the backward signal"),
        "predicted_change": _("change of the loss, as the gradient predicts"),
        "promised_fall": _("fall of the loss that the steps promise"),
        "step_length_log10": _("size of a step over that of the weights (log₁₀)"),
        "usual_fall": _("fall that usual steps would promise"),
        "real_change": _("change of the loss to the next step's"),
        "reduction": _("reduction of the loss"),
        "sample_correlation": _("cosine between samples"),
        "sample_correlation_first": _("cosine between samples at first"),
        "saturated_share_highest": _("units that are saturated, at most"),
        "share": _("share of the whole"),
        "skipped_share": _("steps that the scaler skipped"),
        "slope_error": _("difference from the true slope"),
        "slope_per_sample_log10": _("slope a sample (log₁₀)"),
        "sum_over_mean_log10": _("sum over mean (log₁₀)"),
        "taken_over_fresh_log10": _("gradient taken over given (log₁₀)"),
        "time_ratio_log10": _("first time step over last (log₁₀)"),
        "time_steps": _("time steps"),
        "training": _("training"),
        "trunk_ratio_log10": _("first layer over output (log₁₀)"),
        "trunk_ratio_log10_highest": _("first layer over output, at most (log₁₀)"),
        "trunk_ratio_log10_lowest": _("first layer over output, at least (log₁₀)"),
        "units_alive": _("units that are alive"),
        "update_ratio_log10": _("update ratio (log₁₀)"),
        "update_ratio_log10_median": _("update ratio, median (log₁₀)"),
        "weight_gain": _("gain of the weights"),
        "weight_over_bias": _("gradient of the weights over that of the bias"),
        "wrong_backwards": _("backwards that are wrong"),
    }
    if name in known:
        return known[name]
    part = name.removesuffix("_log10")
    if part != name:
        return _("{factor} (log₁₀)").format(factor=words.factor_name(part))
    return words.printable(name).replace("_", " ")


def value(evidence: Evidence) -> str:
    """Return the value of a piece of evidence, a share in percent."""
    if evidence.name == "training" and evidence.value in get_args(Training):
        return words.training_word(evidence.value)  # type: ignore[arg-type]
    return _number(evidence.name, evidence.value)


def threshold(evidence: Evidence) -> str:
    """Return the threshold of a piece of evidence, in the same form as its value."""
    if evidence.threshold is None:
        return words.NONE
    return _number(evidence.name, evidence.threshold)


def _number(name: str, number: float | str) -> str:
    if not isinstance(number, str) and name.removesuffix("_highest").endswith("share"):
        return words.percent(number)
    return words.quantity(number)
