"""Keys kept for people: vaults, certificates, key files, and the copies made with them."""
