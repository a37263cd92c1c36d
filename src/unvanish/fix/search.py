"""Plan, screen, prove: which cures are worth a training, and which of them helps.

1. The untreated network trains once in full; its diagnosis proposes cures, each measured with one
   backward pass of a cured copy.
2. The best few train for a short time from the same seed, beside the untreated network with its
   learning rate times and divided by 3, which every cure must beat (successive halving: Jamieson
   and Talwalkar 2016, arXiv:1502.07943). The two best that go together are tried together.
3. One finalist, two where the first fails or where the one keeps the activation and the other
   swaps it, trains in full on fresh seeds, in pairs with the untreated network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from unvanish.errors import NoSignalError, UnvanishError
from unvanish.fix import prove
from unvanish.fix.trial import (
    UNTREATED,
    Candidate,
    Job,
    Outcome,
    Trainer,
    Treatment,
    how_they_ran,
)
from unvanish.fix.tried import Tried, rank, untried
from unvanish.i18n import _
from unvanish.records import Cure, Diagnosis, Fix, Proof

RATES = (3.0, 1 / 3)
SCREENED = 5  # cures that get a short training
SHORT = 4  # a short training is 1/4 of a full one …
SHORT_LEAST = 10  # … and no shorter than this
ENOUGH = 3  # cures that are screened where one of them helps
MOST_FINALISTS = 2

Progress = Callable[[str, float], None]  # what is being done, and the share that is done


@dataclass(frozen=True, slots=True)
class Budget:
    """How much is tried. `seeds` are the fresh ones of the proof.

    `screened` cures get a short training; while none of them helps, more, as long as the budget
    leaves a proof.
    """

    seeds: int = prove.LEAST_SEEDS
    screened: int = SCREENED
    most: float = 15.0  # bare trainings; the last proof that would go beyond it is not begun


@dataclass
class Search:
    """One search, which keeps what it knows: `result` may be asked at any time."""

    trainer: Trainer
    budget: Budget
    command: tuple[str, ...] = ()
    progress: Progress = lambda _what, _share: None
    spent: float = 0.0
    interrupted: bool = False
    _baseline: dict[int, Outcome] = field(default_factory=dict)
    _short: Outcome | None = None
    _rates: dict[float, Outcome] = field(default_factory=dict)
    _rate_in_full: Outcome | None = None
    _candidates: list[Candidate] = field(default_factory=list)
    _tried: list[Tried] = field(default_factory=list)

    # --- the three parts -----------------------------------------------------------------------

    def run(self) -> Fix:
        """Search to the end; Ctrl-C or a failure on the way ends it early and keeps what is known.

        Raises what the first training of the untreated network raises.
        """
        try:
            self._search()
        except KeyboardInterrupt:
            self.interrupted = True
        except UnvanishError as error:
            if 0 not in self._baseline:
                raise
            self.trainer.notes.append(
                _("the search ended early: {reason}").format(reason=error.problem)
            )
        return self.result()

    def _search(self) -> None:
        first = self._train(UNTREATED, 0, self.trainer.steps, _("the untreated network"))
        self._baseline[0] = first
        if first.diagnosis is None or not needs_cure(first.diagnosis):
            return
        self.progress(_("proposing cures"), self._share())
        self._candidates = sorted(self.trainer.propose(first), key=lambda one: -promise(one))
        self._screen()
        self._prove()

    def _screen(self) -> None:
        steps = short_steps(self.trainer.steps)
        fitting = [one for one in self._candidates if one.refused is None]
        if not fitting:
            return
        full = self._baseline[0]
        first = self._diverse(fitting)
        rates = [Treatment(lr_factor=rate) for rate in RATES]
        certain = [*rates, *(Treatment((one.name,)) for one in first[:ENOUGH])]
        # The same seed and batches: the beginning of the full training is the short one, but the
        # yardstick was held to its end.
        if len(full.losses) > steps or not full.usable:
            self._ahead([Job(one, 0, steps) for one in (UNTREATED, *certain)])
            self._short = self._train(UNTREATED, 0, steps, _("the untreated network, shortly"))
        else:
            self._ahead([Job(one, 0, steps) for one in certain])
            self._short = full
        for treatment in rates:
            outcome = self._train(treatment, 0, steps, treatment.label)
            self._rates[treatment.lr_factor] = outcome
        for one in [*first, *(one for one in fitting if one not in first)]:
            if not self._screened_enough(one):
                self._tried.append(self._shortly(Tried(Treatment((one.name,)), (one,)), steps))
        more = [each for each in (self._pair(), self._slower()) if each is not None]
        self._ahead([Job(each.treatment, 0, steps) for each in more])
        for each in more:
            self._tried.append(self._shortly(each, steps))

    def _screened_enough(self, one: Candidate) -> bool:
        """Whether `one` can be left out: others mend and it is no new sort, or money is short."""
        if len(self._tried) < ENOUGH:
            return False
        if len(self._tried) >= self.budget.screened:
            proof = 2 * self.budget.seeds
            helped = any(self._helps(each) for each in self._tried)
            return helped or self.spent + proof + 1 / SHORT > self.budget.most
        sorts = {each.keeps_activation for each in self._tried}
        mends = any(self._gone(each) and self._helps(each) for each in self._tried)
        return mends and (one.keeps_activation in sorts or not self._slope_blamed())

    def _diverse(self, fitting: Sequence[Candidate]) -> list[Candidate]:
        """Return the cures to try: by prior, but of those that swap and those that keep, both."""
        chosen = list(fitting[: self.budget.screened])
        for keeps in (True, False):
            if len(chosen) > 1 and not any(one.keeps_activation == keeps for one in chosen):
                other = next((one for one in fitting if one.keeps_activation == keeps), None)
                if other is not None:
                    chosen[-1] = other
        return chosen

    def _pair(self) -> Tried | None:
        """Return the two best cures together, if they are of different kinds of change."""
        good = [one for one in self._ranked() if len(one.candidates) == 1 and self._helps(one)]
        if len(good) < 2:
            return None
        first = good[0]
        for second in good[1:]:
            one, other = first.candidates[0], second.candidates[0]
            if one.kind != other.kind and "loss" not in (one.kind, other.kind):
                # A change of the network comes before one of its optimiser.
                parts = sorted((one, other), key=lambda part: part.kind == "optimiser")
                return Tried(Treatment(tuple(part.name for part in parts)), tuple(parts))
        return None

    def _slower(self) -> Tried | None:
        """Return the best cure with a lower rate: a network that learns again may need one."""
        for one in self._ranked():
            if len(one.candidates) == 1 and one.candidates[0].kind == "structural":
                return replace(one, treatment=Treatment(one.treatment.cures, RATES[1]), short=None)
        return None

    def _prove(self) -> None:
        full = self.trainer.steps
        for finalists, one in enumerate(self._finalists()):
            if finalists == MOST_FINALISTS or (finalists and self._enough(one)):
                break
            needed = self.budget.seeds * (1 if finalists else 2)
            if self.spent + needed > self.budget.most and finalists:
                break
            one.proof = self._proof(one, full)

    def _enough(self, one: Tried) -> bool:
        """Whether a further finalist adds nothing: one is proven, and it is of the same sort."""
        proven = [each for each in self._tried if each.proof is not None and each.proof.proven]
        sorts = {each.keeps_activation for each in proven}
        return bool(proven) and not (self._slope_blamed() and one.keeps_activation not in sorts)

    def _slope_blamed(self) -> bool:
        diagnosis = self._baseline[0].diagnosis
        return diagnosis is not None and any(
            finding.factor == "slope" for finding in diagnosis.findings[:1]
        )

    def _finalists(self) -> Iterable[Tried]:
        """Yield those worth a proof, the best first; after a proven one, the other sort first."""
        left = [one for one in self._ranked() if self._helps(one)]
        while left:
            proven = [one for one in self._tried if one.proof is not None and one.proof.proven]
            sorts = {one.keeps_activation for one in proven}
            left.sort(key=lambda one: one.keeps_activation in sorts)  # stable: ranks stay
            yield left.pop(0)

    def _proof(self, one: Tried, steps: int) -> Proof:
        """Train `one` beside the untreated network on fresh seeds, as long as it can win."""
        seeds = range(1, self.budget.seeds + 1)
        mine: list[Outcome] = []
        for seed in seeds:
            try:
                self._pairs_ahead(one, seed, steps)
                one.last = self._paired(one, seed, steps)
            except KeyboardInterrupt:
                if mine:
                    one.proof = self._judged(one, list(seeds)[: len(mine)], mine, steps)
                raise
            mine.append(one.last)
            theirs = [self._baseline[seed].score for seed in seeds if seed in self._baseline]
            scores = [_final(each) for each in mine]
            if prove.hopeless(theirs, scores) and not one.measured_only:
                break
        return self._judged(one, list(seeds)[: len(mine)], mine, steps)

    def _pairs_ahead(self, one: Tried, seed: int, steps: int) -> None:
        """Announce the pair of the first seed; where it can still win, those of all the others."""
        first, *others = range(1, self.budget.seeds + 1)
        if seed == first or seed in others[:1]:
            self._ahead(
                [
                    Job(treatment, other, steps)
                    for other in ([first] if seed == first else others)
                    for treatment in (UNTREATED, one.treatment)
                    if treatment != UNTREATED or other not in self._baseline
                ]
            )

    def _paired(self, one: Tried, seed: int, steps: int) -> Outcome:
        """Train `one` from `seed`, and the untreated network before it, if it was not yet."""
        if seed not in self._baseline:
            what = _("proof, seed {seed}: untreated").format(seed=seed)
            self._baseline[seed] = self._train(UNTREATED, seed, steps, what)
        what = _("proof, seed {seed}: {cure}").format(seed=seed, cure=one.treatment.label)
        return self._train(one.treatment, seed, steps, what)

    def _judged(
        self, one: Tried, seeds: Sequence[int], mine: Sequence[Outcome], steps: int
    ) -> Proof:
        before = self._baseline[0].diagnosis
        assert before is not None
        theirs = [self._baseline[seed].score for seed in seeds]
        scores = [_final(each) for each in mine]
        code = before.findings[0].code if before.findings else None
        gone = prove.gone(before.verdict, code, [each.diagnosis for each in mine])
        why = self._why_not(one, theirs, mine, gone)
        return Proof(
            seeds=tuple(seeds),
            steps=steps,
            baseline_scores=tuple(theirs),
            scores=tuple(scores),
            losses={str(s): each.losses for s, each in zip(seeds, mine, strict=True)},
            verdicts_after=tuple(e.diagnosis.verdict for e in mine if e.diagnosis is not None),
            gone=gone,
            beaten=prove.beaten(theirs, scores),
            proven=not why,
            why_not=why,
        )

    def _why_not(
        self, one: Tried, theirs: Sequence[float], mine: Sequence[Outcome], gone: bool
    ) -> str:
        if not gone:
            return _("the finding is still there")
        if one.measured_only:
            return _("it changes the loss, so that losses cannot be compared")
        if not prove.beats(theirs, [_final(each) for each in mine]):
            return _("its worst run does not beat the best untreated run by the margin")
        if len(mine) < max(self.budget.seeds, prove.LEAST_SEEDS):
            return _("fewer than {least} seeds").format(
                least=max(self.budget.seeds, prove.LEAST_SEEDS)
            )
        if not self._varies(mine):
            return _("one seed: nothing that a seed changes was found in this training")
        if not self._beats_rates(one, mine[0]):
            return _("another learning rate alone does as well")
        return ""

    def _varies(self, mine: Sequence[Outcome]) -> bool:
        """Whether a seed changes anything: the first losses differ, or the trainer knows."""
        if self.trainer.varies is not None:
            return self.trainer.varies
        return any(
            len({losses for losses in firsts if all(map(math.isfinite, losses))}) > 1
            for firsts in (
                [outcome.losses[:3] for outcome in self._baseline.values() if outcome.usable],
                [outcome.losses[:3] for outcome in mine],
            )
        )

    def _beats_rates(self, one: Tried, first: Outcome) -> bool:
        """Whether a structural cure beats the rate that helped most in short, trained in full.

        On the first fresh seed. A rate that did not help the untreated network is not tried again.
        """
        known = [(each.score, rate) for rate, each in self._rates.items() if each.usable]
        score, rate = min(known, default=(math.inf, 1.0))
        optimiser = all(each.kind == "optimiser" for each in one.candidates)
        if optimiser or self._short is None or score >= self._short.score:
            return True
        if self._rate_in_full is None:
            treatment = Treatment(lr_factor=rate)
            self._rate_in_full = self._train(treatment, 1, self.trainer.steps, treatment.label)
        return first.score < self._rate_in_full.score

    # --- ranking -------------------------------------------------------------------------------

    def _ranked(self) -> list[Tried]:
        """Return what was tried for a short time, the best first."""
        usable = [one for one in self._tried if one.short is not None and one.short.usable]
        return sorted(usable, key=lambda one: (not self._gone(one), one.score))

    def _gone(self, one: Tried) -> bool:
        before = self._baseline[0].diagnosis
        if before is None or one.short is None:
            return False
        code = before.findings[0].code if before.findings else None
        return prove.gone(before.verdict, code, [one.short.diagnosis])

    def _helps(self, one: Tried) -> bool:
        """Whether it is better than the untreated network, at any of the three rates."""
        if one.short is None or not one.short.usable:
            return False
        if one.measured_only:
            return self._gone(one)
        if not math.isfinite(one.score):
            return False
        others = [each.score for each in self._rates.values() if each.usable]
        untreated = self._short.score if self._short is not None else math.inf
        optimiser = all(each.kind == "optimiser" for each in one.candidates)
        return one.score < (untreated if optimiser else min([untreated, *others]))

    # --- training ------------------------------------------------------------------------------

    def _shortly(self, one: Tried, steps: int) -> Tried:
        one.short = one.last = self._train(one.treatment, 0, steps, one.treatment.label)
        one.why = one.short.refused or one.short.error or ""
        return one

    def _ahead(self, jobs: Sequence[Job]) -> None:
        """Announce the trainings that come next, so that those of one shape may run together."""

        def begins(count: int) -> None:
            self.progress(_("{count} trainings as one ensemble").format(count=count), self._share())

        self.trainer.ahead(jobs, begins)

    def _train(self, treatment: Treatment, seed: int, steps: int, what: str) -> Outcome:
        self.progress(what, self._share())
        outcome = self.trainer.train(treatment, seed, steps)
        self.spent += outcome.cost
        return outcome

    def _share(self) -> float:
        expected = 1 + (self.budget.screened + 5) / SHORT + 2 * self.budget.seeds
        return min(0.99, self.spent / expected)

    # --- what came of it -----------------------------------------------------------------------

    def result(self) -> Fix:
        """Return what is known so far.

        Raises ValueError before the first training is over, NoSignalError if it showed nothing.
        """
        first = self._baseline.get(0)
        if first is None:
            raise ValueError("nothing has been trained")
        if first.diagnosis is None:
            raise NoSignalError(
                _("no backward pass was traced in this run"),
                _("Run at least one step that calls loss.backward()."),
            )
        cures = self._cures()
        proven = [one.name for one in cures if one.status == "proven"]
        return Fix(
            command=self.command,
            verdict_before=first.diagnosis.verdict,
            training_before=first.diagnosis.training,
            diagnosis=first.diagnosis,
            yardstick=self.trainer.yardstick,
            steps=self.trainer.steps,
            short_steps=short_steps(self.trainer.steps),
            baseline={str(seed): one.losses for seed, one in self._baseline.items()},
            baseline_scores={str(seed): one.score for seed, one in self._baseline.items()},
            rates={f"{rate:.3g}": one.score for rate, one in self._rates.items()},
            baseline_short=self._short.score if self._short is not None else None,
            cures=tuple(cures),
            best=proven[0] if proven else None,
            trainings_spent=round(self.spent + self.trainer.unasked, 3),
            notes=(*self.trainer.notes, *how_they_ran(self.trainer.ensembles)),
            interrupted=self.interrupted,
            ensembles=tuple(self.trainer.ensembles),
        )

    def _cures(self) -> list[Cure]:
        found = [one.record() for one in self._tried]
        names = {name for one in self._tried for name in one.treatment.cures}
        found += [untried(one) for one in self._candidates if one.name not in names]
        return sorted(found, key=rank)


def needs_cure(diagnosis: Diagnosis) -> bool:
    """Whether a finding above a remark stands: a healthy network is left alone."""
    return diagnosis.verdict != "healthy" and any(
        finding.severity != "info" for finding in diagnosis.findings
    )


def promise(one: Candidate) -> float:
    """Return how much a candidate promises: its prior, less where one backward pass speaks against.

    Where the untreated network loses or gains more than a decade from its last layer to its first,
    a cure that leaves this as it is promises half of one that mends it.
    """
    seen = one.predicted
    if seen is None or seen.ratio_before_log10 is None or seen.ratio_after_log10 is None:
        return one.prior
    before, after = abs(seen.ratio_before_log10), abs(seen.ratio_after_log10)
    if not 1.0 < before < math.inf or math.isnan(after):
        return one.prior
    return one.prior * (1.0 - 0.5 * min(1.0, after / before))


def _final(outcome: Outcome) -> float:
    """The score of a training that ended; +inf of one that did not."""
    return outcome.score if outcome.usable else math.inf


def short_steps(steps: int) -> int:
    """Return the length of a short training."""
    return min(steps, max(SHORT_LEAST, steps // SHORT))
