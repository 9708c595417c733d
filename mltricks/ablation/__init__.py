"""What each technique is worth: arms with paired seeds, and what their differences prove."""
