"""Broken and healthy models with known answers."""
