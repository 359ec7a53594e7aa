"""One experiment a file; an experiment inherits from the one it changes."""
