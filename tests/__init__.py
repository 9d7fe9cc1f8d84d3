"""The second specification: each test is named after the promise it checks."""
