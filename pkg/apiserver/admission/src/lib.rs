//! Change, then judge: admission inside every write attempt.
