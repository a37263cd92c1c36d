"""One root of a continuous function in a bracket (numpy has none, and scipy is not needed)."""

from __future__ import annotations

from collections.abc import Callable


def bracketed_root(
    function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-15
) -> float:
    """Return x in [low, high] with f(x) = 0; f(low) and f(high) must differ in sign.

    Inverse quadratic interpolation where it can be trusted, else bisection (Chandrupatla 1997).
    `tolerance` is the width of the last bracket, relative to |x| + 1e-300.
    """
    a, b, c = high, low, high
    fa, fb, fc = function(a), function(b), 0.0
    if fa == 0.0 or fb == 0.0:
        return a if fa == 0.0 else b
    if fa * fb > 0.0:
        raise ValueError(f"no change of sign between {low!r} and {high!r}")
    step = 0.5
    for _ in range(200):
        x = a + step * (b - a)
        fx = function(x)
        if (fx > 0.0) == (fa > 0.0):
            c, fc = a, fa
        else:
            c, b, fc, fb = b, a, fb, fa
        a, fa = x, fx
        best, least = (a, fa) if abs(fa) < abs(fb) else (b, fb)
        narrowest = (2.0 * tolerance * abs(best) + 1e-300) / abs(b - a) if b != a else 1.0
        if narrowest >= 0.5 or least == 0.0:
            break
        place = (a - b) / (c - b)
        height = (fa - fb) / (fc - fb)
        step = 0.5
        if height**2 < place and (1.0 - height) ** 2 < 1.0 - place:
            step = fa / (fb - fa) * fc / (fb - fc)
            step += (c - a) / (b - a) * fa / (fc - fa) * fb / (fc - fb)
        step = min(1.0 - narrowest, max(narrowest, step))
    return best
