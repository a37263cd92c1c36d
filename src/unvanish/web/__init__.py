"""The live page: `unvanish serve`. A Dash application, started without torch.

server.py     one process: the two applications (English, Chinese) behind one guard
guard.py      who may ask, and what a browser may load
shell.py      what every page has: head, navigation, the place of the view
parts.py      sliders, choices, pictures, findings: the pieces that views are made of
address.py    a view's state and its address, both ways
runs.py       the runs of one directory, judged once
follow.py     a run that goes on
playground.py small trainings in child processes, bounded
views/        one file a view
assets/       style, and the script that fits figures and keeps the address
"""
