"""`unvanish chain`: the textbook chain of single neurons, solved, trained, or put to the test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from unvanish._version import __version__
from unvanish.chain.activations import ACTIVATIONS
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.errors import UsageError
from unvanish.i18n import _

if TYPE_CHECKING:
    from unvanish.chain import Chain, Solution, Training

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes

DEEPEST = 100_000  # neurons; beyond it the answer takes minutes and gigabytes
MOST_KEPT = 2_000_000  # neurons times steps of a training, all of which are kept
CHAIN_OPTIONS = ("activation", "weight", "bias", "pre_activation")


def _help() -> str:
    return "\n\n".join(
        (
            _(
                "The textbook chain of single neurons, a_k = phi(w_k a_(k-1) + b_k): every factor"
                " w_k phi'(z_k) of the chain rule, their product, and the gradient of the cost"
                " C = (a_L - y)^2 / 2 with respect to every weight and bias."
            ),
            _(
                "--weight, --bias and --pre-activation take one number for all neurons, or a list"
                " such as 0,0,40,0. With --pre-activation the biases are chosen, so that --input"
                " puts every z_k where it says; with --bias they are given. The two answers differ,"
                " and the output says why."
            ),
            _(
                "--train lets the chain learn the line y = 0.1 + 0.4 x (or --input and --target, as"
                " lists) by its own back-propagation. Alone it trains five chains side by side;"
                " with an activation, a weight, a bias or a pre-activation it trains that one."
            ),
            _(
                "--claims tests what is said of the ReLU: its slope, the drift and the spread of"
                " the product over 1,000 random draws, the cost of its derivative."
            ),
        )
    )


def _epilog() -> str:
    return "\n\n".join(
        (
            _("JSON: schema, tool_version, kind and notes, and then, by kind,"),
            _(
                "chain: activation, depth, input, target, biases_chosen, output, error, cost,"
                " input_gain, factors, weights, biases, formula (of dC/dw_1: symbols, slope,"
                " numbers, factors, result), saturated, band (of neuron 1; null where empty),"
                " widest_band (weight, width), and layers: for each k weight, bias, z, a, slope,"
                " factor, da_dw, da_db, dC_dw, dC_db, saturated, band, in_band. Each NAME_log10 is"
                " log10 of the absolute value."
            ),
            _(
                "chain-training: samples, lr, constant_loss, and chains: for each name, activation,"
                " depth, weights, biases, outcome (diverged, dead, still, learnt, moving), losses,"
                " movement, largest_steps, and steps: for each step loss, movement, dC_dw."
            ),
            _(
                "chain-claims: slope (draws, on_share, worst_on, worst_off, sigmoid_largest), cost"
                " (rounds, from_z, from_a: the sigmoid's time over the ReLU's), and spread: for"
                " each scheme and depth width, draws, rms_log10, theory_log10, standard_error,"
                " low_log10, median_log10, high_log10."
            ),
            _('NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".'),
        )
    )


@click.command(
    help=_help(),
    short_help=_("solve or train the textbook chain of single neurons"),
    epilog=_epilog(),
)
@click.option("--depth", type=int, help=_("number of neurons [10, or the length of a list]"))
@click.option(
    "--activation",
    metavar="NAME",
    help=", ".join(ACTIVATIONS) + " [sigmoid]",
)
@click.option("--weight", metavar="NUMBERS", help=_("w_k, one number or a list [1]"))
@click.option("--bias", metavar="NUMBERS", help=_("b_k, one number or a list [0]"))
@click.option(
    "--pre-activation", metavar="NUMBERS", help=_("z_k, one number or a list: chooses the biases")
)
@click.option("--input", "input_", metavar="NUMBER", help=_("a_0 [1]; a list with --train"))
@click.option("--target", metavar="NUMBER", help=_("y of the cost [0]; a list with --train"))
@click.option("--train", is_flag=True, help=_("let the chain learn"))
@click.option("--steps", type=int, help=_("steps of training [500]"))
@click.option("--lr", type=float, help=_("learning rate [0.2]"))
@click.option("--claims", is_flag=True, help=_("test three claims about the ReLU"))
@json_option
@force_option
@lang_option
def command(json_path: str | None, force: bool, train: bool, claims: bool, **given: Any) -> None:
    """Solve, train or test; then print the result, or write it as JSON."""
    from unvanish import codec
    from unvanish.cli.output import check_output, show, write_output

    if json_path is not None:
        check_output(json_path, force)
    wanted = {name: value for name, value in given.items() if value is not None}
    if claims:
        document, view = _claims(train, wanted)
    elif train:
        document, view = _train(wanted)
    else:
        document, view = _solve(wanted)
    if json_path != "-":
        show(*view)
    if json_path is not None:
        head = {"schema": SCHEMA, "tool_version": __version__}
        write_output(json_path, codec.dumps(codec.to_plain(head | document)), force)
        if json_path != "-":
            click.echo(_("Wrote {path}").format(path=json_path), err=True)


def _solve(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    from unvanish.chain import explain, formula, solve, widest_band
    from unvanish.report.chain import solution_view

    _refuse(wanted, ("steps", "lr"), _("Add --train, or leave it out."))
    a_0 = _number("--input", wanted.get("input_", "1"))
    target = _number("--target", wanted.get("target", "0"))
    chain = _chain(wanted, a_0)
    chosen = "pre_activation" in wanted
    solution = solve(chain, a_0, target)
    notes = explain.notes(solution, chosen)
    in_slopes, in_factors, result = formula.numbers(solution)
    layers = _layers(solution)
    document = {
        "kind": "chain",
        "activation": chain.activation,
        "depth": chain.depth,
        "input": a_0,
        "target": target,
        "biases_chosen": chosen,
        "output": solution.output,
        "error": solution.error,
        "cost": solution.cost,
        "input_gain": solution.input_gain,
        "input_gain_log10": solution.input_gain_log10,
        "factors": solution.factors,
        "weights": chain.weights,
        "biases": chain.biases,
        "saturated": [neuron.k for neuron in solution.neurons if neuron.saturated],
        "formula": {
            "symbols": formula.symbols(chain.depth, chain.activation),
            "slope": formula.slope_in_symbols(chain.activation),
            "numbers": in_slopes,
            "factors": in_factors,
            "result": result,
        },
        "band": layers[0].get("band"),
        "widest_band": dict(zip(("weight", "width"), widest_band(), strict=True)),
        "layers": layers,
        "notes": [explain.headline(solution), *notes],
    }
    view = [*solution_view(solution, notes), _next("unvanish chain --train")]
    return document, view


def _next(line: str) -> str:
    return "\n" + _("Next: {command}").format(command=line)


def _layers(solution: Solution) -> list[dict[str, Any]]:
    """Return the neurons as dicts; the sigmoid's with their band of inputs."""
    from unvanish.chain import band
    from unvanish.codec import to_plain

    layers, before = [], solution.a_0
    for neuron in solution.neurons:
        layer = to_plain(neuron)
        if solution.chain.activation == "sigmoid":
            limits = band(neuron.weight, neuron.bias)
            layer["band"] = [limits.low, limits.high] if limits else None
            layer["in_band"] = limits is not None and before in limits
        layers.append(layer)
        before = neuron.a
    return layers


