"""Fine-tuning with adapters under the Trainer of transformers: prose or source text?"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
from torch import Tensor, nn

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.testing.case import Experiment
from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.data import Pair, excerpts, minibatches, prose, source

LENGTH, WIDTH = 32, 32


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UsageError(
            _("this case trains under the Trainer of transformers, which is not installed"),
            _("Type `pip install transformers accelerate`."),
        ) from error
    return transformers


class LoRA(nn.Module):
    """A frozen linear layer plus B A x, of low rank (Hu et al. 2021)."""

    def __init__(self, base: nn.Linear, rank: int = 4, *, zero: bool) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Linear(base.in_features, rank, bias=False)
        self.lora_b = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.lora_b.weight)
        if zero:
            nn.init.zeros_(self.lora_a.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 4 * self.lora_b(self.lora_a(x))


class Bottleneck(nn.Module):
    """A frozen layer, then x + up(relu(down(x))) with up at 0 (Houlsby et al. 2019)."""

    def __init__(self, base: nn.Linear, width: int = 8) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.out_features, width)
        self.up = nn.Linear(width, base.out_features)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.base(x)
        return hidden + self.up(torch.relu(self.down(hidden)))


def _bert() -> nn.Module:
    """A small BERT with random weights and a classifier; no dropout."""
    transformers = _transformers()
    config = transformers.BertConfig(
        vocab_size=96,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.15,
        num_labels=2,
    )
    model: nn.Module = transformers.BertForSequenceClassification(config)
    return model


def _texts(count: int = 1024) -> Pair:
    """Pieces of prose (label 0) and of source text (label 1)."""
    halves = [excerpts(text, LENGTH, count // 2) for text in (prose(), source())]
    return torch.cat(halves), torch.arange(count) // (count // 2)


def adapt(model: nn.Module, wrap: Any, names: tuple[str, ...]) -> None:
    """Put `wrap(layer)` in the place of each linear layer whose name ends in one of `names`."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and path.endswith(names):
            parent, _dot, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, wrap(module))


def _trainer_loop(experiment: Experiment, inputs: Tensor, labels: Tensor, lr: float, **more: Any) -> None:
    transformers = _transformers()
    rows = [{"input_ids": x, "labels": y} for x, y in zip(inputs, labels, strict=True)]
    with tempfile.TemporaryDirectory() as directory:
        arguments = transformers.TrainingArguments(
            directory,
            max_steps=experiment.steps,
            per_device_train_batch_size=32,
            learning_rate=lr,
            logging_steps=1,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            seed=int(torch.randint(2**31, ())),
            **more,
        )
        trainer = transformers.Trainer(experiment.model, arguments, train_dataset=rows)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    experiment.losses += [float(value) for value in logged]


def _fine_tuning(model: nn.Module, *, lr: float = 1e-2, steps: int = 120, **more: Any) -> Experiment:
    """Fine-tune what is not frozen, under the Trainer."""
    inputs, labels = _texts()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return model(input_ids=batch[0], labels=batch[1]).loss

    def score() -> float:
        return float((model(input_ids=inputs).logits.argmax(-1) == labels).float().mean())

    return Experiment(
        model,
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr),
        minibatches(inputs, labels, size=32),
        loss,
        steps,
        score,
        loop=lambda experiment: _trainer_loop(experiment, inputs, labels, lr, **more),
    )


ATTENTION = ("query", "key", "value", "attention.output.dense")


def lora_both_zero(cured: bool) -> Experiment:
    """LoRA with A = B = 0: neither ever gets a gradient; cured: A random."""
    model = _bert().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=not cured), ATTENTION)
    return _fine_tuning(model)


def lora_under_checkpoint(cured: bool) -> Experiment:
    """Reentrant checkpoints behind frozen embeddings: adapters get no gradient; cured: not so."""
    model = _bert().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=False), ATTENTION)
    model.get_submodule("classifier").requires_grad_(True)
    return _fine_tuning(
        model,
        gradient_checkpointing=True,
        gradient_checkpointing_kwargs={"use_reentrant": not cured},
    )


def ok_lora(cured: bool) -> Experiment:
    """LoRA with B = 0: A gets no gradient at step 0."""
    model = _bert().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=False), ATTENTION)
    model.get_submodule("classifier").requires_grad_(True)
    return _fine_tuning(model)


def ok_bottleneck_adapters(cured: bool) -> Experiment:
    """Bottleneck adapters whose second layer is 0: their first gets no gradient at step 0."""
    model = _bert().requires_grad_(False)
    adapt(model, Bottleneck, ("output.dense",))
    model.get_submodule("classifier").requires_grad_(True)
    return _fine_tuning(model)


CASES = (
    own(
        "lora_both_zero",
        "not a gradient-depth problem",
        "LoRA's factors are both 0, and each multiplies the other's gradient",
        lora_both_zero,
        ("cut-graph",),
        cure="a random A",
        layers=("*lora_*",),
        bad=0.6,
        good=0.8,
    ),
    own(
        "lora_under_checkpoint",
        "not a gradient-depth problem",
        "a reentrant checkpoint whose input needs no gradient cuts off what is in it",
        lora_under_checkpoint,
        ("cut-graph",),
        cure="use_reentrant=False",
        layers=("*lora_*",),
        bad=0.75,
        good=0.8,
    ),
    own_healthy("ok_lora", "LoRA's B starts at 0, and nearly all is frozen", 0.8, ok_lora),
    own_healthy(
        "ok_bottleneck_adapters", "adapters that start at 0", 0.8, ok_bottleneck_adapters
    ),
)
