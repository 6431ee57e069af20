//! The task tree, staged shutdown and child processes.
