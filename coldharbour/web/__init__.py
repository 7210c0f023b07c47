"""The pages: what the tables say, rendered and kept live in the browser; never writes to the database."""
