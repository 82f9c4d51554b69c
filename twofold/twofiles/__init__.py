"""The export, and the inference file that travels with it."""
