"""A recipe that notes each step it makes, found as a user's own recipe is."""
