"""Is it well? Signs of life are looked for all the time, and judged by one pure rule."""
