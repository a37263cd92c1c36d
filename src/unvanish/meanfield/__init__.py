"""Mean-field theory of wide networks: Gaussian expectations, maps, critical points (numpy only)."""

from unvanish.meanfield.activation import Activation
from unvanish.meanfield.catalogue import NAMES, named, negative_slope, slope_supremum

__all__ = ["NAMES", "Activation", "named", "negative_slope", "slope_supremum"]
