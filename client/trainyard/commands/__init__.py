"""One module a verb; each holds its click command as `command`."""
