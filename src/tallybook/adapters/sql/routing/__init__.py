"""What routing keeps in the control database."""
