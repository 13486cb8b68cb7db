"""What web programs need."""
