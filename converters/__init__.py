"""What an ALBERT is on disk: read, check, write and convert checkpoints. Knows numpy, never torch."""
