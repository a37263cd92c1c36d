"""Run a case as a training script: `python -m unvanish.testing NAME --seed 0 [--cured]`.

Watch it with `unvanish run -m unvanish.testing NAME`.
"""

from __future__ import annotations

import click
import torch

from unvanish.errors import UnvanishError
from unvanish.testing.catalogue import case, cases


@click.command()
@click.argument("name", required=False)
@click.option("--seed", default=0, show_default=True, help="seed of the random state")
@click.option("--cured", is_flag=True, help="the training with its accepted cure")
@click.option("--steps", type=int, help="number of steps, instead of the case's own")
def main(name: str | None, seed: int, cured: bool, steps: int | None) -> None:
    """Train the case NAME, and print its losses; without NAME, list the cases."""
    if name is None:
        for one in cases():
            click.echo(f"{one.name:36} {', '.join(one.accepted):28} {one.about}")
        return
    try:
        experiment = case(name).build(seed, cured=cured)
    except UnvanishError as error:
        raise click.ClickException(str(error)) from error
    torch.manual_seed(seed)
    experiment.steps = experiment.steps if steps is None else steps
    for number in range(experiment.steps):
        experiment.step(number)
        if number % 20 == 0 or number == experiment.steps - 1:
            click.echo(f"step {number}: loss {experiment.losses[-1]:.4g}")
    click.echo(f"result: {experiment.result():.4g}")


if __name__ == "__main__":
    main()
