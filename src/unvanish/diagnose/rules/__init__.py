"""The rules, one file each with its own documentation."""