def _train(wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    from unvanish.chain import explain, five_chains, mean_input, train
    from unvanish.chain.learn import STEPS
    from unvanish.report.chain import training_view

    samples = _samples(wanted)
    options = {name: wanted[name] for name in ("steps", "lr") if name in wanted}
    if any(name in wanted for name in CHAIN_OPTIONS):
        chains = {_describe(wanted): _chain(wanted, mean_input(samples))}
    else:
        chains = five_chains(_depth(wanted) or 10, samples)
    size = next(iter(chains.values())).depth * options.get("steps", STEPS)
    if size > MOST_KEPT:
        raise UsageError(
            _("{size} weights over all steps are too many to keep").format(size=size),
            _("Take fewer --steps or a smaller --depth, {limit} in all.").format(limit=MOST_KEPT),
        )
    trainings = {name: train(chain, samples, **options) for name, chain in chains.items()}
    first = next(iter(trainings.values()))
    stories = [
        _("{label}: {value}").format(label=name, value=explain.story(training))
        for name, training in trainings.items()
    ]
    document = {
        "kind": "chain-training",
        "samples": samples,
        "lr": first.lr,
        "constant_loss": first.constant_loss,
        "chains": [_trained(name, training) for name, training in trainings.items()],
        "notes": stories,
    }
    view = training_view(trainings, stories)
    if len(trainings) > 1:
        view.append(_next("unvanish chain --train --weight 10 --pre-activation 0"))
    return document, view


def _trained(name: str, training: Training) -> dict[str, Any]:
    start = training.chain.weights
    return {
        "name": name,
        "activation": training.chain.activation,
        "depth": training.chain.depth,
        "weights": start,
        "biases": training.chain.biases,
        "outcome": training.outcome,
        "losses": training.losses,
        "movement": training.movement,
        "largest_steps": training.largest_steps,
        "steps": [
            {
                "step": step.step,
                "loss": step.loss,
                "movement": [w - w_0 for w, w_0 in zip(step.weights, start, strict=True)],
                "dC_dw": step.dC_dw,
            }
            for step in training.steps
        ],
    }


def _claims(train: bool, wanted: Mapping[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    from unvanish.chain import explain, run_claims
    from unvanish.codec import to_plain
    from unvanish.report.chain import claims_view

    _refuse(
        {"train": train, **wanted} if train else wanted,
        ("train", "depth", *CHAIN_OPTIONS, "input_", "target", "steps", "lr"),
        _("Give --claims alone."),
    )
    claims = run_claims()
    verdicts = explain.verdicts(claims)
    document = {"kind": "chain-claims", **to_plain(claims), "notes": verdicts}
    return document, claims_view(claims, verdicts)


def _refuse(wanted: Mapping[str, Any], options: tuple[str, ...], remedy: str) -> None:
    """Raise where an option was given that this mode does not use."""
    for name in options:
        if name in wanted:
            option = "--" + name.strip("_").replace("_", "-")
            raise UsageError(_("{option} has no use here").format(option=option), remedy)


def _chain(wanted: Mapping[str, Any], a_0: float) -> Chain:
    from unvanish.chain import make_chain

    numbers = {
        name: _numbers("--" + name.replace("_", "-"), wanted[name])
        for name in ("weight", "bias", "pre_activation")
        if name in wanted
    }
    activation = wanted.get("activation", "sigmoid")
    return make_chain(_depth(wanted), a_0=a_0, activation=activation, **numbers)


def _depth(wanted: Mapping[str, Any]) -> int | None:
    depth: int | None = wanted.get("depth")
    if depth is not None and depth > DEEPEST:
        raise UsageError(
            _("--depth {depth} is too deep").format(depth=depth),
            _("Give {limit} or less.").format(limit=DEEPEST),
        )
    return depth


def _describe(wanted: Mapping[str, Any]) -> str:
    signs = {"weight": "w", "bias": "b", "pre_activation": "z"}
    parts = [f"{sign}={wanted[name]}" for name, sign in signs.items() if name in wanted]
    return " ".join([wanted.get("activation", "sigmoid"), *parts])


def _samples(wanted: Mapping[str, Any]) -> tuple[tuple[float, float], ...]:
    """Return the pairs of --input and --target, or the line that is learnt without them."""
    from unvanish.chain import TASK

    if "input_" not in wanted and "target" not in wanted:
        return TASK
    xs = _list("--input", wanted.get("input_", ""))
    ys = _list("--target", wanted.get("target", ""))
    if len(xs) != len(ys):
        raise UsageError(
            _("--input has {xs} numbers and --target {ys}").format(xs=len(xs), ys=len(ys)),
            _("Give --train as many targets as inputs, or neither."),
        )
    return tuple(zip(xs, ys, strict=True))


def _number(option: str, text: str) -> float:
    numbers = _list(option, text)
    if len(numbers) != 1:
        raise UsageError(
            _("{option} takes one number here, and got {count}").format(
                option=option, count=len(numbers)
            ),
            _("Lists of inputs and targets go with --train."),
        )
    return numbers[0]


def _numbers(option: str, text: str) -> float | tuple[float, ...]:
    """Return one number, which is meant for all neurons, or a list."""
    numbers = _list(option, text)
    return numbers[0] if "," not in text and len(numbers) == 1 else numbers


def _list(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise UsageError(
            _("{option} {text!r} is not a number or a list of numbers").format(
                option=option, text=text
            ),
            _("Write numbers with commas between, such as 10 or 1,-2,0.5."),
        ) from error
    if not all(math.isfinite(number) for number in numbers):
        raise UsageError(
            _("{option} holds a number that is not finite").format(option=option),
            _("Give ordinary numbers, such as 10 or 1e200."),
        )
    return numbers
