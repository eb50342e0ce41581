"""What is trained: a tokenizer's first stage, its second, a generator."""
