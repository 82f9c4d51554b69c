"""Tokens in, scores for the next token out: the Transformer, its memory, and the files it lives in."""
