"""The tokenizer, and conversations as tokens with a mask of what is learned."""
