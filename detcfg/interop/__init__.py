"""The only room that knows other projects' formats."""
