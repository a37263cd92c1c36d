"""The theory of an activation: on the terminal, and as one HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup
from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from unvanish import i18n, words
from unvanish._version import __version__
from unvanish.i18n import _
from unvanish.meanfield import Activation
from unvanish.meanfield.facade import Setting, Theory, setting_name
from unvanish.meanfield.phase import diagram

_COLUMNS, _ROWS = 61, 4  # of the plot of slopes
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_STRIP = 48  # columns of the strip of phases
_FLAT = 0.005  # decades a layer within which the strip counts a layer as critical


def theory_view(theory: Theory, activation: Activation) -> list[RenderableType]:
    """Return the gains, the critical points, what each setting leads to, and two small plots."""
    return [
        *_facts(theory),
        "",
        *_slopes(activation, theory),
        "",
        *_phases(activation, theory),
        "",
        *_noted(theory),
    ]


def facts_view(theory: Theory) -> list[RenderableType]:
    """Return the same without the plots, which need the activation itself."""
    return [*_facts(theory), *_noted(theory)]


def _facts(theory: Theory) -> list[RenderableType]:
    return [
        Text(_("Mean-field theory of {name}").format(name=theory.activation), style="bold"),
        theory.critical.statement,
        *half_stable_lines(theory),
        _table(settings_rows(theory)),
        *(_table(rows) for rows in [prediction_rows(theory)] if rows),
        *(Text(line, style="dim") for line in legend(theory)),
    ]


def _noted(theory: Theory) -> list[RenderableType]:
    return [Padding(Text("· " + note), (0, 0, 0, 1)) for note in theory.notes]


def half_stable_lines(theory: Theory) -> list[str]:
    """Return a sentence on each half-stable point."""
    return [
        _(
            "Half-stable (χ₁ = χ∥ = 1) at q = {q:.6g}, σ_w = {sigma_w:.6g}, σ_b = {sigma_b:.6g}."
        ).format(q=point.q, sigma_w=point.sigma_w, sigma_b=point.sigma_b or 0.0)
        for point in theory.critical.half_stable
    ]


def phase_name(phase: str) -> str:
    """Return a phase in words."""
    return {"ordered": _("ordered"), "critical": _("critical"), "chaotic": _("chaotic")}[phase]


def merged(theory: Theory) -> list[tuple[str, Setting]]:
    """Return the settings with their names, equal ones once: for ReLU all gains are one."""
    rows: list[tuple[list[str], Setting]] = []
    for setting in theory.settings:
        name = setting_name(setting.name, theory.critical.kind)
        for names, known in rows:
            close = math.isclose(known.sigma_w, setting.sigma_w, rel_tol=1e-12)
            if close and known.sigma_b == setting.sigma_b:
                names.append(name)
                break
        else:
            rows.append(([name], setting))
    return [(_(", ").join(names), setting) for names, setting in rows]


def settings_rows(theory: Theory) -> list[list[str]]:
    """Return the table of what each setting leads to, its heads first."""
    rows = [["", "σ_w", "σ_b", "q*", "χ∥", _("phase"), _("a layer"), _("trains to")]]
    for name, setting in merged(theory):
        point = setting.fixed_point
        rows.append(
            [
                name,
                f"{setting.sigma_w:.5g}",
                f"{setting.sigma_b:.3g}",
                _short(point.q),
                _short(point.chi_parallel),
                phase_name(point.phase),
                _gain(setting.gain_log10),
                depth_name(point.trainable_depth),
            ]
        )
    return rows


def prediction_rows(theory: Theory) -> list[list[str]]:
    """Return the table of what is predicted at the given depth, its heads first; or nothing."""
    if theory.depth is None:
        return []
    wide = theory.width is not None
    heads = ["", _("{depth} layers").format(depth=theory.depth), _("spread"), _("alike")]
    rows = [[head for head in heads if wide or head != _("spread")]]
    for name, setting in merged(theory):
        prediction = setting.prediction
        if prediction is not None:
            spread = prediction.spread_log10
            cells = [name, words.times(prediction.gain_log10), f"{prediction.correlation:.2f}"]
            if spread is not None:
                # beyond a decade lengths have run away, and no more than that is known
                cells.insert(2, f"×÷ {10.0**spread:.2g}" if spread <= 1.0 else "×÷ >10")
            rows.append(cells)
    return rows


def _short(value: float) -> str:
    return words.quantity(float(f"{value:.3g}"))


def _gain(log10: float) -> str:
    return f"×{10.0**log10:.3g}" if abs(log10) < 3.0 else words.times(log10)


def depth_name(depth: float) -> str:
    """Return a greatest depth as a number of layers."""
    if math.isinf(depth):
        return "∞"
    return f"{depth:.0f}" if depth < 1e5 else words.quantity(depth)


def _table(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for place, head in enumerate(rows[0]):
        table.add_column(
            head, justify="left" if place == 0 else "right", no_wrap=place > 0, min_width=3
        )
    for row in rows[1:]:
        table.add_row(*row)
    return table


def legend(theory: Theory) -> list[str]:
    """Return what the less obvious columns of the tables mean."""
    lines = [
        _(
            "a layer: the gain of the gradient's norm at the length q* where the network settles;"
            " trains to: 6 ξ_c layers."
        )
    ]
    if theory.depth is not None:
        lines.append(
            _(
                "{depth} layers: the same from first pre-activations of variance {q:g}; alike: the"
                " correlation at the end of two inputs that had none."
            ).format(depth=theory.depth, q=theory.q)
        )
    if theory.width is not None:
        lines.append(
            _("spread: one standard deviation over random weights at width {width}.").format(
                width=theory.width
            )
        )
    return lines


def _slopes(activation: Activation, theory: Theory) -> list[RenderableType]:
    from unvanish.figures.theory import curve

    drawn = curve(activation, _COLUMNS)
    sizes = [abs(slope) for slope in drawn.slope]
    top = max(sizes) or 1.0
    supremum = theory.slope_supremum
    title = _("|φ'(z)| for z from {low:g} to {high:g}; greatest {top:.4g}").format(
        low=drawn.z[0], high=drawn.z[-1], top=top if supremum is None else supremum
    )
    return [title, *(Padding(Text(line), (0, 0, 0, 2)) for line in bars(sizes, top, _ROWS))]


def bars(values: Sequence[float], top: float, rows: int) -> list[str]:
    """Return a bar for each value between 0 and `top`, over lines of text from the top down."""
    heights = [round(8 * rows * min(value / top, 1.0)) for value in values]
    return [
        "".join(_EIGHTHS[min(max(height - 8 * row, 0), 8)] for height in heights).rstrip()
        for row in reversed(range(rows))
    ]


def _phases(activation: Activation, theory: Theory) -> list[RenderableType]:
    setting = theory.settings[0]
    sigma_b = setting.sigma_b if setting.name == "given" else 0.0
    widest = max([4.0, *(1.1 * setting.sigma_w for setting in theory.settings)])
    grid = [widest * (k + 0.5) / _STRIP for k in range(_STRIP)]
    (gains,) = diagram(activation, grid, [sigma_b]).gain_log10
    strip = Text(f"  0 {strip_of(gains)} {widest:.3g}")
    key = _("σ_w at σ_b = {sigma_b:g}: ░ ordered, gradients vanish; █ chaotic, they grow").format(
        sigma_b=sigma_b
    )
    return [key, strip]


def strip_of(gains: Sequence[float]) -> str:
    """Return a character for each gain a layer (log10): ░ vanishing, │ kept, █ growing."""
    return "".join("│" if abs(gain) <= _FLAT else "░" if gain < 0.0 else "█" for gain in gains)


def theory_page(theory: Theory, activation: Activation) -> str:
    """Return the theory as the text of an HTML page that loads nothing (about 5 MB of Plotly)."""
    from unvanish.figures import theory as figures
    from unvanish.report.page import asset, embed, policy, scripts
    from unvanish.report.templating import environment

    phases = figures.phases(activation, theory.settings)
    pictures = {
        "slope": figures.slope_picture(activation, theory.q),
        "phase": figures.phase_picture(phases, theory.settings),
    }
    page: str = (
        environment()
        .get_template("theory.html.j2")
        .render(
            theory=theory,
            tables=[rows for rows in (settings_rows(theory), prediction_rows(theory)) if rows],
            half_stable=half_stable_lines(theory),
            legend=legend(theory),
            pictures={
                name: (
                    figure.layout.title.text,
                    int(figure.layout.height),
                    embed(
                        figure.update_layout(
                            title=None, height=None, margin={"t": 24}
                        ).to_plotly_json()
                    ),
                )
                for name, figure in pictures.items()
            },
            language={"zh": "zh-CN"}.get(i18n.current(), "en"),
            version=__version__,
            scripts=scripts(),
            style=Markup(asset("page.css")),
            policy=policy(),
        )
    )
    return page
