"""What every route shares: who may call, how refusals look, pages by cursor, repeated requests."""
