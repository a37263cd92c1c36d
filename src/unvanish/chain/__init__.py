"""The textbook chain of single neurons, in pure Python."""
