"""What a session gives to other programs, each in its own way."""
