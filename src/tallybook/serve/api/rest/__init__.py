"""The routes that people and programs call, on Litestar; the hot path is not here."""
