"""Callbacks in the real trainers, with tiny models; nothing is downloaded."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from unvanish import store

pytestmark = pytest.mark.trainer
STEPS = 6


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    return tmp_path


def saved(directory: Path) -> Any:
    (summary,) = store.runs(directory / ".unvanish")
    assert summary.state == "finished"
    (model,) = store.load(summary.id, directory / ".unvanish").models
    return model


def lightning_fit(directory: Path, callbacks: list[Any], **options: Any) -> nn.Module:
    lightning = pytest.importorskip("pytorch_lightning")

    class Classifier(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            inputs, targets = batch
            return functional.cross_entropy(self.net(inputs), targets)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    torch.manual_seed(3)
    model = Classifier()
    data = TensorDataset(torch.randn(96, 12), torch.randint(0, 4, (96,)))
    trainer = lightning.Trainer(
        max_steps=STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=directory,
        callbacks=callbacks,
        **options,
    )
    trainer.fit(model, DataLoader(data, batch_size=8, shuffle=True))
    return model


def test_lightning(directory: Path) -> None:
    from unvanish.integrations.lightning import UnvanishCallback

    options = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.01}
    bare = lightning_fit(directory, [], **options)
    callback = UnvanishCallback(every=1, overhead=None)
    watched = lightning_fit(directory, [callback], **options)
    for one, other in zip(bare.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    model = saved(directory)
    assert model.type == "Classifier"
    assert [step.step for step in model.steps] == list(range(STEPS))
    assert {step.backwards for step in model.steps} == {2}
    assert {step.phase for step in model.steps} == {"clipped"}
    assert all(step.clip_log10 < 0 for step in model.steps)
    assert any(row.module.startswith("net") for row in model.traces[0].layers)
    assert callback.monitor is not None
    assert callback.monitor.closed


def test_lightning_that_raises(directory: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")
    from unvanish.integrations.lightning import UnvanishCallback

    class Raises(lightning.Callback):  # type: ignore[misc, name-defined]
        def on_train_batch_end(self, *given: Any) -> None:
            raise RuntimeError("theirs")

    with pytest.raises(RuntimeError, match="theirs"):
        lightning_fit(directory, [UnvanishCallback(), Raises()])
    assert store.load("last", directory / ".unvanish").error == "RuntimeError: theirs"


def test_transformers(directory: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from unvanish.integrations.transformers import UnvanishCallback

    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    rows = [{"input_ids": torch.randint(0, 50, (8,)), "labels": index % 2} for index in range(48)]
    callback = UnvanishCallback(every=1, overhead=None)
    trainer = transformers.Trainer(
        model=transformers.BertForSequenceClassification(config),
        args=transformers.TrainingArguments(
            output_dir=str(directory / "out"), max_steps=STEPS, per_device_train_batch_size=4,
            gradient_accumulation_steps=2, max_grad_norm=0.01, report_to=[], save_strategy="no",
            use_cpu=True, disable_tqdm=True, logging_strategy="no",
        ),
        train_dataset=rows,
        callbacks=[callback],
    )  # fmt: skip
    trainer.train()
    model = saved(directory)
    assert model.type == "BertForSequenceClassification"
    assert [step.step for step in model.steps] == list(range(STEPS))
    assert {step.backwards for step in model.steps} == {2}
    assert {step.phase for step in model.steps} == {"clipped"}
    assert all(math.isfinite(step.loss) for step in model.steps)
    assert len(model.traces) == STEPS


def test_accelerate(directory: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    from unvanish.integrations.accelerate import monitor_prepared

    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    net = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    data = TensorDataset(torch.randn(96, 12), torch.randint(0, 4, (96,)))
    model, optimizer, loader = accelerator.prepare(
        net, torch.optim.SGD(net.parameters(), lr=0.1), DataLoader(data, batch_size=8)
    )
    with monitor_prepared(accelerator, model, optimizer, every=1, overhead=None) as watched:
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                accelerator.backward(functional.cross_entropy(model(inputs), targets))
                accelerator.clip_grad_norm_(model.parameters(), 0.01)
                optimizer.step()
                optimizer.zero_grad()
    assert watched.notes == ()
    found = saved(directory)
    assert [step.step for step in found.steps] == list(range(STEPS))
    assert {step.backwards for step in found.steps} == {2}
    assert {step.phase for step in found.steps} == {"clipped"}
