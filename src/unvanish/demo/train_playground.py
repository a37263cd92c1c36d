"""Train a small network on handwritten digits: an ordinary script, unaware of Unvanish.

    python train_playground.py --activation sigmoid --start default --depth 10

The playground of the live page starts it under `unvanish run`. It ends by itself after `--seconds`.
"""

import argparse
import time

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

BATCH = 64
ACTIVATIONS = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}
NORMS = {"none": nn.Identity, "layer": nn.LayerNorm, "batch": nn.BatchNorm1d}


def start(linear: nn.Linear, how: str) -> None:
    """Draw the weights."""
    if how == "xavier":
        nn.init.xavier_normal_(linear.weight)
    elif how == "he":
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
    elif how == "orthogonal":
        nn.init.orthogonal_(linear.weight)
    elif how == "small":
        nn.init.normal_(linear.weight, std=0.01)
    elif how == "large":
        nn.init.normal_(linear.weight, std=10.0 / linear.in_features**0.5)
    if how != "default":
        nn.init.zeros_(linear.bias)


class Residual(nn.Module):
    """What a block makes, added to its input."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Add the two."""
        out: torch.Tensor = x + self.block(x)
        return out


def network(choice: argparse.Namespace) -> nn.Sequential:
    """Return `depth` equal blocks between an entry and an output layer."""
    layers: list[nn.Module] = []
    inputs = 64
    for _ in range(choice.depth):
        linear = nn.Linear(inputs, choice.width)
        start(linear, choice.start)
        parts: list[nn.Module] = [linear]
        if choice.normalisation != "none":
            parts.append(NORMS[choice.normalisation](choice.width))
        parts.append(ACTIVATIONS[choice.activation]())
        alike = inputs == choice.width
        layers += [Residual(nn.Sequential(*parts))] if choice.residual == "yes" and alike else parts
        inputs = choice.width
    return nn.Sequential(*layers, nn.Linear(inputs, 10))


def main() -> None:
    """Train, and print how it ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", choices=list(ACTIVATIONS), default="sigmoid")
    starts = ["default", "xavier", "he", "orthogonal", "small", "large"]
    parser.add_argument("--start", choices=starts, default="default")
    parser.add_argument("--normalisation", choices=list(NORMS), default="none")
    parser.add_argument("--residual", choices=["no", "yes"], default="no")
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=60.0)
    choice = parser.parse_args()

    until = time.monotonic() + choice.seconds
    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(digits.target)
    train, test = train_test_split(
        range(len(labels)), test_size=360, random_state=0, stratify=digits.target
    )
    model = network(choice)
    optimizer = torch.optim.SGD(model.parameters(), lr=choice.lr, momentum=0.9)
    indices, position = torch.tensor(train), len(train)
    for _ in range(choice.steps):
        if position + BATCH > len(indices):
            indices, position = indices[torch.randperm(len(indices))], 0
        batch = indices[position : position + BATCH]
        position += BATCH
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        if time.monotonic() > until:
            break
    model.eval()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
    print(f"accuracy {accuracy.item():.4f}")


if __name__ == "__main__":
    main()
