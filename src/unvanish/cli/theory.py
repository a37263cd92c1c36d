"""`unvanish theory`: the gains, critical points and depth scales of an activation."""

from __future__ import annotations

import re
from typing import Any

import click

from unvanish._version import __version__
from unvanish.cli.options import force_option, json_option, lang_option
from unvanish.errors import UsageError
from unvanish.i18n import _

SCHEMA = 1  # of the JSON; raised when a key changes its meaning or goes
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")  # and not leaky_relu_0.2
DEEPEST = 10_000  # layers; beyond it the answer takes minutes


def _help() -> str:
    return "\n\n".join(
        (
            _(
                "What mean-field theory says of an activation in wide plain networks: the gains"
                " that keep signals and gradients, the critical points, where lengths and"
                " correlations settle, and the greatest depth expected to train."
            ),
            _(
                "ACTIVATION is a name such as gelu, leaky_relu(0.2) or elu(alpha=0.5); a function"
                " or module by its dotted name, torch.nn.functional.gelu; or one of your own, an"
                " element-wise function of a tensor, as FILE.py:FUNCTION. In Python,"
                " unvanish.theory takes the same objects."
            ),
            _(
                "Weights have variance sigma_w^2 / fan_in and biases sigma_b^2. Without --sigma-w"
                " the table has PyTorch's default, both gains and the critical point."
            ),
        )
    )


def _epilog() -> str:
    return "\n\n".join(
        (
            _(
                "JSON: schema, tool_version, kind (theory), and activation, q, gains (forward,"
                " backward, centred), mean, kurtosis, slope_supremum, critical (kind, points,"
                " half_stable, statement), depth, width, notes, and settings: for each name,"
                " sigma_w, sigma_b, gain_log10, fixed_point (q, chi_1, chi_parallel, correlation,"
                " correlation_slope, phase, stable, xi_q, xi_c, trainable_depth), trains, and"
                " prediction (lengths, gains_log10, gain_log10, amplification_log10,"
                " correlation, median_log10, spread_log10; null without --depth)."
            ),
            _('NaN and infinities are the strings "NaN", "Infinity" and "-Infinity".'),
        )
    )


@click.command(
    help=_help(),
    epilog=_epilog(),
    short_help=_("gains, critical points and depth scales of an activation"),
)
@click.argument("activation", metavar="ACTIVATION")
@click.option("--depth", type=int, help=_("predict a network of so many layers"))
@click.option("--width", type=int, help=_("of so many units: its spread over random weights"))
@click.option("--sigma-w", type=float, help=_("standard deviation of weights × √fan_in"))
@click.option("--sigma-b", type=float, default=0.0, help=_("standard deviation of biases [0]"))
@click.option("--q", type=float, default=1.0, help=_("variance of the first pre-activations [1]"))
@click.option(
    "-o", "--output", metavar="FILE", help=_("write one HTML page with pictures of slope and phase")
)
@json_option
@force_option
@lang_option
def command(
    activation: str,
    depth: int | None,
    width: int | None,
    sigma_w: float | None,
    sigma_b: float,
    q: float,
    output: str | None,
    json_path: str | None,
    force: bool,
) -> None:
    """Compute the theory; then print it, or write it as a page or as JSON."""
    from unvanish import codec
    from unvanish.cli.output import check_output, show, write_output
    from unvanish.meanfield.bridge import resolve
    from unvanish.meanfield.facade import theory

    if width is not None and depth is None:
        raise UsageError(_("--width has no use without --depth"), _("Give both, or neither."))
    if depth is not None and depth > DEEPEST:
        raise UsageError(
            _("--depth {depth} is too deep").format(depth=depth),
            _("Give {limit} or less.").format(limit=DEEPEST),
        )
    files = [path for path in (output, json_path) if path is not None]
    if len(files) != len(set(files)):
        raise UsageError(
            _("the page and the JSON would be written to the same file"), _("Give two names.")
        )
    for path in files:
        check_output(path, force)
    resolved = resolve(_given(activation))
    found = theory(resolved, sigma_w=sigma_w, sigma_b=sigma_b, depth=depth, width=width, q=q)
    if json_path is not None:
        head = {"schema": SCHEMA, "tool_version": __version__, "kind": "theory"}
        write_output(json_path, codec.dumps(head | codec.to_plain(found)), force)
    if output is not None:
        from unvanish.report.theory import theory_page

        write_output(output, theory_page(found, resolved), force)
    if "-" not in files:
        from unvanish.report.theory import theory_view

        show(*theory_view(found, resolved))
    for path in files:
        if path != "-":
            click.echo(_("Wrote {path}").format(path=path), err=True)


def _given(text: str) -> Any:
    """Return what names an activation: its name, or the object that a path or a dotted name means.

    A plain name that is not known is left to the theory, whose error lists the known ones.
    """
    from unvanish.cli.usercode import imported, load

    if ".py:" in text:
        return load(text, example="unvanish theory mine.py:act")
    return imported(text) if _DOTTED.fullmatch(text) else text
