"""The cases, by the kind of their fault: one file each, each with a tuple `CASES`."""
