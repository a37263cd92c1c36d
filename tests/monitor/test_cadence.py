"""The budget of looks holds for every `every`, on a clock of our own."""

import pytest

from unvanish.monitor.cadence import Cadence

BARE, LOOK = 0.05, 0.04  # seconds that a step takes, and that a look adds


@pytest.mark.parametrize("every", [None, 1, 3, 100])
def test_looks_take_their_share_and_no_more(every: int | None) -> None:
    now = [0.0]
    cadence = Cadence(every, overhead=0.01, clock=lambda: now[0])
    steps, looks = 20_000, 0
    for step in range(steps):
        look = cadence.look(step)
        looks += look == "sampled"
        now[0] += BARE + (LOOK if look == "sampled" else 0.0)
        cadence.step_over(step, look, LOOK if look == "sampled" else 0.0)
    # The share, one look that is begun within it, and what the start may spend in advance
    # (a second and eight steps; step 0 is not counted).
    assert looks * LOOK <= 0.01 * now[0] + 1.0 + 8 * BARE + 2 * LOOK
    # It is used, not saved: a quiet run is looked at as often as the budget or `every` allows.
    affordable = 0.01 * steps * BARE / LOOK
    wanted = min(affordable, steps / (every or 100))
    assert looks >= 0.9 * wanted


def test_a_look_at_every_multiple_is_light_where_the_budget_is_spent() -> None:
    now = [0.0]
    cadence = Cadence(1, overhead=0.01, clock=lambda: now[0])
    seen = set()
    for step in range(200):
        look = cadence.look(step)
        seen.add(look)
        now[0] += BARE + (LOOK if look == "sampled" else 0.0)
        cadence.step_over(step, look, LOOK if look == "sampled" else 0.0)
    assert seen == {"light", "sampled"}
