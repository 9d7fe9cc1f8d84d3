"""What is done where the owner's keys are: seal, open, grant, and carry out what they approved."""
