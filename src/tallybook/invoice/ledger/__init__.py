"""What an invoice means to the books: the entries it posts, and the facts it tells."""
