"""Renderers: terminal, HTML, JSON. None of them measures."""
