"""The JSON API: the tables of one account as other programs read them; never writes, never renders."""
