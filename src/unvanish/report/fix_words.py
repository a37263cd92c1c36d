"""What a search for cures found, in words: for the terminal, the page and the notebook alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from unvanish import words
from unvanish.i18n import _
from unvanish.records import Cure, CureStatus, Fix, Predicted, Proof, RandomSearch
from unvanish.report import focus

TRAINED: tuple[CureStatus, ...] = ("proven", "measured", "tried", "screened-out")


def status_name(status: CureStatus) -> str:
    """Return how far a cure came, in a word or two."""
    return {
        "proven": _("proven"),
        "measured": _("measured only"),
        "tried": _("tried, not proven"),
        "screened-out": _("screened out"),
        "not-tried": _("not tried"),
        "refused": _("does not fit"),
        "failed": _("failed"),
    }[status]


def status_meaning(status: CureStatus) -> str:
    """Return what a status means, in a sentence."""
    return {
        "proven": _(
            "The finding is gone, and on fresh seeds the worst cured run beats the best untreated"
            " one by at least half the larger of the two ranges."
        ),
        "measured": _(
            "What it was to mend is mended; the losses cannot be compared, or no seed varies."
        ),
        "tried": _("Trained on fresh seeds, and not proven."),
        "screened-out": _("Trained for a short time; others did better."),
        "not-tried": _("Proposed; the budget went to others."),
        "refused": _("It does not fit this network."),
        "failed": _("The training crashed under it."),
    }[status]


def applicability_name(applicability: str) -> str:
    """Return how far a cure may go by itself, in words."""
    return {
        "safe": _("safe"),
        "unsafe": _("changes the network or its training"),
        "display-only": _("an edit of the source"),
    }.get(applicability, applicability)


def headline(fix: Fix) -> str:
    """Return the answer in one sentence."""
    best = best_cure(fix)
    if fix.verdict_before == "healthy" and not fix.cures:
        return _("Healthy: nothing was changed.")
    if best is not None and best.proof is not None:
        return _("Proven cure: {name}. {evidence}").format(
            name=words.printable(best.name), evidence=evidence(best)
        )
    tried = sum(one.status in TRAINED for one in fix.cures)
    if not fix.cures:
        return _("No cure is known for what was found.")
    return _("No cure was proven; {count} were trained.").format(count=tried)


def best_cure(fix: Fix) -> Cure | None:
    """Return the best proven cure."""
    return next((one for one in fix.cures if one.name == fix.best), None)


def evidence(cure: Cure) -> str:
    """Return what the trainings of the proof showed, with their numbers; "" without a proof."""
    proof = cure.proof
    if proof is None:
        return ""
    return _(
        "It beat the baseline on {beaten} of {count} fresh seeds: {cured} against {untreated}."
    ).format(
        beaten=proof.beaten,
        count=len(proof.seeds),
        cured=span(proof.scores),
        untreated=span(proof.baseline_scores),
    )


def better_on(proof: Proof | None) -> str:
    """Return on how many fresh seeds the cured network scored better, as "3 of 3"."""
    if proof is None:
        return ""
    return _("{beaten} of {count}").format(beaten=proof.beaten, count=len(proof.seeds))


def span(scores: Sequence[float]) -> str:
    """Return the least and the greatest score as "0.11 to 0.13"; one number where they agree."""
    if not scores:
        return words.NONE
    low, high = words.loss(min(scores)), words.loss(max(scores))
    return low if low == high else _("{low} to {high}").format(low=low, high=high)


def reason(cure: Cure) -> str:
    """Return why a cure is not proven, in a sentence; "" where there is nothing to say."""
    why = cure.why if cure.proof is None else cure.proof.why_not
    if not why:
        return ""
    sentence = {
        "failed": _("It failed: {reason}."),
        "refused": _("It does not fit: {reason}."),
    }.get(cure.status, _("Not proven: {reason}."))
    return sentence.format(reason=words.printable(why).rstrip("."))


def predicted(found: Predicted | None) -> str:
    """Return what one backward pass through the cured network shows: the first layer's level."""
    if found is None or found.ratio_after_log10 is None:
        return words.NONE
    after = words.times(found.ratio_after_log10)
    if found.ratio_before_log10 is None:
        return after
    return f"{words.times(found.ratio_before_log10)} → {after}"


def before(fix: Fix) -> str:
    """Return what was found in the untreated network, and what its training does."""
    told = focus.sentence(fix.diagnosis)
    return _("{sentence} Untreated, {training}.").format(
        sentence=told, training=words.training_name(fix.training_before)
    )


def tries(fix: Fix) -> str:
    """Return how many cures were tried, and what it took."""
    trained = [one for one in fix.cures if one.status in TRAINED]
    proofs = [one for one in fix.cures if one.proof is not None]
    return _(
        "{proposed} cures proposed, {trained} trained, {proofs} taken to fresh seeds;"
        " {spent} trainings of {steps} steps in all. Yardstick: {yardstick}."
    ).format(
        proposed=len(fix.cures),
        trained=len(trained),
        proofs=len(proofs),
        spent=f"{fix.trainings_spent:.1f}",
        steps=fix.steps,
        yardstick=fix.yardstick,
    )


def rates(fix: Fix) -> str:
    """Return what changing the learning rate alone gave; "" where it was not tried."""
    if not fix.rates or fix.baseline_short is None:
        return ""
    parts = [
        _("×{rate} gives {score}").format(rate=rate, score=words.loss(score))
        for rate, score in fix.rates.items()
    ]
    return _(
        "After {steps} steps the untreated network stands at {score}; the learning rate {others}."
    ).format(
        steps=fix.short_steps, score=words.loss(fix.baseline_short), others=_(", ").join(parts)
    )


def compared(found: RandomSearch) -> str:
    """Return what random search over the same cures came to."""
    return _("Random search over the same cures proved {best} ({spent} trainings).").format(
        best=words.printable(found.best) if found.best is not None else _("nothing"),
        spent=f"{found.trainings_spent:.1f}",
    )


def citations(fix: Fix) -> Iterator[str]:
    """Yield the sources of the cures that were taken to a proof, then those of the method."""
    shown = [one for one in fix.cures if one.status in ("proven", "measured", "tried")]
    yield from dict.fromkeys(words.printable(each) for one in shown for each in one.sources)
    if fix.cures:
        yield (
            "Jamieson and Talwalkar 2016, Non-stochastic best arm identification and"
            " hyperparameter optimization, arXiv:1502.07943"
        )


def curves(fix: Fix, cure: Cure | None) -> list[tuple[float, ...]]:
    """Return the losses by seed of a cure's proof, or (None) of the untreated network beside it."""
    if cure is not None:
        return list(cure.proof.losses.values()) if cure.proof is not None else []
    fresh = [losses for seed, losses in fix.baseline.items() if seed != "0"]
    return fresh or list(fix.baseline.values())


def band(curves: Sequence[Sequence[float]], points: int) -> list[tuple[float, float, float]]:
    """Return (least, median, greatest) over seeds of the losses, averaged over `points` stretches.

    A stretch with a loss that is not finite has NaN for that seed, and NaN for all without any.
    """
    length = min((len(curve) for curve in curves), default=0)
    if not length:
        return []
    points = min(points, length)
    edges = [round(i * length / points) for i in range(points + 1)]
    found = []
    for start, end in itertools.pairwise(edges):
        means = [sum(curve[start:end]) / (end - start) for curve in curves]
        known = sorted(mean for mean in means if math.isfinite(mean))
        if len(known) < len(means) / 2 or not known:
            found.append((math.nan, math.nan, math.nan))
        else:
            found.append((known[0], known[len(known) // 2], known[-1]))
    return found
