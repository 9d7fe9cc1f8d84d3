"""What a mission may read, one resolver per module; more can be registered."""
