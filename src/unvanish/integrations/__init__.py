"""Unvanish inside other people's tools, each module for one of them.

    lightning.py     a callback for pytorch-lightning's Trainer
    transformers.py  a callback for transformers' Trainer
    accelerate.py    a monitor for what an Accelerator has prepared
    tensorboard.py   a sink for a TensorBoard writer
    wandb.py         a sink for a W&B run
    mlflow.py        a sink for an MLflow run
    jsonl.py         a sink for a file of JSON lines
    lightning_logger.py      a sink for one of Lightning's loggers
    transformers_report.py   a sink for what transformers' Trainer reports to
    opentelemetry.py         a sink for OpenTelemetry metrics

A module for a trainer imports that trainer; sinks take the user's own object and import nothing.
"""
