"""Cures: candidates proposed from findings, tried on copies, and proven by training."""
