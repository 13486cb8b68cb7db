"""From an accepted socket to a reply: connections, requests, workers, and what is held for clients meanwhile."""
