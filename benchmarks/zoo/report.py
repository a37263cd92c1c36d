"""What the zoo showed: the result file and its page, judged anew by the rules of today."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.zoo.kept import read
from benchmarks.zoo.rates import half, interval

from unvanish import codec
from unvanish.diagnose import diagnose
from unvanish.records import Diagnosis, Run

REASONS = Path(__file__).with_name("reasons.toml")
Row = dict[str, Any]
AS_CLEAN = 0.9  # progress from which a faulty network trains as well as the clean one


def results(
    traced: list[Row],
    studied: list[Row],
    cache: Path,
    trained: Iterable[Row] = (),
    known: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return all that is known, with the verdicts that today's rules give to the kept records.

    `trained`: what came of training those with an alarm at initialisation; `known`: how many
    architectures each library has.
    """
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    architectures = [architecture(row, cache, reasons) for row in traced]
    learnt = {(row["library"], row["name"]): row for row in trained}
    for row in architectures:
        if "reason" in row and (row["library"], row["name"]) in learnt:
            row["trained"] = learnt[row["library"], row["name"]]
    cases = [case for row in studied for case in _cases(row, cache)]
    return {
        "libraries": {
            library: _counts(
                [row for row in architectures if row["library"] == library], known.get(library)
            )
            for library in dict.fromkeys(row["library"] for row in architectures)
        },
        "studied": _studied(studied),
        "rules": _fired(architectures),
        "rates": {which: rates(cases, which) for which in ("frozen", "judged")},
        "architectures": architectures,
        "cases": cases,
    }


def _judged(name: str | None, directory: Path) -> Diagnosis | None:
    if name is None or not (directory / name).exists():
        return None
    return diagnose(read(name, directory))


def _findings(diagnosis: Diagnosis) -> list[Row]:
    return [
        {
            "code": each.code,
            "severity": each.severity,
            "module": each.where.module,
            "title": each.title,
        }
        for each in diagnosis.findings
        if each.verdict != "healthy"
    ]


def architecture(row: Row, cache: Path, reasons: Mapping[str, Any]) -> Row:
    kept = ("library", "name", "family", "rank", "status", "settings", "parameters", "ops",
            "seconds", "cpu_s", "build_s", "check_s", "judge_s", "error", "verdict", "findings",
            "notes")  # fmt: skip
    one = {key: row[key] for key in kept if row.get(key) not in (None, [])}
    diagnosis = _judged(row.get("run"), cache / "checks")
    if diagnosis is not None:
        started = time.process_time()
        diagnose(diagnosis.run)
        one["judge_s"] = round(time.process_time() - started, 4)
        one["verdict"] = diagnosis.verdict
        one["findings"] = _findings(diagnosis)
    if alarming(one.get("findings", [])):
        one["reason"] = reasons.get(row["library"], {}).get(row["name"], "")
    return one


def _cases(row: Row, cache: Path) -> Iterable[Row]:
    for case in row.get("cases", []):
        one = {"library": row["library"], "name": row["name"], "half": half(row["name"])}
        one |= {key: value for key, value in case.items() if key != "run"}
        diagnosis = _judged(case.get("run"), cache / "runs")
        if one["label"] == "cut" and diagnosis is not None and not front_is_cut(diagnosis.run):
            one["label"] = "cut branch"
        if diagnosis is not None:
            one |= {
                "verdict": diagnosis.verdict,
                "training": diagnosis.training,
                "findings": [f"{each['code']} {each['severity']}" for each in _findings(diagnosis)],
            }
        yield one


def front_is_cut(run: Run) -> bool:
    """Whether a detach leaves what lies before it without a gradient, or only part of a branch.

    Most of the parameters in front of the last one that lost its gradient must have lost theirs.
    """
    states = [each.gradient for each in run.models[0].parameters if each.requires_grad]
    last = max((i for i, state in enumerate(states) if state == "none"), default=-1)
    return last >= 0 and states[: last + 1].count("none") > 0.6 * (last + 1)


def alarming(findings: list[Row]) -> bool:
    """Whether a finding is graver than a remark."""
    return any(each["severity"] != "info" for each in findings)


def _counts(rows: list[Row], known: int | None) -> Row:
    status = Counter(row["status"] for row in rows)
    traced = [row for row in rows if row["status"] == "traced"]
    judged = sorted(row["judge_s"] for row in traced)
    return {
        "known": known or len(rows),
        "tried": len(rows),
        "families": len({row["family"] for row in rows}),
        **{key: status[key] for key in ("traced", "crash", "untrained", "unbuilt")},
        "too large or slow": sum(
            status[key] for key in ("too large", "timeout", "memory", "died", "error")
        ),
        "with an alarm": sum(alarming(row.get("findings", [])) for row in traced),
        "processor s": round(sum(row.get("cpu_s", row["seconds"]) for row in rows)),
        "most ops": max((row["ops"] for row in traced), default=0),
        "longest judging, s": judged[-1] if judged else 0.0,
    }


