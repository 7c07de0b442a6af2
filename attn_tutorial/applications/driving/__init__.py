"""Where a car will be, by attention between road users, in a simulator of crossings."""
