"""Mean-field theory of wide networks: Gaussian expectations, maps, critical points (numpy only).

Read in this order: `activation`, `smooth`, `piecewise`, `closed` and `catalogue` know activations;
`gaussian` averages, `moments` and `pairs` say over what; `maps`, `critical` and `depth` are the
theory of plain networks, `layers`, `batchnorm` and `recurrent` of others; `shaping` changes
activations; `bridge` reads them off torch; `facade` is what `unvanish` offers.
"""

from unvanish.meanfield.activation import Activation
from unvanish.meanfield.catalogue import NAMES, named, negative_slope, slope_supremum

__all__ = ["NAMES", "Activation", "named", "negative_slope", "slope_supremum"]
