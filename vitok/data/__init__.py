"""Data: corpora, decoding, ingest into sharded Parquet, and the stream of batches into training."""
