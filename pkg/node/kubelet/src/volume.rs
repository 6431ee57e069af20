//! Volumes of pods: made before the first container, taken away after the last.
