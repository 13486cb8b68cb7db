"""How many processes there are, and how one is put together."""
