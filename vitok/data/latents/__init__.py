"""Cached latents: a corpus encoded once by a tokenizer, kept in sharded Parquet, streamed into DiT training."""
