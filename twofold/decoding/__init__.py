"""From scores to choices: distributions, generation, chat sessions."""
