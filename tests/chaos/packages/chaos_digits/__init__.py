"""Recipe `chaos-digits`: image classification under attack, found as a user's own recipe is."""