def _studied(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Return how many architectures of each library were studied, and why the others were not."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row["library"], Counter())[row["status"]] += 1
    return {library: dict(count) for library, count in found.items()}


def _fired(rows: list[Row]) -> dict[str, dict[str, int]]:
    """Return how many architectures each rule fired on, by severity."""
    fired: dict[str, Counter[str]] = {}
    for row in rows:
        for code, severity in {(f["code"], f["severity"]) for f in row.get("findings", [])}:
            fired.setdefault(code, Counter())[severity] += 1
    return {code: dict(fired[code]) for code in sorted(fired)}


def rates(cases: list[Row], which: str) -> Row:
    """Return the alarms on what trains, and the share caught of what does not, in one half."""
    ours = [case for case in cases if case["half"] == which and "verdict" in case]

    def share(chosen: Callable[[Row], bool]) -> Row:
        group = [case for case in ours if chosen(case)]
        count = sum(case["verdict"] != "healthy" for case in group)
        low, high = interval(count, len(group)) if group else (0.0, 1.0)
        return {"alarms": count, "of": len(group), "low": round(low, 4), "high": round(high, 4)}

    return {
        "architectures": len({(case["library"], case["name"]) for case in ours}),
        "cases": len(ours),
        "clean": share(lambda case: case["fault"] == "clean"),
        "as clean": share(lambda case: case["label"] == "trains" and case["progress"] >= AS_CLEAN),
        "trains": share(lambda case: case["label"] == "trains"),
        "untrainable": share(lambda case: case["label"] == "untrainable"),
        "cut": share(lambda case: case["label"] == "cut"),
        "neither": share(lambda case: case["label"] == "neither"),
    }


# --- the page ------------------------------------------------------------------------------------


def page(found: Row) -> str:
    """Return the page in Markdown."""
    parts = [_HEAD, _library_table(found["libraries"]), _rule_table(found["rules"])]
    parts += [_alarm_table(found["architectures"]), _left_out(found["architectures"])]
    parts += [
        _FAULTS,
        _studied_table(found["studied"]),
        _rate_table(found["rates"]),
        _fault_table(found["cases"]),
    ]
    parts += [_wrong(found["cases"])]
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """\
# The zoo

Architectures of torchvision, timm and transformers (each type of configuration, shrunk): random
weights, a small real batch, one traced backward, one verdict. `make coverage-zoo` makes this page
and `benchmarks/results/zoo.json`, which has a row for each. Of what does not fit the time, the
smallest of every family come first, then every second, and so on; the same command goes on where it
was. The bounds are 120 million parameters and half a minute of processor time.

*Known*: listed by the library. *Tried*: looked at so far. *Unbuilt*: no small configuration was
found that takes a batch (many are parts of other models, which are traced). *Untrained*: its own
step fails, without us. *Crash*: the step succeeds, and Unvanish fails. *Alarm*: a warning or an
error at initialisation."""

_FAULTS = """\
## Faults put in

Silence alone proves nothing. A sample (the smallest of each family, where a step is quick, in the
order of a hash) is trained on one real batch, clean and with faults put in, under SGD with momentum
or under Adam (by the hash), watched as `unvanish run` does. Models of transformers get a linear
read-out and tell eight inputs apart, the others learn ten digits. The clean network chooses the
learning rate, from a few. Each architecture gets weights halved, doubled and N(0, 0.001), a detach,
and six drawn by its name from eleven harsher ones.

The label is what training did, without any verdict: *untrainable* if it covered less than a tenth
of the clean network's way below chance, though given 1.8 times the steps; *trains* from half of it
on; *neither* between them (left out of the rates). *Cut* is a detach that leaves what lies before
it without a gradient, whatever training did; one that only cuts a branch beside a skip is shown
apart (*cut branch*).

An alarm on a clean network is false. A faulty network that trains nevertheless is harder to call:
half of the clean one's way is slow and visibly harmed, so its alarms are counted twice, from nine
tenths of the way on (as good as clean), and from half on.

Half of the names, by their hash, may be looked at to set thresholds; the other half only judges.
What was looked at while the study was set up (bert, test_vit, test_resnet) is in the first. Until
the rules were done only that was looked at. Because of it:

- CG101 sees a cut behind a weight that is tied to the head;
- FS104 (the forward signal fades) and EG106 (the output starts far too large) are new;
- what a trunk loses or gains is a remark where the loss goes all the way, or half of it and on;
- a detach that cuts only a branch is labelled apart, and *untrainable* means less than a tenth of
  the way (first a quarter).

Because of the alarms at initialisation, of both halves, which have no labels: side branches are
judged by what is their own, growth in networks with normalisation is excused whatever it is booked
under, and rectifiers that are fed zeros, or sit in a narrow gate, are not called dead.

The bounds take cases as independent. Faults of one architecture are not quite, and many text models
are kin: they are wider in truth."""


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _library_table(libraries: Mapping[str, Row]) -> str:
    keys = list(next(iter(libraries.values()))) if libraries else []
    return _table(["", *keys], ([name, *row.values()] for name, row in libraries.items()))


def _rule_table(rules: Mapping[str, Row]) -> str:
    levels = ("error", "warning", "info")
    rows = ([code, *(row.get(level, 0) for level in levels)] for code, row in rules.items())
    return "Rules that fired at initialisation, by architectures:\n\n" + _table(
        ["rule", *levels], rows
    )


def _alarm_table(rows: list[Row]) -> str:
    alarms = [row for row in rows if "reason" in row]
    if not alarms:
        return "No architecture has a warning or an error at initialisation."
    cells = (
        [
            f"{row['library']}/{row['name']}",
            ", ".join(dict.fromkeys(f["code"] for f in row["findings"] if f["severity"] != "info")),
            row["reason"] or "not looked at yet",
            _learnt(row.get("trained")),
        ]
        for row in alarms
    )
    return "## Alarms at initialisation, and why\n\n" + _table(
        ["", "rules", "reason", "trained 45 steps on its batch"], cells
    )


def _learnt(row: Row | None) -> str:
    if row is None or row["status"] != "trained":
        return "–" if row is None else str(row["status"])
    return (
        f"{row['start']:.3g} to {row['end']:.3g} ({row['optimizer']}, {row['rate']:g}),"
        f" {max(row['fall'], 0):.0%} of its way"
    )


def _left_out(rows: list[Row]) -> str:
    left = [row for row in rows if row["status"] not in ("traced", "unbuilt", "too large")]
    cells = ([f"{r['library']}/{r['name']}", r["status"], _cell(r.get("error", ""))] for r in left)
    if not left:
        return ""
    return "## Built, and not traced\n\n" + _table(["", "", "reason"], cells)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:160]


