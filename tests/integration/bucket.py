"""The bucket that every test of a module finds on its S3 server."""

BUCKET = "lung"
