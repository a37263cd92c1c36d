"""The textbook chain of single neurons, in pure Python.

    >>> from unvanish.chain import make_chain, solve
    >>> solution = solve(make_chain(depth=10, weight=10, pre_activation=0))
    >>> solution.input_gain, solution.factors[0]
    (9536.7431640625, 2.5)

Read in this order: activations, solution (the chain rule, written out), learn (the chain trained by
it), bands (the inputs that let the signal through), claims (what is said of the ReLU, tested);
then wide (products beyond floats), formula and explain (all that in symbols and sentences).
"""

from unvanish.chain.activations import ACTIVATIONS, Activation, find_activation
from unvanish.chain.bands import Band, band, band_width, widest_band
from unvanish.chain.claims import Claims, run_claims
from unvanish.chain.learn import TASK, Training, backpropagate, five_chains, mean_input, train
from unvanish.chain.solution import Chain, Neuron, Solution, make_chain, solve

__all__ = [
    "ACTIVATIONS",
    "TASK",
    "Activation",
    "Band",
    "Chain",
    "Claims",
    "Neuron",
    "Solution",
    "Training",
    "backpropagate",
    "band",
    "band_width",
    "find_activation",
    "five_chains",
    "make_chain",
    "mean_input",
    "run_claims",
    "solve",
    "train",
    "widest_band",
]
