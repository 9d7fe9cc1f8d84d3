"""What one entry of a chain can do and how it wants to be asked, whoever said so."""
