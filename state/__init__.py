"""What is true: records, the rules that combine them, and the door to Postgres."""
