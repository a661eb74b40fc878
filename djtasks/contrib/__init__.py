"""What belongs to other projects: each module asks for its own library."""
