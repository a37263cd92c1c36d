"""Run a case as a training script: `python -m unvanish.testing NAME --seed 0 [--cured]`.

Watch it with `unvanish run -m unvanish.testing NAME`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click
import torch

from unvanish.errors import UnvanishError
from unvanish.testing.catalogue import case, cases


@click.command()
@click.argument("name", required=False)
@click.option("--seed", default=0, show_default=True, help="seed of the random state")
@click.option("--cured", is_flag=True, help="the training with its accepted cure")
@click.option("--steps", type=int, help="number of steps, instead of the case's own")
@click.option(
    "--answer", type=click.Path(path_type=Path), help="write what is right about it, as JSON"
)
def main(name: str | None, seed: int, cured: bool, steps: int | None, answer: Path | None) -> None:
    """Train the case NAME, and print its losses; without NAME, list the cases."""
    if name is None:
        for one in cases():
            click.echo(f"{one.name:36} {', '.join(one.accepted):28} {one.about}")
        return
    torch.set_num_threads(1)  # sums in another order end elsewhere, where training is unstable
    try:
        experiment = case(name).build(seed, cured=cured)
    except UnvanishError as error:
        raise click.ClickException(str(error)) from error
    torch.manual_seed(seed)
    experiment.steps = experiment.steps if steps is None else steps
    experiment.train()
    for number in sorted({*range(0, len(experiment.losses), 20), len(experiment.losses) - 1}):
        click.echo(f"step {number}: loss {experiment.losses[number]:.4g}")
    click.echo(f"result: {experiment.result():.4g}")
    if answer is not None:
        answer.write_text(json.dumps(dataclasses.asdict(case(name).answer(experiment))) + "\n")


if __name__ == "__main__":
    main()
