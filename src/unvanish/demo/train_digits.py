"""Train a ten-layer network on handwritten digits: an ordinary script, unaware of Unvanish.

    python train_digits.py --activation sigmoid --weights default
    python train_digits.py --activation sigmoid --weights large
    python train_digits.py --activation relu --weights he

It prints the loss and the test accuracy every few epochs.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

WIDTH, DEPTH, EPOCHS, BATCH = 64, 10, 20, 64
LARGE = 100.0  # times 1 / sqrt(inputs): the "just make the weights large" of many a course note


def network(activation: str, weights: str) -> nn.Sequential:
    """Return ten equal layers and an output layer."""
    layers: list[nn.Module] = []
    for _ in range(DEPTH):
        linear = nn.Linear(WIDTH, WIDTH)
        if weights == "large":
            nn.init.normal_(linear.weight, std=LARGE / WIDTH**0.5)
        elif weights == "he":
            nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
            nn.init.zeros_(linear.bias)
        layers += [linear, nn.Sigmoid() if activation == "sigmoid" else nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 10))


def main() -> None:
    """Train, and print how it goes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", choices=["sigmoid", "relu"], default="sigmoid")
    parser.add_argument("--weights", choices=["default", "large", "he"], default="default")
    choice = parser.parse_args()

    torch.manual_seed(0)
    digits = load_digits()
    images = torch.tensor(digits.data / 16.0, dtype=torch.float32)
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(digits.target)
    train, test = train_test_split(
        range(len(labels)), test_size=360, random_state=0, stratify=digits.target
    )
    model = network(choice.activation, choice.weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(EPOCHS):
        order = torch.tensor(train)[torch.randperm(len(train))]
        for batch in order.split(BATCH):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        if epoch % 5 == 4:
            with torch.no_grad():
                accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
            print(f"epoch {epoch + 1} loss {loss.item():.4g} accuracy {accuracy.item():.4f}")


if __name__ == "__main__":
    main()
