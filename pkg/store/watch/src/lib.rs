//! The cache of encoded objects per resource, its history window and its watchers.
