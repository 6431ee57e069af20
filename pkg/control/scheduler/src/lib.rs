//! The scheduler: queue, snapshot, filters, scores and binding.
