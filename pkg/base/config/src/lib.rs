//! The one configuration schema: flags, environment and files.
