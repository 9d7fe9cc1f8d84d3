"""What a mission may read: records of the log, sealed ones under its grant, what code adds."""
