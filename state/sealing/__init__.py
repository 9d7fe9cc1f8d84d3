"""Values that only a key opens: on the wire, in copies, in journals, in plans."""
