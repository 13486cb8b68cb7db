"""What web programs need: forms."""
