"""Extensions of imdbtune by another package: one module for each."""
