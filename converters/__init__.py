"""What an encoder is on disk, ALBERT and its relatives: read, check, write, convert. Knows numpy, never torch."""
