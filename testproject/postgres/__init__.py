"""The PostgreSQL that the site brings along, and the database backend that starts it with the first connection."""
