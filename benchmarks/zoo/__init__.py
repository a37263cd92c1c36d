"""The zoo: every architecture of timm, transformers and torchvision that fits this machine.

`python -m benchmarks.zoo trace` judges one backward pass of each at initialisation, `faults` puts
faults into a sample and trains it, `alarms` trains what alarmed at initialisation, and `report`
writes what was found to `benchmarks/results/zoo.json` and `docs/zoo.md`. The libraries live in an
environment of their own: `make coverage-zoo`.
"""
