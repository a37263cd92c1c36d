"""Starting weights: read what surrounds each weight off a trace, plan, correct by measurement.

Read in this order: `parameters` and `structure` say what there is; `links`, `weights` and `special`
decide on values, drawn in `draw`; `observe` runs the model and `correct` corrects; `plan` is what
is handed out, and `initialise` the one function.
"""

from unvanish.initialisation.initialise import init_
from unvanish.initialisation.links import SCHEMES
from unvanish.initialisation.plan import InitPlan, InitRow

__all__ = ["SCHEMES", "InitPlan", "InitRow", "init_"]
