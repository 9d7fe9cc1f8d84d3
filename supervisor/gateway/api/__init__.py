"""What all of `/api/v1/me` has in common: problems, pages, keys and versions, its description."""
