"""Facts over HTTP: signed, to public addresses only, each attempt bounded in time and size."""
