"""What each technique of a stack is worth: arms with paired seeds, and what their differences prove."""
