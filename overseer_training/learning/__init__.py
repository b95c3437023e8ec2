"""What the owner asked and ran: kept encrypted, made into rows to learn from, and learned only where nothing gets worse."""
