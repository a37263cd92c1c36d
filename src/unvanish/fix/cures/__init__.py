"""The cures, one file each, each with a tuple `CURES`: itself, or its variants."""
