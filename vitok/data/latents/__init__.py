"""Latents of a corpus: encoded once by a tokenizer, kept in sharded Parquet, streamed into a generator's training."""
