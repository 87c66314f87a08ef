"""The formats that lines come in, each a pure function from text to a record or a problem."""
