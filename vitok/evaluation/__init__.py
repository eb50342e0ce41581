"""A subject (tokenizer, generator, baseline) -> its metrics."""
