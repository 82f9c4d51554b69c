"""The face: one command, `twofold`. It parses, calls the library, and shows; nothing else."""
