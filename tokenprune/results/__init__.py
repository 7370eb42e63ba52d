"""What is known after an answer: files, records, statistics. Knows no Lightning."""
