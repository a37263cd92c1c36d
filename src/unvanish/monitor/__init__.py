"""Listening to a training script that is not touched."""
