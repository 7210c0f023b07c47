"""The built-in plugins: thin workers that the kernel runs; the rules and the SQL stay in the stages."""
