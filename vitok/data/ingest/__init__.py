"""Ingest: rewrite a corpus as sharded Parquet for streaming; inspect and verify a corpus."""
