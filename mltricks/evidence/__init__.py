"""What every option was measured to be worth: the tables that ``make evidence`` writes, and their reader."""
