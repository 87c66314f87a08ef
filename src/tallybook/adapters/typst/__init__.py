"""Documents typeset by Typst: self-contained, no system packages."""
