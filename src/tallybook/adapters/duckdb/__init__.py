"""DuckDB as the embedded query engine: in-memory connections over Parquet files only."""
