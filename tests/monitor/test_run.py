"""`unvanish run` from end to end: real scripts in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
from scripts import RUN, call, python, run

from unvanish import store
from unvanish.records import Run
from unvanish.report.document import schema

HEAD = """
import os, sys
import torch
from torch import nn

torch.manual_seed(0)
layers = [layer for _ in range(10) for layer in (nn.Linear(20, 20), nn.Sigmoid())]
model = nn.Sequential(*layers, nn.Linear(20, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
inputs, targets = torch.randn(32, 20), torch.randint(0, 5, (32,))

def step():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(inputs), targets)
    loss.backward()
    optimizer.step()
    return loss
"""


VERDICT = "Vanishing gradient: "


def write(directory: Path, body: str, head: str = HEAD) -> str:
    text = head + textwrap.dedent(body)
    (directory / "train.py").write_text(text)
    return "train.py"


def saved(directory: Path) -> Run:
    (summary,) = store.runs(directory / ".unvanish")
    return store.load(summary.id, directory / ".unvanish")


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    jsonschema.validate(found, schema())
    return found


def test_verdict_record_and_files_of_a_script_that_changes_directory(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        model.add_module("</script><b>", nn.Identity())
        os.makedirs("elsewhere")
        os.chdir("elsewhere")
        for _ in range(6):
            print(f"{step().item():.6f}")
        print("trained", file=sys.stderr)
        """,
    )
    plain = python(script, cwd=tmp_path).stdout
    (tmp_path / "elsewhere").rmdir()
    result = run(
        *("--fail-on", "error", "--json", "out.json", "-o", "out.html", script), cwd=tmp_path
    )
    assert result.returncode == 1, result.stderr
    assert result.stdout == plain
    lines = result.stderr.splitlines()
    said = [line for line in lines if line.startswith("unvanish: step 0: VG")]
    assert len(said) == 1
    assert lines.index(said[0]) < lines.index("trained")  # as soon as it is certain
    assert VERDICT in result.stderr.partition("trained")[2]
    assert not list((tmp_path / "elsewhere").iterdir())
    record = saved(tmp_path)
    assert (record.kind, record.ending, record.exit_code) == ("run", "finished", 0)
    assert record.command == (script,)
    assert record.models[0].name == "model"
    assert [trace.step for trace in record.models[0].traces] == [0, 1, 2, 4]
    assert [step.step for step in record.models[0].steps] == list(range(6))
    found = document(tmp_path / "out.json")
    assert (found["verdict"], found["exit_code"]) == ("vanishing", 1)
    assert found["findings"][0]["factor"] == "slope"
    assert "</script><b>" not in (tmp_path / "out.html").read_text()


def test_steps_ends_the_script_cleanly(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        done = 0
        try:
            for _ in range(1000):
                step()
                done += 1
        finally:
            print("steps finished:", done)
        print("not reached")
        """,
    )
    result = run("--quiet", "--no-probe", "--steps", "3", script, cwd=tmp_path)
    # The third step has been made when it ends the script; the line after it is not reached.
    assert (result.returncode, result.stdout, result.stderr) == (0, "steps finished: 2\n", "")
    assert saved(tmp_path).ending == "steps-reached"
    assert len(saved(tmp_path).models[0].steps) == 3


def test_a_crash_keeps_its_traceback_and_yields_its_verdict(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        def look(gradient):
            if len(losses) == 2:
                raise ValueError("inside backward")

        losses = []
        layers[-1].register_forward_hook(lambda _m, _a, output: output.register_hook(look) and None)
        while True:
            losses.append(step().item())
        """,
    )
    result, pythons = run(script, cwd=tmp_path), python(script, cwd=tmp_path)
    assert result.returncode == pythons.returncode == 1
    assert pythons.stderr in result.stderr
    assert VERDICT in result.stderr
    assert (saved(tmp_path).ending, saved(tmp_path).exit_code) == ("crashed", 1)
    assert saved(tmp_path).error == "ValueError: inside backward"
    assert len(saved(tmp_path).models[0].steps) == 2


def test_ctrl_c_in_training(tmp_path: Path) -> None:
    script = write(tmp_path, "step()\nprint('ready', flush=True)\nwhile True: step()")
    with subprocess.Popen(
        (*RUN, script), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "KeyboardInterrupt" in stderr
    assert "unvanish/monitor" not in stderr
    assert saved(tmp_path).ending == "interrupted"


def test_no_backward_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    script = write(tmp_path, "with torch.no_grad(): print(model(inputs).shape)")
    result = run(script, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "torch.Size([32, 5])\n")
    assert result.stderr.count("\n") == 1
    assert "never called backward. Run the script that trains" in result.stderr


def test_data_workers_are_no_children_worth_a_note_and_others_are(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import multiprocessing, subprocess
        from torch.utils.data import DataLoader, TensorDataset

        def other():
            pass

        if __name__ == "__main__":
            data = TensorDataset(inputs, targets)
            for method in ("fork", "spawn"):
                for inputs, targets in DataLoader(
                    data, batch_size=16, num_workers=1, multiprocessing_context=method
                ):
                    step()
            child = multiprocessing.get_context("fork").Process(target=other)
            child.start()
            child.join()
            subprocess.run([sys.executable, "-m", "this"], stdout=subprocess.DEVNULL)
        """,
    )
    result = run("--quiet", script, cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(saved(tmp_path).models[0].steps) == 4
    notes = saved(tmp_path).notes
    assert len(notes) == 2
    assert "__main__.other" in notes[0]
    assert " -m this" in notes[1]


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import resource
        step()
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # writing more fails, as when full
        """,
    )
    result = run("--json", "out.json", script, cwd=tmp_path)
    assert result.returncode == 2
    assert VERDICT in result.stderr
    assert result.stderr.count("unvanish: error:") == 2  # the record, then the file
    assert "Free some space" in result.stderr
    (summary,) = store.runs(tmp_path / ".unvanish")
    assert summary.state == "killed"  # what was written before the disk was full
    assert not (tmp_path / "out.json").exists()


def test_torchrun_watches_rank_0_and_changes_nothing(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import torch.distributed as dist
        from torch.nn.parallel import DistributedDataParallel

        dist.init_process_group("gloo")
        rank = dist.get_rank()
        wrapped = DistributedDataParallel(model)
        torch.manual_seed(rank)
        for _ in range(5):
            inputs, targets = torch.randn(32, 20), torch.randint(0, 5, (32,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(wrapped(inputs), targets).backward()
            optimizer.step()
        torch.save(model.state_dict(), f"{sys.argv[1]}-{rank}.pt")
        dist.destroy_process_group()
        """,
    )
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    bare = call(*torchrun, script, "bare", cwd=tmp_path)
    assert bare.returncode == 0, bare.stderr
    result = call(
        *torchrun, "-m", "unvanish", "run", "--every", "1", script, "watched", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert result.stderr.count(VERDICT) == 1
    for rank in (0, 1):
        same = (
            "import torch, sys; a, b = (torch.load(name) for name in sys.argv[1:]);"
            "print(all(torch.equal(a[key], b[key]) for key in a))"
        )
        names = (f"bare-{rank}.pt", f"watched-{rank}.pt")
        assert python("-c", same, *names, cwd=tmp_path).stdout == "True\n"
    record = saved(tmp_path)
    assert record.environment.distributed == "rank 0 of 2"
    assert record.models[0].type == "Sequential"
    assert len(record.models[0].traces) == 5
    assert any("rank 0" in note for note in record.notes)
