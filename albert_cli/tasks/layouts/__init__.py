"""How the files of tasks lie: one file, one layout (albert_cli/tasks/task.py, Layout)."""
