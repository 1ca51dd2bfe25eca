"""`make fuzz`: hostile input for every reader. A finding is a case that no reader may have; see `target.py`."""
