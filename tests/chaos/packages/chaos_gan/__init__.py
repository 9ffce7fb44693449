"""Recipe `chaos-gan`: two networks with an optimizer each, found as a user's own recipe is."""
