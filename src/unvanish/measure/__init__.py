"""Measuring the backward signal: one backward pass, every op."""
