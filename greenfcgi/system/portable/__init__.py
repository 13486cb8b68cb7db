"""What Linux has and other systems do not, each with the way that works everywhere beside it."""
