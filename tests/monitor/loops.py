"""Training loops of every kind, each a function that trains from scratch and returns its models.

A loop draws all its random numbers from torch's global generator, so that two runs are comparable
bit for bit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

STEPS = 6


def batch(size: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 12), torch.randint(0, 4, (size,))


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(12, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(inplace=True),
        nn.Dropout(0.3),
        nn.Linear(16, 16),
        nn.Tanh(),
        nn.Linear(16, 4),
    )


def plain() -> list[nn.Module]:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(STEPS):
        inputs, targets = batch()
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return [model]


def accumulation() -> list[nn.Module]:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        for _ in range(3):
            inputs, targets = batch()
            (functional.cross_entropy(model(inputs), targets) / 3).backward()
        optimizer.step()
        optimizer.zero_grad()
    return [model]


def autocast() -> list[nn.Module]:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(STEPS):
        inputs, targets = batch()
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
    return [model]


def scaler() -> list[nn.Module]:
    """The third step overflows: the scaler skips it."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    grad_scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(STEPS):
        inputs, targets = batch()
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        grad_scaler.scale(loss).backward()
        if step == 2:
            model[0].weight.grad.fill_(torch.inf)
        grad_scaler.step(optimizer)
        grad_scaler.update()
    return [model]


def lbfgs() -> list[nn.Module]:
    model = nn.Sequential(nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    inputs, targets = batch()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), targets)
        loss.backward()
        return loss

    for _ in range(STEPS):
        optimizer.step(closure)
    return [model]


class Generator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 12))

    def forward(self, noise: Tensor) -> Tensor:
        return self.net(noise)


class Discriminator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(12, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)


def gan() -> list[nn.Module]:
    generator, discriminator = Generator(), Discriminator()
    generator_optimizer = torch.optim.Adam(generator.parameters(), lr=2e-3)
    discriminator_optimizer = torch.optim.Adam(discriminator.parameters(), lr=2e-3)
    loss = functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(16, 1), torch.zeros(16, 1)
    for _ in range(STEPS):
        real, _ = batch()
        fake = generator(torch.randn(16, 6))
        discriminator_optimizer.zero_grad()
        loss(discriminator(real), ones).backward()
        loss(discriminator(fake.detach()), zeros).backward()
        discriminator_optimizer.step()
        generator_optimizer.zero_grad()
        loss(discriminator(fake), ones).backward()
        generator_optimizer.step()
    return [generator, discriminator]


def two_optimizers_one_model() -> list[nn.Module]:
    model = network()
    front = torch.optim.SGD(model[:4].parameters(), lr=0.1)
    back = torch.optim.Adam(model[4:].parameters(), lr=1e-2)
    for _ in range(STEPS):
        inputs, targets = batch()
        model.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        front.step()
        back.step()
    return [model]


def by_grad() -> list[nn.Module]:
    model = network()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    for _ in range(STEPS):
        inputs, targets = batch()
        loss = functional.cross_entropy(model(inputs), targets)
        gradients = torch.autograd.grad(loss, model.parameters())
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    return [model]


def no_optimizer() -> list[nn.Module]:
    model = network()
    for _ in range(STEPS):
        inputs, targets = batch()
        model.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
    return [model]


class Checkpointed(nn.Module):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Dropout(0.2)) for _ in range(2)
        )
        self.last = nn.Linear(16, 4)
        self.reentrant = reentrant

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.first(inputs)
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=self.reentrant)
        return self.last(hidden)


def _checkpointed(*, reentrant: bool) -> list[nn.Module]:
    model = Checkpointed(reentrant=reentrant)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(STEPS):
        inputs, targets = batch()
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return [model]


def checkpointed() -> list[nn.Module]:
    return _checkpointed(reentrant=False)


def checkpointed_reentrant() -> list[nn.Module]:
    return _checkpointed(reentrant=True)


def recurrent() -> list[nn.Module]:
    """The fused layer is opened on a replay, with dropout between its layers."""
    lstm = nn.LSTM(6, 8, num_layers=2, dropout=0.2, batch_first=True)
    head = nn.Linear(8, 4)
    optimizer = torch.optim.Adam([*lstm.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(STEPS):
        _, targets = batch()
        optimizer.zero_grad()
        output, _ = lstm(torch.randn(16, 5, 6))
        functional.cross_entropy(head(output[:, -1]), targets).backward()
        optimizer.step()
    return [lstm, head]


def gradient_penalty() -> list[nn.Module]:
    """A critic whose loss contains a gradient: `grad` over inputs, with create_graph."""
    critic = Discriminator()
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
    for _ in range(STEPS):
        inputs, _ = batch()
        inputs.requires_grad_()
        score = critic(inputs)
        (slope,) = torch.autograd.grad(score.sum(), inputs, create_graph=True)
        loss = score.mean() + ((slope.norm(dim=1) - 1) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [critic]


ALL = (
    plain,
    accumulation,
    autocast,
    scaler,
    lbfgs,
    gan,
    two_optimizers_one_model,
    by_grad,
    no_optimizer,
    checkpointed,
    checkpointed_reentrant,
    recurrent,
    gradient_penalty,
)
