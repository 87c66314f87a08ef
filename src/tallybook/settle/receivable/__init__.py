"""What customers owe and are owed after finalization: payments, credit notes, voids, write-offs."""
