"""Any corpus -> sharded Parquet made for streaming; what a corpus holds."""
