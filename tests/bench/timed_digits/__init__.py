"""The classification recipe with a stop-watch in it, found as a user's own recipe is."""
