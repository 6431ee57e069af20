//! What each kind means: one CRUD engine and one strategy per kind.
