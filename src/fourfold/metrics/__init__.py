"""Numbers that say how good a ranking or a score is: pure functions of plain lists, in numpy."""
