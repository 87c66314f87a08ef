"""The control database: catalog, contracts, invoices, keys. SQLAlchemy Core, one schema."""
