"""Where durable state lives: the contract, its engines (LMDB on disk, memory) and nothing of what the bytes mean."""
