"""The codec in several threads at once, as the page reads runs when it opens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.diagnose.builders import a_model, a_run, stack, stuck
from unvanish.codec import decode_run, encode_run

# All threads meet the types of a run for the first time, and take turns as often as they can.
READERS = """
import sys, threading
from pathlib import Path
from unvanish.codec import decode_run

sys.setswitchinterval(1e-6)
data, ready = Path(sys.argv[1]).read_bytes(), threading.Barrier(8)

def read():
    ready.wait()
    decode_run(data)

threads = [threading.Thread(target=read) for _ in range(8)]
for each in threads:
    each.start()
for each in threads:
    each.join()
"""


def test_threads_may_read_their_first_runs_together(tmp_path: Path) -> None:
    run = a_run(a_model([stack(5, "relu", 1.4).trace(step) for step in (0, 1)], stuck()))
    saved = tmp_path / "run"
    saved.write_bytes(encode_run(run))
    assert decode_run(saved.read_bytes()) == run
    # Unguarded, half of such processes crash.
    for _attempt in range(6):
        subprocess.run([sys.executable, "-c", READERS, str(saved)], check=True, timeout=60)
