"""What the zoo showed: the result file and its page, judged anew by the rules of today."""

from __future__ import annotations

import json
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.zoo.kept import read
from benchmarks.zoo.rates import half, interval

from unvanish import codec
from unvanish.diagnose import diagnose
from unvanish.records import Diagnosis, Run

REASONS = Path(__file__).with_name("reasons.toml")
Row = dict[str, Any]
AS_CLEAN = 0.9  # progress from which a faulty network trains as well as the clean one


def results(traced: list[Row], studied: list[Row], cache: Path) -> dict[str, Any]:
    """Return all that is known, with the verdicts that today's rules give to the kept records."""
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    architectures = [architecture(row, cache, reasons) for row in traced]
    cases = [case for row in studied for case in _cases(row, cache)]
    return {
        "libraries": {
            library: _counts([row for row in architectures if row["library"] == library])
            for library in dict.fromkeys(row["library"] for row in architectures)
        },
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


def _counts(rows: list[Row]) -> Row:
    status = Counter(row["status"] for row in rows)
    traced = [row for row in rows if row["status"] == "traced"]
    return {
        "tried": len(rows),
        **{key: status[key] for key in ("traced", "crash", "untrained", "unbuilt")},
        "too large or slow": sum(status[key] for key in ("timeout", "memory", "died")),
        "alarms at initialisation": sum(alarming(row.get("findings", [])) for row in traced),
        "seconds": round(sum(row["seconds"] for row in rows)),
        "most ops": max((row["ops"] for row in traced), default=0),
        "longest judging, s": max((row["judge_s"] for row in traced), default=0.0),
    }


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
    parts += [_FAULTS, _rate_table(found["rates"]), _fault_table(found["cases"])]
    parts += [_wrong(found["cases"])]
    return "\n\n".join(part for part in parts if part) + "\n"


_HEAD = """\
# The zoo

Every architecture of torchvision, timm (the smallest of each family, and the next where it is small
too) and transformers (each type of configuration, shrunk) that fits the machine: random weights, a
small real batch, one traced backward, one verdict. `make coverage-zoo` makes this page and
`benchmarks/results/zoo.json`, which has a row for each. *Unbuilt*: no small configuration was found
that takes a batch. *Untrained*: its own step fails, without us. *Crash*: the step succeeds, and
Unvanish fails. Where an architecture is missing, the time was out: the same command goes on."""

_FAULTS = """\
## Faults put in

Silence alone proves nothing. A sample (those that train quickly, one a family, in the order of a
hash) is trained on one real batch, clean and with faults put in, under SGD with momentum and under
Adam, watched as `unvanish run` does. The label is what training did, fixed before any verdict was
seen: *trains* if it reached half of the clean network's fall below chance, *untrainable* if less
than a quarter, though given 2.4 times the steps; *cut* is a detach in the middle, whatever training
did. Half of the names, by their hash, may be looked at to set thresholds; the other half judges."""


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
        ]
        for row in alarms
    )
    return "## Alarms at initialisation, and why\n\n" + _table(["", "rules", "reason"], cells)


def _left_out(rows: list[Row]) -> str:
    left = [row for row in rows if row["status"] not in ("traced", "unbuilt")]
    cells = ([f"{r['library']}/{r['name']}", r["status"], _cell(r.get("error", ""))] for r in left)
    if not left:
        return ""
    return "## Built, and not traced\n\n" + _table(["", "", "reason"], cells)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())[:160]


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
            rows.append([which, meaning, one["alarms"], one["of"], share, bounds])
    return _table(["half", "", "count", "of", "share", "95 % bounds"], rows)


def _fault_table(cases: list[Row]) -> str:
    labels = ("trains", "neither", "untrainable", "cut")
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
