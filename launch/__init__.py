"""The run time that trains any task; see task.py for what a task is."""
