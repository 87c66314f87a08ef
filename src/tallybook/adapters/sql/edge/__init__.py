"""What agents and front doors are told, and what they tell, in the control database."""
