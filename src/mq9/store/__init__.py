"""Where durable state lives: the contract, its engines (a journal with tables beside it, and memory) and nothing of what the bytes mean."""
