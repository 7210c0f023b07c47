"""Access to the pages: who a visitor is, how long that holds, and what they may write; shows nothing of accounts."""
