"""The views: each module has `view`, what is shown, and `register`, what answers its controls."""
