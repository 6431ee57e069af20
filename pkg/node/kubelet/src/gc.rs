//! Garbage collection: dead containers, and images when the disk fills.
