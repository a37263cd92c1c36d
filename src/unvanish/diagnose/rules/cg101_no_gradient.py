"""CG101: trainable parameters that no gradient reaches.

## What it finds

Layers at the front of the network that were called with gradients enabled, that the optimiser is to
train, and whose parameters get no gradient at all in any traced step, while layers behind them do:
between the two the graph is cut.

## Why it matters

These layers stay what they were at initialisation. The loss still falls, since what is behind
learns from random features, so it is easily overlooked.

## Known problems

No gradient is often right, and then this rule is silent: frozen parameters, a backbone called
under no_grad or left out of the optimiser, heads and experts that are not used in this loss. It
judges by the order in which parameters are registered and modules are called; where a cut lies
elsewhere than at the front this is a remark, unless training does not work. That a parameter held
beside whole submodules (a marker, a mask token) was used cannot be seen, and it is left out.

## Example

    code = encoder(x).argmax(1)                      # argmax has no gradient
    loss = criterion(decoder(one_hot(code)), y)

## Cure

Look for detach(), .data, .item(), numpy(), no_grad, argmax, comparison or a re-created tensor
between the two modules. For a choice that must stay discrete: softmax, Gumbel-softmax, or a
straight-through estimator. Reentrant checkpointing needs an input that requires a gradient
(use_reentrant=False does not).

## References

- Bengio, Léonard, Courville 2013, Estimating or propagating gradients through stochastic neurons.
- Jang, Gu, Poole 2017, Categorical reparameterization with Gumbel-softmax, arXiv 1611.01144.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unvanish.diagnose.phrases import place
from unvanish.diagnose.rule import Rule
from unvanish.diagnose.view import View
from unvanish.i18n import _
from unvanish.records import Evidence, Finding, ParameterFacts, Severity, Where


def check(view: View) -> Sequence[Finding]:
    """Fire if parameters at the front get no gradient and later ones do."""
    parameters = view.model.parameters
    holders = {name for each in parameters for name in _ancestors(each.module)}
    cut = [
        (place_, each)
        for place_, each in enumerate(parameters)
        if _should_learn(each) and each.gradient == "none" and each.module not in holders
    ]
    reached = [i for i, each in enumerate(parameters) if each.gradient != "none"]
    if not cut or not reached:
        return []
    first_called = _called_before_the_signal(view)
    front = [each for i, each in cut if i < reached[0] or each.module in first_called]
    between = [each for i, each in cut if reached[0] < i < reached[-1]]
    if front:
        return [_finding(view, front, parameters[reached[0]], "error")]
    if between and view.training.not_working:
        return [_finding(view, between, parameters[reached[-1]], "warning")]
    return [_finding(view, [each for _i, each in cut], parameters[reached[-1]], "info")]


def _ancestors(module: str) -> Iterator[str]:
    """The modules that hold `module`: that they were called says nothing of their own parameters,
    such as a marker that only some batches need.
    """
    while module:
        module = module.rpartition(".")[0]
        yield module


def _called_before_the_signal(view: View) -> set[str]:
    """The modules called before the first one that a backward signal reached, in every trace.

    A weight that is tied to the head gets its gradient there, whatever becomes of the front.
    """
    found: list[set[str]] = []
    for one in view.traces:
        rows = one.trace.layers
        signal = next((i for i, row in enumerate(rows) if row.level_log10 is not None), 0)
        later = {row.module for row in rows[signal:]}
        found.append({row.module for row in rows[:signal]} - later)
    return set.intersection(*found) if found else set()


def _should_learn(each: ParameterFacts) -> bool:
    wanted = each.requires_grad and each.called and each.registered
    return wanted and each.in_optimizer is not False


def _finding(
    view: View, cut: list[ParameterFacts], reached: ParameterFacts, severity: Severity
) -> Finding:
    if severity == "info":
        title = _(
            "{count} trainable parameters (the last in {where}) get no gradient from this loss."
        )
        remedy = _("Nothing to do if the loss is not meant to use them (an auxiliary head).")
    else:
        title = _(
            "The graph is cut between {where} and {next}: {count} trainable parameters in front get"
            " no gradient."
        )
        remedy = _(
            "Look for detach(), .data, .item(), numpy(), no_grad, argmax or a re-created tensor"
            " between the two; for a discrete choice use Gumbel-softmax or a straight-through"
            " estimator; checkpoint with use_reentrant=False."
        )
    module = cut[-1].module
    return Finding(
        code="CG101",
        family="CG",
        verdict="cut-graph",
        severity=severity,
        title=title.format(count=len(cut), where=place(module), next=place(reached.module)),
        where=Where(module, source=view.source(module)),
        factor=None,
        evidence=(
            Evidence("parameters_without_gradient", float(len(cut)), 0.0),
            Evidence("first", cut[0].name),
            Evidence("last", cut[-1].name),
        ),
        remedy=remedy,
        model=view.model.name,
        step=view.traces[0].step if view.traces else None,
    )


RULE = Rule(
    code="CG101",
    verdict="cut-graph",
    title="trainable parameters without a gradient",
    check=check,
    documentation=__doc__,
)
