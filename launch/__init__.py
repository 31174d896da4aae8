"""The training framework, for any task; see task.py for what a task is."""
