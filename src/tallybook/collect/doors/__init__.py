"""Front doors: series that foreign agents send become events, by declared rules."""