def _studied_table(found: Mapping[str, Row]) -> str:
    status = sorted({key for row in found.values() for key in row})
    return _table(
        ["architectures", *status],
        ([library, *(row.get(key, 0) for key in status)] for library, row in found.items()),
    )


def _rate_table(found: Mapping[str, Row]) -> str:
    rows = []
    for which, row in found.items():
        for key, meaning in (
            ("clean", "clean: alarms"),
            ("as clean", "faulty or not, trains as the clean one does (0.9 of its fall): alarms"),
            ("trains", "faulty or not, trains (half of its fall): alarms"),
            ("untrainable", "untrainable: caught"),
            ("cut", "cut: caught"),
        ):
            one = row[key]
            share = f"{one['alarms'] / one['of']:.1%}" if one["of"] else "–"
            bounds = f"{one['low']:.1%} to {one['high']:.1%}"
            rows.append(
                [
                    f"{which} ({row['architectures']})",
                    meaning,
                    one["alarms"],
                    one["of"],
                    share,
                    bounds,
                ]
            )
    return _table(["half", "", "count", "of", "share", "95 % bounds"], rows)


def _fault_table(cases: list[Row]) -> str:
    labels = ("trains", "neither", "untrainable", "cut", "cut branch")
    rows = []
    for fault in dict.fromkeys(case["fault"] for case in cases if "fault" in case):
        for optimizer in ("SGD", "Adam"):
            ours = [c for c in cases if c.get("fault") == fault and c["optimizer"] == optimizer]
            cells = []
            for label in labels:
                group = [case for case in ours if case["label"] == label and "verdict" in case]
                told = sum(case["verdict"] != "healthy" for case in group)
                cells.append(f"{told} of {len(group)}" if group else "")
            rows.append([fault, optimizer, *cells])
    return "Told sick, of those with each label (both halves):\n\n" + _table(
        ["fault", "optimiser", *labels], rows
    )


def _wrong(cases: list[Row]) -> str:
    rows = []
    for case in cases:
        if "verdict" not in case:
            continue
        sick = case["verdict"] != "healthy"
        if (case["label"] == "trains" and sick) or (
            case["label"] in ("untrainable", "cut") and not sick
        ):
            findings = ", ".join(case["findings"]) or "nothing"
            rows.append(
                [
                    f"{case['library']}/{case['name']}",
                    f"{case['fault']}, {case['optimizer']}",
                    case["half"],
                    f"{case['label']} ({case['progress']:.2f})",
                    findings,
                ]
            )
    if not any("verdict" in case for case in cases):
        return "No faults were put in yet: `python -m benchmarks.zoo faults`."
    if not rows:
        labelled = [case for case in cases if "verdict" in case]
        sick = sum(case["label"] in ("untrainable", "cut") for case in labelled)
        return (
            f"No labelled case was misjudged, of {len(labelled)}, of which {sick} are sick:"
            " the bounds above say how little that shows."
        )
    return "Cases judged otherwise than their label, with the progress made:\n\n" + _table(
        ["", "fault", "half", "label", "said"], rows
    )


def write(found: Row, results_file: Path, page_file: Path) -> None:
    """Write the result file, a row a line, and the page. What is infinite is written as a word."""
    page_file.write_text(page(found), encoding="utf-8")
    found = codec.to_plain(found)
    top = {key: value for key, value in found.items() if not isinstance(value, list)}
    text = json.dumps(top, indent=1)[:-2]
    for key, value in found.items():
        if isinstance(value, list):
            rows = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in value)
            text += f',\n "{key}": [\n  {rows}\n ]'
    results_file.write_text(text + "\n}\n", encoding="utf-8")
