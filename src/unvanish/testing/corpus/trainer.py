"""Fine-tuning with adapters under the Trainer of transformers: prose or source text?"""

from __future__ import annotations

import tempfile
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from unvanish.errors import UsageError
from unvanish.i18n import _
from unvanish.testing.corpus import own, own_healthy
from unvanish.testing.data import Pair, excerpts, minibatches, prose, source
from unvanish.testing.experiment import Experiment

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
        return self.base(x) + self.lora_b(self.lora_a(x))


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


class Pooled(nn.Module):
    """A small BERT with random weights, the mean of its states, and a classifier; no dropout."""

    def __init__(self) -> None:
        super().__init__()
        transformers = _transformers()
        config = transformers.BertConfig(
            vocab_size=96,
            hidden_size=WIDTH,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=2 * WIDTH,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.1,
        )
        self.bert = transformers.BertModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(WIDTH, 2)

    def forward(self, input_ids: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        logits = self.classifier(self.bert(input_ids).last_hidden_state.mean(1))
        if labels is None:
            return {"logits": logits}
        return {"loss": functional.cross_entropy(logits, labels), "logits": logits}


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


def _trainer_loop(experiment: Experiment, inputs: Tensor, labels: Tensor, lr: float) -> None:
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
            lr_scheduler_type="constant",
            seed=int(torch.randint(2**31, ())),
        )
        trainer = transformers.Trainer(experiment.model, arguments, train_dataset=rows)
        trainer.remove_callback(transformers.PrinterCallback)
        trainer.train()
    logged = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    experiment.losses += [float(value) for value in logged]


def _fine_tuning(model: nn.Module, *, lr: float = 5e-3, steps: int = 120) -> Experiment:
    """Fine-tune what is not frozen, under the Trainer."""
    inputs, labels = _texts()

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return model(*batch)["loss"]

    def score() -> float:
        return float((model(inputs)["logits"].argmax(-1) == labels).float().mean())

    return Experiment(
        model,
        torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr),
        minibatches(inputs, labels, size=32),
        loss,
        steps,
        score,
        loop=lambda experiment: _trainer_loop(experiment, inputs, labels, lr),
    )


LINEAR = ("query", "key", "value", "dense")


def lora_both_zero(cured: bool) -> Experiment:
    """LoRA with A = B = 0: neither ever gets a gradient; cured: A random."""
    model = Pooled().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=not cured), LINEAR)
    return _fine_tuning(model)


class Checkpointed(nn.Module):
    """A layer that is computed again in the backward pass."""

    def __init__(self, layer: nn.Module, *, reentrant: bool) -> None:
        super().__init__()
        self.layer = layer
        self.reentrant = reentrant

    def forward(self, x: Tensor, *args: Any, **more: Any) -> Any:
        layer = partial(self.layer, **more)
        return checkpoint(layer, x, *args, use_reentrant=self.reentrant)


def lora_under_checkpoint(cured: bool) -> Experiment:
    """Reentrant checkpoints behind frozen embeddings: adapters get no gradient; cured: not so."""
    model = Pooled().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=False), LINEAR)
    model.get_submodule("classifier").requires_grad_(True)
    layers: Any = model.get_submodule("bert.encoder.layer")
    for i, layer in enumerate(list(layers)):
        layers[i] = Checkpointed(layer, reentrant=not cured)
    return _fine_tuning(model)


def ok_lora(cured: bool) -> Experiment:
    """LoRA with B = 0: A gets no gradient at step 0."""
    model = Pooled().requires_grad_(False)
    adapt(model, lambda layer: LoRA(layer, zero=False), LINEAR)
    model.get_submodule("classifier").requires_grad_(True)
    return _fine_tuning(model)


def ok_bottleneck_adapters(cured: bool) -> Experiment:
    """Bottleneck adapters whose second layer is 0: their first gets no gradient at step 0."""
    model = Pooled().requires_grad_(False)
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
        bad=0.65,
        good=0.9,
    ),
    own(
        "lora_under_checkpoint",
        "not a gradient-depth problem",
        "a reentrant checkpoint whose input needs no gradient cuts off what is in it",
        lora_under_checkpoint,
        ("cut-graph",),
        cure="use_reentrant=False",
        layers=("*lora_*",),
        bad=0.94,
        good=0.95,
    ),
    own_healthy("ok_lora", "LoRA's B starts at 0, and nearly all is frozen", 0.9, ok_lora),
    own_healthy("ok_bottleneck_adapters", "adapters that start at 0", 0.85, ok_bottleneck_adapters),
)
