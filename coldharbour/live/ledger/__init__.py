"""The ledger: an account's orders, fills and share moves as the lake has them, whole and then followed."""
