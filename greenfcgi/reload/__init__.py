"""From a saved file to fresh states: what has changed, which states that concerns, what is served meanwhile."""
