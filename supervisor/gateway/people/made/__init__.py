"""What people make: agents and missions, over HTTP."""
