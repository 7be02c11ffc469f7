"""Task families and the environments that simulate them in batches."""
