"""Mean-field theory of wide networks: Gaussian expectations, maps, critical points (numpy only)."""
