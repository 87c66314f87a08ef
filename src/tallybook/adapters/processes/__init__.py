"""Other processes of this machine that compose invoices."""
