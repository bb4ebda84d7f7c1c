"""One file for each group of commands. A command reads its options, calls an operation and prints what came of it."""
